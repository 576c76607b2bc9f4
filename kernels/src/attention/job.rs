//! One call of attention: how its work is cut into pieces, and the buffers that it needs.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::rule::AttentionRule;
use super::softmax::Partial;
use crate::kv_cache::{AttentionShape, CHUNK};
use crate::parts::Parts;

/// Queries per pass at most.
pub const QUERIES: usize = 8;
/// Positions that are summed up before they are joined with those before them.
pub const SPAN: usize = 4 * CHUNK;

/// Buffers that attention needs, reused from call to call and from layer to layer.
#[derive(Default)]
pub struct AttentionScratch {
    /// Per new token: cosines and sines.
    pub(super) angles: Vec<f32>,
    /// One token's turned keys.
    pub(super) turned: Vec<f32>,
    /// `[block][span][query]`, where spans are pieces of work of their own.
    pub(super) partials: Vec<Partial>,
    /// One for each thread, so that nobody ever waits.
    pub(super) threads: Vec<Mutex<Buffers>>,
}

/// What one thread needs.
#[derive(Default)]
pub struct Buffers {
    /// One turned query.
    pub(super) turned: Vec<f32>,
    /// `[dimension][query]`
    pub(super) queries: Vec<f32>,
    /// `[query][value dimension]`, of one span.
    pub(super) sums: Vec<f32>,
    /// One for each query.
    pub(super) totals: [Partial; QUERIES],
}

/// Where pieces of work write.
pub struct Target<'a> {
    pub out: Parts<'a, f32>,
    /// See [`AttentionScratch::partials`].
    pub partials: Parts<'a, Partial>,
}

impl AttentionScratch {
    pub(crate) fn allow(&mut self, threads: usize) {
        self.threads.resize_with(threads.max(self.threads.len()), Mutex::default);
    }

    pub(crate) fn angles(&self) -> &[f32] {
        &self.angles
    }

    /// Lends the partial results that a job needs room for; to be given back.
    pub(crate) fn take_partials(&mut self, job: &Job) -> Vec<Partial> {
        let mut partials = std::mem::take(&mut self.partials);
        if job.split {
            let count = job.pieces() * QUERIES;
            partials.resize_with(count.max(partials.len()), Partial::default);
        }
        partials
    }

    pub(crate) fn give_back(&mut self, partials: Vec<Partial>) {
        self.partials = partials;
    }

    /// The buffers of a thread that was [`AttentionScratch::allow`]ed.
    pub(crate) fn buffers(&self, thread: usize) -> MutexGuard<'_, Buffers> {
        self.threads[thread].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One call's fixed parts.
pub struct Job<'a> {
    pub(super) shape: AttentionShape,
    pub(super) rule: &'a AttentionRule,
    /// Per new token: queries, keys, values.
    pub(super) qkv: &'a [f32],
    /// Position of the first new token.
    pub(super) start: usize,
    /// Whether a piece of work is a span of a block, and not all of its spans.
    pub split: bool,
}

impl<'a> Job<'a> {
    pub fn new(
        shape: AttentionShape,
        rule: &'a AttentionRule,
        qkv: &'a [f32],
        start: usize,
        threads: usize,
    ) -> Job<'a> {
        let job = Job { shape, rule, qkv, start, split: false };
        // Several blocks for each thread are pieces enough, as in a prompt.
        let few = threads > 1 && job.blocks() < 4 * threads;
        Job { split: few && job.spans() > 1, ..job }
    }

    pub fn rows(&self) -> usize {
        self.qkv.len() / self.shape.qkv_width()
    }

    /// Queries of one key/value head.
    pub fn queries(&self) -> usize {
        self.rows() * self.shape.heads() / self.shape.kv_heads()
    }

    /// Blocks of up to eight queries of a head.
    pub fn blocks(&self) -> usize {
        self.shape.kv_heads() * self.queries().div_ceil(QUERIES)
    }

    pub fn spans(&self) -> usize {
        (self.start + self.rows()).div_ceil(SPAN)
    }

    /// The units in which work can be split.
    pub fn pieces(&self) -> usize {
        self.blocks() * if self.split { self.spans() } else { 1 }
    }

    /// A piece's block and spans.
    pub fn piece(&self, index: usize) -> (usize, Range<usize>) {
        let spans = self.spans();
        match self.split {
            true => (index / spans, index % spans..index % spans + 1),
            false => (index, 0..spans),
        }
    }

    /// Multiplications of a piece, roughly.
    pub fn piece_cost(&self) -> usize {
        let positions = self.start + self.rows().div_ceil(2);
        let positions = if self.split { positions.min(SPAN) } else { positions };
        2 * self.queries().min(QUERIES) * self.shape.head_dim() * positions
    }

    /// The head of a block and which of its queries the block has.
    pub fn block_queries(&self, block: usize) -> (usize, Range<usize>) {
        let queries = self.queries();
        let per_head = queries.div_ceil(QUERIES);
        let first = block % per_head * QUERIES;
        (block / per_head, first..queries.min(first + QUERIES))
    }
}
