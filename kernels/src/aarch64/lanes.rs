//! [`Lanes`] with NEON.

use std::arch::aarch64::*;
use std::arch::asm;

use crate::lanes::{LANES, Lanes};

/// Sixteen f32 in four registers. Every aarch64 target of Rust's has NEON: the SAFETY of every
/// instruction below.
#[derive(Clone, Copy)]
pub(super) struct Neon(pub [float32x4_t; 4]);

/// From the bits of f16 values. The intrinsics are not stable; the instructions are base ARMv8.
#[inline(always)]
pub(super) fn widen(halves: uint16x8_t) -> [float32x4_t; 2] {
    let (low, high): (float32x4_t, float32x4_t);
    // SAFETY: see [`Neon`]; only registers are used.
    unsafe {
        asm!(
            "fcvtl {low:v}.4s, {halves:v}.4h",
            "fcvtl2 {high:v}.4s, {halves:v}.8h",
            halves = in(vreg) halves,
            low = out(vreg) low,
            high = lateout(vreg) high,
            options(pure, nomem, nostack)
        );
    }
    [low, high]
}

/// As bits of f16 values, rounded to nearest even.
#[inline(always)]
fn narrow([low, high]: [float32x4_t; 2]) -> uint16x8_t {
    let halves: uint16x8_t;
    // SAFETY: see [`Neon`]; only registers are used.
    unsafe {
        asm!(
            "fcvtn {halves:v}.4h, {low:v}.4s",
            "fcvtn2 {halves:v}.8h, {high:v}.4s",
            low = in(vreg) low,
            high = in(vreg) high,
            halves = out(vreg) halves,
            options(pure, nomem, nostack)
        );
    }
    halves
}

impl Neon {
    /// Applies an intrinsic to every register.
    #[inline(always)]
    fn map(mut self, f: unsafe fn(float32x4_t) -> float32x4_t) -> Self {
        for i in 0..4 {
            // SAFETY: see the type.
            self.0[i] = unsafe { f(self.0[i]) };
        }
        self
    }

    /// Applies an intrinsic to every pair of registers.
    #[inline(always)]
    fn zip(mut self, other: Self, f: unsafe fn(float32x4_t, float32x4_t) -> float32x4_t) -> Self {
        for i in 0..4 {
            // SAFETY: see the type.
            self.0[i] = unsafe { f(self.0[i], other.0[i]) };
        }
        self
    }
}

// SAFETY: see the type.
unsafe impl Lanes for Neon {
    const ROOM: usize = 8;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        // SAFETY: see the type.
        Neon([unsafe { vdupq_n_f32(x) }; 4])
    }

    #[inline(always)]
    fn load(x: &[f32; LANES]) -> Self {
        // SAFETY: see the type; four times 16 readable bytes.
        Neon(unsafe {
            [
                vld1q_f32(x.as_ptr()),
                vld1q_f32(x[4..].as_ptr()),
                vld1q_f32(x[8..].as_ptr()),
                vld1q_f32(x[12..].as_ptr()),
            ]
        })
    }

    #[inline(always)]
    fn load_half(x: &[u16; LANES]) -> Self {
        // SAFETY: see the type; twice 16 readable bytes.
        let (low, high) = unsafe { (vld1q_u16(x.as_ptr()), vld1q_u16(x[8..].as_ptr())) };
        let ([a, b], [c, d]) = (widen(low), widen(high));
        Neon([a, b, c, d])
    }

    #[inline(always)]
    fn to_array(self) -> [f32; LANES] {
        let mut out = [0.0; LANES];
        for (out, four) in out.as_chunks_mut::<4>().0.iter_mut().zip(self.0) {
            // SAFETY: see the type; 16 writable bytes.
            unsafe { vst1q_f32(out.as_mut_ptr(), four) };
        }
        out
    }

    #[inline(always)]
    fn to_half_array(self) -> [u16; LANES] {
        let mut out = [0; LANES];
        for (out, eight) in out.as_chunks_mut::<8>().0.iter_mut().zip(self.0.as_chunks::<2>().0) {
            // SAFETY: see the type; 16 writable bytes.
            unsafe { vst1q_u16(out.as_mut_ptr(), narrow(*eight)) };
        }
        out
    }

    #[inline(always)]
    fn to_low_bytes(self) -> [i8; LANES] {
        let mut out = [0; LANES];
        let x = self.0;
        // SAFETY: see the type; 16 writable bytes.
        unsafe {
            let low = vuzp1q_s16(vreinterpretq_s16_f32(x[0]), vreinterpretq_s16_f32(x[1]));
            let high = vuzp1q_s16(vreinterpretq_s16_f32(x[2]), vreinterpretq_s16_f32(x[3]));
            let bytes = vuzp1q_s8(vreinterpretq_s8_s16(low), vreinterpretq_s8_s16(high));
            vst1q_s8(out.as_mut_ptr(), bytes);
        }
        out
    }

    #[inline(always)]
    fn sum_of_bytes(bytes: &[i8; LANES]) -> i16 {
        // SAFETY: see the type; 16 readable bytes.
        unsafe { vaddlvq_s8(vld1q_s8(bytes.as_ptr())) }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, vaddq_f32)
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, vsubq_f32)
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, vmulq_f32)
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.zip(other, vdivq_f32)
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        let mut out = term;
        for i in 0..4 {
            // SAFETY: see the type.
            out.0[i] = unsafe { vfmaq_f32(term.0[i], self.0[i], factor.0[i]) };
        }
        out
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // `fmax` would return NaN for any NaN.
        let mut out = other;
        for i in 0..4 {
            // SAFETY: see the type.
            out.0[i] = unsafe { vbslq_f32(vcgtq_f32(self.0[i], out.0[i]), self.0[i], out.0[i]) };
        }
        out
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        let mut out = other;
        for i in 0..4 {
            // SAFETY: see the type.
            out.0[i] = unsafe { vbslq_f32(vcltq_f32(self.0[i], out.0[i]), self.0[i], out.0[i]) };
        }
        out
    }

    #[inline(always)]
    fn limit(self, low: f32, high: f32) -> Self {
        self.zip(Self::splat(low), vmaxq_f32).zip(Self::splat(high), vminq_f32)
    }

    #[inline(always)]
    fn abs(self) -> Self {
        self.map(vabsq_f32)
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        let x = self.0;
        // SAFETY: see the type.
        unsafe {
            let four = vaddq_f32(vaddq_f32(x[0], x[2]), vaddq_f32(x[1], x[3]));
            let two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
            vpadds_f32(two)
        }
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        let x = self.0;
        // SAFETY: see the type.
        unsafe { vmaxvq_f32(vmaxq_f32(vmaxq_f32(x[0], x[2]), vmaxq_f32(x[1], x[3]))) }
    }

    #[inline(always)]
    fn power_of_two(mut self) -> Self {
        for i in 0..4 {
            // SAFETY: see the type.
            self.0[i] = unsafe {
                let exponent = vshlq_n_s32::<23>(vreinterpretq_s32_f32(self.0[i]));
                vreinterpretq_f32_s32(vaddq_s32(exponent, vdupq_n_s32(0x3F80_0000)))
            };
        }
        self
    }
}
