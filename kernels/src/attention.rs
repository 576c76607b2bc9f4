//! Causal grouped-query attention over the in-place cache, for one or many new tokens.
//!
//! Every key/value head serves a group of query heads. Up to eight queries of one group (heads, and
//! in a prompt also rows) go through the cache together, so that every key and value is read and
//! converted once per batch. The cache is walked in chunks with a running softmax, which begins anew
//! with every *span* of the context; the spans' results are joined in order. So several threads can
//! work on the spans of one token, and get the bits that one thread gets. Scratch memory grows with
//! the number of spans only where they do.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::elementwise::{exp_minus_of, largest_of};
use super::kv_cache::{AttentionShape, KvCache};
use super::lanes::{LANES, Lanes};
use super::parts::Parts;
use super::rope::Rope;

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

/// What one query has summed up over some positions.
#[derive(Default)]
pub(super) struct Partial {
    softmax: Running,
    /// `[value dimension]`, relative to the largest score.
    sums: Vec<f32>,
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

/// Writes what some pieces attend to, once their keys and values are in the cache: into the output, or
/// into the partial results where blocks are split.
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

/// Runs `$body` with the constant `$m` equal to `$count`, so that its loops over queries are unrolled
/// and keep their sums in registers.
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
struct Batch<'a> {
    job: &'a Job<'a>,
    cache: &'a KvCache,
    angles: &'a [f32],
    head: usize,
    first: usize,
    count: usize,
}

impl Batch<'_> {
    /// The new token and head of the batch's query `m`.
    fn query(&self, m: usize) -> (usize, usize) {
        let group = self.job.shape.heads() / self.job.shape.kv_heads();
        let index = self.first + m;
        (index / group, self.head * group + index % group)
    }

    /// How many positions query `m` sees.
    fn limit(&self, m: usize) -> usize {
        self.job.start + self.query(m).0 + 1
    }

    /// Sums up some spans, as far as the queries see them, into the totals of `buffers`.
    #[inline(always)]
    fn run<L: Lanes>(&self, spans: Range<usize>, buffers: &mut Buffers) {
        self.gather_queries(buffers);
        let padded = self.job.shape.value_dim();
        let limit = self.limit(self.count - 1);
        for span in spans.clone() {
            let positions = (span * SPAN).min(limit)..limit.min((span + 1) * SPAN);
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
            for m in 0..self.count {
                let visible = self.limit(m).saturating_sub(start);
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

    /// Turns the queries and lays them out `[dimension][query]`, scaled by 1 / √dim.
    #[inline(always)]
    fn gather_queries(&self, buffers: &mut Buffers) {
        let (shape, rope) = (self.job.shape, self.job.rope);
        let dim = shape.head_dim();
        let scale = 1.0 / (dim as f32).sqrt();
        buffers.turned.resize(dim, 0.0);
        buffers.queries.resize(dim * self.count, 0.0);
        for m in 0..self.count {
            let (row, head) = self.query(m);
            let query = &self.job.qkv[row * shape.qkv_width() + head * dim..][..dim];
            let angles = &self.angles[row * rope.dims()..][..rope.dims()];
            rope.turn(angles, query, &mut buffers.turned);
            let slots = buffers.queries[m..].iter_mut().step_by(self.count);
            slots.zip(&buffers.turned).for_each(|(slot, x)| *slot = *x * scale);
        }
    }

    /// Queries times keys for `len` positions from `start` on; the rest of the last 16 is undefined.
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
    unsafe fn finish(&self, totals: &[Partial], out: &Parts<f32>) {
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

impl Partial {
    #[inline(always)]
    fn begin(&mut self, softmax: &Running, sums: &[f32]) {
        self.softmax = *softmax;
        self.sums.clear();
        self.sums.extend_from_slice(sums);
    }

    /// Adds what later positions gave.
    #[inline(always)]
    fn join(&mut self, later: &Running, sums: &[f32]) {
        // The query sees none of them.
        if later.sum == 0.0 {
            return;
        }
        let max = self.softmax.max.max(later.max);
        let (before, after) = ((self.softmax.max - max).exp(), (later.max - max).exp());
        self.softmax = Running { max, sum: self.softmax.sum * before + later.sum * after };
        for (total, sum) in self.sums.iter_mut().zip(sums) {
            *total = *total * before + sum * after;
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
    /// Turns the first `visible` scores into weights and the others into zeros; `scores` are whole
    /// vectors. Returns the factor for all that was summed before.
    #[inline(always)]
    fn add<L: Lanes>(&mut self, scores: &mut [f32], visible: usize) -> f32 {
        if visible == 0 {
            scores.fill(0.0);
            return 1.0;
        }
        let visible = visible.min(scores.len());
        scores[visible..].fill(f32::NEG_INFINITY);
        let scores = scores.as_chunks_mut::<LANES>().0;
        let max = largest_of::<L>(scores).max(self.max);
        let factor = (self.max - max).exp();
        self.sum = self.sum * factor + exp_minus_of::<L>(scores, max);
        self.max = max;
        factor
    }
}
