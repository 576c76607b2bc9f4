//! How products of bytes are summed: what the three tables differ in.

use std::arch::aarch64::*;
use std::arch::asm;

use crate::activations::ActBlock;

use super::unpack::Quad;

/// The sums of eight rows.
pub(super) type Sums = [int32x4_t; 2];

/// A way to sum products.
///
/// # Safety
/// An implementation may use instructions that not every CPU has. Its methods must only be reached
/// on a CPU that has them.
pub(super) unsafe trait Dot {
    /// Puts a block's codes into the order that [`Dot::dots`] with `R` rows wants.
    #[inline(always)]
    fn arrange<const R: usize>(_codes: &mut [Quad; 8]) {}

    /// `start`, plus the products of four or eight quads of codes, at most `largest` from zero,
    /// with as many quads of `R` (1 or 2) rows of activations, from quad `first` on.
    fn dots<const R: usize>(
        codes: &[Quad],
        largest: i32,
        acts: &[ActBlock; R],
        first: usize,
        start: [i32; R],
    ) -> [Sums; R];
}

/// Any NEON: `smull` and `smlal` add products in 16 bits, for as many quads as cannot overflow.
pub(super) struct Widening;

/// The products of one activation row with the four columns of four rows and four more.
type Products = [[int16x8_t; 2]; 2];

// SAFETY: every aarch64 target of Rust's has NEON.
unsafe impl Dot for Widening {
    #[inline(always)]
    fn dots<const R: usize>(
        codes: &[Quad],
        largest: i32,
        acts: &[ActBlock; R],
        first: usize,
        start: [i32; R],
    ) -> [Sums; R] {
        // How many products fit into 16 bits: two at least.
        let room = 32767 / (127 * largest) as usize;
        let pairs_fit = room >= 2 * codes.len();
        // SAFETY: NEON.
        let mut products = [[[unsafe { vdupq_n_s16(0) }; 2]; 2]; R];
        let mut wide = [[[splat(0); 2]; 2]; R];
        for (index, codes) in codes.as_chunks::<4>().0.iter().enumerate() {
            let acts = load(acts, first / 4 + index);
            multiply::<0, R>(&codes[0], &acts, &mut products, index == 0 || !pairs_fit);
            multiply::<1, R>(&codes[1], &acts, &mut products, false);
            if room < 4 {
                widen(&products, &mut wide);
            }
            multiply::<2, R>(&codes[2], &acts, &mut products, room < 4);
            multiply::<3, R>(&codes[3], &acts, &mut products, false);
            if !pairs_fit {
                widen(&products, &mut wide);
            }
        }
        let mut sums = [[splat(0); 2]; R];
        for r in 0..R {
            for i in 0..2 {
                // SAFETY: NEON.
                sums[r][i] = unsafe {
                    if pairs_fit {
                        let [low, high] = products[r][i];
                        vpadalq_s16(splat(start[r]), vpaddq_s16(low, high))
                    } else {
                        let [low, high] = wide[r][i];
                        vaddq_s32(splat(start[r]), addp(low, high))
                    }
                };
            }
        }
        sums
    }
}

/// Adds the products of a quad with quad `LANE` of the activations; with `fresh`, replaces what
/// there is.
#[inline(always)]
fn multiply<const LANE: i32, const R: usize>(
    codes: &Quad,
    acts: &[int8x16_t; R],
    products: &mut [Products; R],
    fresh: bool,
) {
    for r in 0..R {
        let act = duplicate::<LANE>(acts[r]);
        for i in 0..2 {
            match fresh {
                true => products[r][i] = smull(codes[i], act),
                false => smlal(&mut products[r][i], codes[i], act),
            }
        }
    }
}

/// Moves products into sums of 32 bits, two columns each.
#[inline(always)]
fn widen<const R: usize>(products: &[Products; R], wide: &mut [[[int32x4_t; 2]; 2]; R]) {
    for r in 0..R {
        for i in 0..2 {
            for rows in 0..2 {
                // SAFETY: NEON.
                wide[r][i][rows] = unsafe { vpadalq_s16(wide[r][i][rows], products[r][i][rows]) };
            }
        }
    }
}

// Not with intrinsics: where the compiler sees through them, it replaces one instruction by two.

/// Quad `LANE` in all four lanes.
#[inline(always)]
fn duplicate<const LANE: i32>(acts: int8x16_t) -> int8x16_t {
    let out: int8x16_t;
    // SAFETY: NEON; only registers are used.
    unsafe {
        asm!(
            "dup {out:v}.4s, {acts:v}.s[{lane}]",
            acts = in(vreg) acts,
            out = lateout(vreg) out,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    out
}

#[inline(always)]
fn addp(low: int32x4_t, high: int32x4_t) -> int32x4_t {
    let out: int32x4_t;
    // SAFETY: NEON; only registers are used.
    unsafe {
        asm!(
            "addp {out:v}.4s, {low:v}.4s, {high:v}.4s",
            low = in(vreg) low,
            high = in(vreg) high,
            out = lateout(vreg) out,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    out
}

#[inline(always)]
fn smull(codes: int8x16_t, acts: int8x16_t) -> [int16x8_t; 2] {
    let (low, high): (int16x8_t, int16x8_t);
    // SAFETY: NEON; only registers are used.
    unsafe {
        asm!(
            "smull {low:v}.8h, {codes:v}.8b, {acts:v}.8b",
            "smull2 {high:v}.8h, {codes:v}.16b, {acts:v}.16b",
            codes = in(vreg) codes,
            acts = in(vreg) acts,
            low = out(vreg) low,
            high = lateout(vreg) high,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    [low, high]
}

#[inline(always)]
fn smlal([low, high]: &mut [int16x8_t; 2], codes: int8x16_t, acts: int8x16_t) {
    // SAFETY: NEON; only registers are used.
    unsafe {
        asm!(
            "smlal {low:v}.8h, {codes:v}.8b, {acts:v}.8b",
            "smlal2 {high:v}.8h, {codes:v}.16b, {acts:v}.16b",
            codes = in(vreg) codes,
            acts = in(vreg) acts,
            low = inout(vreg) *low,
            high = inout(vreg) *high,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
}

/// ARMv8.2 dot products: `sdot` multiplies four rows' quads with one quad of activations.
pub(super) struct DotProduct;

// SAFETY: its table is only handed out on CPUs with `dotprod`.
unsafe impl Dot for DotProduct {
    #[inline(always)]
    fn dots<const R: usize>(
        codes: &[Quad],
        _largest: i32,
        acts: &[ActBlock; R],
        first: usize,
        start: [i32; R],
    ) -> [Sums; R] {
        let mut sums = [[splat(0); 2]; R];
        for r in 0..R {
            sums[r] = [splat(start[r]); 2];
        }
        for (index, codes) in codes.as_chunks::<4>().0.iter().enumerate() {
            let acts = load(acts, first / 4 + index);
            for r in 0..R {
                for i in 0..2 {
                    let sum = &mut sums[r][i];
                    sdot::<0>(sum, codes[0][i], acts[r]);
                    sdot::<1>(sum, codes[1][i], acts[r]);
                    sdot::<2>(sum, codes[2][i], acts[r]);
                    sdot::<3>(sum, codes[3][i], acts[r]);
                }
            }
        }
        sums
    }
}

/// Adds the products of four rows' quads with quad `LANE` of `acts`.
#[inline(always)]
fn sdot<const LANE: i32>(sums: &mut int32x4_t, codes: int8x16_t, acts: int8x16_t) {
    // The intrinsic is not stable. SAFETY: the caller has `dotprod`; only registers are used.
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "sdot {sums:v}.4s, {codes:v}.16b, {acts:v}.4b[{lane}]",
            sums = inout(vreg) *sums,
            codes = in(vreg) codes,
            acts = in(vreg) acts,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
}

/// ARMv8.6 matrix products: `smmla` multiplies eight columns of two rows with those of two
/// activation rows. A single activation row has nothing to gain.
pub(super) struct MatrixProduct;

// SAFETY: its table is only handed out on CPUs with `i8mm` and `dotprod`.
unsafe impl Dot for MatrixProduct {
    /// Two quads of four rows become eight columns of two rows, twice.
    #[inline(always)]
    fn arrange<const R: usize>(codes: &mut [Quad; 8]) {
        if R == 1 {
            return;
        }
        for [left, right] in codes.as_chunks_mut::<2>().0 {
            for i in 0..2 {
                // SAFETY: NEON.
                unsafe {
                    let (a, b) = (vreinterpretq_s32_s8(left[i]), vreinterpretq_s32_s8(right[i]));
                    left[i] = vreinterpretq_s8_s32(vzip1q_s32(a, b));
                    right[i] = vreinterpretq_s8_s32(vzip2q_s32(a, b));
                }
            }
        }
    }

    #[inline(always)]
    fn dots<const R: usize>(
        codes: &[Quad],
        largest: i32,
        acts: &[ActBlock; R],
        first: usize,
        start: [i32; R],
    ) -> [Sums; R] {
        if R == 1 {
            return DotProduct::dots(codes, largest, acts, first, start);
        }
        // Per four rows, the first and the last two: `[row][activation row]`.
        let mut squares = [[splat(0); 2]; 2];
        for (index, codes) in codes.as_chunks::<4>().0.iter().enumerate() {
            let acts = load(acts, first / 4 + index);
            // SAFETY: NEON.
            let eights = unsafe {
                let (a, b) = (vreinterpretq_s64_s8(acts[0]), vreinterpretq_s64_s8(acts[1]));
                [vreinterpretq_s8_s64(vzip1q_s64(a, b)), vreinterpretq_s8_s64(vzip2q_s64(a, b))]
            };
            for (codes, eight) in codes.as_chunks::<2>().0.iter().zip(eights) {
                for i in 0..2 {
                    smmla(&mut squares[i][0], codes[0][i], eight);
                    smmla(&mut squares[i][1], codes[1][i], eight);
                }
            }
        }
        let mut sums = [[splat(0); 2]; R];
        for i in 0..2 {
            let [low, high] = squares[i];
            // SAFETY: NEON.
            unsafe {
                sums[0][i] = vaddq_s32(splat(start[0]), vuzp1q_s32(low, high));
                sums[1][i] = vaddq_s32(splat(start[1]), vuzp2q_s32(low, high));
            }
        }
        sums
    }
}

/// Adds the products of two rows of codes with two rows of activations, eight columns each.
#[inline(always)]
fn smmla(sums: &mut int32x4_t, codes: int8x16_t, acts: int8x16_t) {
    // The intrinsic is not stable. SAFETY: the caller has `i8mm`; only registers are used.
    unsafe {
        asm!(
            ".arch_extension i8mm",
            "smmla {sums:v}.4s, {codes:v}.16b, {acts:v}.16b",
            sums = inout(vreg) *sums,
            codes = in(vreg) codes,
            acts = in(vreg) acts,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
}

#[inline(always)]
fn splat(x: i32) -> int32x4_t {
    // SAFETY: NEON.
    unsafe { vdupq_n_s32(x) }
}

/// Four quads of every row, from quad `4 · index` on.
#[inline(always)]
fn load<const R: usize>(acts: &[ActBlock; R], index: usize) -> [int8x16_t; R] {
    // SAFETY: NEON.
    let mut out = [unsafe { vdupq_n_s8(0) }; R];
    for r in 0..R {
        // SAFETY: NEON; 16 readable bytes.
        out[r] = unsafe { vld1q_s8(acts[r].codes.as_chunks::<16>().0[index].as_ptr()) };
    }
    out
}
