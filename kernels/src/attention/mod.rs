//! Causal grouped-query attention over the in-place cache, for one or many new tokens.
//!
//! Every key/value head serves a group of query heads. Up to eight queries of one group (heads, and
//! in a prompt also rows) go through the cache together, so that every key and value is read and
//! converted once per batch. The cache is walked in chunks with a running softmax, which begins
//! anew with every *span* of the context; the spans' results are joined in order. So several
//! threads can work on the spans of one token, and get the bits that one thread gets. Scratch
//! memory grows with the number of spans only where they do.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::kv_cache::{AttentionShape, KvCache};
use super::lanes::Lanes;
use super::parts::Parts;
use super::rope::Rope;
use batch::Batch;
use softmax::Partial;

mod batch;
mod softmax;

/// Positions per pass: their keys and values stay in the first-level cache.
const CHUNK: usize = 128;
/// Queries per pass at most.
const QUERIES: usize = 8;
/// Positions that are summed up before they are joined with those before them.
const SPAN: usize = 4 * CHUNK;

/// Buffers that attention needs, reused from call to call and from layer to layer.
#[derive(Default)]
pub struct AttentionScratch {
    /// Per new token: cosines and sines.
    angles: Vec<f32>,
    /// One token's turned keys.
    turned: Vec<f32>,
    /// `[block][span][query]`, where spans are pieces of work of their own.
    partials: Vec<Partial>,
    /// One for each thread, so that nobody ever waits.
    threads: Vec<Mutex<Buffers>>,
}

/// What one thread needs.
#[derive(Default)]
pub(super) struct Buffers {
    /// One turned query.
    turned: Vec<f32>,
    /// `[dimension][query]`
    queries: Vec<f32>,
    /// `[query][value dimension]`, of one span.
    sums: Vec<f32>,
    /// One for each query.
    totals: [Partial; QUERIES],
}

/// Where pieces of work write.
pub(super) struct Target<'a> {
    pub out: Parts<'a, f32>,
    /// See [`AttentionScratch::partials`].
    pub partials: Parts<'a, Partial>,
}

impl AttentionScratch {
    pub(super) fn allow(&mut self, threads: usize) {
        self.threads.resize_with(threads.max(self.threads.len()), Mutex::default);
    }

    pub(super) fn angles(&self) -> &[f32] {
        &self.angles
    }

    /// Lends the partial results that a job needs room for; to be given back.
    pub(super) fn take_partials(&mut self, job: &Job) -> Vec<Partial> {
        let mut partials = std::mem::take(&mut self.partials);
        if job.split {
            let count = job.pieces() * QUERIES;
            partials.resize_with(count.max(partials.len()), Partial::default);
        }
        partials
    }

    pub(super) fn give_back(&mut self, partials: Vec<Partial>) {
        self.partials = partials;
    }

    /// The buffers of a thread that was [`AttentionScratch::allow`]ed.
    pub(super) fn buffers(&self, thread: usize) -> MutexGuard<'_, Buffers> {
        self.threads[thread].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One call's fixed parts.
pub(super) struct Job<'a> {
    shape: AttentionShape,
    rope: &'a Rope,
    /// Per new token: queries, keys, values.
    qkv: &'a [f32],
    /// Position of the first new token.
    start: usize,
    /// Whether a piece of work is a span of a block, and not all of its spans.
    pub split: bool,
}

impl<'a> Job<'a> {
    pub fn new(
        shape: AttentionShape,
        rope: &'a Rope,
        qkv: &'a [f32],
        start: usize,
        threads: usize,
    ) -> Job<'a> {
        let job = Job { shape, rope, qkv, start, split: false };
        // Several blocks for each thread are pieces enough, as in a prompt.
        let few = threads > 1 && job.blocks() < 4 * threads;
        Job { split: few && job.spans() > 1, ..job }
    }

    fn rows(&self) -> usize {
        self.qkv.len() / self.shape.qkv_width()
    }

    /// Queries of one key/value head.
    fn queries(&self) -> usize {
        self.rows() * self.shape.heads() / self.shape.kv_heads()
    }

    /// Blocks of up to eight queries of a head.
    fn blocks(&self) -> usize {
        self.shape.kv_heads() * self.queries().div_ceil(QUERIES)
    }

    fn spans(&self) -> usize {
        (self.start + self.rows()).div_ceil(SPAN)
    }

    /// The units in which work can be split.
    pub fn pieces(&self) -> usize {
        self.blocks() * if self.split { self.spans() } else { 1 }
    }

    /// A piece's block and spans.
    fn piece(&self, index: usize) -> (usize, Range<usize>) {
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
}

/// Appends the new tokens to the cache. The sizes are checked and there is room.
#[inline(always)]
pub(super) fn append<L: Lanes>(job: &Job, cache: &mut KvCache, scratch: &mut AttentionScratch) {
    let dim = job.shape.head_dim();
    let kv_width = job.shape.kv_heads() * dim;
    scratch.angles.clear();
    scratch.turned.resize(kv_width, 0.0);
    for (row, qkv) in job.qkv.chunks_exact(job.shape.qkv_width()).enumerate() {
        let at = scratch.angles.len();
        job.rope.push_angles(job.start + row, &mut scratch.angles);
        let (keys, values) = qkv[job.shape.out_width()..].split_at(kv_width);
        for (key, turned) in keys.chunks_exact(dim).zip(scratch.turned.chunks_exact_mut(dim)) {
            job.rope.turn(&scratch.angles[at..], key, turned);
        }
        cache.push::<L>(&scratch.turned, values);
    }
}

/// Writes what some pieces attend to, once their keys and values are in the cache: into the output,
/// or into the partial results where blocks are split.
///
/// # Safety
/// No other call uses the same pieces of the same target at the same time.
#[inline(always)]
pub(super) unsafe fn attend<L: Lanes>(
    job: &Job,
    cache: &KvCache,
    angles: &[f32],
    pieces: Range<usize>,
    buffers: &mut Buffers,
    target: &Target,
) {
    // Scores are summed in registers, with as much left for what is multiplied.
    let most = QUERIES.min(L::ROOM / 2);
    for piece in pieces {
        let (block, spans) = job.piece(piece);
        let (head, queries) = block_queries(job, block);
        for first in queries.clone().step_by(most) {
            let count = most.min(queries.end - first);
            let batch = Batch { job, cache, angles, head, first, count };
            batch.run::<L>(spans.clone(), buffers);
            let totals = &mut buffers.totals[..count];
            if job.split {
                let at = piece * QUERIES + first - queries.start;
                // SAFETY: the caller gave this piece to this call alone.
                unsafe { target.partials.get(at..at + count) }.swap_with_slice(totals);
            } else {
                // SAFETY: as above.
                unsafe { batch.finish(totals, &target.out) };
            }
        }
    }
}

/// The head of a block and which of its queries the block has.
fn block_queries(job: &Job, block: usize) -> (usize, Range<usize>) {
    let queries = job.queries();
    let per_head = queries.div_ceil(QUERIES);
    let first = block % per_head * QUERIES;
    (block / per_head, first..queries.min(first + QUERIES))
}

/// Joins the spans of blocks that were split and writes the output.
pub(super) fn join(job: &Job, cache: &KvCache, partials: &mut [Partial], out: &mut [f32]) {
    let out = Parts::new(out);
    let blocks = partials.chunks_exact_mut(job.spans() * QUERIES).take(job.blocks());
    for (block, partials) in blocks.enumerate() {
        let (head, queries) = block_queries(job, block);
        let (totals, later) = partials.split_at_mut(QUERIES);
        for span in later.chunks_exact(QUERIES) {
            for (total, partial) in totals.iter_mut().zip(&span[..queries.len()]) {
                total.join(&partial.softmax, &partial.sums);
            }
        }
        let (first, count) = (queries.start, queries.len());
        let batch = Batch { job, cache, angles: &[], head, first, count };
        // SAFETY: nothing else uses the output now.
        unsafe { batch.finish(&totals[..count], &out) };
    }
}
