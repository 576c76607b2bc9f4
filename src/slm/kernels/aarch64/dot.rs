//! How products of bytes are summed: what the three tables differ in.

use std::arch::aarch64::*;
use std::arch::asm;

use crate::slm::kernels::activations::ActBlock;
use crate::slm::kernels::code::Code;

/// One quad (four columns) of a tile's 16 rows, four rows per register. Codes are signed or below 128.
pub(super) type Quad = [int8x16_t; 4];

/// The sums of a tile's 16 rows.
pub(super) type Sums = [int32x4_t; 4];

/// A way to sum products.
///
/// # Safety
/// An implementation may use instructions that not every CPU has. Its methods must only be reached
/// on a CPU that has them.
pub(super) unsafe trait Dot {
    /// Activation rows that are multiplied together: as many as the registers hold sums of.
    const ROWS: usize;

    /// Adds the products of all quads of codes with the activations' quads from `first` on; both are
    /// multiples of four.
    fn add<C: Code, const R: usize>(
        codes: &[Quad],
        acts: &[ActBlock; R],
        first: usize,
        sums: &mut [Sums; R],
    );
}

/// Any NEON: `smull` and `smlal` add products in 16 bits, for as many quads as cannot overflow.
pub(super) struct Widening;

/// The products of one activation row with four times four rows, `[row][column]`.
type Products = [[int16x8_t; 2]; 4];

// SAFETY: every aarch64 target of Rust's has NEON.
unsafe impl Dot for Widening {
    const ROWS: usize = 2;

    #[inline(always)]
    fn add<C: Code, const R: usize>(
        codes: &[Quad],
        acts: &[ActBlock; R],
        first: usize,
        sums: &mut [Sums; R],
    ) {
        // SAFETY: NEON.
        let none = [[unsafe { vdupq_n_s16(0) }; 2]; 4];
        let (mut products, mut wide) = ([none; R], [[[zero(); 2]; 4]; R]);
        for (index, codes) in codes.as_chunks::<4>().0.iter().enumerate() {
            let acts = load(acts, first / 4 + index);
            // Columns are not added up before, so that twice `QUADS` fit into 16 bits.
            multiply::<0, R>(&codes[0], &acts, &mut products);
            multiply::<1, R>(&codes[1], &acts, &mut products);
            if 2 * C::QUADS < 4 {
                widen(&mut products, &mut wide);
                products = [none; R];
            }
            multiply::<2, R>(&codes[2], &acts, &mut products);
            multiply::<3, R>(&codes[3], &acts, &mut products);
            if 2 * C::QUADS < 8 {
                widen(&mut products, &mut wide);
                products = [none; R];
            }
        }
        if C::QUADS == 4 {
            widen(&mut products, &mut wide);
        }
        for r in 0..R {
            for part in 0..4 {
                let ([low, high], [wide_low, wide_high]) = (products[r][part], wide[r][part]);
                // SAFETY: NEON.
                sums[r][part] = unsafe {
                    match codes.len() <= C::QUADS {
                        true => vpadalq_s16(sums[r][part], vpaddq_s16(low, high)),
                        false => vaddq_s32(sums[r][part], vpaddq_s32(wide_low, wide_high)),
                    }
                };
            }
        }
    }
}

/// Adds the products with quad `LANE` of the activations.
#[inline(always)]
fn multiply<const LANE: i32, const R: usize>(
    codes: &Quad,
    acts: &[int8x16_t; R],
    products: &mut [Products; R],
) {
    for r in 0..R {
        let act = duplicate::<LANE>(acts[r]);
        for part in 0..4 {
            let [low, high] = &mut products[r][part];
            // SAFETY: NEON.
            unsafe {
                *low = vmlal_s8(*low, vget_low_s8(codes[part]), vget_low_s8(act));
                *high = vmlal_high_s8(*high, codes[part], act);
            }
        }
    }
}

/// Moves products into wider sums of two columns each.
#[inline(always)]
fn widen<const R: usize>(products: &mut [Products; R], wide: &mut [[[int32x4_t; 2]; 4]; R]) {
    for r in 0..R {
        for part in 0..4 {
            for side in 0..2 {
                let wide = &mut wide[r][part][side];
                // SAFETY: NEON.
                *wide = unsafe { vpadalq_s16(*wide, products[r][part][side]) };
            }
        }
    }
}

/// Quad `LANE` in all four lanes. With the intrinsic, the compiler would see that both halves are alike
/// and no longer use `smlal2`.
#[inline(always)]
fn duplicate<const LANE: i32>(acts: int8x16_t) -> int8x16_t {
    let mut out = acts;
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

/// ARMv8.2 dot products: `sdot` multiplies four rows' quads with one quad of activations.
pub(super) struct DotProduct;

// SAFETY: its table is only handed out on CPUs with `dotprod`.
unsafe impl Dot for DotProduct {
    const ROWS: usize = 4;

    #[inline(always)]
    fn add<C: Code, const R: usize>(
        codes: &[Quad],
        acts: &[ActBlock; R],
        first: usize,
        sums: &mut [Sums; R],
    ) {
        for (index, codes) in codes.as_chunks::<4>().0.iter().enumerate() {
            let acts = load(acts, first / 4 + index);
            for r in 0..R {
                for part in 0..4 {
                    let sum = &mut sums[r][part];
                    sdot::<0>(sum, codes[0][part], acts[r]);
                    sdot::<1>(sum, codes[1][part], acts[r]);
                    sdot::<2>(sum, codes[2][part], acts[r]);
                    sdot::<3>(sum, codes[3][part], acts[r]);
                }
            }
        }
    }
}

/// ARMv8.6 matrix products: `smmla` multiplies two rows' eight columns with those of two activation
/// rows. A single activation row has nothing to gain.
pub(super) struct MatrixProduct;

// SAFETY: its table is only handed out on CPUs with `i8mm` and `dotprod`.
unsafe impl Dot for MatrixProduct {
    const ROWS: usize = 4;

    #[inline(always)]
    fn add<C: Code, const R: usize>(
        codes: &[Quad],
        acts: &[ActBlock; R],
        first: usize,
        sums: &mut [Sums; R],
    ) {
        if R == 1 {
            return DotProduct::add::<C, R>(codes, acts, first, sums);
        }
        for (acts, sums) in acts.as_chunks::<2>().0.iter().zip(sums.as_chunks_mut::<2>().0) {
            // `[part][row pair]`, each `[row][activation row]`.
            let mut squares = [[zero(); 2]; 4];
            for (index, codes) in codes.as_chunks::<4>().0.iter().enumerate() {
                let [a, b] = load(acts, first / 4 + index);
                let acts = zip_eights(a, b);
                for part in 0..4 {
                    for pair in 0..2 {
                        let rows = zip_fours(codes[2 * pair][part], codes[2 * pair + 1][part]);
                        smmla(&mut squares[part][0], rows[0], acts[pair]);
                        smmla(&mut squares[part][1], rows[1], acts[pair]);
                    }
                }
            }
            for part in 0..4 {
                let [low, high] = squares[part];
                // SAFETY: NEON.
                unsafe {
                    sums[0][part] = vaddq_s32(sums[0][part], vuzp1q_s32(low, high));
                    sums[1][part] = vaddq_s32(sums[1][part], vuzp2q_s32(low, high));
                }
            }
        }
    }
}

#[inline(always)]
fn zero() -> int32x4_t {
    // SAFETY: NEON.
    unsafe { vdupq_n_s32(0) }
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

/// Two quads of four rows as eight columns of rows 0 and 1, and of rows 2 and 3.
#[inline(always)]
fn zip_fours(a: int8x16_t, b: int8x16_t) -> [int8x16_t; 2] {
    // SAFETY: NEON.
    unsafe {
        let (a, b) = (vreinterpretq_s32_s8(a), vreinterpretq_s32_s8(b));
        [vreinterpretq_s8_s32(vzip1q_s32(a, b)), vreinterpretq_s8_s32(vzip2q_s32(a, b))]
    }
}

/// Sixteen columns of two rows as twice eight columns of both.
#[inline(always)]
fn zip_eights(a: int8x16_t, b: int8x16_t) -> [int8x16_t; 2] {
    // SAFETY: NEON.
    unsafe {
        let (a, b) = (vreinterpretq_s64_s8(a), vreinterpretq_s64_s8(b));
        [vreinterpretq_s8_s64(vzip1q_s64(a, b)), vreinterpretq_s8_s64(vzip2q_s64(a, b))]
    }
}
