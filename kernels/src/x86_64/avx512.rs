//! AVX-512 with VNNI: one register holds a quad of all 16 rows of a tile, `vpdpbusd` multiplies it
//! with four broadcast activations.

use std::arch::asm;
use std::arch::x86_64::*;
use std::ops::Range;

use crate::activations::{ActBlock, Activations, Panel, ROUND};
use crate::code::{Code, Line, Q4, Q4M, Q4T, Q5, Q5M, Q6, Q8};
use crate::float;
use crate::format::{BLOCK, Format, TABLE};
use crate::lanes::Lanes;
use crate::matrix::Matrix;
use crate::output::Output;
use crate::table::{Kernels, Streams};

use super::zmm::Zmm;

pub(super) static KERNELS: Kernels = Kernels {
    streams: Some(Streams { count: STREAMS, columns }),
    ..kernels!(
        #[target_feature(enable = "avx512bw,avx512vnni")]
        "avx512vnni",
        available,
        Zmm,
        tiles
    )
};

/// AVX-512 BW and VNNI, and what the compiler takes these to include.
fn available() -> bool {
    is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
}

/// Tiles that are read side by side for a single row of activations.
const STREAMS: usize = 4;

#[target_feature(enable = "avx512bw,avx512vnni")]
unsafe fn tiles(matrix: &Matrix, acts: &Activations, tiles: Range<usize>, out: &Output) {
    // SAFETY: the caller's promise, passed on.
    unsafe {
        match matrix.format() {
            Format::F32 | Format::F16 => float::tiles::<Zmm>(matrix, acts, tiles, out),
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

#[target_feature(enable = "avx512bw,avx512vnni")]
unsafe fn quantised<C: Code>(
    matrix: &Matrix,
    acts: &Activations,
    tiles: Range<usize>,
    out: &Output,
) {
    for tile in tiles {
        for panel in acts.panels() {
            // SAFETY: the caller's promise, passed on.
            unsafe {
                match panel.rows {
                    16 => multiply::<C, 16, 1>(matrix, panel, [tile], out),
                    8 => multiply::<C, 8, 1>(matrix, panel, [tile], out),
                    4 => multiply::<C, 4, 1>(matrix, panel, [tile], out),
                    2 => multiply::<C, 2, 1>(matrix, panel, [tile], out),
                    _ => multiply::<C, 1, 1>(matrix, panel, [tile], out),
                }
            }
        }
    }
}

#[target_feature(enable = "avx512bw,avx512vnni")]
unsafe fn columns(matrix: &Matrix, acts: &Activations, columns: Range<usize>, out: &Output) {
    // SAFETY: the caller's promise, passed on.
    unsafe {
        match matrix.format() {
            Format::F32 | Format::F16 => unreachable!("float weights have no columns"),
            Format::Q4 => side_by_side::<Q4>(matrix, acts, columns, out),
            Format::Q4M => side_by_side::<Q4M>(matrix, acts, columns, out),
            Format::Q4T => side_by_side::<Q4T>(matrix, acts, columns, out),
            Format::Q5 => side_by_side::<Q5>(matrix, acts, columns, out),
            Format::Q5M => side_by_side::<Q5M>(matrix, acts, columns, out),
            Format::Q6 => side_by_side::<Q6>(matrix, acts, columns, out),
            Format::Q8 => side_by_side::<Q8>(matrix, acts, columns, out),
        }
    }
}

#[target_feature(enable = "avx512bw,avx512vnni")]
unsafe fn side_by_side<C: Code>(
    matrix: &Matrix,
    acts: &Activations,
    columns: Range<usize>,
    out: &Output,
) {
    let distance = matrix.tiles() / STREAMS;
    for column in columns {
        let mut tiles = [column; STREAMS];
        for i in 0..STREAMS {
            tiles[i] += i * distance;
        }
        for panel in acts.panels() {
            // SAFETY: the caller's promise, passed on.
            unsafe { multiply::<C, 1, STREAMS>(matrix, panel, tiles, out) };
        }
    }
}

/// `T` tiles times a panel of `M` rows.
#[target_feature(enable = "avx512bw,avx512vnni")]
unsafe fn multiply<C: Code, const M: usize, const T: usize>(
    matrix: &Matrix,
    panel: Panel,
    tiles: [usize; T],
    out: &Output,
) {
    let mut lines: [&[Line]; T] = [&[]; T];
    let mut sums = [[_mm512_setzero_ps(); M]; T];
    for t in 0..T {
        lines[t] = matrix.tile(tiles[t]).as_chunks().0;
        sums[t] = [Zmm::load(&out.bias(tiles[t])).0; M];
    }
    let acts = panel.blocks.as_chunks::<M>().0.as_chunks::<2>().0;
    for (g, acts) in acts.iter().enumerate() {
        for half in 0..2 {
            for t in 0..T {
                let group = &lines[t][g * C::LINES..(g + 1) * C::LINES];
                block::<C, M>(group, half, &acts[half], &mut sums[t]);
            }
        }
    }
    for t in 0..T {
        for row in 0..M {
            // SAFETY: the caller gave these tiles to this call alone.
            unsafe { out.store(panel.first + row, tiles[t], &Zmm(sums[t][row]).to_array()) };
        }
    }
}

/// Adds the products of block 0 or 1 of a group.
#[target_feature(enable = "avx512bw,avx512vnni")]
#[inline]
fn block<C: Code, const M: usize>(
    group: &[Line],
    index: usize,
    acts: &[ActBlock; M],
    sums: &mut [__m512; M],
) {
    // Products are added side by side for eight rows: for one row after the other they would wait
    // for each other.
    match M {
        1 => abreast::<C, 1>(group, index, acts, sums),
        2 => abreast::<C, 2>(group, index, acts, sums),
        4 => abreast::<C, 4>(group, index, acts, sums),
        _ => abreast::<C, 8>(group, index, acts, sums),
    }
}

/// The same, `R` rows at a time.
#[target_feature(enable = "avx512bw,avx512vnni")]
#[inline]
fn abreast<C: Code, const R: usize>(
    group: &[Line],
    index: usize,
    acts: &[ActBlock],
    sums: &mut [__m512],
) {
    let format = C::FORMAT;
    let parts = format.scales_per_block();
    let codes = unpack::<C>(&group[format.codes_offset() / 64 + index * C::BLOCK_LINES..]);
    let scales = [halves(group, parts * index), halves(group, parts * index + parts - 1)];
    let mins = halves(&group[format.scales_bytes() / 64..], index);
    // Dot products are `ROUND` too large, which times a scale of 11 bits is exact.
    let round = _mm512_set1_ps(ROUND);
    let too_large = _mm512_mul_ps(scales[0], round);
    for (acts, sums) in acts.as_chunks::<R>().0.iter().zip(sums.as_chunks_mut::<R>().0) {
        let mut products = match parts {
            1 => dots::<R>(starts::<C, R>(acts), &codes, acts, 0),
            _ => dots::<R>(half_starts::<C, R>(acts, 0), &codes[..4], acts, 0),
        };
        for r in 0..R {
            products[r] = _mm512_fmsub_ps(products[r], scales[0], too_large);
        }
        if parts > 1 {
            let high = dots::<R>(half_starts::<C, R>(acts, 1), &codes[4..], acts, 4);
            for r in 0..R {
                let high = _mm512_sub_ps(high[r], round);
                products[r] = _mm512_fmadd_ps(high, scales[1], products[r]);
            }
        }
        for r in 0..R {
            sums[r] = _mm512_fmadd_ps(products[r], _mm512_set1_ps(acts[r].scale), sums[r]);
            if format.has_mins() {
                sums[r] = _mm512_fmadd_ps(mins, _mm512_set1_ps(acts[r].offset), sums[r]);
            }
        }
    }
}

/// What sums of products with unsigned codes start from: see [`ActBlock::start`].
#[target_feature(enable = "avx512bw,avx512vnni")]
#[inline]
fn starts<C: Code, const R: usize>(acts: &[ActBlock; R]) -> [__m512i; R] {
    let mut starts = [_mm512_set1_epi32(ROUND.to_bits() as i32); R];
    for r in 0..R {
        starts[r] = match C::FORMAT.zero_point() {
            0 => starts[r],
            8 => _mm512_set1_epi32(acts[r].start),
            zero_point => start(&acts[r], [zero_point.into(), 0]),
        };
    }
    starts
}

/// The same for the first or the last 16 codes.
#[target_feature(enable = "avx512bw,avx512vnni")]
#[inline]
fn half_starts<C: Code, const R: usize>(acts: &[ActBlock; R], half: usize) -> [__m512i; R] {
    let zero_point = i16::from(C::FORMAT.zero_point());
    let factors = [[0, zero_point], [zero_point, -zero_point]][half];
    let mut starts = [_mm512_setzero_si512(); R];
    for r in 0..R {
        starts[r] = start(&acts[r], factors);
    }
    starts
}

/// [`ROUND`], and the negated sums of all codes and of the first 16 times a factor each.
#[target_feature(enable = "avx512bw,avx512vnni")]
#[inline]
fn start(act: &ActBlock, factors: [i16; 2]) -> __m512i {
    let pair = |[low, high]: [i16; 2]| i32::from(low as u16) | i32::from(high) << 16;
    let sums = _mm512_set1_epi32(pair([act.negated, act.negated_low]));
    let round = _mm512_set1_epi32(ROUND.to_bits() as i32);
    _mm512_dpwssd_epi32(round, sums, _mm512_set1_epi32(pair(factors)))
}

/// Sixteen rows' dot products over some quads from quad `first` of the activations on, as floats
/// whose bits were counted up.
#[target_feature(enable = "avx512bw,avx512vnni")]
#[inline]
fn dots<const R: usize>(
    mut sums: [__m512i; R],
    codes: &[__m512i],
    acts: &[ActBlock; R],
    first: usize,
) -> [__m512; R] {
    for (quad, codes) in codes.iter().enumerate() {
        let (eight, others) = sums.as_chunks_mut();
        for (sums, acts) in eight.iter_mut().zip(acts.as_chunks().0) {
            add_eight(sums, *codes, acts, first + quad);
        }
        for (sum, act) in others.iter_mut().zip(acts) {
            let [a, b, c, d] = act.codes.as_chunks::<4>().0[first + quad];
            let four = i32::from_le_bytes([a as u8, b as u8, c as u8, d as u8]);
            *sum = _mm512_dpbusd_epi32(*sum, *codes, _mm512_set1_epi32(four));
        }
    }
    let mut floats = [_mm512_setzero_ps(); R];
    for r in 0..R {
        floats[r] = _mm512_castsi512_ps(sums[r]);
    }
    floats
}

/// Adds one quad's products for eight rows. In assembly, since the compiler would add up one row
/// after the other.
#[target_feature(enable = "avx512bw,avx512vnni")]
#[inline]
fn add_eight(sums: &mut [__m512i; 8], codes: __m512i, acts: &[ActBlock; 8], quad: usize) {
    assert!(quad < BLOCK / 4);
    let [a, b, c, d, e, f, g, h] = sums;
    // SAFETY: the CPU has the instructions. They read four codes of each of eight blocks, which
    // begin with their codes.
    unsafe {
        asm!(
            "vpdpbusd {a}, {codes}, dword ptr [{acts} + 0 * {size}]{{1to16}}",
            "vpdpbusd {b}, {codes}, dword ptr [{acts} + 1 * {size}]{{1to16}}",
            "vpdpbusd {c}, {codes}, dword ptr [{acts} + 2 * {size}]{{1to16}}",
            "vpdpbusd {d}, {codes}, dword ptr [{acts} + 3 * {size}]{{1to16}}",
            "vpdpbusd {e}, {codes}, dword ptr [{acts} + 4 * {size}]{{1to16}}",
            "vpdpbusd {f}, {codes}, dword ptr [{acts} + 5 * {size}]{{1to16}}",
            "vpdpbusd {g}, {codes}, dword ptr [{acts} + 6 * {size}]{{1to16}}",
            "vpdpbusd {h}, {codes}, dword ptr [{acts} + 7 * {size}]{{1to16}}",
            a = inout(zmm_reg) *a,
            b = inout(zmm_reg) *b,
            c = inout(zmm_reg) *c,
            d = inout(zmm_reg) *d,
            e = inout(zmm_reg) *e,
            f = inout(zmm_reg) *f,
            g = inout(zmm_reg) *g,
            h = inout(zmm_reg) *h,
            codes = in(zmm_reg) codes,
            acts = in(reg) acts.as_ptr().cast::<i32>().add(quad),
            size = const size_of::<ActBlock>(),
            options(pure, readonly, nostack, preserves_flags)
        );
    }
}

/// A block's codes, one register per quad.
#[target_feature(enable = "avx512bw,avx512vnni")]
#[inline]
fn unpack<C: Code>(block: &[Line]) -> [__m512i; 8] {
    let mut codes = [_mm512_setzero_si512(); 8];
    if C::FORMAT == Format::Q8 {
        for quad in 0..8 {
            codes[quad] = load(&block[quad]);
        }
        return codes;
    }
    let low = _mm512_set1_epi8(15);
    for quad in 0..4 {
        let line = load(&block[quad]);
        codes[quad] = _mm512_and_si512(line, low);
        codes[quad + 4] = _mm512_and_si512(_mm512_srli_epi16::<4>(line), low);
    }
    match C::FORMAT {
        Format::Q4T => look_up(&mut codes),
        Format::Q5 | Format::Q5M => add_fifth_bits(&mut codes, &block[4]),
        Format::Q6 => {
            add_top_bits(&mut codes[..4], load(&block[4]));
            add_top_bits(&mut codes[4..], load(&block[5]));
        }
        _ => {}
    }
    codes
}

/// Replaces codes by what they stand for, around 128.
#[target_feature(enable = "avx512bw,avx512vnni")]
#[inline]
fn look_up(codes: &mut [__m512i; 8]) {
    // SAFETY: 16 readable bytes, any alignment.
    let table = _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(TABLE.as_ptr().cast()) });
    for code in codes {
        *code = _mm512_shuffle_epi8(table, *code);
    }
}

#[target_feature(enable = "avx512bw,avx512vnni")]
#[inline]
fn add_fifth_bits(codes: &mut [__m512i; 8], masks: &Line) {
    let sixteen = _mm512_set1_epi8(16);
    for (code, mask) in codes.iter_mut().zip(masks.as_chunks::<8>().0) {
        *code = _mm512_mask_add_epi8(*code, u64::from_le_bytes(*mask), *code, sixteen);
    }
}

/// Adds the top two bits of four quads, which lie in one plane.
#[target_feature(enable = "avx512bw,avx512vnni")]
#[inline]
fn add_top_bits(codes: &mut [__m512i], plane: __m512i) {
    /// `(a & b) | c`
    const AND_OR: i32 = 0b1110_1010;
    let mask = _mm512_set1_epi8(0x30);
    codes[0] = _mm512_ternarylogic_epi32::<AND_OR>(_mm512_slli_epi16::<4>(plane), mask, codes[0]);
    codes[1] = _mm512_ternarylogic_epi32::<AND_OR>(_mm512_slli_epi16::<2>(plane), mask, codes[1]);
    codes[2] = _mm512_ternarylogic_epi32::<AND_OR>(plane, mask, codes[2]);
    codes[3] = _mm512_ternarylogic_epi32::<AND_OR>(_mm512_srli_epi16::<2>(plane), mask, codes[3]);
}

#[target_feature(enable = "avx512bw,avx512vnni")]
#[inline]
fn load(line: &Line) -> __m512i {
    // SAFETY: 64 readable bytes, any alignment.
    unsafe { _mm512_loadu_si512(line.as_ptr().cast()) }
}

/// The `index`th 16 f16 values.
#[target_feature(enable = "avx512bw,avx512vnni")]
#[inline]
fn halves(lines: &[Line], index: usize) -> __m512 {
    let half = &lines[index / 2].as_chunks::<32>().0[index % 2];
    // SAFETY: 32 readable bytes, any alignment.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(half.as_ptr().cast()) })
}
