//! [`Lanes`] with AVX-512.

use std::arch::x86_64::*;

use crate::lanes::{LANES, Lanes};

use super::bytes::sum_of_bytes;

/// Sixteen f32 in one register. Values of this type are only made inside functions compiled with
/// the features of [`super::avx512`], which run on a CPU that has them: the SAFETY of every
/// intrinsic below.
#[derive(Clone, Copy)]
pub(super) struct Zmm(pub __m512);

// SAFETY: see the type.
unsafe impl Lanes for Zmm {
    const ROOM: usize = 32;

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
    fn to_low_bytes(self) -> [i8; LANES] {
        let mut out = [0; LANES];
        // SAFETY: see the type; 16 writable bytes.
        unsafe {
            let bytes = _mm512_cvtepi32_epi8(_mm512_castps_si512(self.0));
            _mm_storeu_si128(out.as_mut_ptr().cast(), bytes);
        }
        out
    }

    #[inline(always)]
    fn sum_of_bytes(bytes: &[i8; LANES]) -> i16 {
        sum_of_bytes(bytes)
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
    fn sum(self) -> f32 {
        // SAFETY: see the type.
        unsafe { _mm512_reduce_add_ps(self.0) }
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        // SAFETY: see the type.
        unsafe { _mm512_reduce_max_ps(self.0) }
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
