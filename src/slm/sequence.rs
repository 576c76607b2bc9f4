//! One sequence on a graph of either kind: chunks, context limit, all or nothing, rewind.
//!
//! # Going back
//!
//! Everything that tries tokens and takes them back (peek, rescue, drafts, a rewind, a call that
//! failed) ends in [`SlmState::rewind`]. How far back a cache can go depends on its kind:
//!
//! - Keys and values of all positions: to every length.
//! - A *ring* has the last positions only: keys and values of a layer that sees a window, and the
//!   columns of a short convolution. To go on from a length it needs the positions just before,
//!   window − 1 or taps − 1 of them. Beside these it has room for the last
//!   [`KvCache::SLACK`](super::kernels::KvCache::SLACK) or
//!   [`ConvCache::SLACK`](super::kernels::ConvCache::SLACK) tokens, so going back by as many costs
//!   nothing. What was overwritten is out of its *reach*.
//!
//! A recurrence would keep its last states in the same way: a ring that needs one of them.
//!
//! Where a rewind goes out of reach, the sequence goes back further: to the last *mark* that has a
//! snapshot, or to nothing. It then has fewer tokens than were asked for, and whoever rewound feeds
//! the others again; the session does that with the next call that computes. A snapshot is what the
//! rings need to go on from there, and is taken when a ring is about to lose it. Marked are the
//! ends of prompts, so that an answer can be written anew, and every place that was out of reach:
//! the second time, going back there costs nothing. Prompts are cut into chunks at marks, so that
//! no mark is missed.
//!
//! The same bytes, of all caches, are what is saved: all positions, or what a ring needs. A fork
//! copies rings and snapshots.

use std::ops::Range;

use super::dimensions::Dimensions;
use super::marks::Marks;
use super::state::{Output, Rows, SlmState, not_kept_outside};
use crate::cancel::Cancel;
use crate::error::{Error, Result};

/// Tokens per run of the graph: enough to amortise reading the weights, small enough to keep the
/// activations in the cache.
pub const CHUNK: usize = 128;

/// A `feed` of more tokens than that is a prompt: no draft is so long.
const PROMPT: usize = 16;

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

    /// Keeps the first `len` tokens of the cache, also after a failed run. `len` is 0 or within
    /// [`Runner::reach`].
    fn truncate(&mut self, len: usize) -> Result<()>;

    /// The shortest length besides 0 that `truncate` can keep once `more` tokens are consumed; 0:
    /// any.
    fn reach(&self, _more: usize) -> usize {
        0
    }

    /// What [`Runner::go_back`] needs to keep the first `len` tokens, which are within reach.
    fn snapshot(&self, _len: usize) -> Vec<u8> {
        Vec::new()
    }

    /// As [`Runner::truncate`], but out of reach. After an error the cache may hold a part.
    fn go_back(&mut self, len: usize, _snapshot: &[u8]) -> Result<()> {
        self.truncate(len)
    }

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
    marks: Marks,
}

impl<R: Runner> Sequence<R> {
    pub fn new(runner: R, dimensions: Dimensions, capacity: usize) -> Self {
        Sequence { runner, dimensions, len: 0, capacity, marks: Marks::default() }
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
        let (mut past, mut rest) = (self.len, ids);
        while !rest.is_empty() {
            cancel.check()?;
            let room = self.marks.next(past).map_or(CHUNK, |mark| CHUNK.min(mark - past));
            let (chunk, later) = rest.split_at(room.min(rest.len()));
            let wanted = match rows {
                Rows::All => 0..chunk.len(),
                Rows::Last if later.is_empty() => chunk.len() - 1..chunk.len(),
                Rows::Last => 0..0,
            };
            let runner = &mut self.runner;
            self.marks.keep(past, runner.reach(chunk.len()), |mark| runner.snapshot(mark));
            runner.run(past, chunk, wanted, cancel, &mut output)?;
            past += chunk.len();
            rest = later;
        }
        mask_padding(&mut output.logits, self.dimensions);
        self.len = past;
        if ids.len() > PROMPT {
            // Whoever goes back there wants the row of the last token.
            self.marks.add(past - 1);
        }
        Ok(output)
    }

    /// Goes back to `len` tokens, or to fewer where that is out of reach; see the module.
    fn go_back(&mut self, len: usize) -> Result<()> {
        self.marks.truncate(len);
        if len == 0 || len >= self.runner.reach(0) {
            self.runner.truncate(len)?;
            self.len = len;
            return Ok(());
        }
        let (kept, gone_back) = match self.marks.last_snapshot() {
            Some((mark, snapshot)) => (mark, self.runner.go_back(mark, snapshot)),
            None => (0, self.runner.truncate(0)),
        };
        self.marks.add(len);
        self.len = kept;
        gone_back.or_else(|_| {
            self.len = 0;
            self.runner.truncate(0)
        })
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
        let next = self.marks.next(self.len);
        let output = self.feed_chunks(ids, rows, cancel);
        if output.is_err() {
            self.go_back(self.len)?;
            // It is still to be fed again up to there.
            next.into_iter().for_each(|mark| self.marks.add(mark));
        }
        output
    }

    fn rewind(&mut self, n: usize) -> Result<()> {
        let len = self.len.checked_sub(n).ok_or_else(|| {
            Error::InvalidArgument(format!("rewind by {n} tokens of {}", self.len))
        })?;
        // What is marked further on, to be fed again, stays marked.
        if n == 0 { Ok(()) } else { self.go_back(len) }
    }

    fn fork(&self) -> Result<Box<dyn SlmState>> {
        let (runner, marks) = (self.runner.fork(), self.marks.clone());
        Ok(Box::new(Sequence { runner, marks, ..*self }))
    }

    fn holds(&self, len: usize) -> bool {
        len <= self.len && len >= self.runner.reach(0)
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
        // Not `rewind`: marks of what was there before go too.
        self.go_back(0)?;
        let read = self.runner.read_cache(len, bytes);
        match &read {
            Ok(()) => {
                self.len = len;
                self.marks.add(len);
            }
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
        /// Tokens that it can forget, if not all; as a recurrence it depends on all before.
        room: Option<usize>,
        /// It cannot go back to fewer.
        reach: usize,
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
                self.reach = self.reach(0);
            }
            Ok(())
        }

        fn fork(&self) -> Recorder {
            self.clone()
        }

        fn truncate(&mut self, len: usize) -> Result<()> {
            assert!(len == 0 || len >= self.reach, "{len} is out of reach");
            self.held.truncate(len);
            self.reach = if len == 0 { 0 } else { self.reach };
            Ok(())
        }

        fn reach(&self, more: usize) -> usize {
            let len = self.held.len() + more;
            self.room.map_or(0, |room| len.saturating_sub(room).max(self.reach))
        }

        fn snapshot(&self, len: usize) -> Vec<u8> {
            assert!(self.room.is_some() && (self.reach..=self.held.len()).contains(&len));
            self.held[..len].iter().flat_map(|id| id.to_le_bytes()).collect()
        }

        fn go_back(&mut self, len: usize, snapshot: &[u8]) -> Result<()> {
            let ids = snapshot.as_chunks().0.iter();
            self.held = ids.map(|id| u32::from_le_bytes(*id)).collect();
            assert_eq!(self.held.len(), len);
            self.reach = len;
            Ok(())
        }

        fn cache_bytes(&self, len: usize) -> Option<usize> {
            Some(4 * len)
        }

        fn read_cache(&mut self, len: usize, bytes: &[u8]) -> Result<()> {
            self.go_back(len, bytes)
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
        raised.raise();
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

    fn with_room(room: usize) -> Sequence<Recorder> {
        let mut sequence = sequence(None, 10_000);
        sequence.runner.room = Some(room);
        sequence
    }

    /// Feeds the numbers up to `to` that are not there yet.
    fn feed_up_to(sequence: &mut Sequence<Recorder>, to: usize) {
        let ids: Vec<u32> = (sequence.len()..to).map(|at| at as u32 % 2).collect();
        sequence.feed(&ids, Rows::Last, &Cancel::new()).unwrap();
        let all: Vec<u32> = (0..to).map(|at| at as u32 % 2).collect();
        assert_eq!((sequence.len(), &sequence.runner.held), (to, &all));
    }

    /// What is left of a rewind to `to`.
    fn rewound(sequence: &mut Sequence<Recorder>, to: usize) -> usize {
        sequence.rewind(sequence.len() - to).unwrap();
        assert_eq!(sequence.runner.held.len(), sequence.len());
        sequence.len()
    }

    /// A restored sequence goes back to nothing that was there before it.
    #[test]
    fn a_restore_forgets_the_marks() {
        let mut sequence = with_room(64);
        feed_up_to(&mut sequence, 300);
        (301..400).for_each(|to| feed_up_to(&mut sequence, to));
        assert_eq!(rewound(&mut sequence, 49), 0);
        let cache: Vec<u8> = (0..200).flat_map(|at| (at as u32 % 2).to_le_bytes()).collect();
        sequence.read_cache(200, &cache).unwrap();
        (201..300).for_each(|to| feed_up_to(&mut sequence, to));
        let left = rewound(&mut sequence, 150);
        assert_eq!(sequence.runner.held, (0..left as u32).map(|at| at % 2).collect::<Vec<_>>());
        assert_ne!(left, 49);
    }

    /// A cancelled feed is fed again up to the same mark.
    #[test]
    fn a_failed_feed_keeps_the_mark_that_it_was_to_reach() {
        let mut sequence = with_room(64);
        feed_up_to(&mut sequence, 300);
        assert_eq!(rewound(&mut sequence, 111), 0);
        let raised = Cancel::new();
        raised.raise();
        assert!(sequence.feed(&[0; 200], Rows::Last, &raised).is_err());
        feed_up_to(&mut sequence, 200);
        (201..300).for_each(|to| feed_up_to(&mut sequence, to));
        assert_eq!(rewound(&mut sequence, 111), 111);
    }

    #[test]
    fn out_of_reach_it_goes_back_to_a_mark() {
        for room in [1, 20, 64, 200] {
            let mut sequence = with_room(room);
            feed_up_to(&mut sequence, 300);
            (301..600).for_each(|to| feed_up_to(&mut sequence, to));
            let (near, len) = (599 - room, sequence.len());
            assert_eq!((len, rewound(&mut sequence, near)), (599, near));
            // The end of the prompt, which has a snapshot once there is no room for it.
            assert_eq!(rewound(&mut sequence, 299), 299, "room {room}");
            feed_up_to(&mut sequence, 600);
            // Never marked: everything must be fed again, but only the first time.
            assert_eq!(rewound(&mut sequence, 111), 0);
            for round in 0..3 {
                // As the session does before it feeds.
                sequence.rewind(0).unwrap();
                feed_up_to(&mut sequence, 450 + round);
                (500..520).for_each(|to| feed_up_to(&mut sequence, to));
                assert_eq!(rewound(&mut sequence, 111), 111, "room {room}");
            }
            assert_eq!(rewound(&mut sequence, 0), 0);
            feed_up_to(&mut sequence, 50);
        }
    }

    #[test]
    fn a_fork_has_marks_of_its_own() {
        let mut sequence = with_room(10);
        feed_up_to(&mut sequence, 100);
        (101..200).for_each(|to| feed_up_to(&mut sequence, to));
        let mut fork =
            Sequence { runner: sequence.runner.fork(), marks: sequence.marks.clone(), ..sequence };
        assert_eq!(rewound(&mut sequence, 20), 0);
        assert_eq!(rewound(&mut fork, 99), 99);
        feed_up_to(&mut fork, 120);
    }

    #[test]
    fn a_failed_feed_out_of_reach_leaves_a_part_that_is_right() {
        let mut sequence = with_room(30);
        feed_up_to(&mut sequence, 200);
        feed_up_to(&mut sequence, 210);
        sequence.runner.fail_at = Some(2);
        let ids = [vec![0; 300], vec![2]].concat();
        sequence.feed(&ids, Rows::Last, &Cancel::new()).unwrap_err();
        assert_eq!(sequence.len(), 199);
        feed_up_to(&mut sequence, 210);
        // The place is marked now.
        sequence.feed(&ids, Rows::Last, &Cancel::new()).unwrap_err();
        assert_eq!(sequence.len(), 210);
        assert!(sequence.holds(210) && !sequence.holds(209) && !sequence.holds(211));
    }
}
