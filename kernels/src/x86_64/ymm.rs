//! [`Lanes`] with AVX2, FMA and F16C.

use std::arch::x86_64::*;

use crate::lanes::{LANES, Lanes};

use super::bytes::sum_of_bytes;

/// Sixteen f32 in two registers. Values of this type are only made inside functions compiled with
/// the features of [`super::avx2`], which run on a CPU that has them: the SAFETY of every intrinsic
/// below.
#[derive(Clone, Copy)]
pub(super) struct Ymm(pub [__m256; 2]);

// SAFETY: see the type.
unsafe impl Lanes for Ymm {
    const ROOM: usize = 8;

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
        // SAFETY: see the type; twice 16 readable bytes.
        Ymm(unsafe {
            [
                _mm256_cvtph_ps(_mm_loadu_si128(x.as_ptr().cast())),
                _mm256_cvtph_ps(_mm_loadu_si128(x[8..].as_ptr().cast())),
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
    fn to_low_bytes(self) -> [i8; LANES] {
        let mut out = [0; LANES];
        // SAFETY: see the type; 16 writable bytes.
        unsafe {
            let byte = _mm256_set1_epi32(0xFF);
            let low = _mm256_and_si256(_mm256_castps_si256(self.0[0]), byte);
            let high = _mm256_and_si256(_mm256_castps_si256(self.0[1]), byte);
            // Packing works within 128-bit halves; the permutation puts them into order.
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(low, high));
            let (low, high) = (_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(out.as_mut_ptr().cast(), _mm_packus_epi16(low, high));
        }
        out
    }

    #[inline(always)]
    fn sum_of_bytes(bytes: &[i8; LANES]) -> i16 {
        sum_of_bytes(bytes)
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        let (a, b) = (self.0, other.0);
        // SAFETY: see the type.
        Ymm(unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] })
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        let (a, b) = (self.0, other.0);
        // SAFETY: see the type.
        Ymm(unsafe { [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])] })
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        let (a, b) = (self.0, other.0);
        // SAFETY: see the type.
        Ymm(unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] })
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        let (a, b) = (self.0, other.0);
        // SAFETY: see the type.
        Ymm(unsafe { [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])] })
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
        let (a, b) = (self.0, other.0);
        // SAFETY: see the type.
        Ymm(unsafe { [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])] })
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        let (a, b) = (self.0, other.0);
        // SAFETY: see the type.
        Ymm(unsafe { [_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])] })
    }

    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: see the type.
        Ymm(unsafe {
            let sign = _mm256_set1_ps(-0.0);
            [_mm256_andnot_ps(sign, self.0[0]), _mm256_andnot_ps(sign, self.0[1])]
        })
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: see the type.
        unsafe {
            let eight = _mm256_add_ps(self.0[0], self.0[1]);
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        // SAFETY: see the type.
        unsafe {
            let eight = _mm256_max_ps(self.0[0], self.0[1]);
            let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        let [mut low, mut high] = self.0;
        for side in [&mut low, &mut high] {
            // SAFETY: see the type.
            *side = unsafe {
                let exponent = _mm256_slli_epi32::<23>(_mm256_castps_si256(*side));
                _mm256_castsi256_ps(_mm256_add_epi32(exponent, _mm256_set1_epi32(0x3F80_0000)))
            };
        }
        Ymm([low, high])
    }
}
