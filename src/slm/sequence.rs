//! One sequence on a graph of either kind: chunks, context limit, all or nothing, rewind.

use std::ops::Range;

use super::dimensions::Dimensions;
use super::state::{Output, Rows, SlmState, not_kept_outside};
use crate::cancel::Cancel;
use crate::error::{Error, Result};

/// Tokens per run of the graph: enough to amortise reading the weights, small enough to keep the
/// activations in the cache.
pub const CHUNK: usize = 128;

/// How a graph runs, and where it keeps its KV cache.
pub trait Runner: Send + Sized + 'static {
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

    /// A copy with its own cache.
    fn fork(&self) -> Self;

    /// Keeps the first `len` tokens of the cache, also after a failed run.
    fn truncate(&mut self, len: usize) -> Result<()>;

    /// See [`SlmState::cache_bytes`].
    fn cache_bytes(&self, _len: usize) -> Option<usize> {
        None
    }

    /// Writes the first `len` tokens of the cache, as many bytes as `cache_bytes` says.
    fn write_cache(&self, _len: usize, _out: &mut dyn FnMut(&[u8])) {}

    /// Takes `len` tokens from the bytes of `write_cache`, of the right number. After an error the
    /// cache may hold a part.
    fn read_cache(&mut self, _len: usize, _bytes: &[u8]) -> Result<()> {
        Err(not_kept_outside())
    }
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

    fn fork(&self) -> Result<Box<dyn SlmState>> {
        Ok(Box::new(Sequence { runner: self.runner.fork(), ..*self }))
    }

    fn cache_bytes(&self, len: usize) -> Option<usize> {
        self.runner.cache_bytes(len)
    }

    fn write_cache(&self, len: usize, out: &mut dyn FnMut(&[u8])) {
        self.runner.write_cache(len, out);
    }

    fn read_cache(&mut self, len: usize, bytes: &[u8]) -> Result<()> {
        let expected = self.cache_bytes(len).ok_or_else(not_kept_outside)?;
        if bytes.len() != expected {
            return Err(Error::InvalidArgument("a KV cache of another size".into()));
        }
        if len > self.capacity {
            return Err(Error::ContextFull { used: 0, needed: len, limit: self.capacity });
        }
        self.rewind(self.len)?;
        let read = self.runner.read_cache(len, bytes);
        match &read {
            Ok(()) => self.len = len,
            Err(_) => self.runner.truncate(0)?,
        }
        read
    }
}

fn mask_padding(logits: &mut [f32], dimensions: Dimensions) {
    for row in logits.chunks_exact_mut(dimensions.vocabulary) {
        row[dimensions.usable..].fill(f32::NEG_INFINITY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Remembers what it was given; fails or is cancelled at a token, after consuming a part.
    #[derive(Clone, Default)]
    struct Recorder {
        held: Vec<u32>,
        wanted: Vec<usize>,
        fail_at: Option<u32>,
    }

    impl Runner for Recorder {
        fn run(
            &mut self,
            past: usize,
            ids: &[u32],
            rows: Range<usize>,
            _: &Cancel,
            output: &mut Output,
        ) -> Result<()> {
            assert_eq!(past, self.held.len());
            self.wanted.extend(rows.clone().map(|row| past + row));
            output.hidden.extend(rows.clone().map(|row| ids[row] as f32));
            output.logits.extend(rows.flat_map(|_| [1.0; 3]));
            for id in ids {
                if self.fail_at == Some(*id) {
                    return Err(Error::Cancelled);
                }
                self.held.push(*id);
            }
            Ok(())
        }

        fn fork(&self) -> Recorder {
            self.clone()
        }

        fn truncate(&mut self, len: usize) -> Result<()> {
            self.held.truncate(len);
            Ok(())
        }
    }

    fn sequence(fail_at: Option<u32>, capacity: usize) -> Sequence<Recorder> {
        let dimensions = Dimensions {
            layers: 1,
            #[cfg(feature = "plain")]
            kv_heads: 1,
            #[cfg(feature = "plain")]
            head_dim: 1,
            hidden_size: 1,
            vocabulary: 3,
            usable: 2,
            context: capacity,
        };
        Sequence::new(Recorder { fail_at, ..Recorder::default() }, dimensions, capacity)
    }

    #[test]
    fn only_the_last_chunk_is_asked_for_the_last_row() {
        for (len, rows, wanted) in [
            (1, Rows::Last, vec![0]),
            (CHUNK, Rows::Last, vec![CHUNK - 1]),
            (2 * CHUNK + 3, Rows::Last, vec![2 * CHUNK + 2]),
            (CHUNK + 1, Rows::All, (0..=CHUNK).collect()),
            (0, Rows::Last, vec![]),
        ] {
            let mut sequence = sequence(None, 1000);
            let output = sequence.feed(&vec![1; len], rows, &Cancel::new()).unwrap();
            assert_eq!((sequence.len(), &sequence.runner.wanted), (len, &wanted));
            assert_eq!(output.hidden.len(), wanted.len());
            let padded = [1.0, 1.0, f32::NEG_INFINITY].repeat(wanted.len());
            assert_eq!(output.logits, padded);
        }
    }

    #[test]
    fn a_failed_feed_leaves_nothing_behind() {
        let mut sequence = sequence(Some(2), 1000);
        sequence.feed(&[0, 1], Rows::Last, &Cancel::new()).unwrap();
        let mut ids = vec![1; CHUNK + 10];
        ids[CHUNK + 5] = 2;
        let error = sequence.feed(&ids, Rows::Last, &Cancel::new()).unwrap_err();
        assert!(matches!(error, Error::Cancelled));
        assert_eq!((sequence.len(), sequence.runner.held.as_slice()), (2, &[0, 1][..]));
    }

    #[test]
    fn what_cannot_be_fed_is_refused_before_anything_is_consumed() {
        let mut sequence = sequence(None, 4);
        sequence.feed(&[0, 1], Rows::Last, &Cancel::new()).unwrap();
        let raised = Cancel::new();
        raised.cancel();
        let feeds = [
            (vec![1, 3], Cancel::new(), "outside the vocabulary of 3"),
            (vec![1, 1, 1], Cancel::new(), "2 used + 3 needed > 4"),
            (vec![1], raised, "cancelled"),
        ];
        for (ids, cancel, text) in feeds {
            let error = sequence.feed(&ids, Rows::All, &cancel).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
            assert_eq!(sequence.runner.held, [0, 1]);
        }
        assert!(sequence.rewind(3).unwrap_err().to_string().contains("rewind by 3 tokens of 2"));
        sequence.rewind(1).unwrap();
        sequence.feed(&[1, 1, 1], Rows::Last, &Cancel::new()).unwrap();
        assert_eq!((sequence.len(), sequence.runner.held.as_slice()), (4, &[0, 1, 1, 1][..]));
    }
}
