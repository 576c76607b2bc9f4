//! What one rendering may use. Everything that takes time or memory asks here first, also within a
//! filter, so that no template can stall or exhaust a device.

use std::rc::Rc;
use std::sync::Arc;

use super::value::{Dict, List, Value};
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
/// Lists and mappings within one another.
const MAX_LEVELS: u8 = 32;

const BYTES_PER_UNIT: usize = 16;
/// Units between two looks at the cancel flag: less than a millisecond.
const CHECK_EVERY: usize = 4096;
/// What an allocation costs beside its content.
const ALLOCATION: usize = 48;

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
        if self.cancel.is_cancelled() {
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

    /// Sets the value of a namespace's name, in place of an earlier one.
    pub fn keep(
        &mut self,
        values: &mut Vec<(Arc<str>, Value)>,
        name: Arc<str>,
        value: Value,
    ) -> Result<()> {
        self.names(values.iter().map(|(known, _)| &**known), &name)?;
        match values.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => {
                self.take(size_of::<(Arc<str>, Value)>())?;
                values.push((name, value));
            }
        }
        Ok(())
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

    /// Appends to a list that is being made.
    pub fn push(&mut self, to: &mut Vec<Value>, value: Value) -> Result<()> {
        self.take(size_of::<Value>())?;
        to.push(value);
        Ok(())
    }

    pub fn text(&mut self, text: &str) -> Result<Value> {
        self.take(text.len() + ALLOCATION)?;
        Ok(Value::Text(text.into()))
    }

    /// Of items that were paid for.
    pub fn list(&mut self, items: Vec<Value>) -> Result<Value> {
        self.sequence(items, false)
    }

    pub fn sequence(&mut self, items: Vec<Value>, tuple: bool) -> Result<Value> {
        self.take(ALLOCATION)?;
        let levels = self.levels(items.iter())?;
        Ok(Value::List(Rc::new(List { items, tuple, levels })))
    }

    pub fn dict(&mut self, entries: Vec<(Value, Value)>) -> Result<Value> {
        self.take(ALLOCATION + entries.len() * size_of::<(Value, Value)>())?;
        let levels = self.levels(entries.iter().flat_map(|(key, value)| [key, value]))?;
        Ok(Value::Dict(Rc::new(Dict { entries, levels })))
    }

    /// Of a container that holds `parts`. Containers are never changed once made, and a namespace
    /// is no part of one: so nothing can hold itself.
    fn levels<'v>(&mut self, parts: impl Iterator<Item = &'v Value>) -> Result<u8> {
        let mut levels = 0;
        for part in parts {
            self.work(1)?;
            levels = levels.max(part.levels()?);
        }
        if levels >= MAX_LEVELS {
            return fail(format!("a list holds others over {MAX_LEVELS} levels deep"));
        }
        Ok(levels + 1)
    }
}
