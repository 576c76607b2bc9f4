//! The small language model on tract.

use crate::bundle::Bundle;
use crate::cancel::Cancel;
use crate::error::{Error, Result};

pub mod kernels;

/// Which rows of a [`Slm::spawn`]ed state's `feed` to return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// Only the last token's row: what generation needs.
    Last,
    /// One row per token fed: what scoring and perplexity need. Memory: rows × vocabulary × 4 bytes.
    All,
}

/// What the graph computes for the tokens fed, row-major.
#[derive(Debug, Clone, Default)]
pub struct Output {
    /// rows × vocabulary; padding ids are `-inf`.
    pub logits: Vec<f32>,
    /// rows × hidden size: the last hidden state, after the final norm.
    pub hidden: Vec<f32>,
}

/// One sequence's state: the KV cache and its length.
pub trait SlmState: Send {
    /// Tokens consumed so far.
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens that fit at most.
    fn capacity(&self) -> usize;

    /// Consumes `ids` in chunks with a cancel check before each. All or nothing: on an error the
    /// state is as it was before.
    fn feed(&mut self, ids: &[u32], rows: Rows, cancel: &Cancel) -> Result<Output>;

    /// Forgets the last `n` tokens. Fails when there are fewer.
    fn rewind(&mut self, n: usize) -> Result<()>;
}

/// A loaded model, shared by any number of states.
pub struct Slm {}

impl Slm {
    pub fn open(_bundle: &Bundle) -> Result<Slm> {
        Err(Error::Unsupported("not built yet".into()))
    }

    /// `context`: tokens the state can hold; 0 means the model's own limit.
    pub fn spawn(&self, _context: usize) -> Result<Box<dyn SlmState>> {
        Err(Error::Unsupported("not built yet".into()))
    }

    pub fn vocabulary_size(&self) -> usize {
        0
    }

    pub fn hidden_size(&self) -> usize {
        0
    }

    /// The longest context the model was made for.
    pub fn context_limit(&self) -> usize {
        0
    }
}
