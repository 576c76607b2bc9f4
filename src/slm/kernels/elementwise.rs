//! Norms, the gated activation and softmax over rows of floats.

use super::lanes::{LANES, Lanes};

/// `out = x / sqrt(mean(x²) + epsilon) · gamma`, row by row of `gamma.len()`.
#[inline(always)]
pub(super) fn rms_norm<L: Lanes>(x: &[f32], gamma: &[f32], epsilon: f32, out: &mut [f32]) {
    for (x, out) in x.chunks_exact(gamma.len()).zip(out.chunks_exact_mut(gamma.len())) {
        let scale = L::splat(inverse_rms::<L>(x, epsilon));
        zip_rows::<L>(x, gamma, out, |x, g| x.mul(scale).mul(g));
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
    zip_rows::<L>(x, skip, sum, |x, s| x.add(s));
    rms_norm::<L>(sum, gamma, epsilon, out);
}

/// `out = gate / (1 + e^−gate) · up` for rows of `width` gates followed by `width` ups.
#[inline(always)]
pub(super) fn swiglu<L: Lanes>(gate_up: &[f32], width: usize, out: &mut [f32]) {
    let (zero, one) = (L::splat(0.0), L::splat(1.0));
    for (row, out) in gate_up.chunks_exact(2 * width).zip(out.chunks_exact_mut(width)) {
        let (gate, up) = row.split_at(width);
        zip_rows::<L>(gate, up, out, |g, u| g.div(one.add(zero.sub(g).exp())).mul(u));
    }
}

/// Replaces values by `e^(x − max) / sum`; returns `(max, sum)`.
#[inline(always)]
pub(super) fn softmax<L: Lanes>(values: &mut [f32]) -> (f32, f32) {
    let max = largest::<L>(values);
    let sum = exp_minus::<L>(values, max);
    let factor = L::splat(1.0 / sum);
    each::<L>(values, |x| x.mul(factor));
    (max, sum)
}

#[inline(always)]
pub(super) fn largest<L: Lanes>(values: &[f32]) -> f32 {
    let (whole, rest) = values.as_chunks::<LANES>();
    let tail = L::load_part(rest, f32::NEG_INFINITY);
    whole.iter().fold(tail, |max, x| max.max(L::load(x))).largest()
}

/// Replaces every `x` by `e^(x − max)`, exactly 0 far below it, and returns their sum.
#[inline(always)]
pub(super) fn exp_minus<L: Lanes>(values: &mut [f32], max: f32) -> f32 {
    let max = L::splat(max);
    // The clamped exponential ends near 1e-38: without that, what is far below is exactly zero.
    let tiny = L::splat(f32::NEG_INFINITY).exp();
    let exp = |x: L| x.sub(max).exp().sub(tiny);
    let (whole, rest) = values.as_chunks_mut::<LANES>();
    let mut sum = L::splat(0.0);
    for x in whole {
        let e = exp(L::load(x));
        *x = e.to_array();
        sum = sum.add(e);
    }
    let mut total = sum.sum();
    if !rest.is_empty() {
        let e = exp(L::load_part(rest, f32::NEG_INFINITY));
        rest.copy_from_slice(&e.to_array()[..rest.len()]);
        total += rest.iter().sum::<f32>();
    }
    total
}

#[inline(always)]
fn inverse_rms<L: Lanes>(x: &[f32], epsilon: f32) -> f32 {
    let (whole, rest) = x.as_chunks::<LANES>();
    let tail = L::load_part(rest, 0.0);
    let squares = whole.iter().map(|x| L::load(x));
    let sum = squares.fold(tail.mul(tail), |sum, x| x.mul_add(x, sum)).sum();
    1.0 / (sum / x.len() as f32 + epsilon).sqrt()
}

/// `out[i] = f(a[i], b[i])` for slices of one length.
#[inline(always)]
fn zip_rows<L: Lanes>(a: &[f32], b: &[f32], out: &mut [f32], f: impl Fn(L, L) -> L) {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let (out, out_rest) = out.as_chunks_mut::<LANES>();
    for ((a, b), out) in a.iter().zip(b).zip(out) {
        *out = f(L::load(a), L::load(b)).to_array();
    }
    if !out_rest.is_empty() {
        let tail = f(L::load_part(a_rest, 0.0), L::load_part(b_rest, 0.0)).to_array();
        out_rest.copy_from_slice(&tail[..out_rest.len()]);
    }
}

#[inline(always)]
fn each<L: Lanes>(values: &mut [f32], f: impl Fn(L) -> L) {
    let (whole, rest) = values.as_chunks_mut::<LANES>();
    whole.iter_mut().for_each(|x| *x = f(L::load(x)).to_array());
    let tail = f(L::load_part(rest, 0.0)).to_array();
    rest.copy_from_slice(&tail[..rest.len()]);
}
