//! Norms, the gated activation and softmax over rows of floats.

use super::lanes::{LANES, Lanes};

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

/// `out = gate / (1 + e^−gate) · up` for rows of `width` gates followed by `width` ups.
#[inline(always)]
pub(super) fn swiglu<L: Lanes>(gate_up: &[f32], width: usize, out: &mut [f32]) {
    for (row, out) in gate_up.chunks_exact(2 * width).zip(out.chunks_exact_mut(width)) {
        let (gate, up) = row.split_at(width);
        zip_rows::<L>(gate, up, out, SiluProduct);
    }
}

/// Replaces values by `e^(x − max) / sum`; returns `(max, sum)`.
#[inline(always)]
pub(super) fn softmax<L: Lanes>(values: &mut [f32]) -> (f32, f32) {
    let max = largest::<L>(values);
    let sum = exp_minus::<L>(values, max);
    let factor = 1.0 / sum;
    values.iter_mut().for_each(|x| *x *= factor);
    (max, sum)
}

#[inline(always)]
fn largest<L: Lanes>(values: &[f32]) -> f32 {
    let (whole, rest) = values.as_chunks::<LANES>();
    let tail = L::load_part(rest, f32::NEG_INFINITY);
    tail.max(L::splat(largest_of::<L>(whole))).largest()
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

/// Replaces every `x` by `e^(x − max)`, exactly 0 far below it, and returns their sum.
#[inline(always)]
fn exp_minus<L: Lanes>(values: &mut [f32], max: f32) -> f32 {
    let (whole, rest) = values.as_chunks_mut::<LANES>();
    let mut last = [[f32::NEG_INFINITY; LANES]];
    last[0][..rest.len()].copy_from_slice(rest);
    let sum = exp_minus_of::<L>(whole, max) + exp_minus_of::<L>(&mut last, max);
    rest.copy_from_slice(&last[0][..rest.len()]);
    sum
}

/// The same for whole vectors.
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

struct SiluProduct;

impl<L: Lanes> Binary<L> for SiluProduct {
    #[inline(always)]
    fn apply(&self, gate: L, up: L) -> L {
        let e = L::splat(0.0).sub(gate).exp();
        gate.div(L::splat(1.0).add(e)).mul(up)
    }
}
