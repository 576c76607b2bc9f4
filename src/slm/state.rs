//! One sequence of tokens that the SLM has consumed.

use crate::cancel::Cancel;
use crate::error::{Error, Result};

/// Which rows of a [`super::Slm::spawn`]ed state's `feed` to return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// Only the last token's row: what generation needs.
    Last,
    /// One row per token fed: what scoring and perplexity need. Memory: rows × vocabulary × 4
    /// bytes.
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

/// So many of the last tokens can be forgotten one by one, counted from the longest that the state
/// was since it was made, restored, or forgot more than it was asked to.
pub const EXACT: usize = hybrid_kernels::ConvCache::SLACK;

/// One sequence's state: the caches of its layers and their length.
pub trait SlmState: Send {
    /// Tokens consumed so far.
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens that fit at most.
    fn capacity(&self) -> usize;

    /// Consumes `ids` in chunks, with a cancel check before each and between the graph's nodes. All
    /// or nothing: an error is a [`SlmState::rewind`] to where it was. No ids give an empty output.
    ///
    /// Errors: [`Error::ContextFull`] and [`Error::InvalidArgument`] (an id outside the vocabulary)
    /// before anything is computed; [`Error::Cancelled`]; [`Error::Model`].
    fn feed(&mut self, ids: &[u32], rows: Rows, cancel: &Cancel) -> Result<Output>;

    /// Forgets the last `n` tokens. Fails when there are fewer.
    ///
    /// Where the caches do not keep everything, more may be forgotten: see [`SlmState::len`], and
    /// feed the others again. Within [`EXACT`] it is exact.
    fn rewind(&mut self, n: usize) -> Result<()>;

    /// A copy that goes on by itself, on any thread.
    ///
    /// Errors: [`Error::Unsupported`] for a state that cannot be copied.
    fn fork(&self) -> Result<Box<dyn SlmState>> {
        Err(Error::Unsupported("this SLM's state cannot be copied".into()))
    }

    /// Bytes that `write_cache` writes for `len` tokens; `None` for a graph whose cache cannot be
    /// kept outside: its tokens are fed again instead.
    fn cache_bytes(&self, _len: usize) -> Option<usize> {
        None
    }

    /// Whether `write_cache` can write `len` tokens now.
    fn holds(&self, len: usize) -> bool {
        len <= self.len()
    }

    /// Writes the cache of the first `len` tokens, which it [`SlmState::holds`], piece by piece.
    fn write_cache(&self, _len: usize, _out: &mut dyn FnMut(&[u8])) {}

    /// Takes `len` tokens from the bytes of `write_cache` of the same graph, in place of all there
    /// is.
    ///
    /// Errors, with nothing changed: [`Error::InvalidArgument`] for another number of bytes,
    /// [`Error::ContextFull`], [`Error::Unsupported`] where `cache_bytes` is `None`.
    fn read_cache(&mut self, _len: usize, _bytes: &[u8]) -> Result<()> {
        Err(not_kept_outside())
    }
}

/// Where [`SlmState::cache_bytes`] is `None`.
pub fn not_kept_outside() -> Error {
    Error::Unsupported("the KV cache of this graph cannot be kept outside".into())
}
