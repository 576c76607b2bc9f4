//! What one rendering may use. Everything that takes time or memory asks here first, also within a
//! filter, so that no template can stall or exhaust a device.

use crate::cancel::Cancel;

/// Units of work: one for each node that is evaluated and for each `BYTES_PER_UNIT` looked at.
/// Thousands of messages, and well under a second on a board.
pub(super) const MAX_WORK: usize = 3_000_000;
/// Bytes taken for texts and lists, those given back included. Thirty times the longest chat.
pub(super) const MAX_MEMORY: usize = 32 << 20;
/// Bytes that a template writes, those of macros included.
pub(super) const MAX_OUTPUT: usize = 2 << 20;
/// Statements, expressions and macro calls within one another. With it a rendering needs less than
/// 128 kB of stack, which a test shows.
pub(super) const MAX_NESTING: usize = 100;

const BYTES_PER_UNIT: usize = 16;
/// Units between two looks at the cancel flag: less than a millisecond.
const CHECK_EVERY: usize = 4096;

/// Why a rendering ended early.
#[derive(Debug)]
pub enum Fault {
    Cancelled,
    /// What is wrong, for whoever wrote the template.
    Failed(String),
}

pub(super) type Result<T> = std::result::Result<T, Fault>;

pub(super) fn fail<T>(text: impl Into<String>) -> Result<T> {
    Err(Fault::Failed(text.into()))
}

pub(super) struct Budget<'a> {
    cancel: &'a Cancel,
    work: usize,
    next_check: usize,
    memory: usize,
    nesting: usize,
}

impl Budget<'_> {
    pub fn new(cancel: &Cancel) -> Budget<'_> {
        Budget { cancel, work: 0, next_check: 0, memory: 0, nesting: 0 }
    }

    pub fn work(&mut self, units: usize) -> Result<()> {
        self.work = self.work.saturating_add(units);
        if self.work < self.next_check {
            return Ok(());
        }
        self.next_check = self.work.saturating_add(CHECK_EVERY);
        if self.cancel.is_raised() {
            return Err(Fault::Cancelled);
        }
        if self.work > MAX_WORK {
            return fail(format!("it takes more than the {MAX_WORK} units of work allowed"));
        }
        Ok(())
    }

    /// Before `bytes` are looked at.
    pub fn scan(&mut self, bytes: usize) -> Result<()> {
        self.work(1 + bytes / BYTES_PER_UNIT)
    }

    /// Before `name` is compared with each of `known`.
    pub fn names<'n>(&mut self, known: impl Iterator<Item = &'n str>, name: &str) -> Result<()> {
        let (mut names, mut bytes) = (0, 0usize);
        for known in known {
            names += 1;
            if known.len() == name.len() {
                bytes = bytes.saturating_add(name.len());
            }
        }
        self.work(1 + names / 4 + bytes / BYTES_PER_UNIT)
    }

    /// Before `bytes` are allocated and filled.
    pub fn take(&mut self, bytes: usize) -> Result<()> {
        self.memory = self.memory.saturating_add(bytes);
        if self.memory > MAX_MEMORY {
            return fail(format!("it takes more than the {MAX_MEMORY} bytes of memory allowed"));
        }
        self.scan(bytes)
    }

    /// Runs `inner` one level deeper.
    pub fn enter(&mut self) -> Result<()> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return fail(format!("it nests or recurses over {MAX_NESTING} levels deep"));
        }
        self.work(1)
    }

    pub fn leave(&mut self) {
        self.nesting -= 1;
    }

    /// Appends to a text that is being made.
    pub fn append(&mut self, to: &mut String, text: &str) -> Result<()> {
        self.take(text.len())?;
        to.push_str(text);
        Ok(())
    }

    pub fn append_char(&mut self, to: &mut String, c: char) -> Result<()> {
        self.append(to, c.encode_utf8(&mut [0; 4]))
    }
}
