//! What both instruction sets do with bytes.

use std::arch::x86_64::*;

use crate::lanes::LANES;

/// [`crate::lanes::Lanes::sum_of_bytes`] with what every x86-64 CPU has.
#[inline(always)]
pub fn sum_of_bytes(bytes: &[i8; LANES]) -> i16 {
    // SAFETY: SSE2, which every x86-64 CPU has; 16 readable bytes, any alignment.
    unsafe {
        let bytes = _mm_loadu_si128(bytes.as_ptr().cast());
        // Each is larger by 128, so that none is negative: they are summed by eights.
        let sums = _mm_sad_epu8(_mm_xor_si128(bytes, _mm_set1_epi8(-128)), _mm_setzero_si128());
        (_mm_extract_epi16::<0>(sums) + _mm_extract_epi16::<4>(sums)) as i16 - 128 * LANES as i16
    }
}
