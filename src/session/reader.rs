//! What the SLM has read: the context, and perhaps tokens ahead of it.
//!
//! Tokens are read *ahead* where they are likely to follow: the candidate that a score wants to see
//! consumed, the rest of a burst, a draft, what the SLM would write while a consult is under way.
//! Rows are the same in a batch and alone, to the last bit, so what is read ahead, and rewound
//! where something else comes, changes no candidate and no score.

use std::collections::VecDeque;

use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::slm::{Output, Rows, SlmState};

/// Tokens read ahead in one batch at most: each takes a row of logits.
const MAX_AHEAD: usize = 8;
/// So many tokens are read without a row of logits for each; after a rewind it may be a whole
/// context.
const MANY: usize = 64;

/// The SLM's state, and the rows that are needed next.
pub(super) struct Reader {
    slm: Box<dyn SlmState>,
    /// Tokens that the SLM has consumed beyond the context.
    ahead: VecDeque<u32>,
    /// The rows of the context's last token, once the SLM has consumed it, and of each of `ahead`.
    rows: VecDeque<Output>,
}

impl Reader {
    pub fn new(slm: Box<dyn SlmState>) -> Reader {
        Reader { slm, ahead: VecDeque::new(), rows: VecDeque::new() }
    }

    /// Errors: those of [`SlmState::fork`].
    pub fn fork(&self) -> Result<Reader> {
        let (ahead, rows) = (self.ahead.clone(), self.rows.clone());
        Ok(Reader { slm: self.slm.fork()?, ahead, rows })
    }

    /// Tokens that the context can have at most.
    pub fn capacity(&self) -> usize {
        self.slm.capacity()
    }

    /// The row of the context's last token, which must have been consumed.
    pub fn row(&self) -> Result<&Output> {
        self.rows.front().ok_or_else(out_of_step)
    }

    /// The row of the `n`th token after the context, if it has been read ahead; 0: as
    /// [`Reader::row`].
    pub fn row_ahead(&self, n: usize) -> Option<&Output> {
        self.rows.get(n)
    }

    /// `token` is the first one that was read ahead.
    pub fn has_read(&self, token: u32) -> bool {
        self.ahead.front() == Some(&token)
    }

    /// Tokens of the context that the SLM has not consumed yet.
    pub fn unread(&self, context: &[u32]) -> usize {
        (context.len() + self.ahead.len()).saturating_sub(self.slm.len())
    }

    /// Lets the SLM consume all tokens of the context that it has not seen, and with them the first
    /// of those that follow, in one batch if they are few. On an error the rest can be read later.
    pub fn read(&mut self, context: &[u32], following: &[u32], cancel: &Cancel) -> Result<()> {
        let seen = self.slm.len() - self.ahead.len();
        let mut pending = context.get(seen..).ok_or_else(out_of_step)?;
        let room = self.slm.capacity().saturating_sub(context.len()).min(MAX_AHEAD);
        let following = following.get(..room).unwrap_or(following);
        if pending.len() > MANY && !following.is_empty() {
            let (before, last) = pending.split_at(pending.len() - 1);
            self.slm.feed(before, Rows::Last, cancel)?;
            pending = last;
        }
        if self.ahead.is_empty() && !following.is_empty() {
            let batch = [pending, following].concat();
            let mut rows = rows_of(self.slm.feed(&batch, Rows::All, cancel)?, batch.len());
            if pending.is_empty() {
                self.rows.append(&mut rows);
            } else {
                self.rows = rows.split_off(pending.len() - 1);
            }
            self.ahead.extend(following);
        } else if !pending.is_empty() {
            self.rows = VecDeque::from([self.slm.feed(pending, Rows::Last, cancel)?]);
        }
        Ok(())
    }

    /// Lets the SLM consume what may follow the context, in place of what it has read ahead.
    pub fn read_ahead(&mut self, context: &[u32], tokens: &[u32], cancel: &Cancel) -> Result<()> {
        self.forget_ahead()?;
        self.read(context, &[], cancel)?;
        self.row()?;
        let output = self.slm.feed(tokens, Rows::All, cancel)?;
        self.rows.append(&mut rows_of(output, tokens.len()));
        self.ahead.extend(tokens);
        Ok(())
    }

    /// Lets the SLM consume `token` after the first `kept` of those that it has read ahead, in
    /// place of what followed them. The context has been consumed.
    pub fn read_on(&mut self, kept: usize, token: u32, cancel: &Cancel) -> Result<()> {
        if self.ahead.get(kept) == Some(&token) {
            return Ok(());
        }
        let place = self.slm.len() - self.ahead.len() + kept;
        self.keep_ahead(kept)?;
        if self.slm.len() != place {
            return Err(out_of_step());
        }
        self.rows.push_back(self.slm.feed(&[token], Rows::Last, cancel)?);
        self.ahead.push_back(token);
        Ok(())
    }

    pub fn forget_ahead(&mut self) -> Result<()> {
        self.keep_ahead(0)
    }

    /// Forgets all but the first `kept` tokens that were read ahead. The SLM may have to forget
    /// more than that, also of the context: `read` feeds it again. The row of the context stays.
    fn keep_ahead(&mut self, kept: usize) -> Result<()> {
        let context = self.slm.len().saturating_sub(self.ahead.len());
        self.slm.rewind(self.ahead.len().saturating_sub(kept))?;
        self.ahead.truncate(self.slm.len().saturating_sub(context));
        self.rows.truncate(self.ahead.len() + 1);
        Ok(())
    }

    /// `token` follows the context. What was read ahead is kept if it begins with this token.
    pub fn accept(&mut self, token: u32) -> Result<()> {
        if self.has_read(token) {
            self.ahead.pop_front();
            self.rows.pop_front();
        } else {
            self.forget_ahead()?;
            self.rows.clear();
        }
        Ok(())
    }

    /// The context has been cut to `len` tokens, fewer than it had.
    pub fn truncate(&mut self, len: usize) -> Result<()> {
        // The row of the last token is not known any more: the SLM will consume that one again.
        let kept = len.saturating_sub(1);
        self.slm.rewind(self.slm.len().saturating_sub(kept))?;
        self.ahead.clear();
        self.rows.clear();
        Ok(())
    }

    /// How many tokens of a context of `len` are in the cache and can be kept outside: all but the
    /// last at most.
    pub fn cached(&self, len: usize) -> usize {
        let kept = len.saturating_sub(1).min(self.slm.len());
        let has = self.slm.cache_bytes(kept).is_some() && self.slm.holds(kept);
        if has { kept } else { 0 }
    }

    /// Bytes that [`Reader::write_cache`] writes for `len` tokens.
    pub fn cache_bytes(&self, len: usize) -> usize {
        self.slm.cache_bytes(len).unwrap_or(0)
    }

    pub fn write_cache(&self, len: usize, out: &mut dyn FnMut(&[u8])) {
        self.slm.write_cache(len, out);
    }

    /// The context is another one, of which `cache` has the first `len` tokens. On an error nothing
    /// has changed.
    pub fn restore(&mut self, len: usize, cache: &[u8]) -> Result<()> {
        if len == 0 {
            self.slm.rewind(self.slm.len())?;
        } else {
            self.slm.read_cache(len, cache)?;
        }
        self.ahead.clear();
        self.rows.clear();
        Ok(())
    }
}

fn rows_of(output: Output, rows: usize) -> VecDeque<Output> {
    if rows == 1 {
        return VecDeque::from([output]);
    }
    let logits = output.logits.chunks_exact((output.logits.len() / rows).max(1));
    let hidden = output.hidden.chunks_exact((output.hidden.len() / rows).max(1));
    logits.zip(hidden).map(|(l, h)| Output { logits: l.to_vec(), hidden: h.to_vec() }).collect()
}

pub(super) fn out_of_step() -> Error {
    Error::State("the SLM's state does not fit the context; reset the session".into())
}
