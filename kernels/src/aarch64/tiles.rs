//! Quantised matmul on tiles, eight rows of a block at a time. Written once over [`Dot`].

use std::arch::aarch64::*;
use std::ops::Range;

use crate::activations::{ActBlock, Activations, Panel};
use crate::code::{Code, Line, Q4, Q4M, Q4T, Q5, Q5M, Q6, Q8};
use crate::float;
use crate::format::Format;
use crate::lanes::Lanes;
use crate::matrix::Matrix;
use crate::output::Output;

use super::dot::Dot;
use super::lanes::{Neon, widen};
use super::unpack::{Quad, largest, load, unpack, zero_point};

/// # Safety
/// As [`crate::Tiles`].
pub(super) unsafe fn tiles<D: Dot>(
    matrix: &Matrix,
    acts: &Activations,
    tiles: Range<usize>,
    out: &Output,
) {
    // SAFETY: the caller's promise, passed on.
    unsafe {
        match matrix.format() {
            Format::F32 | Format::F16 => float::tiles::<Neon>(matrix, acts, tiles, out),
            Format::Q4 => quantised::<Q4, D>(matrix, acts, tiles, out),
            Format::Q4M => quantised::<Q4M, D>(matrix, acts, tiles, out),
            Format::Q4T => quantised::<Q4T, D>(matrix, acts, tiles, out),
            Format::Q5 => quantised::<Q5, D>(matrix, acts, tiles, out),
            Format::Q5M => quantised::<Q5M, D>(matrix, acts, tiles, out),
            Format::Q6 => quantised::<Q6, D>(matrix, acts, tiles, out),
            Format::Q8 => quantised::<Q8, D>(matrix, acts, tiles, out),
        }
    }
}

unsafe fn quantised<C: Code, D: Dot>(
    matrix: &Matrix,
    acts: &Activations,
    tiles: Range<usize>,
    out: &Output,
) {
    for tile in tiles {
        let lines = matrix.tile(tile).as_chunks::<64>().0;
        for panel in acts.panels() {
            // SAFETY: the caller's promise, passed on.
            unsafe {
                match panel.rows {
                    16 => multiply::<C, D, 16>(lines, panel, tile, out),
                    8 => multiply::<C, D, 8>(lines, panel, tile, out),
                    4 => multiply::<C, D, 4>(lines, panel, tile, out),
                    2 => multiply::<C, D, 2>(lines, panel, tile, out),
                    _ => multiply::<C, D, 1>(lines, panel, tile, out),
                }
            }
        }
    }
}

/// One tile times a panel of `M` rows. Not inlined: each gets the registers for itself.
#[inline(never)]
unsafe fn multiply<C: Code, D: Dot, const M: usize>(
    tile: &[Line],
    panel: Panel,
    index: usize,
    out: &Output,
) {
    let mut sums = [Neon::load(&out.bias(index)); M];
    let acts = panel.blocks.as_chunks::<M>().0.as_chunks::<2>().0;
    for (group, acts) in tile.chunks_exact(C::LINES).zip(acts) {
        // Spelt out: the compiler does not unroll a loop of this size.
        eight_rows::<C, D, M, 0>(group, 0, &acts[0], &mut sums);
        eight_rows::<C, D, M, 1>(group, 0, &acts[0], &mut sums);
        eight_rows::<C, D, M, 0>(group, 1, &acts[1], &mut sums);
        eight_rows::<C, D, M, 1>(group, 1, &acts[1], &mut sums);
    }
    for row in 0..M {
        // SAFETY: the caller gave this tile to this call alone.
        unsafe { out.store(panel.first + row, index, &sums[row].to_array()) };
    }
}

/// Adds the products of rows `8 · SIDE` to `8 · SIDE + 7` in block 0 or 1 of a group.
#[inline(always)]
fn eight_rows<C: Code, D: Dot, const M: usize, const SIDE: usize>(
    group: &[Line],
    block: usize,
    acts: &[ActBlock; M],
    sums: &mut [Neon; M],
) {
    let rows = EightRows::unpack::<C>(group, block, SIDE);
    match M {
        1 => rows.multiply::<C, D, 1>(SIDE, acts, sums),
        _ => rows.multiply::<C, D, 2>(SIDE, acts, sums),
    }
}

/// Rows 0 to 7 or 8 to 15 of a block, four rows per register.
struct EightRows {
    codes: [Quad; 8],
    /// For the first and the last 16 columns; the same but for `Q6`.
    scales: [[float32x4_t; 2]; 2],
    /// Undefined where the format has none.
    mins: [float32x4_t; 2],
}

impl EightRows {
    #[inline(always)]
    fn unpack<C: Code>(group: &[Line], block: usize, side: usize) -> Self {
        let format = C::FORMAT;
        let parts = format.scales_per_block();
        let codes = &group[format.codes_offset() / 64 + block * C::BLOCK_LINES..];
        EightRows {
            codes: unpack::<C>(codes, side),
            scales: [
                halves(group, parts * block, side),
                halves(group, parts * block + parts - 1, side),
            ],
            mins: halves(&group[format.scales_bytes() / 64..], block, side),
        }
    }

    /// Adds the products with all rows of activations, `R` rows at a time.
    #[inline(always)]
    fn multiply<C: Code, D: Dot, const R: usize>(
        mut self,
        side: usize,
        acts: &[ActBlock],
        sums: &mut [Neon],
    ) {
        D::arrange::<R>(&mut self.codes);
        let parts = C::FORMAT.scales_per_block();
        for (acts, sums) in acts.as_chunks::<R>().0.iter().zip(sums.as_chunks_mut::<R>().0) {
            for part in 0..parts {
                let codes = &self.codes[part * 8 / parts..(part + 1) * 8 / parts];
                let start = starts::<C, R>(acts, part);
                let dots = D::dots::<R>(codes, largest(C::FORMAT), acts, part * 8 / parts, start);
                for r in 0..R {
                    for i in 0..2 {
                        let sum = &mut sums[r].0[2 * side + i];
                        // SAFETY: NEON.
                        unsafe {
                            let dots = vmulq_f32(vcvtq_f32_s32(dots[r][i]), self.scales[part][i]);
                            *sum = vfmaq_n_f32(*sum, dots, acts[r].scale);
                        }
                    }
                }
            }
            if C::FORMAT.has_mins() {
                for r in 0..R {
                    for i in 0..2 {
                        let sum = &mut sums[r].0[2 * side + i];
                        // SAFETY: NEON.
                        *sum = unsafe { vfmaq_n_f32(*sum, self.mins[i], acts[r].offset) };
                    }
                }
            }
        }
    }
}

/// What sums of products start from, for the codes are not all around zero.
#[inline(always)]
fn starts<C: Code, const R: usize>(acts: &[ActBlock; R], part: usize) -> [i32; R] {
    let mut starts = [0; R];
    for r in 0..R {
        let negated = match (C::FORMAT.scales_per_block(), part) {
            (1, _) => acts[r].negated,
            (_, 0) => acts[r].negated_low,
            _ => acts[r].negated - acts[r].negated_low,
        };
        starts[r] = zero_point(C::FORMAT) * i32::from(negated);
    }
    starts
}

/// Eight of the `index`th 16 f16 values.
#[inline(always)]
fn halves(lines: &[Line], index: usize, side: usize) -> [float32x4_t; 2] {
    let eight = load(&lines[index / 2], index % 2 * 2 + side);
    // SAFETY: NEON.
    widen(unsafe { vreinterpretq_u16_u8(eight) })
}
