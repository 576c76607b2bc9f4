//! A table of functions: the hot loops for one instruction set, behind checks of what they are
//! given.

use std::ops::Range;

use crate::activations::{self, Activations, PANEL_ROWS};
use crate::attention::{self, AttentionRule, AttentionScratch};
use crate::elementwise::Activation;
use crate::error::{Error, Result};
use crate::kv_cache::KvCache;
use crate::matrix::Matrix;
use crate::output::Output;
use crate::parts::Parts;
use crate::pool::Pool;

/// Compiles the algorithms that are written over [`crate::lanes::Lanes`] for one instruction set
/// and completes the table with its quantised matmul.
macro_rules! kernels {
    ($(#[$feature:meta])* $name:literal, $available:expr, $lanes:ty, $tiles:path) => {{
        use std::ops::Range;

        use crate::parts::Parts;
        use crate::{
            AttentionScratch, Kernels, KvCache, activations, attention, elementwise,
        };
        $(#[$feature])*
        unsafe fn quantise(
            x: &activations::Floats,
            runs: Range<usize>,
            out: &Parts<activations::ActBlock>,
        ) {
            // SAFETY: the caller's promise, passed on.
            unsafe { activations::quantise::<$lanes>(x, runs, out) }
        }
        $(#[$feature])*
        fn append(job: &attention::Job, cache: &mut KvCache, scratch: &mut AttentionScratch) {
            attention::append::<$lanes>(job, cache, scratch)
        }
        $(#[$feature])*
        unsafe fn attend(
            job: &attention::Job,
            cache: &KvCache,
            angles: &[f32],
            pieces: Range<usize>,
            buffers: &mut attention::Buffers,
            target: &attention::Target,
        ) {
            // SAFETY: the caller's promise, passed on.
            unsafe { attention::attend::<$lanes>(job, cache, angles, pieces, buffers, target) }
        }
        $(#[$feature])*
        fn rms_norm(x: &[f32], gamma: &[f32], epsilon: f32, out: &mut [f32]) {
            elementwise::rms_norm::<$lanes>(x, gamma, epsilon, out)
        }
        $(#[$feature])*
        fn skip_rms_norm(
            x: &[f32],
            skip: &[f32],
            gamma: &[f32],
            epsilon: f32,
            out: &mut [f32],
            sum: &mut [f32],
        ) {
            elementwise::skip_rms_norm::<$lanes>(x, skip, gamma, epsilon, out, sum)
        }
        $(#[$feature])*
        fn activate(f: elementwise::Activation, x: &[f32], width: usize, out: &mut [f32]) {
            elementwise::activate::<$lanes>(f, x, width, out)
        }
        $(#[$feature])*
        fn exp_sums(values: &[f32], max: f32) -> (f64, f64) {
            elementwise::exp_sums::<$lanes>(values, max)
        }
        Kernels {
            name: $name,
            available: $available,
            tiles: $tiles,
            streams: None,
            quantise,
            append,
            attend,
            rms_norm,
            skip_rms_norm,
            activate,
            exp_sums,
        }
    }};
}

/// Multiplies a range of tiles with all activations.
///
/// # Safety
/// The CPU has the table's instructions; columns and activations agree; the tiles exist, and no
/// other call uses the same tiles of the same output at the same time.
pub(crate) type Tiles = unsafe fn(&Matrix, &Activations, Range<usize>, &Output);

/// How to multiply a single row of activations, which is bound by memory, where memory delivers
/// more from several places at once.
///
/// A column is `count` tiles, read side by side: of the `count` equal runs into which the matrix's
/// tiles are divided, it has one tile each. So every place is read on in order however the columns
/// are split among threads.
pub(crate) struct Streams {
    pub count: usize,
    /// As [`Tiles`], with a range of columns; quantised weights only.
    pub columns: Tiles,
}

/// Quantises runs of 16 rows.
///
/// # Safety
/// The CPU has the table's instructions; no other call uses the same runs at the same time.
pub(crate) type Quantise =
    unsafe fn(&activations::Floats, Range<usize>, &Parts<activations::ActBlock>);

pub(crate) type Append = unsafe fn(&attention::Job, &mut KvCache, &mut AttentionScratch);

/// Writes what a range of pieces attends to.
///
/// # Safety
/// The CPU has the table's instructions; no other call uses the same pieces at the same time.
pub(crate) type Attend = unsafe fn(
    &attention::Job,
    &KvCache,
    &[f32],
    Range<usize>,
    &mut attention::Buffers,
    &attention::Target,
);

pub(crate) type SkipRmsNorm = unsafe fn(&[f32], &[f32], &[f32], f32, &mut [f32], &mut [f32]);

/// The hot loops for one instruction set. All tables give the same results up to rounding.
pub struct Kernels {
    pub(crate) name: &'static str,
    pub(crate) available: fn() -> bool,
    pub(crate) tiles: Tiles,
    pub(crate) streams: Option<Streams>,
    pub(crate) quantise: Quantise,
    pub(crate) append: Append,
    pub(crate) attend: Attend,
    pub(crate) rms_norm: unsafe fn(&[f32], &[f32], f32, &mut [f32]),
    pub(crate) skip_rms_norm: SkipRmsNorm,
    pub(crate) activate: unsafe fn(Activation, &[f32], usize, &mut [f32]),
    pub(crate) exp_sums: unsafe fn(&[f32], f32) -> (f64, f64),
}

/// The least work worth handing to another thread, some microseconds of a slow core: bytes of
/// weights for one to four rows of activations...
const MATMUL_GRAIN: usize = 32 << 10;
/// ... multiplications of attention...
const ATTENTION_GRAIN: usize = 32 << 10;
/// ... and values to quantise or activate.
const ELEMENTWISE_GRAIN: usize = 4 << 10;

impl Kernels {
    /// `portable`; `avx2`, `avx512vnni`; `neon`, `neon-dotprod`, `neon-i8mm`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Quantises rows of `cols` activations, for quantised weights; float ones need
    /// [`Activations::keep_floats`] too. Fails when `x` is not whole rows.
    pub fn quantise(
        &self,
        x: &[f32],
        cols: usize,
        into: &mut Activations,
        pool: &Pool,
    ) -> Result<()> {
        let (x, out) = into.prepare(x, cols)?;
        let grain = ELEMENTWISE_GRAIN.div_ceil(PANEL_ROWS * cols);
        pool.run(x.runs(), grain, &|_, runs| {
            // SAFETY: a table is only handed out on a CPU that has its instructions; the ranges of
            // a run are disjoint.
            unsafe { (self.quantise)(&x, runs, &out) }
        });
        Ok(())
    }

    /// `out[r · stride + n] = x[r] · w[n] + bias[n]` for all rows of activations and of the matrix.
    /// Fails on sizes that do not fit, before anything is written. The result does not depend on
    /// the number of threads.
    pub fn matmul(
        &self,
        matrix: &Matrix,
        acts: &Activations,
        bias: Option<&[f32]>,
        out: &mut [f32],
        stride: usize,
        pool: &Pool,
    ) -> Result<()> {
        let out = Output::new(matrix, acts.rows(), bias, out, stride)?;
        if acts.cols() != matrix.cols() {
            return Err(Error::InvalidArgument(format!(
                "{} x {} activations times a {} x {} matrix",
                acts.rows(),
                acts.cols(),
                matrix.rows(),
                matrix.cols()
            )));
        }
        if !matrix.format().is_quantised() && acts.values().is_empty() {
            return Err(Error::InvalidArgument("float weights, but no float activations".into()));
        }
        let cost = matrix.bytes().len() / matrix.tiles() * (1 + acts.rows() / 4);
        let grain = MATMUL_GRAIN.div_ceil(cost.max(1));
        // SAFETY: a table is only handed out on a CPU that has its instructions; sizes are checked;
        // the ranges of a run are disjoint, and so are columns and the tiles behind them.
        let multiply = |part: Tiles, range| unsafe { part(matrix, acts, range, &out) };
        let single = acts.rows() == 1 && matrix.format().is_quantised();
        let Some(streams) = self.streams.as_ref().filter(|_| single) else {
            pool.run(matrix.tiles(), grain, &|_, tiles| multiply(self.tiles, tiles));
            return Ok(());
        };
        let columns = matrix.tiles() / streams.count;
        let grain = grain.div_ceil(streams.count);
        pool.run(columns, grain, &|_, range| multiply(streams.columns, range));
        multiply(self.tiles, columns * streams.count..matrix.tiles());
        Ok(())
    }

    /// Causal grouped-query attention: appends the new tokens' keys and values to `cache` and
    /// writes what each new token attends to.
    ///
    /// `qkv` is `[tokens][queries | keys | values]` ([`crate::AttentionShape::qkv_width`]), before
    /// RoPE; the first token's position is the cache's length. `out` is
    /// `[tokens][heads · head_dim]`. Fails, with the cache unchanged, when sizes do not fit or the
    /// cache has no room. The result does not depend on the number of threads.
    pub fn attention(
        &self,
        rule: &AttentionRule,
        qkv: &[f32],
        cache: &mut KvCache,
        scratch: &mut AttentionScratch,
        out: &mut [f32],
        pool: &Pool,
    ) -> Result<()> {
        let shape = cache.shape();
        let rows = qkv.len() / shape.qkv_width();
        if qkv.len() != rows * shape.qkv_width()
            || out.len() != rows * shape.out_width()
            || rule.head_dim() != shape.head_dim()
        {
            return Err(Error::InvalidArgument(format!(
                "attention from {} to {} values by a rule for {} of {} dimensions",
                qkv.len(),
                out.len(),
                rule.head_dim(),
                shape.head_dim()
            )));
        }
        cache.check_room(rows)?;
        let job = attention::Job::new(shape, rule, qkv, cache.len(), pool.threads());
        scratch.allow(pool.threads());
        // SAFETY: a table is only handed out on a CPU that has its instructions.
        unsafe { (self.append)(&job, cache, scratch) };
        let mut partials = scratch.take_partials(&job);
        let (cache, lent) = (&*cache, &*scratch);
        let target =
            attention::Target { out: Parts::new(out), partials: Parts::new(&mut partials) };
        let grain = ATTENTION_GRAIN.div_ceil(job.piece_cost());
        pool.run(job.pieces(), grain, &|thread, pieces| {
            let mut buffers = lent.buffers(thread);
            // SAFETY: as above; the ranges of a run are disjoint.
            unsafe { (self.attend)(&job, cache, lent.angles(), pieces, &mut buffers, &target) }
        });
        if job.split {
            attention::join(&job, cache, &mut partials, out);
        }
        scratch.give_back(partials);
        Ok(())
    }

    /// `out = x / sqrt(mean(x²) + epsilon) · gamma` for rows of `gamma.len()`.
    pub fn rms_norm(&self, x: &[f32], gamma: &[f32], epsilon: f32, out: &mut [f32]) -> Result<()> {
        check_rows("rms_norm", x.len(), gamma.len(), &[out.len()])?;
        // SAFETY: a table is only handed out on a CPU that has its instructions.
        unsafe { (self.rms_norm)(x, gamma, epsilon, out) };
        Ok(())
    }

    /// `sum = x + skip` and `out =` [`Kernels::rms_norm`] of `sum`.
    pub fn skip_rms_norm(
        &self,
        x: &[f32],
        skip: &[f32],
        gamma: &[f32],
        epsilon: f32,
        out: &mut [f32],
        sum: &mut [f32],
    ) -> Result<()> {
        let others = [skip.len(), out.len(), sum.len()];
        check_rows("skip_rms_norm", x.len(), gamma.len(), &others)?;
        // SAFETY: a table is only handed out on a CPU that has its instructions.
        unsafe { (self.skip_rms_norm)(x, skip, gamma, epsilon, out, sum) };
        Ok(())
    }

    /// `out = f(gate) · up` for rows of `width` gates followed by `width` ups, or `out = f(x)`
    /// where `x` is as long as `out`.
    pub fn activate(
        &self,
        f: Activation,
        x: &[f32],
        width: usize,
        out: &mut [f32],
        pool: &Pool,
    ) -> Result<()> {
        let parts = if x.len() > out.len() { 2 } else { 1 };
        check_rows("activate", out.len(), width, &[x.len() / parts, x.len().div_ceil(parts)])?;
        let (rows, out) = (out.len() / width, Parts::new(out));
        pool.run(rows, ELEMENTWISE_GRAIN.div_ceil(width), &|_, rows: Range<usize>| {
            let x = &x[parts * width * rows.start..parts * width * rows.end];
            // SAFETY: the ranges of a run are disjoint.
            let out = unsafe { out.get(width * rows.start..width * rows.end) };
            // SAFETY: a table is only handed out on a CPU that has its instructions.
            unsafe { (self.activate)(f, x, width, out) }
        });
        Ok(())
    }

    /// The sums of `e^d` and of `d · e^d` over all values, where `d = x − max`. What lies more than
    /// 80 under `max`, and NaN, counts as nothing.
    pub fn exp_sums(&self, values: &[f32], max: f32) -> (f64, f64) {
        // SAFETY: a table is only handed out on a CPU that has its instructions.
        unsafe { (self.exp_sums)(values, max) }
    }
}

impl std::fmt::Debug for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kernels({})", self.name)
    }
}

/// Fails unless `len` is whole rows of `width` and all `others` are as long.
fn check_rows(what: &str, len: usize, width: usize, others: &[usize]) -> Result<()> {
    match width > 0 && len.is_multiple_of(width) && others.iter().all(|other| *other == len) {
        true => Ok(()),
        false => Err(Error::InvalidArgument(format!(
            "{what}: {len} values, rows of {width}, other operands of {others:?}"
        ))),
    }
}
