//! Matmul with row-major F32 and F16 weights against float activations.

use std::ops::Range;

use super::activations::Activations;
use super::format::{Format, TILE_ROWS};
use super::lanes::{LANES, Lanes};
use super::matrix::Matrix;
use super::output::Output;

#[cfg(target_endian = "big")]
compile_error!("the weight formats are little-endian");

/// A float that weights are stored as.
trait Weight: Copy {
    fn load<L: Lanes>(x: &[Self; LANES]) -> L;
    fn load_part<L: Lanes>(x: &[Self]) -> L;
}

impl Weight for f32 {
    #[inline(always)]
    fn load<L: Lanes>(x: &[f32; LANES]) -> L {
        L::load(x)
    }

    #[inline(always)]
    fn load_part<L: Lanes>(x: &[f32]) -> L {
        L::load_part(x, 0.0)
    }
}

impl Weight for u16 {
    #[inline(always)]
    fn load<L: Lanes>(x: &[u16; LANES]) -> L {
        L::load_half(x)
    }

    #[inline(always)]
    fn load_part<L: Lanes>(x: &[u16]) -> L {
        let mut padded = [0; LANES];
        padded[..x.len()].copy_from_slice(x);
        L::load_half(&padded)
    }
}

/// # Safety
/// As [`crate::table::Tiles`]; the matrix's format is F32 or F16.
#[inline(always)]
pub(super) unsafe fn tiles<L: Lanes>(
    matrix: &Matrix,
    acts: &Activations,
    tiles: Range<usize>,
    out: &Output,
) {
    // SAFETY: any bits are valid floats, `Matrix` is 64-byte aligned, and `align_to` keeps lengths.
    unsafe {
        match matrix.format() {
            Format::F32 => all_tiles::<L, f32>(matrix.bytes().align_to().1, acts, tiles, out),
            _ => all_tiles::<L, u16>(matrix.bytes().align_to().1, acts, tiles, out),
        }
    }
}

/// # Safety
/// As [`crate::table::Tiles`].
#[inline(always)]
unsafe fn all_tiles<L: Lanes, W: Weight>(
    weights: &[W],
    acts: &Activations,
    tiles: Range<usize>,
    out: &Output,
) {
    let cols = acts.cols();
    for tile in tiles {
        let bias = out.bias(tile);
        let first = tile * TILE_ROWS * cols;
        let weights = &weights[first..first + out.width(tile) * cols];
        let mut row = 0;
        for four in acts.values().chunks(4 * cols) {
            let mut results = [bias; 4];
            // Sixteen sums at a time, where there are registers for them.
            if L::ROOM >= 24 && four.len() == 4 * cols {
                let rows = std::array::from_fn(|i| &four[i * cols..(i + 1) * cols]);
                multiply::<L, W, 4>(weights, rows, &mut results);
            } else {
                for (x, result) in four.chunks_exact(cols).zip(&mut results) {
                    multiply::<L, W, 1>(weights, [x], std::array::from_mut(result));
                }
            }
            for result in results.iter().take(four.len() / cols) {
                // SAFETY: the caller gave these tiles to this call alone.
                unsafe { out.store(row, tile, result) };
                row += 1;
            }
        }
    }
}

/// Adds the products of up to 16 weight rows with `R` activation rows to `results`.
#[inline(always)]
fn multiply<L: Lanes, W: Weight, const R: usize>(
    weights: &[W],
    rows: [&[f32]; R],
    results: &mut [[f32; TILE_ROWS]; R],
) {
    let cols = rows[0].len();
    for (n, weights) in weights.chunks(4 * cols).enumerate() {
        match weights.len() / cols {
            4 => dots::<L, W, R, 4>(weights, rows, results, 4 * n),
            left => {
                for i in 0..left {
                    dots::<L, W, R, 1>(&weights[i * cols..], rows, results, 4 * n + i);
                }
            }
        }
    }
}

/// `N` weight rows times `R` activation rows, sharing every load.
#[inline(always)]
fn dots<L: Lanes, W: Weight, const R: usize, const N: usize>(
    weights: &[W],
    rows: [&[f32]; R],
    results: &mut [[f32; TILE_ROWS]; R],
    first: usize,
) {
    let cols = rows[0].len();
    let whole = cols / LANES;
    let (mut w_vectors, mut w_tails): ([&[[W; LANES]]; N], [&[W]; N]) = ([&[]; N], [&[]; N]);
    for n in 0..N {
        let (vectors, tail) = weights[n * cols..(n + 1) * cols].as_chunks();
        (w_vectors[n], w_tails[n]) = (&vectors[..whole], tail);
    }
    let (mut x_vectors, mut x_tails): ([&[[f32; LANES]]; R], [&[f32]; R]) = ([&[]; R], [&[]; R]);
    for r in 0..R {
        let (vectors, tail) = rows[r].as_chunks();
        (x_vectors[r], x_tails[r]) = (&vectors[..whole], tail);
    }
    let mut sums = [[L::splat(0.0); N]; R];
    for i in 0..whole {
        let mut w = [L::splat(0.0); N];
        for n in 0..N {
            w[n] = W::load(&w_vectors[n][i]);
        }
        for r in 0..R {
            let x = L::load(&x_vectors[r][i]);
            for n in 0..N {
                sums[r][n] = w[n].mul_add(x, sums[r][n]);
            }
        }
    }
    for r in 0..R {
        let x = L::load_part(x_tails[r], 0.0);
        for n in 0..N {
            let sum = W::load_part::<L>(w_tails[n]).mul_add(x, sums[r][n]);
            results[r][first + n] += sum.sum();
        }
    }
}
