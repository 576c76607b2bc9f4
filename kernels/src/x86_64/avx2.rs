//! AVX2 with FMA and F16C: two registers hold a quad of a tile's 16 rows. Byte products are added
//! in pairs to 16 bits (`vpmaddubsw`), for as many quads as cannot overflow, then widened.

use std::arch::x86_64::*;
use std::ops::Range;

use crate::activations::{ActBlock, Activations, Panel};
use crate::code::{Code, Line, Q4, Q4M, Q4T, Q5, Q5M, Q6, Q8};
use crate::float;
use crate::format::{Format, TABLE};
use crate::lanes::Lanes;
use crate::matrix::Matrix;
use crate::output::Output;
use crate::table::Kernels;

use super::ymm::Ymm;

pub(super) static KERNELS: Kernels = kernels!(
    #[target_feature(enable = "avx2,fma,f16c")]
    "avx2",
    available,
    Ymm,
    tiles
);

fn available() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
}

/// A quad's bytes: rows 0 to 7 and rows 8 to 15.
type Pair = [__m256i; 2];

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tiles(matrix: &Matrix, acts: &Activations, tiles: Range<usize>, out: &Output) {
    // SAFETY: the caller's promise, passed on.
    unsafe {
        match matrix.format() {
            Format::F32 | Format::F16 => float::tiles::<Ymm>(matrix, acts, tiles, out),
            Format::Q4 => quantised::<Q4>(matrix, acts, tiles, out),
            Format::Q4M => quantised::<Q4M>(matrix, acts, tiles, out),
            Format::Q4T => quantised::<Q4T>(matrix, acts, tiles, out),
            Format::Q5 => quantised::<Q5>(matrix, acts, tiles, out),
            Format::Q5M => quantised::<Q5M>(matrix, acts, tiles, out),
            Format::Q6 => quantised::<Q6>(matrix, acts, tiles, out),
            Format::Q8 => quantised::<Q8>(matrix, acts, tiles, out),
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn quantised<C: Code>(
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
                    16 => multiply::<C, 16>(lines, panel, tile, out),
                    8 => multiply::<C, 8>(lines, panel, tile, out),
                    4 => multiply::<C, 4>(lines, panel, tile, out),
                    2 => multiply::<C, 2>(lines, panel, tile, out),
                    _ => multiply::<C, 1>(lines, panel, tile, out),
                }
            }
        }
    }
}

/// One tile times a panel of `M` rows.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn multiply<C: Code, const M: usize>(
    tile: &[Line],
    panel: Panel,
    index: usize,
    out: &Output,
) {
    let mut sums = [Ymm::load(&out.bias(index)); M];
    let acts = panel.blocks.as_chunks::<M>().0.as_chunks::<2>().0;
    for (group, acts) in tile.chunks_exact(C::LINES).zip(acts) {
        for half in 0..2 {
            block::<C, M>(group, half, &acts[half], &mut sums);
        }
    }
    for row in 0..M {
        // SAFETY: the caller gave this tile to this call alone.
        unsafe { out.store(panel.first + row, index, &sums[row].to_array()) };
    }
}

/// Adds the products of block 0 or 1 of a group.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn block<C: Code, const M: usize>(
    group: &[Line],
    index: usize,
    acts: &[ActBlock; M],
    sums: &mut [Ymm; M],
) {
    let format = C::FORMAT;
    let codes = unpack::<C>(&group[format.codes_offset() / 64 + index * C::BLOCK_LINES..]);
    if format.scales_per_block() == 1 {
        let scales = halves(group, index);
        for r in 0..M {
            let dots = dot::<C>(acts[r].negated.into(), &codes, &acts[r], 0..8);
            sums[r] = dots.mul(scales).mul_add(Ymm::splat(acts[r].scale), sums[r]);
        }
    } else {
        let (low_scales, high_scales) = (halves(group, 2 * index), halves(group, 2 * index + 1));
        for r in 0..M {
            let negated_high = (acts[r].negated - acts[r].negated_low).into();
            let low = dot::<C>(acts[r].negated_low.into(), &codes, &acts[r], 0..4);
            let high = dot::<C>(negated_high, &codes, &acts[r], 4..8);
            let both = high.mul_add(high_scales, low.mul(low_scales));
            sums[r] = both.mul_add(Ymm::splat(acts[r].scale), sums[r]);
        }
    }
    if format.has_mins() {
        let mins = halves(&group[format.scales_bytes() / 64..], index);
        for r in 0..M {
            sums[r] = mins.mul_add(Ymm::splat(acts[r].offset), sums[r]);
        }
    }
}

/// Sixteen rows' dot products over some quads, a multiple of `C::QUADS`; `negated` is the
/// activations' sum.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn dot<C: Code>(negated: i32, codes: &[Pair; 8], act: &ActBlock, quads: Range<usize>) -> Ymm {
    let acts = act.codes.as_chunks::<4>().0;
    let zero_point = if C::SIGNED { 0 } else { i32::from(C::FORMAT.zero_point()) };
    let mut sums = [_mm256_set1_epi32(zero_point * negated); 2];
    let ones = _mm256_set1_epi16(1);
    for run in 0..quads.len() / C::QUADS {
        let mut pairs = [_mm256_setzero_si256(); 2];
        for i in 0..C::QUADS {
            let quad = quads.start + run * C::QUADS + i;
            let [a, b, c, d] = acts[quad];
            let four = i32::from_le_bytes([a as u8, b as u8, c as u8, d as u8]);
            for side in 0..2 {
                let products = products::<C>(codes[quad][side], _mm256_set1_epi32(four));
                pairs[side] = _mm256_add_epi16(pairs[side], products);
            }
        }
        for side in 0..2 {
            sums[side] = _mm256_add_epi32(sums[side], _mm256_madd_epi16(pairs[side], ones));
        }
    }
    Ymm([_mm256_cvtepi32_ps(sums[0]), _mm256_cvtepi32_ps(sums[1])])
}

/// Products of bytes, added in pairs to 16 bits. Signed codes lend their sign to the activations.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn products<C: Code>(codes: __m256i, acts: __m256i) -> __m256i {
    match C::SIGNED {
        true => _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(acts, codes)),
        false => _mm256_maddubs_epi16(codes, acts),
    }
}

/// A block's codes, two registers per quad.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn unpack<C: Code>(block: &[Line]) -> [Pair; 8] {
    let mut codes = [[_mm256_setzero_si256(); 2]; 8];
    for side in 0..2 {
        if C::FORMAT == Format::Q8 {
            let sign = _mm256_set1_epi8(-128);
            for quad in 0..8 {
                codes[quad][side] = _mm256_xor_si256(load(&block[quad], side), sign);
            }
            continue;
        }
        let low = _mm256_set1_epi8(15);
        for quad in 0..4 {
            let line = load(&block[quad], side);
            codes[quad][side] = _mm256_and_si256(line, low);
            codes[quad + 4][side] = _mm256_and_si256(_mm256_srli_epi16::<4>(line), low);
        }
        match C::FORMAT {
            Format::Q4T => look_up(&mut codes, side),
            Format::Q5 | Format::Q5M => add_fifth_bits(&mut codes, &block[4], side),
            Format::Q6 => {
                add_top_bits(&mut codes[..4], load(&block[4], side), side);
                add_top_bits(&mut codes[4..], load(&block[5], side), side);
            }
            _ => {}
        }
    }
    codes
}

/// Replaces codes by what they stand for, around zero.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn look_up(codes: &mut [Pair; 8], side: usize) {
    // SAFETY: 16 readable bytes, any alignment.
    let table = unsafe { _mm_loadu_si128(TABLE.as_ptr().cast()) };
    let table = _mm256_broadcastsi128_si256(_mm_xor_si128(table, _mm_set1_epi8(-128)));
    for code in codes {
        code[side] = _mm256_shuffle_epi8(table, code[side]);
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn add_fifth_bits(codes: &mut [Pair; 8], masks: &Line, side: usize) {
    /// Puts byte `i` of a mask beneath the eight lanes that its bits belong to.
    const SPREAD: [i64; 4] =
        [0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303];
    let spread = _mm256_set_epi64x(SPREAD[3], SPREAD[2], SPREAD[1], SPREAD[0]);
    let bit = _mm256_set1_epi64x(i64::from_le_bytes([1, 2, 4, 8, 16, 32, 64, 128]));
    for (code, mask) in codes.iter_mut().zip(masks.as_chunks::<8>().0) {
        let mask = i32::from_le_bytes(mask.as_chunks::<4>().0[side]);
        let bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(mask), spread);
        let set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit);
        let sixteens = _mm256_and_si256(set, _mm256_set1_epi8(16));
        code[side] = _mm256_or_si256(code[side], sixteens);
    }
}

/// Adds the top two bits of four quads, which lie in one plane.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn add_top_bits(codes: &mut [Pair], plane: __m256i, side: usize) {
    let shifted = [
        _mm256_slli_epi16::<4>(plane),
        _mm256_slli_epi16::<2>(plane),
        plane,
        _mm256_srli_epi16::<2>(plane),
    ];
    for (code, top) in codes.iter_mut().zip(shifted) {
        let top = _mm256_and_si256(top, _mm256_set1_epi8(0x30));
        code[side] = _mm256_or_si256(code[side], top);
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn load(line: &Line, side: usize) -> __m256i {
    // SAFETY: 32 readable bytes, any alignment.
    unsafe { _mm256_loadu_si256(line.as_chunks::<32>().0[side].as_ptr().cast()) }
}

/// The `index`th 16 f16 values.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn halves(lines: &[Line], index: usize) -> Ymm {
    let halves = lines[index / 2].as_chunks::<32>().0[index % 2].as_chunks::<16>().0;
    // SAFETY: twice 16 readable bytes, any alignment.
    let (low, high) = unsafe {
        (_mm_loadu_si128(halves[0].as_ptr().cast()), _mm_loadu_si128(halves[1].as_ptr().cast()))
    };
    Ymm([_mm256_cvtph_ps(low), _mm256_cvtph_ps(high)])
}
