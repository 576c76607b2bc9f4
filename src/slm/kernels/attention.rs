//! Causal grouped-query attention over the in-place cache, for one or many new tokens.
//!
//! Every key/value head serves a group of query heads. Up to eight queries of one group (heads, and
//! in a prompt also rows) go through the cache together, so that every key and value is read and
//! converted once per batch. The cache is walked in chunks with a running softmax: scratch memory does
//! not grow with the context.

use super::elementwise::{exp_minus, largest};
use super::kv_cache::{AttentionShape, KvCache};
use super::lanes::{LANES, Lanes};
use super::rope::Rope;

/// Positions per pass: their keys and values stay in the first-level cache.
const CHUNK: usize = 128;
/// Queries per pass.
const QUERIES: usize = 8;

/// Buffers that attention needs, reused from call to call and from layer to layer.
#[derive(Debug, Clone, Default)]
pub struct AttentionScratch {
    /// Per new token: cosines and sines.
    angles: Vec<f32>,
    /// One token's turned keys, or one turned query.
    turned: Vec<f32>,
    /// `[dimension][query]`
    queries: Vec<f32>,
    /// `[query][value dimension]`
    sums: Vec<f32>,
}

/// One call's fixed parts.
pub(super) struct Job<'a> {
    pub shape: AttentionShape,
    pub rope: &'a Rope,
    /// Per new token: queries, keys, values.
    pub qkv: &'a [f32],
    /// Position of the first new token.
    pub start: usize,
}

impl Job<'_> {
    fn rows(&self) -> usize {
        self.qkv.len() / self.shape.qkv_width()
    }
}

/// Appends the new tokens to the cache and writes what they attend to. The sizes are checked and
/// there is room.
#[inline(always)]
pub(super) fn attend<L: Lanes>(
    job: &Job,
    cache: &mut KvCache,
    scratch: &mut AttentionScratch,
    out: &mut [f32],
) {
    append::<L>(job, cache, scratch);
    let queries = job.rows() * job.shape.heads() / job.shape.kv_heads();
    for head in 0..job.shape.kv_heads() {
        for first in (0..queries).step_by(QUERIES) {
            let mut at = Batch { job, cache, head, first };
            match queries - first {
                1 => at.run::<L, 1>(scratch, out),
                2 => at.run::<L, 2>(scratch, out),
                3 => at.run::<L, 3>(scratch, out),
                4 => at.run::<L, 4>(scratch, out),
                5 => at.run::<L, 5>(scratch, out),
                6 => at.run::<L, 6>(scratch, out),
                7 => at.run::<L, 7>(scratch, out),
                _ => at.run::<L, QUERIES>(scratch, out),
            }
        }
    }
}

#[inline(always)]
fn append<L: Lanes>(job: &Job, cache: &mut KvCache, scratch: &mut AttentionScratch) {
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

/// Some queries of one key/value head's group. Query `i` is head `i % group` of new token
/// `i / group`.
struct Batch<'a> {
    job: &'a Job<'a>,
    cache: &'a KvCache,
    head: usize,
    first: usize,
}

impl Batch<'_> {
    /// The new token and head of the batch's query `m`.
    fn query(&self, m: usize) -> (usize, usize) {
        let group = self.job.shape.heads() / self.job.shape.kv_heads();
        let index = self.first + m;
        (index / group, self.head * group + index % group)
    }

    #[inline(always)]
    fn run<L: Lanes, const M: usize>(&mut self, scratch: &mut AttentionScratch, out: &mut [f32]) {
        self.gather_queries::<M>(scratch);
        let padded = self.job.shape.value_dim();
        scratch.sums.clear();
        scratch.sums.resize(M * padded, 0.0);
        let mut limits = [0; M];
        for m in 0..M {
            limits[m] = self.job.start + self.query(m).0 + 1;
        }
        let mut scores = [[0.0; CHUNK]; M];
        let mut softmax = [Running::default(); M];
        for start in (0..limits[M - 1]).step_by(CHUNK) {
            let len = CHUNK.min(limits[M - 1] - start);
            self.score::<L, M>(&scratch.queries, start, len, &mut scores);
            let mut factors = [0.0; M];
            for m in 0..M {
                let visible = limits[m].saturating_sub(start).min(len);
                factors[m] = softmax[m].add::<L>(&mut scores[m][..len], visible);
            }
            self.weigh::<L, M>(&scores, &factors, start, len, &mut scratch.sums);
        }
        self.finish(&softmax, &scratch.sums, out);
    }

    /// Turns the queries and lays them out `[dimension][query]`, scaled by 1 / √dim.
    #[inline(always)]
    fn gather_queries<const M: usize>(&self, scratch: &mut AttentionScratch) {
        let (shape, rope) = (self.job.shape, self.job.rope);
        let dim = shape.head_dim();
        let scale = 1.0 / (dim as f32).sqrt();
        scratch.turned.resize(dim, 0.0);
        scratch.queries.resize(dim * M, 0.0);
        for m in 0..M {
            let (row, head) = self.query(m);
            let query = &self.job.qkv[row * shape.qkv_width() + head * dim..][..dim];
            let angles = &scratch.angles[row * rope.dims()..][..rope.dims()];
            rope.turn(angles, query, &mut scratch.turned[..dim]);
            for (slots, x) in scratch.queries.as_chunks_mut::<M>().0.iter_mut().zip(&scratch.turned)
            {
                slots[m] = x * scale;
            }
        }
    }

    /// Queries times keys for `len` positions from `start` on; the rest of the last 16 is undefined.
    #[inline(always)]
    fn score<L: Lanes, const M: usize>(
        &self,
        queries: &[f32],
        start: usize,
        len: usize,
        scores: &mut [[f32; CHUNK]; M],
    ) {
        let queries = queries.as_chunks::<M>().0;
        let keys = self.cache.keys(self.head, start).chunks_exact(queries.len());
        for (tile, keys) in keys.take(len.div_ceil(LANES)).enumerate() {
            let mut sums = [L::splat(0.0); M];
            for (key, queries) in keys.iter().zip(queries) {
                let key = L::load_half(key);
                for m in 0..M {
                    sums[m] = key.mul_add(L::splat(queries[m]), sums[m]);
                }
            }
            for m in 0..M {
                scores[m].as_chunks_mut().0[tile] = sums[m].to_array();
            }
        }
    }

    /// `sums = sums · factor + weights · values`.
    #[inline(always)]
    fn weigh<L: Lanes, const M: usize>(
        &self,
        weights: &[[f32; CHUNK]; M],
        factors: &[f32; M],
        start: usize,
        len: usize,
        sums: &mut [f32],
    ) {
        let vectors = self.job.shape.value_dim() / LANES;
        let sums = sums.as_chunks_mut().0;
        let values = self.cache.values(self.head, start);
        let mut part = Part { weights, factors, values, vectors, len, sums };
        let mut at = 0;
        while at < vectors {
            at += match vectors - at {
                4.. if M <= 4 => part.weigh::<L, 4>(at),
                2.. => part.weigh::<L, 2>(at),
                _ => part.weigh::<L, 1>(at),
            };
        }
    }

    #[inline(always)]
    fn finish<const M: usize>(&self, softmax: &[Running; M], sums: &[f32], out: &mut [f32]) {
        let (dim, padded) = (self.job.shape.head_dim(), self.job.shape.value_dim());
        for m in 0..M {
            let (row, head) = self.query(m);
            let out = &mut out[row * self.job.shape.out_width() + head * dim..][..dim];
            let scale = 1.0 / softmax[m].sum;
            out.iter_mut().zip(&sums[m * padded..]).for_each(|(o, s)| *o = s * scale);
        }
    }
}

/// One chunk's weighted sum of values.
struct Part<'a, const M: usize> {
    weights: &'a [[f32; CHUNK]; M],
    factors: &'a [f32; M],
    /// From the chunk's first position on.
    values: &'a [[u16; LANES]],
    /// Vectors per position.
    vectors: usize,
    len: usize,
    sums: &'a mut [[f32; LANES]],
}

impl<const M: usize> Part<'_, M> {
    /// Handles `W` vectors of the dimensions from vector `at` on; returns `W`.
    #[inline(always)]
    fn weigh<L: Lanes, const W: usize>(&mut self, at: usize) -> usize {
        let mut sums = [[L::splat(0.0); W]; M];
        for m in 0..M {
            let factor = L::splat(self.factors[m]);
            for w in 0..W {
                sums[m][w] = L::load(&self.sums[m * self.vectors + at + w]).mul(factor);
            }
        }
        let rows = self.values.chunks_exact(self.vectors).take(self.len.min(CHUNK));
        for (t, row) in rows.enumerate() {
            let mut value = [L::splat(0.0); W];
            for w in 0..W {
                value[w] = L::load_half(&row[at + w]);
            }
            for m in 0..M {
                let weight = L::splat(self.weights[m][t]);
                for w in 0..W {
                    sums[m][w] = value[w].mul_add(weight, sums[m][w]);
                }
            }
        }
        for m in 0..M {
            for w in 0..W {
                self.sums[m * self.vectors + at + w] = sums[m][w].to_array();
            }
        }
        W
    }
}

/// A softmax over chunks: the largest score so far and the sum of exponentials relative to it.
#[derive(Clone, Copy)]
struct Running {
    max: f32,
    sum: f32,
}

impl Default for Running {
    fn default() -> Self {
        Running { max: f32::NEG_INFINITY, sum: 0.0 }
    }
}

impl Running {
    /// Turns the first `visible` scores into weights and the others into zeros. Returns the factor
    /// for all that was summed before.
    #[inline(always)]
    fn add<L: Lanes>(&mut self, scores: &mut [f32], visible: usize) -> f32 {
        let (scores, hidden) = scores.split_at_mut(visible);
        hidden.fill(0.0);
        if scores.is_empty() {
            return 1.0;
        }
        let max = largest::<L>(scores).max(self.max);
        let factor = (self.max - max).exp();
        self.sum = self.sum * factor + exp_minus::<L>(scores, max);
        self.max = max;
        factor
    }
}
