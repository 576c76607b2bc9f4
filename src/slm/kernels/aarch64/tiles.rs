//! Quantised matmul: four registers hold a quad of a tile's 16 rows. Written once over [`Dot`].

use std::arch::aarch64::*;
use std::ops::Range;

use crate::slm::kernels::activations::{ActBlock, Activations, Panel};
use crate::slm::kernels::code::{Code, Line, Q4, Q4M, Q5, Q6, Q8};
use crate::slm::kernels::float;
use crate::slm::kernels::format::Format;
use crate::slm::kernels::lanes::Lanes;
use crate::slm::kernels::matrix::Matrix;
use crate::slm::kernels::output::Output;

use super::dot::{Dot, Quad, Sums};
use super::lanes::Neon;

/// # Safety
/// As [`crate::slm::kernels::Tiles`].
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
            Format::Q5 => quantised::<Q5, D>(matrix, acts, tiles, out),
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

/// One tile times a panel of `M` rows.
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
        for half in 0..2 {
            match M.min(D::ROWS) {
                4 => block::<C, D, 4>(group, half, &acts[half], &mut sums),
                2 => block::<C, D, 2>(group, half, &acts[half], &mut sums),
                _ => block::<C, D, 1>(group, half, &acts[half], &mut sums),
            }
        }
    }
    for row in 0..M {
        // SAFETY: the caller gave this tile to this call alone.
        unsafe { out.store(panel.first + row, index, &sums[row].to_array()) };
    }
}

/// Adds the products of block 0 or 1 of a group, `R` rows of activations at a time.
#[inline(always)]
fn block<C: Code, D: Dot, const R: usize>(
    group: &[Line],
    index: usize,
    acts: &[ActBlock],
    sums: &mut [Neon],
) {
    let format = C::FORMAT;
    let parts = format.scales_per_block();
    let codes = unpack::<C>(&group[format.codes_offset() / 64 + index * C::BLOCK_LINES..]);
    let scales = [halves(group, parts * index), halves(group, parts * index + parts - 1)];
    let mins = halves(&group[format.scales_bytes() / 64..], index);
    for (acts, sums) in acts.as_chunks::<R>().0.iter().zip(sums.as_chunks_mut::<R>().0) {
        for (part, codes) in codes.chunks_exact(codes.len() / parts).enumerate() {
            let mut dots = start::<C, R>(acts, part);
            D::add::<C, R>(codes, acts, part * codes.len(), &mut dots);
            for r in 0..R {
                let scaled = floats(dots[r]).mul(scales[part]);
                sums[r] = scaled.mul_add(Neon::splat(acts[r].scale), sums[r]);
            }
        }
        if format.has_mins() {
            for r in 0..R {
                sums[r] = mins.mul_add(Neon::splat(acts[r].offset), sums[r]);
            }
        }
    }
}

/// What sums of products with unsigned codes start from.
#[inline(always)]
fn start<C: Code, const R: usize>(acts: &[ActBlock; R], part: usize) -> [Sums; R] {
    let zero_point = if C::SIGNED { 0 } else { i32::from(C::FORMAT.zero_point()) };
    let mut sums = [[zero(); 4]; R];
    for r in 0..R {
        let negated = match (C::FORMAT.scales_per_block(), part) {
            (1, _) => acts[r].negated,
            (_, 0) => acts[r].negated_low,
            _ => acts[r].negated - acts[r].negated_low,
        };
        // SAFETY: NEON.
        sums[r] = [unsafe { vdupq_n_s32(zero_point * negated) }; 4];
    }
    sums
}

#[inline(always)]
fn floats(sums: Sums) -> Neon {
    let mut out = Neon::splat(0.0);
    for i in 0..4 {
        // SAFETY: NEON.
        out.0[i] = unsafe { vcvtq_f32_s32(sums[i]) };
    }
    out
}

/// A block's codes.
#[inline(always)]
fn unpack<C: Code>(block: &[Line]) -> [Quad; 8] {
    // Spelt out: the compiler does not unroll a loop of this size.
    [
        quad::<C>(block, 0),
        quad::<C>(block, 1),
        quad::<C>(block, 2),
        quad::<C>(block, 3),
        quad::<C>(block, 4),
        quad::<C>(block, 5),
        quad::<C>(block, 6),
        quad::<C>(block, 7),
    ]
}

#[inline(always)]
fn quad<C: Code>(block: &[Line], quad: usize) -> Quad {
    // SAFETY: NEON.
    let mut codes = [unsafe { vdupq_n_s8(0) }; 4];
    for part in 0..4 {
        // SAFETY: NEON.
        codes[part] = unsafe { vreinterpretq_s8_u8(code::<C>(block, quad, part)) };
    }
    codes
}

/// The codes of one quad and four rows.
#[inline(always)]
fn code<C: Code>(block: &[Line], quad: usize, part: usize) -> uint8x16_t {
    // SAFETY: NEON.
    unsafe {
        if C::FORMAT == Format::Q8 {
            return veorq_u8(load(&block[quad], part), vdupq_n_u8(0x80));
        }
        let both = load(&block[quad % 4], part);
        let nibbles = match quad / 4 {
            0 => vandq_u8(both, vdupq_n_u8(15)),
            _ => vshrq_n_u8::<4>(both),
        };
        match C::FORMAT {
            Format::Q5 => {
                // Byte `i` of the mask lies beneath the eight lanes that its bits belong to.
                const LANE: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1];
                const BIT: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];
                let mask = vld1_u8(block[4].as_chunks::<8>().0[quad].as_ptr());
                let lanes = vaddq_u8(vld1q_u8(LANE.as_ptr()), vdupq_n_u8(2 * part as u8));
                let bytes = vqtbl1q_u8(vcombine_u8(mask, mask), lanes);
                let set = vtstq_u8(bytes, vld1q_u8(BIT.as_ptr()));
                vbslq_u8(vdupq_n_u8(16), set, nibbles)
            }
            Format::Q6 => {
                let plane = load(&block[4 + quad / 4], part);
                let top = match quad % 4 {
                    0 => vshlq_n_u8::<4>(plane),
                    1 => vshlq_n_u8::<2>(plane),
                    2 => plane,
                    _ => vshrq_n_u8::<2>(plane),
                };
                vbslq_u8(vdupq_n_u8(0x30), top, nibbles)
            }
            _ => nibbles,
        }
    }
}

#[inline(always)]
fn load(line: &Line, part: usize) -> uint8x16_t {
    // SAFETY: NEON; 16 readable bytes.
    unsafe { vld1q_u8(line.as_chunks::<16>().0[part].as_ptr()) }
}

/// The `index`th 16 f16 values.
#[inline(always)]
fn halves(lines: &[Line], index: usize) -> Neon {
    let line = &lines[index / 2];
    let first = 2 * (index % 2);
    // SAFETY: NEON.
    Neon::from_halves(unsafe {
        [vreinterpretq_u16_u8(load(line, first)), vreinterpretq_u16_u8(load(line, first + 1))]
    })
}

#[inline(always)]
fn zero() -> int32x4_t {
    // SAFETY: NEON.
    unsafe { vdupq_n_s32(0) }
}
