//! From a block of a tile to signed bytes, eight rows at a time.

use std::arch::aarch64::*;
use std::arch::asm;

use crate::code::{Code, Line};
use crate::format::{Format, TABLE};

/// One quad (four columns) of eight rows, four rows per register.
pub(super) type Quad = [int8x16_t; 2];

/// What the codes below are still above the format's zero.
pub(super) const fn zero_point(format: Format) -> i32 {
    match format {
        Format::Q4T | Format::Q5 | Format::Q8 => 0,
        _ => format.zero_point() as i32,
    }
}

/// How far from zero the codes below can be.
pub(super) const fn largest(format: Format) -> i32 {
    if matches!(format, Format::Q4T) {
        return 127;
    }
    let above = (1 << format.code_bits()) - 1 - (format.zero_point() as i32 - zero_point(format));
    let below = format.zero_point() as i32 - zero_point(format);
    if above > below { above } else { below }
}

/// The codes of a block's rows `8 · side` to `8 · side + 7`.
#[inline(always)]
pub(super) fn unpack<C: Code>(block: &[Line], side: usize) -> [Quad; 8] {
    // Spelt out: the compiler does not unroll a loop of this size.
    [
        quad::<C>(block, 0, side),
        quad::<C>(block, 1, side),
        quad::<C>(block, 2, side),
        quad::<C>(block, 3, side),
        quad::<C>(block, 4, side),
        quad::<C>(block, 5, side),
        quad::<C>(block, 6, side),
        quad::<C>(block, 7, side),
    ]
}

#[inline(always)]
fn quad<C: Code>(block: &[Line], quad: usize, side: usize) -> Quad {
    // SAFETY: NEON.
    let mut codes = [unsafe { vdupq_n_s8(0) }; 2];
    for i in 0..2 {
        let part = 2 * side + i;
        // SAFETY: NEON.
        codes[i] = unsafe {
            vreinterpretq_s8_u8(match C::FORMAT {
                Format::Q8 => veorq_u8(load(&block[quad], part), vdupq_n_u8(0x80)),
                Format::Q6 => six_bits(block, quad, part),
                Format::Q5 => five_bits(block, quad, part),
                Format::Q5M => five_bits_from_zero(block, quad, part),
                Format::Q4T => vqtbl1q_u8(signed_table(), four_bits(block, quad, part)),
                _ => four_bits(block, quad, part),
            })
        };
    }
    codes
}

#[inline(always)]
fn four_bits(block: &[Line], quad: usize, part: usize) -> uint8x16_t {
    let both = load(&block[quad % 4], part);
    // SAFETY: NEON.
    unsafe {
        match quad / 4 {
            0 => vandq_u8(both, vdupq_n_u8(15)),
            _ => vshrq_n_u8::<4>(both),
        }
    }
}

/// What the codes of `Q4T` stand for, around zero.
#[inline(always)]
fn signed_table() -> uint8x16_t {
    // SAFETY: NEON; 16 readable bytes.
    unsafe { veorq_u8(vld1q_u8(TABLE.as_ptr()), vdupq_n_u8(0x80)) }
}

/// Codes around zero: where the fifth bit is clear, the upper half of the byte is set.
#[inline(always)]
fn five_bits(block: &[Line], quad: usize, part: usize) -> uint8x16_t {
    let both = load(&block[quad % 4], part);
    // SAFETY: NEON.
    unsafe {
        let clear = spread(vmvnq_u8(load(&block[4], quad / 2)), quad, part);
        match quad / 4 {
            0 => vsliq_n_u8::<4>(both, clear),
            _ => vsliq_n_u8::<4>(vshrq_n_u8::<4>(both), clear),
        }
    }
}

/// Codes as they are stored.
#[inline(always)]
fn five_bits_from_zero(block: &[Line], quad: usize, part: usize) -> uint8x16_t {
    // SAFETY: NEON.
    unsafe {
        let set = spread(load(&block[4], quad / 2), quad, part);
        vorrq_u8(four_bits(block, quad, part), vandq_u8(set, vdupq_n_u8(16)))
    }
}

/// From the masks of two quads, eight bytes each, to all ones in every lane whose bit is set.
#[inline(always)]
fn spread(masks: uint8x16_t, quad: usize, part: usize) -> uint8x16_t {
    /// Which byte of a mask has the bit of a lane, and which bit it is.
    const BYTE: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1];
    const BIT: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];
    // SAFETY: NEON; 16 readable bytes.
    unsafe {
        let first = (quad % 2 * 8 + 2 * part) as u8;
        let bytes = vaddq_u8(vld1q_u8(BYTE.as_ptr()), vdupq_n_u8(first));
        test(vqtbl1q_u8(masks, bytes), vld1q_u8(BIT.as_ptr()))
    }
}

/// The top two bits of four quads lie in one plane.
#[inline(always)]
fn six_bits(block: &[Line], quad: usize, part: usize) -> uint8x16_t {
    let both = load(&block[quad % 4], part);
    let plane = load(&block[4 + quad / 4], part);
    // SAFETY: NEON.
    unsafe {
        if quad < 4 {
            let top = match quad {
                0 => vandq_u8(plane, vdupq_n_u8(3)),
                1 => vandq_u8(vshrq_n_u8::<2>(plane), vdupq_n_u8(3)),
                2 => vandq_u8(vshrq_n_u8::<4>(plane), vdupq_n_u8(3)),
                _ => vshrq_n_u8::<6>(plane),
            };
            return vsliq_n_u8::<4>(both, top);
        }
        let top = match quad {
            4 => vshlq_n_u8::<4>(plane),
            5 => vshlq_n_u8::<2>(plane),
            6 => plane,
            _ => vshrq_n_u8::<2>(plane),
        };
        vsriq_n_u8::<4>(vandq_u8(top, vdupq_n_u8(0x30)), both)
    }
}

/// All ones in every lane where `a` and `b` share a bit. The compiler would make three instructions
/// of the intrinsic.
#[inline(always)]
fn test(a: uint8x16_t, b: uint8x16_t) -> uint8x16_t {
    let out: uint8x16_t;
    // SAFETY: NEON; only registers are used.
    unsafe {
        asm!(
            "cmtst {out:v}.16b, {a:v}.16b, {b:v}.16b",
            a = in(vreg) a,
            b = in(vreg) b,
            out = lateout(vreg) out,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    out
}

/// Rows `4 · part` to `4 · part + 3` of a quad, or eight f16 values.
#[inline(always)]
pub(super) fn load(line: &Line, part: usize) -> uint8x16_t {
    // SAFETY: NEON; 16 readable bytes.
    unsafe { vld1q_u8(line.as_chunks::<16>().0[part].as_ptr()) }
}
