//! AVX-512 with VNNI: one register holds a quad of all 16 rows of a tile, `vpdpbusd` multiplies it with
//! four broadcast activations.

use std::arch::x86_64::*;
use std::ops::Range;

use crate::slm::kernels::activations::{ActBlock, Activations, Panel};
use crate::slm::kernels::format::{Format, GROUP, TILE_ROWS};
use crate::slm::kernels::lanes::{LANES, Lanes};
use crate::slm::kernels::matrix::Matrix;
use crate::slm::kernels::output::Output;
use crate::slm::kernels::{Kernels, float};

pub(super) static KERNELS: Kernels = kernels!(
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
    "avx512vnni",
    available,
    Zmm,
    tiles
);

fn available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
}

/// 64 bytes, as they lie in a tile.
type Line = [u8; 64];

/// How the codes of a format become bytes.
trait Code {
    const FORMAT: Format;
    /// Lines of one group: scales, mins and two blocks of codes.
    const LINES: usize = Self::FORMAT.group_bytes() / 64;
    /// One register per quad of a block.
    ///
    /// # Safety
    /// The CPU has AVX-512 F and BW.
    unsafe fn unpack(block: &[Line]) -> [__m512i; 8];
}

struct Q4;
struct Q4M;
struct Q5;
struct Q6;
struct Q8;

impl Code for Q4 {
    const FORMAT: Format = Format::Q4;

    #[inline(always)]
    unsafe fn unpack(block: &[Line]) -> [__m512i; 8] {
        // SAFETY: the caller's promise.
        unsafe { nibbles(block) }
    }
}

impl Code for Q4M {
    const FORMAT: Format = Format::Q4M;

    #[inline(always)]
    unsafe fn unpack(block: &[Line]) -> [__m512i; 8] {
        // SAFETY: the caller's promise.
        unsafe { nibbles(block) }
    }
}

impl Code for Q5 {
    const FORMAT: Format = Format::Q5;

    #[inline(always)]
    unsafe fn unpack(block: &[Line]) -> [__m512i; 8] {
        let masks = block[4].as_chunks::<8>().0;
        // SAFETY: the caller's promise.
        unsafe {
            let (mut codes, sixteen) = (nibbles(block), _mm512_set1_epi8(16));
            for quad in 0..8 {
                let mask = u64::from_le_bytes(masks[quad]);
                codes[quad] = _mm512_mask_add_epi8(codes[quad], mask, codes[quad], sixteen);
            }
            codes
        }
    }
}

impl Code for Q6 {
    const FORMAT: Format = Format::Q6;

    #[inline(always)]
    unsafe fn unpack(block: &[Line]) -> [__m512i; 8] {
        /// `(a & b) | c`
        const AND_OR: i32 = 0b1110_1010;
        // SAFETY: the caller's promise.
        unsafe {
            let (mut codes, top) = (nibbles(block), _mm512_set1_epi8(0x30));
            for plane in 0..2 {
                let bits = load(&block[4 + plane]);
                let shifted = [
                    _mm512_slli_epi16::<4>(bits),
                    _mm512_slli_epi16::<2>(bits),
                    bits,
                    _mm512_srli_epi16::<2>(bits),
                ];
                for (t, high) in shifted.into_iter().enumerate() {
                    let code = &mut codes[4 * plane + t];
                    *code = _mm512_ternarylogic_epi32::<AND_OR>(high, top, *code);
                }
            }
            codes
        }
    }
}

impl Code for Q8 {
    const FORMAT: Format = Format::Q8;

    #[inline(always)]
    unsafe fn unpack(block: &[Line]) -> [__m512i; 8] {
        // SAFETY: the caller's promise.
        unsafe { [0, 1, 2, 3, 4, 5, 6, 7].map(|quad: usize| load(&block[quad])) }
    }
}

/// # Safety
/// The CPU has AVX-512 F.
#[inline(always)]
unsafe fn load(line: &Line) -> __m512i {
    // SAFETY: 64 readable bytes, any alignment.
    unsafe { _mm512_loadu_si512(line.as_ptr().cast()) }
}

/// Codes from the 4-bit plane.
///
/// # Safety
/// The CPU has AVX-512 F and BW.
#[inline(always)]
unsafe fn nibbles(block: &[Line]) -> [__m512i; 8] {
    // SAFETY: the caller's promise.
    unsafe {
        let low = _mm512_set1_epi8(15);
        let lines = [load(&block[0]), load(&block[1]), load(&block[2]), load(&block[3])];
        let [a, b, c, d] = lines.map(|line| _mm512_and_si512(line, low));
        let [e, f, g, h] = lines.map(|line| _mm512_and_si512(_mm512_srli_epi16::<4>(line), low));
        [a, b, c, d, e, f, g, h]
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn tiles(matrix: &Matrix, acts: &Activations, tiles: Range<usize>, out: &Output) {
    // SAFETY: the caller's promise; each function below needs the same features as this one.
    unsafe {
        match matrix.format() {
            Format::F32 | Format::F16 => float::tiles::<Zmm>(matrix, acts, tiles, out),
            Format::Q4 => quantised::<Q4>(matrix, acts, tiles, out),
            Format::Q4M => quantised::<Q4M>(matrix, acts, tiles, out),
            Format::Q5 => quantised::<Q5>(matrix, acts, tiles, out),
            Format::Q6 => quantised::<Q6>(matrix, acts, tiles, out),
            Format::Q8 => quantised::<Q8>(matrix, acts, tiles, out),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
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
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn multiply<C: Code, const M: usize>(
    tile: &[Line],
    panel: Panel,
    index: usize,
    out: &Output,
) {
    let mut sums = [Zmm::load(&out.bias(index)).0; M];
    let acts = panel.blocks.as_chunks::<M>().0.as_chunks::<2>().0;
    for (group, acts) in tile.chunks_exact(C::LINES).zip(acts) {
        for half in 0..2 {
            // SAFETY: this function has the features.
            unsafe { block::<C, M>(group, half, &acts[half], &mut sums) };
        }
    }
    for (row, sums) in sums.into_iter().enumerate() {
        // SAFETY: the caller gave this tile to this call alone.
        unsafe { out.store(panel.first + row, index, &Zmm(sums).to_array()) };
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
    sums: &mut [__m512; M],
) {
    let format = C::FORMAT;
    let lines = format.block_bytes() / 64;
    let start = format.codes_offset() / 64 + half * lines;
    let zero_bits = format.zero_point().checked_ilog2();
    // SAFETY: the caller's promise.
    unsafe {
        let codes = C::unpack(&group[start..start + lines]);
        let parts = format.scales_per_block();
        let scales = halves(group, half * parts);
        for r in 0..M {
            let act = &acts[r];
            let start = |negated: i32| match zero_bits {
                Some(bits) => {
                    _mm512_sll_epi32(_mm512_set1_epi32(negated), _mm_cvtsi32_si128(bits as i32))
                }
                None => _mm512_setzero_si512(),
            };
            let scale = _mm512_set1_ps(act.scale);
            if parts == 1 {
                let dots = dot(&codes, 0..8, act, start(act.negated));
                sums[r] = _mm512_fmadd_ps(_mm512_mul_ps(dots, scales), scale, sums[r]);
            } else {
                let low = dot(&codes, 0..4, act, start(act.negated_low));
                let high = dot(&codes, 4..8, act, start(act.negated - act.negated_low));
                let high_scales = halves(group, half * parts + 1);
                let both = _mm512_fmadd_ps(high, high_scales, _mm512_mul_ps(low, scales));
                sums[r] = _mm512_fmadd_ps(both, scale, sums[r]);
            }
        }
        if format.has_mins() {
            let mins = halves(&group[format.scales_bytes() / 64..], half);
            for r in 0..M {
                sums[r] = _mm512_fmadd_ps(mins, _mm512_set1_ps(acts[r].offset), sums[r]);
            }
        }
    }
}

/// Sixteen rows' dot products over some quads.
///
/// # Safety
/// The CPU has AVX-512 F and VNNI.
#[inline(always)]
unsafe fn dot(codes: &[__m512i; 8], quads: Range<usize>, act: &ActBlock, start: __m512i) -> __m512 {
    let acts = act.codes.as_chunks::<4>().0;
    // SAFETY: the caller's promise.
    unsafe {
        let mut sum = start;
        for quad in quads {
            let four = _mm512_set1_epi32(i32::from_le_bytes(acts[quad].map(|a| a as u8)));
            sum = _mm512_dpbusd_epi32(sum, codes[quad], four);
        }
        _mm512_cvtepi32_ps(sum)
    }
}

/// The `index`th 16 f16 values.
///
/// # Safety
/// The CPU has AVX-512 F.
#[inline(always)]
unsafe fn halves(lines: &[Line], index: usize) -> __m512 {
    let half = &lines[index / 2].as_chunks::<32>().0[index % 2];
    // SAFETY: 32 readable bytes, any alignment.
    unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(half.as_ptr().cast())) }
}

/// Sixteen f32 in one register. Values of this type are only made inside functions compiled with
/// the features of [`KERNELS`], which run after [`available`] said so: the SAFETY of every
/// intrinsic below.
#[derive(Clone, Copy)]
struct Zmm(__m512);

const _: () = assert!(LANES == 16 && TILE_ROWS == LANES && GROUP == 64);

// SAFETY: see the type.
unsafe impl Lanes for Zmm {
    #[inline(always)]
    fn splat(x: f32) -> Self {
        // SAFETY: see the type.
        Zmm(unsafe { _mm512_set1_ps(x) })
    }

    #[inline(always)]
    fn load(x: &[f32; LANES]) -> Self {
        // SAFETY: see the type; 64 readable bytes.
        Zmm(unsafe { _mm512_loadu_ps(x.as_ptr()) })
    }

    #[inline(always)]
    fn load_half(x: &[u16; LANES]) -> Self {
        // SAFETY: see the type; 32 readable bytes.
        Zmm(unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(x.as_ptr().cast())) })
    }

    #[inline(always)]
    fn to_array(self) -> [f32; LANES] {
        let mut out = [0.0; LANES];
        // SAFETY: see the type; 64 writable bytes.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), self.0) };
        out
    }

    #[inline(always)]
    fn to_half_array(self) -> [u16; LANES] {
        let mut out = [0; LANES];
        // SAFETY: see the type; 32 writable bytes.
        unsafe {
            let halves = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0);
            _mm256_storeu_si256(out.as_mut_ptr().cast(), halves);
        }
        out
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: see the type.
        Zmm(unsafe { _mm512_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: see the type.
        Zmm(unsafe { _mm512_sub_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: see the type.
        Zmm(unsafe { _mm512_mul_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        // SAFETY: see the type.
        Zmm(unsafe { _mm512_div_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        // SAFETY: see the type.
        Zmm(unsafe { _mm512_fmadd_ps(self.0, factor.0, term.0) })
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: see the type.
        Zmm(unsafe { _mm512_max_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // SAFETY: see the type.
        Zmm(unsafe { _mm512_min_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: see the type.
        Zmm(unsafe { _mm512_abs_ps(self.0) })
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        // SAFETY: see the type.
        Zmm(unsafe {
            let exponent = _mm512_slli_epi32::<23>(_mm512_castps_si512(self.0));
            _mm512_castsi512_ps(_mm512_add_epi32(exponent, _mm512_set1_epi32(0x3F80_0000)))
        })
    }
}
