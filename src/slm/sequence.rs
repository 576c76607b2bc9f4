//! One sequence on a graph of either kind: chunks, context limit, all or nothing, rewind.

use std::ops::Range;

use super::{Dimensions, Output, Rows, SlmState};
use crate::cancel::Cancel;
use crate::error::{Error, Result};

/// Tokens per run of the graph: enough to amortise reading the weights, small enough to keep the
/// activations in the cache.
pub const CHUNK: usize = 128;

/// How a graph runs, and where it keeps its KV cache.
pub trait Runner: Send {
    /// Consumes `ids` after the `past` tokens held, and appends the outputs of `rows` (indices into
    /// `ids`) to `output`. After an error the cache may hold a part of `ids`.
    fn run(
        &mut self,
        past: usize,
        ids: &[u32],
        rows: Range<usize>,
        cancel: &Cancel,
        output: &mut Output,
    ) -> Result<()>;

    /// Keeps the first `len` tokens of the cache, also after a failed run.
    fn truncate(&mut self, len: usize) -> Result<()>;
}

/// [`SlmState`] over a [`Runner`].
pub struct Sequence<R> {
    runner: R,
    dimensions: Dimensions,
    len: usize,
    capacity: usize,
}

impl<R: Runner> Sequence<R> {
    pub fn new(runner: R, dimensions: Dimensions, capacity: usize) -> Self {
        Sequence { runner, dimensions, len: 0, capacity }
    }

    /// Everything that can be wrong with `ids`, before anything is consumed.
    fn check(&self, ids: &[u32]) -> Result<()> {
        let vocabulary = self.dimensions.vocabulary;
        if let Some(id) = ids.iter().find(|id| **id as usize >= vocabulary) {
            return Err(Error::InvalidArgument(format!(
                "token {id} is outside the vocabulary of {vocabulary}"
            )));
        }
        if ids.len() > self.capacity - self.len {
            return Err(Error::ContextFull {
                used: self.len,
                needed: ids.len(),
                limit: self.capacity,
            });
        }
        Ok(())
    }

    fn feed_chunks(&mut self, ids: &[u32], rows: Rows, cancel: &Cancel) -> Result<Output> {
        let mut output = Output::default();
        let mut past = self.len;
        let chunks = ids.chunks(CHUNK);
        let last = chunks.len().saturating_sub(1);
        for (ix, chunk) in chunks.enumerate() {
            cancel.check()?;
            let wanted = match rows {
                Rows::All => 0..chunk.len(),
                Rows::Last if ix == last => chunk.len() - 1..chunk.len(),
                Rows::Last => 0..0,
            };
            self.runner.run(past, chunk, wanted, cancel, &mut output)?;
            past += chunk.len();
        }
        mask_padding(&mut output.logits, self.dimensions);
        self.len = past;
        Ok(output)
    }
}

impl<R: Runner> SlmState for Sequence<R> {
    fn len(&self) -> usize {
        self.len
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn feed(&mut self, ids: &[u32], rows: Rows, cancel: &Cancel) -> Result<Output> {
        self.check(ids)?;
        let output = self.feed_chunks(ids, rows, cancel);
        if output.is_err() {
            self.runner.truncate(self.len)?;
        }
        output
    }

    fn rewind(&mut self, n: usize) -> Result<()> {
        let len = self.len.checked_sub(n).ok_or_else(|| {
            Error::InvalidArgument(format!("rewind by {n} tokens of {}", self.len))
        })?;
        self.runner.truncate(len)?;
        self.len = len;
        Ok(())
    }
}

fn mask_padding(logits: &mut [f32], dimensions: Dimensions) {
    for row in logits.chunks_exact_mut(dimensions.vocabulary) {
        row[dimensions.usable..].fill(f32::NEG_INFINITY);
    }
}
