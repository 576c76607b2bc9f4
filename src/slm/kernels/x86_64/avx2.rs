//! AVX2 with FMA and F16C: two registers hold a quad of a tile's 16 rows. Byte products are added in
//! pairs to 16 bits (`vpmaddubsw`), for as many quads as cannot overflow, then widened.

use std::arch::x86_64::*;
use std::ops::Range;

use crate::slm::kernels::activations::{ActBlock, Activations, Panel};
use crate::slm::kernels::format::Format;
use crate::slm::kernels::lanes::{LANES, Lanes};
use crate::slm::kernels::matrix::Matrix;
use crate::slm::kernels::output::Output;
use crate::slm::kernels::{Kernels, float};

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

/// 64 bytes, as they lie in a tile.
type Line = [u8; 64];
/// A quad's bytes: rows 0 to 7 and rows 8 to 15.
type Pair = [__m256i; 2];

/// How the codes of a format become bytes, and how they are multiplied.
trait Code {
    const FORMAT: Format;
    /// Lines of one group: scales, mins and two blocks of codes.
    const LINES: usize = Self::FORMAT.group_bytes() / 64;
    /// Quads whose products fit 16 bits together: 2 · 127 · largest code · `QUADS` ≤ 32767.
    const QUADS: usize;
    /// Bytes that [`Code::SIGNED`] says how to read, per quad of a block.
    ///
    /// # Safety
    /// The CPU has AVX2.
    unsafe fn unpack(block: &[Line]) -> [Pair; 8];
    /// Codes come out signed around zero; their magnitude is at most 128.
    const SIGNED: bool = false;
}

struct Q4;
struct Q4M;
struct Q5;
struct Q6;
struct Q8;

impl Code for Q4 {
    const FORMAT: Format = Format::Q4;
    const QUADS: usize = 8;

    #[inline(always)]
    unsafe fn unpack(block: &[Line]) -> [Pair; 8] {
        // SAFETY: the caller's promise.
        unsafe { nibbles(block) }
    }
}

impl Code for Q4M {
    const FORMAT: Format = Format::Q4M;
    const QUADS: usize = 8;

    #[inline(always)]
    unsafe fn unpack(block: &[Line]) -> [Pair; 8] {
        // SAFETY: the caller's promise.
        unsafe { nibbles(block) }
    }
}

impl Code for Q5 {
    const FORMAT: Format = Format::Q5;
    const QUADS: usize = 4;

    #[inline(always)]
    unsafe fn unpack(block: &[Line]) -> [Pair; 8] {
        let masks = block[4].as_chunks::<4>().0;
        // SAFETY: the caller's promise.
        unsafe {
            let mut codes = nibbles(block);
            for quad in 0..8 {
                for side in 0..2 {
                    let high = fifth_bits(u32::from_le_bytes(masks[2 * quad + side]));
                    codes[quad][side] = _mm256_or_si256(codes[quad][side], high);
                }
            }
            codes
        }
    }
}

impl Code for Q6 {
    const FORMAT: Format = Format::Q6;
    const QUADS: usize = 2;

    #[inline(always)]
    unsafe fn unpack(block: &[Line]) -> [Pair; 8] {
        // SAFETY: the caller's promise.
        unsafe {
            let (mut codes, top) = (nibbles(block), _mm256_set1_epi8(0x30));
            for plane in 0..2 {
                let bits = load(&block[4 + plane]);
                for side in 0..2 {
                    let shifted = [
                        _mm256_slli_epi16::<4>(bits[side]),
                        _mm256_slli_epi16::<2>(bits[side]),
                        bits[side],
                        _mm256_srli_epi16::<2>(bits[side]),
                    ];
                    for (t, high) in shifted.into_iter().enumerate() {
                        let code = &mut codes[4 * plane + t][side];
                        *code = _mm256_or_si256(*code, _mm256_and_si256(high, top));
                    }
                }
            }
            codes
        }
    }
}

impl Code for Q8 {
    const FORMAT: Format = Format::Q8;
    const QUADS: usize = 1;
    const SIGNED: bool = true;

    #[inline(always)]
    unsafe fn unpack(block: &[Line]) -> [Pair; 8] {
        // SAFETY: the caller's promise.
        unsafe {
            let sign = _mm256_set1_epi8(-128);
            [0, 1, 2, 3, 4, 5, 6, 7]
                .map(|quad: usize| load(&block[quad]).map(|side| _mm256_xor_si256(side, sign)))
        }
    }
}

/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn load(line: &Line) -> Pair {
    let [low, high] = [0, 32].map(|at| line[at..].as_ptr());
    // SAFETY: 32 readable bytes each, any alignment.
    unsafe { [_mm256_loadu_si256(low.cast()), _mm256_loadu_si256(high.cast())] }
}

/// Codes from the 4-bit plane.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn nibbles(block: &[Line]) -> [Pair; 8] {
    // SAFETY: the caller's promise.
    unsafe {
        let low = _mm256_set1_epi8(15);
        let mut codes = [[_mm256_setzero_si256(); 2]; 8];
        for quad in 0..4 {
            let line = load(&block[quad]);
            codes[quad] = line.map(|side| _mm256_and_si256(side, low));
            codes[quad + 4] = line.map(|side| _mm256_and_si256(_mm256_srli_epi16::<4>(side), low));
        }
        codes
    }
}

/// 16 in every byte whose bit is set.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn fifth_bits(mask: u32) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe {
        let bytes = _mm256_set_epi64x(
            0x0303_0303_0303_0303,
            0x0202_0202_0202_0202,
            0x0101_0101_0101_0101,
            0,
        );
        let spread = _mm256_shuffle_epi8(_mm256_set1_epi32(mask as i32), bytes);
        let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
        let set = _mm256_cmpeq_epi8(_mm256_and_si256(spread, bit), bit);
        _mm256_and_si256(set, _mm256_set1_epi8(16))
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tiles(matrix: &Matrix, acts: &Activations, tiles: Range<usize>, out: &Output) {
    // SAFETY: the caller's promise; each function below needs the same features as this one.
    unsafe {
        match matrix.format() {
            Format::F32 | Format::F16 => float::tiles::<Ymm>(matrix, acts, tiles, out),
            Format::Q4 => quantised::<Q4>(matrix, acts, tiles, out),
            Format::Q4M => quantised::<Q4M>(matrix, acts, tiles, out),
            Format::Q5 => quantised::<Q5>(matrix, acts, tiles, out),
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
            // SAFETY: the caller's promise.
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
            // SAFETY: this function has the features.
            unsafe { block::<C, M>(group, half, &acts[half], &mut sums) };
        }
    }
    for (row, sums) in sums.into_iter().enumerate() {
        // SAFETY: the caller gave this tile to this call alone.
        unsafe { out.store(panel.first + row, index, &sums.to_array()) };
    }
}

/// Adds the products of one of a group's two blocks.
///
/// # Safety
/// The CPU has the features of [`multiply`].
#[inline(always)]
unsafe fn block<C: Code, const M: usize>(
    group: &[Line],
    half: usize,
    acts: &[ActBlock; M],
    sums: &mut [Ymm; M],
) {
    let format = C::FORMAT;
    let lines = format.block_bytes() / 64;
    let start = format.codes_offset() / 64 + half * lines;
    let zero = if C::SIGNED { 0 } else { i32::from(format.zero_point()) };
    // SAFETY: the caller's promise.
    unsafe {
        let codes = C::unpack(&group[start..start + lines]);
        let parts = format.scales_per_block();
        let scales = halves(group, half * parts);
        for r in 0..M {
            let act = &acts[r];
            let scale = Ymm::splat(act.scale);
            if parts == 1 {
                let dots = dot::<C>(&codes, 0..8, act, zero * act.negated);
                sums[r] = dots.mul(scales).mul_add(scale, sums[r]);
            } else {
                let low = dot::<C>(&codes, 0..4, act, zero * act.negated_low);
                let high = dot::<C>(&codes, 4..8, act, zero * (act.negated - act.negated_low));
                let high_scales = halves(group, half * parts + 1);
                let both = high.mul_add(high_scales, low.mul(scales));
                sums[r] = both.mul_add(scale, sums[r]);
            }
        }
        if format.has_mins() {
            let mins = halves(&group[format.scales_bytes() / 64..], half);
            for r in 0..M {
                sums[r] = mins.mul_add(Ymm::splat(acts[r].offset), sums[r]);
            }
        }
    }
}

/// Sixteen rows' dot products over some quads, a multiple of `C::QUADS`.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn dot<C: Code>(codes: &[Pair; 8], quads: Range<usize>, act: &ActBlock, start: i32) -> Ymm {
    let acts = act.codes.as_chunks::<4>().0;
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [_mm256_set1_epi32(start); 2];
        let ones = _mm256_set1_epi16(1);
        for first in quads.step_by(C::QUADS) {
            let mut pairs = [_mm256_setzero_si256(); 2];
            for quad in first..first + C::QUADS {
                let four = _mm256_set1_epi32(i32::from_le_bytes(acts[quad].map(|a| a as u8)));
                for side in 0..2 {
                    let products = products::<C>(codes[quad][side], four);
                    pairs[side] = _mm256_add_epi16(pairs[side], products);
                }
            }
            for side in 0..2 {
                sums[side] = _mm256_add_epi32(sums[side], _mm256_madd_epi16(pairs[side], ones));
            }
        }
        Ymm(sums.map(|sum| _mm256_cvtepi32_ps(sum)))
    }
}

/// Products of bytes, added in pairs. Signed codes lend their sign to the activations: with
/// unsigned 8-bit codes a pair could exceed 16 bits.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn products<C: Code>(codes: __m256i, acts: __m256i) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe {
        match C::SIGNED {
            true => _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(acts, codes)),
            false => _mm256_maddubs_epi16(codes, acts),
        }
    }
}

/// The `index`th 16 f16 values.
#[inline(always)]
fn halves(lines: &[Line], index: usize) -> Ymm {
    let half = &lines[index / 2].as_chunks::<32>().0[index % 2];
    Ymm::load_half(&std::array::from_fn(|i| u16::from_le_bytes([half[2 * i], half[2 * i + 1]])))
}

/// Sixteen f32 in two registers. Values of this type are only made inside functions compiled with
/// the features of [`KERNELS`], which run after [`available`] said so: the SAFETY of every
/// intrinsic below.
#[derive(Clone, Copy)]
struct Ymm([__m256; 2]);

impl Ymm {
    #[inline(always)]
    fn map2(self, other: Self, f: impl Fn(__m256, __m256) -> __m256) -> Self {
        Ymm([f(self.0[0], other.0[0]), f(self.0[1], other.0[1])])
    }
}

// SAFETY: see the type.
unsafe impl Lanes for Ymm {
    #[inline(always)]
    fn splat(x: f32) -> Self {
        // SAFETY: see the type.
        Ymm([unsafe { _mm256_set1_ps(x) }; 2])
    }

    #[inline(always)]
    fn load(x: &[f32; LANES]) -> Self {
        // SAFETY: see the type; twice 32 readable bytes.
        Ymm(unsafe { [_mm256_loadu_ps(x.as_ptr()), _mm256_loadu_ps(x[8..].as_ptr())] })
    }

    #[inline(always)]
    fn load_half(x: &[u16; LANES]) -> Self {
        let [low, high] = [0, 8].map(|at| x[at..].as_ptr());
        // SAFETY: see the type; twice 16 readable bytes.
        Ymm(unsafe {
            [
                _mm256_cvtph_ps(_mm_loadu_si128(low.cast())),
                _mm256_cvtph_ps(_mm_loadu_si128(high.cast())),
            ]
        })
    }

    #[inline(always)]
    fn to_array(self) -> [f32; LANES] {
        let mut out = [0.0; LANES];
        // SAFETY: see the type; twice 32 writable bytes.
        unsafe {
            _mm256_storeu_ps(out.as_mut_ptr(), self.0[0]);
            _mm256_storeu_ps(out[8..].as_mut_ptr(), self.0[1]);
        }
        out
    }

    #[inline(always)]
    fn to_half_array(self) -> [u16; LANES] {
        let mut out = [0; LANES];
        for (out, side) in out.as_chunks_mut::<8>().0.iter_mut().zip(self.0) {
            // SAFETY: see the type; 16 writable bytes.
            unsafe {
                let halves = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(side);
                _mm_storeu_si128(out.as_mut_ptr().cast(), halves);
            }
        }
        out
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: see the type.
        self.map2(other, |a, b| unsafe { _mm256_add_ps(a, b) })
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: see the type.
        self.map2(other, |a, b| unsafe { _mm256_sub_ps(a, b) })
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: see the type.
        self.map2(other, |a, b| unsafe { _mm256_mul_ps(a, b) })
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        // SAFETY: see the type.
        self.map2(other, |a, b| unsafe { _mm256_div_ps(a, b) })
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        // SAFETY: see the type.
        Ymm(unsafe {
            [
                _mm256_fmadd_ps(self.0[0], factor.0[0], term.0[0]),
                _mm256_fmadd_ps(self.0[1], factor.0[1], term.0[1]),
            ]
        })
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: see the type.
        self.map2(other, |a, b| unsafe { _mm256_max_ps(a, b) })
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // SAFETY: see the type.
        self.map2(other, |a, b| unsafe { _mm256_min_ps(a, b) })
    }

    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: see the type.
        self.map2(self, |a, _| unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), a) })
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        // SAFETY: see the type.
        self.map2(self, |x, _| unsafe {
            let exponent = _mm256_slli_epi32::<23>(_mm256_castps_si256(x));
            _mm256_castsi256_ps(_mm256_add_epi32(exponent, _mm256_set1_epi32(0x3F80_0000)))
        })
    }
}
