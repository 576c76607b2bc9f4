//! Norms, the gated activation and exponentials over rows of floats.

use super::lanes::{LANES, Lanes};

/// What a feed-forward network bends its values with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x / (1 + e^−x)
    Silu,
    /// x · Φ(x), by the approximation with tanh
    Gelu,
    /// max(x, 0)²
    ReluSquared,
}

/// A function of two lanes vectors. A trait and not a closure: see [`super::lanes`].
trait Binary<L: Lanes> {
    fn apply(&self, a: L, b: L) -> L;
}

/// `out = x / sqrt(mean(x²) + epsilon) · gamma`, row by row of `gamma.len()`.
#[inline(always)]
pub(super) fn rms_norm<L: Lanes>(x: &[f32], gamma: &[f32], epsilon: f32, out: &mut [f32]) {
    for (x, out) in x.chunks_exact(gamma.len()).zip(out.chunks_exact_mut(gamma.len())) {
        zip_rows(x, gamma, out, ScaledProduct(L::splat(inverse_rms::<L>(x, epsilon))));
    }
}

/// `sum = x + skip`, then as [`rms_norm`] of `sum`.
#[inline(always)]
pub(super) fn skip_rms_norm<L: Lanes>(
    x: &[f32],
    skip: &[f32],
    gamma: &[f32],
    epsilon: f32,
    out: &mut [f32],
    sum: &mut [f32],
) {
    zip_rows::<L>(x, skip, sum, Sum);
    rms_norm::<L>(sum, gamma, epsilon, out);
}

/// `out = f(gate) · up` for rows of `width` gates followed by `width` ups, or `out = f(gate)` for
/// rows of gates alone.
#[inline(always)]
pub(super) fn activate<L: Lanes>(activation: Activation, x: &[f32], width: usize, out: &mut [f32]) {
    let gated = x.len() > out.len();
    for (row, out) in x.chunks_exact(width << u32::from(gated)).zip(out.chunks_exact_mut(width)) {
        let (gate, up) = row.split_at(width);
        match (activation, gated) {
            (Activation::Silu, true) => zip_rows::<L>(gate, up, out, Gated(Silu)),
            (Activation::Silu, false) => zip_rows::<L>(gate, gate, out, Alone(Silu)),
            (Activation::Gelu, true) => zip_rows::<L>(gate, up, out, Gated(Gelu)),
            (Activation::Gelu, false) => zip_rows::<L>(gate, gate, out, Alone(Gelu)),
            (Activation::ReluSquared, true) => zip_rows::<L>(gate, up, out, Gated(ReluSquared)),
            (Activation::ReluSquared, false) => zip_rows::<L>(gate, gate, out, Alone(ReluSquared)),
        }
    }
}

/// `x = cap · tanh(x / cap)` for whole vectors.
#[inline(always)]
pub(super) fn cap_softly<L: Lanes>(values: &mut [f32], cap: f32) {
    // tanh(y) = 1 − 2 / (e^2y + 1)
    let (double, cap) = (L::splat(2.0 / cap), L::splat(cap));
    let (one, two) = (L::splat(1.0), L::splat(2.0));
    for x in values.as_chunks_mut::<LANES>().0 {
        let e = L::load(x).mul(double).exp();
        *x = one.sub(two.div(e.add(one))).mul(cap).to_array();
    }
}

/// The sums of `e^d` and of `d · e^d` over all values, where `d = x − max` is clamped to −80 and
/// NaN counts as that. f32 within a block, f64 across blocks.
#[inline(always)]
pub(super) fn exp_sums<L: Lanes>(values: &[f32], max: f32) -> (f64, f64) {
    const BLOCK: usize = 64 * LANES;
    let (mut sum, mut weighted) = (0.0, 0.0);
    for block in values.chunks(BLOCK) {
        let (whole, rest) = block.as_chunks::<LANES>();
        let mut parts = [L::splat(0.0); 2];
        for x in whole {
            add_exp(L::load(x), max, &mut parts);
        }
        if !rest.is_empty() {
            add_exp(L::load_part(rest, f32::NEG_INFINITY), max, &mut parts);
        }
        sum += f64::from(parts[0].sum());
        weighted += f64::from(parts[1].sum());
    }
    (sum, weighted)
}

#[inline(always)]
fn add_exp<L: Lanes>(x: L, max: f32, sums: &mut [L; 2]) {
    let d = x.sub(L::splat(max)).max(L::splat(-80.0));
    let e = d.exp();
    sums[0] = sums[0].add(e);
    sums[1] = d.mul_add(e, sums[1]);
}

/// The largest value of whole vectors.
#[inline(always)]
pub(super) fn largest_of<L: Lanes>(vectors: &[[f32; LANES]]) -> f32 {
    let mut max = L::splat(f32::NEG_INFINITY);
    for x in vectors {
        max = max.max(L::load(x));
    }
    max.largest()
}

/// Replaces every `x` of whole vectors by `e^(x − max)`, exactly 0 far below it; returns their sum.
#[inline(always)]
pub(super) fn exp_minus_of<L: Lanes>(vectors: &mut [[f32; LANES]], max: f32) -> f32 {
    let max = L::splat(max);
    // The clamped exponential ends near 1e-38: without that, what is far below is exactly zero.
    let tiny = L::splat(f32::NEG_INFINITY).exp();
    let mut sum = L::splat(0.0);
    for x in vectors {
        let e = L::load(x).sub(max).exp().sub(tiny);
        *x = e.to_array();
        sum = sum.add(e);
    }
    sum.sum()
}

#[inline(always)]
fn inverse_rms<L: Lanes>(x: &[f32], epsilon: f32) -> f32 {
    let (whole, rest) = x.as_chunks::<LANES>();
    let tail = L::load_part(rest, 0.0);
    let mut sum = tail.mul(tail);
    for x in whole {
        let x = L::load(x);
        sum = x.mul_add(x, sum);
    }
    1.0 / (sum.sum() / x.len() as f32 + epsilon).sqrt()
}

/// `out[i] = f(a[i], b[i])` for slices of one length.
#[inline(always)]
fn zip_rows<L: Lanes>(a: &[f32], b: &[f32], out: &mut [f32], f: impl Binary<L>) {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let (out, out_rest) = out.as_chunks_mut::<LANES>();
    for ((a, b), out) in a.iter().zip(b).zip(out) {
        *out = f.apply(L::load(a), L::load(b)).to_array();
    }
    if !out_rest.is_empty() {
        let tail = f.apply(L::load_part(a_rest, 0.0), L::load_part(b_rest, 0.0)).to_array();
        out_rest.copy_from_slice(&tail[..out_rest.len()]);
    }
}

struct Sum;

impl<L: Lanes> Binary<L> for Sum {
    #[inline(always)]
    fn apply(&self, a: L, b: L) -> L {
        a.add(b)
    }
}

struct ScaledProduct<L>(L);

impl<L: Lanes> Binary<L> for ScaledProduct<L> {
    #[inline(always)]
    fn apply(&self, a: L, b: L) -> L {
        a.mul(self.0).mul(b)
    }
}

/// A function of one lanes vector.
trait Unary<L: Lanes> {
    fn apply(&self, x: L) -> L;
}

struct Silu;

impl<L: Lanes> Unary<L> for Silu {
    #[inline(always)]
    fn apply(&self, x: L) -> L {
        let e = L::splat(0.0).sub(x).exp();
        x.div(L::splat(1.0).add(e))
    }
}

struct Gelu;

impl<L: Lanes> Unary<L> for Gelu {
    #[inline(always)]
    fn apply(&self, x: L) -> L {
        // ½ · (1 + tanh(y)) = 1 / (1 + e^−2y) with y = √(2/π) · (x + 0.044715 · x³)
        const FACTORS: [f32; 2] = [-1.595_769, -0.071_354_814];
        let inner = x.mul(x).mul_add(L::splat(FACTORS[1]), L::splat(FACTORS[0]));
        x.div(L::splat(1.0).add(x.mul(inner).exp()))
    }
}

struct ReluSquared;

impl<L: Lanes> Unary<L> for ReluSquared {
    #[inline(always)]
    fn apply(&self, x: L) -> L {
        let x = L::splat(0.0).max(x);
        x.mul(x)
    }
}

struct Gated<F>(F);

impl<L: Lanes, F: Unary<L>> Binary<L> for Gated<F> {
    #[inline(always)]
    fn apply(&self, gate: L, up: L) -> L {
        self.0.apply(gate).mul(up)
    }
}

struct Alone<F>(F);

impl<L: Lanes, F: Unary<L>> Binary<L> for Alone<F> {
    #[inline(always)]
    fn apply(&self, x: L, _: L) -> L {
        self.0.apply(x)
    }
}
