//! Causal grouped-query attention over the in-place cache, for one or many new tokens.
//!
//! Every key/value head serves a group of query heads. Up to eight queries of one group (heads, and
//! in a prompt also rows) go through the cache together, so that every key and value is read and
//! converted once per batch. The cache is walked in chunks with a running softmax, which begins
//! anew with every *span* of the context; the spans' results are joined in order. So several
//! threads can work on the spans of one token, and get the bits that one thread gets. Scratch
//! memory grows with the number of spans only where they do.

use std::ops::Range;

use crate::kv_cache::KvCache;
use crate::lanes::Lanes;
use crate::parts::Parts;
use batch::Batch;
pub use job::AttentionScratch;
use job::QUERIES;
pub(crate) use job::{Buffers, Job, Target};
pub use rule::AttentionRule;
use softmax::Partial;

mod batch;
mod job;
mod rule;
mod softmax;

/// Appends the new tokens to the cache. The sizes are checked and there is room.
#[inline(always)]
pub(super) fn append<L: Lanes>(job: &Job, cache: &mut KvCache, scratch: &mut AttentionScratch) {
    let dim = job.shape.head_dim();
    let kv_width = job.shape.kv_heads() * dim;
    let rope = job.rule.rope();
    scratch.angles.clear();
    scratch.turned.resize(kv_width, 0.0);
    for (row, qkv) in job.qkv.chunks_exact(job.shape.qkv_width()).enumerate() {
        let at = scratch.angles.len();
        rope.push_angles(job.start + row, &mut scratch.angles);
        let (keys, values) = qkv[job.shape.out_width()..].split_at(kv_width);
        for (key, turned) in keys.chunks_exact(dim).zip(scratch.turned.chunks_exact_mut(dim)) {
            rope.turn(&scratch.angles[at..], key, turned);
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
        let (head, queries) = job.block_queries(block);
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

/// Joins the spans of blocks that were split and writes the output.
pub(super) fn join(job: &Job, cache: &KvCache, partials: &mut [Partial], out: &mut [f32]) {
    let out = Parts::new(out);
    let blocks = partials.chunks_exact_mut(job.spans() * QUERIES).take(job.blocks());
    for (block, partials) in blocks.enumerate() {
        let (head, queries) = job.block_queries(block);
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
