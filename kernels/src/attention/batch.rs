//! Some queries of one head over some spans of the cache: scores, weights, weighted sums.

use std::ops::Range;

use super::job::{Buffers, Job, QUERIES, SPAN};
use super::softmax::{Partial, Running};
use crate::elementwise::cap_softly;
use crate::kv_cache::{CHUNK, KvCache};
use crate::lanes::{LANES, Lanes};
use crate::parts::Parts;

/// Runs `$body` with the constant `$m` equal to `$count`, so that its loops over queries are
/// unrolled and keep their sums in registers.
macro_rules! unrolled {
    ($count:expr, $m:ident => $body:expr) => {
        unrolled!($count, $m, $body, 1 2 3 4 5 6 7)
    };
    ($count:expr, $m:ident, $body:expr, $($n:literal)*) => {
        match $count {
            $($n => {
                const $m: usize = $n;
                $body
            })*
            _ => {
                const $m: usize = QUERIES;
                $body
            }
        }
    };
}

/// Some queries of one key/value head's group. Query `i` is head `i % group` of new token
/// `i / group`.
pub(super) struct Batch<'a> {
    pub job: &'a Job<'a>,
    pub cache: &'a KvCache,
    pub angles: &'a [f32],
    pub head: usize,
    pub first: usize,
    pub count: usize,
}

impl Batch<'_> {
    /// The new token and head of the batch's query `m`.
    fn query(&self, m: usize) -> (usize, usize) {
        let group = self.job.shape.heads() / self.job.shape.kv_heads();
        let index = self.first + m;
        (index / group, self.head * group + index % group)
    }

    /// The positions that query `m` sees.
    fn visible(&self, m: usize) -> Range<usize> {
        let end = self.job.start + self.query(m).0 + 1;
        end.saturating_sub(self.job.rule.window())..end
    }

    /// Sums up some spans, as far as the queries see them, into the totals of `buffers`.
    #[inline(always)]
    pub fn run<L: Lanes>(&self, spans: Range<usize>, buffers: &mut Buffers) {
        self.gather_queries(buffers);
        let padded = self.job.shape.value_dim();
        // Chunks begin at the same positions for every batch, so that sums do not depend on it.
        let first = self.visible(0).start / CHUNK * CHUNK;
        let limit = self.visible(self.count - 1).end;
        for span in spans.clone() {
            let positions = (span * SPAN).clamp(first, limit)..limit.min((span + 1) * SPAN);
            let softmax = self.sum_up::<L>(positions, &buffers.queries, &mut buffers.sums);
            let sums = buffers.sums.chunks_exact(padded);
            for ((total, softmax), sums) in buffers.totals.iter_mut().zip(&softmax).zip(sums) {
                match span == spans.start {
                    true => total.begin(softmax, sums),
                    false => total.join(softmax, sums),
                }
            }
        }
    }

    /// The weighted sums of the values at some positions, `[query][value dimension]`.
    #[inline(always)]
    fn sum_up<L: Lanes>(
        &self,
        positions: Range<usize>,
        queries: &[f32],
        sums: &mut Vec<f32>,
    ) -> [Running; QUERIES] {
        sums.clear();
        sums.resize(self.count * self.job.shape.value_dim(), 0.0);
        let mut scores = [[0.0; CHUNK]; QUERIES];
        let mut factors = [0.0; QUERIES];
        let mut softmax = [Running::default(); QUERIES];
        for start in positions.clone().step_by(CHUNK) {
            let len = CHUNK.min(positions.end - start);
            unrolled!(self.count, M => self.score::<L, M>(queries, start, len, &mut scores));
            if let Some(cap) = self.job.rule.soft_cap() {
                for scores in &mut scores[..self.count] {
                    cap_softly::<L>(&mut scores[..len.next_multiple_of(LANES)], cap);
                }
            }
            for m in 0..self.count {
                let Range { start: from, end } = self.visible(m);
                let visible = from.saturating_sub(start)..end.saturating_sub(start);
                let scores = &mut scores[m][..len.next_multiple_of(LANES)];
                factors[m] = softmax[m].add::<L>(scores, visible);
            }
            unrolled!(
                self.count,
                M => self.weigh::<L, M>(&scores, &factors, start, len, sums)
            );
        }
        softmax
    }

    /// Turns the queries and lays them out `[dimension][query]`, scaled.
    #[inline(always)]
    fn gather_queries(&self, buffers: &mut Buffers) {
        let (shape, rope, scales) = (self.job.shape, self.job.rule.rope(), self.job.rule.scales());
        let dim = shape.head_dim();
        buffers.turned.resize(dim, 0.0);
        buffers.queries.resize(dim * self.count, 0.0);
        for m in 0..self.count {
            let (row, head) = self.query(m);
            let query = &self.job.qkv[row * shape.qkv_width() + head * dim..][..dim];
            let angles = &self.angles[row * rope.dims()..][..rope.dims()];
            rope.turn(angles, query, &mut buffers.turned);
            // First, so that this takes whole vectors.
            buffers.turned.iter_mut().zip(scales).for_each(|(x, scale)| *x *= *scale);
            let slots = buffers.queries[m..].iter_mut().step_by(self.count);
            slots.zip(&buffers.turned).for_each(|(slot, x)| *slot = *x);
        }
    }

    /// Queries times keys for `len` positions from `start` on; the rest of the last 16 is
    /// undefined.
    #[inline(always)]
    fn score<L: Lanes, const M: usize>(
        &self,
        queries: &[f32],
        start: usize,
        len: usize,
        scores: &mut [[f32; CHUNK]; QUERIES],
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
        weights: &[[f32; CHUNK]; QUERIES],
        factors: &[f32; QUERIES],
        start: usize,
        len: usize,
        sums: &mut [f32],
    ) {
        let vectors = self.job.shape.value_dim() / LANES;
        let sums = sums.as_chunks_mut().0;
        let values = self.cache.values(self.head, start);
        let mut part: Part<M> = Part { weights, factors, values, vectors, len, sums };
        let mut at = 0;
        while at < vectors {
            at += match vectors - at {
                // Sums in three quarters of the registers.
                4.. if 4 * M <= L::ROOM / 4 * 3 => part.weigh::<L, 4>(at),
                2.. if 2 * M <= L::ROOM / 4 * 3 => part.weigh::<L, 2>(at),
                _ => part.weigh::<L, 1>(at),
            };
        }
    }

    /// Writes the queries' results.
    ///
    /// # Safety
    /// Nothing else uses these queries' part of `out` at the same time.
    #[inline(always)]
    pub unsafe fn finish(&self, totals: &[Partial], out: &Parts<f32>) {
        let dim = self.job.shape.head_dim();
        for (m, total) in totals.iter().enumerate() {
            let (row, head) = self.query(m);
            let start = row * self.job.shape.out_width() + head * dim;
            // SAFETY: the caller's promise; the queries of a batch are disjoint.
            let out = unsafe { out.get(start..start + dim) };
            let scale = 1.0 / total.softmax.sum;
            out.iter_mut().zip(&total.sums).for_each(|(o, s)| *o = s * scale);
        }
    }
}

/// One chunk's weighted sum of values.
struct Part<'a, const M: usize> {
    weights: &'a [[f32; CHUNK]; QUERIES],
    factors: &'a [f32; QUERIES],
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
