//! Sixteen floats at once: the vocabulary that attention, norms and activations are written in.
//!
//! The algorithms are written once over [`Lanes`] and compiled per instruction set. The portable
//! implementation is an array, which compilers turn into whatever vectors the target always has.
//!
//! Code over [`Lanes`] must be inlined, down to every intrinsic, into a function compiled for the
//! instruction set. Closures and adapters such as `map` are compiled on their own first, without
//! the instructions: write loops and `#[inline(always)]` functions.

/// Lanes of a vector.
pub const LANES: usize = 16;

/// The largest finite f16.
const HALF_MAX: f32 = 65504.0;

/// Sixteen f32 lanes.
///
/// # Safety
/// An implementation may use instructions that not every CPU has. Its methods must only be reached
/// from functions compiled for, and run on, a CPU that has them.
pub unsafe trait Lanes: Copy {
    /// How many of these the registers of the instruction set hold at once.
    const ROOM: usize;

    fn splat(x: f32) -> Self;
    fn load(x: &[f32; LANES]) -> Self;
    /// From the bits of f16 values.
    fn load_half(x: &[u16; LANES]) -> Self;
    fn to_array(self) -> [f32; LANES];
    /// As bits of f16 values, rounded to nearest even.
    fn to_half_array(self) -> [u16; LANES];
    /// The lowest byte of every lane's bits.
    fn to_low_bytes(self) -> [i8; LANES];
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    /// `self · factor + term`, rounded once or twice.
    fn mul_add(self, factor: Self, term: Self) -> Self;
    /// The larger one; `other` when either is NaN.
    fn max(self, other: Self) -> Self;
    /// The smaller one; `other` when either is NaN.
    fn min(self, other: Self) -> Self;
    fn abs(self) -> Self;
    /// Two to the power of `n`, given `self = n + 1.5 · 2^23` with integral `n` in −126..=127.
    fn power_of_two(self) -> Self;

    /// The sum of sixteen bytes.
    fn sum_of_bytes(bytes: &[i8; LANES]) -> i16;
    /// Adds lanes `i` and `i + 8`, then `i + 4`, `i + 2`, `i + 1`.
    fn sum(self) -> f32;
    fn largest(self) -> f32;

    /// Within `low..=high`; NaN stays NaN.
    #[inline(always)]
    fn limit(self, low: f32, high: f32) -> Self {
        Self::splat(high).min(Self::splat(low).max(self))
    }

    /// As f16 bits, values beyond its range saturated.
    #[inline(always)]
    fn to_half_saturated(self) -> [u16; LANES] {
        self.limit(-HALF_MAX, HALF_MAX).to_half_array()
    }

    /// Loads up to 16 values, the missing ones as `fill`.
    #[inline(always)]
    fn load_part(x: &[f32], fill: f32) -> Self {
        let mut padded = [fill; LANES];
        padded[..x.len()].copy_from_slice(x);
        Self::load(&padded)
    }

    /// e^x with a relative error below 3e-7; `x` is clamped to −87.3..=88.3, NaN stays NaN.
    #[inline(always)]
    fn exp(self) -> Self {
        const SHIFT: f32 = 12_582_912.0;
        /// The upper bits of ln 2 (products with small integers are exact) and the rest.
        const LN2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
        /// Taylor coefficients of e^r: with |r| ≤ ln 2 / 2 the next term is below 1.3e-7.
        const TERMS: [f32; 6] = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0];
        let x = self.limit(-87.3, 88.3);
        let shifted = x.mul_add(Self::splat(std::f32::consts::LOG2_E), Self::splat(SHIFT));
        let n = shifted.sub(Self::splat(SHIFT));
        let r = n.mul_add(Self::splat(-LN2[0]), x);
        let r = n.mul_add(Self::splat(-LN2[1]), r);
        let mut sum = Self::splat(TERMS[0]);
        for term in &TERMS[1..] {
            sum = sum.mul_add(r, Self::splat(*term));
        }
        sum.mul_add(r, Self::splat(1.0)).mul(shifted.power_of_two())
    }
}

/// Lanes as a plain array: right everywhere.
#[derive(Clone, Copy)]
pub struct Array([f32; LANES]);

// SAFETY: needs no special instructions.
unsafe impl Lanes for Array {
    const ROOM: usize = 8;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        Array([x; LANES])
    }

    #[inline(always)]
    fn load(x: &[f32; LANES]) -> Self {
        Array(*x)
    }

    #[inline(always)]
    fn load_half(x: &[u16; LANES]) -> Self {
        let mut out = [0.0; LANES];
        for i in 0..LANES {
            out[i] = half_to_float(x[i]);
        }
        Array(out)
    }

    #[inline(always)]
    fn to_array(self) -> [f32; LANES] {
        self.0
    }

    #[inline(always)]
    fn to_half_array(self) -> [u16; LANES] {
        let mut out = [0; LANES];
        for i in 0..LANES {
            out[i] = half::f16::from_f32_const(self.0[i]).to_bits();
        }
        out
    }

    #[inline(always)]
    fn to_low_bytes(self) -> [i8; LANES] {
        let mut out = [0; LANES];
        for i in 0..LANES {
            out[i] = self.0[i].to_bits() as i8;
        }
        out
    }

    #[inline(always)]
    fn sum_of_bytes(bytes: &[i8; LANES]) -> i16 {
        let mut sum = 0;
        for byte in bytes {
            sum += i16::from(*byte);
        }
        sum
    }

    #[inline(always)]
    fn add(mut self, other: Self) -> Self {
        for i in 0..LANES {
            self.0[i] += other.0[i];
        }
        self
    }

    #[inline(always)]
    fn sub(mut self, other: Self) -> Self {
        for i in 0..LANES {
            self.0[i] -= other.0[i];
        }
        self
    }

    #[inline(always)]
    fn mul(mut self, other: Self) -> Self {
        for i in 0..LANES {
            self.0[i] *= other.0[i];
        }
        self
    }

    #[inline(always)]
    fn div(mut self, other: Self) -> Self {
        for i in 0..LANES {
            self.0[i] /= other.0[i];
        }
        self
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        self.mul(factor).add(term)
    }

    #[inline(always)]
    fn max(mut self, other: Self) -> Self {
        for i in 0..LANES {
            self.0[i] = if self.0[i] > other.0[i] { self.0[i] } else { other.0[i] };
        }
        self
    }

    #[inline(always)]
    fn min(mut self, other: Self) -> Self {
        for i in 0..LANES {
            self.0[i] = if self.0[i] < other.0[i] { self.0[i] } else { other.0[i] };
        }
        self
    }

    #[inline(always)]
    fn abs(mut self) -> Self {
        for i in 0..LANES {
            self.0[i] = self.0[i].abs();
        }
        self
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        let mut x = self.0;
        for width in [8, 4, 2, 1] {
            for i in 0..width {
                x[i] += x[i + width];
            }
        }
        x[0]
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        let mut x = self.0;
        for width in [8, 4, 2, 1] {
            for i in 0..width {
                x[i] = if x[i] > x[i + width] { x[i] } else { x[i + width] };
            }
        }
        x[0]
    }

    #[inline(always)]
    fn power_of_two(mut self) -> Self {
        for i in 0..LANES {
            self.0[i] = f32::from_bits((self.0[i].to_bits() << 23).wrapping_add(0x3F80_0000));
        }
        self
    }
}

/// f16 to f32 without branches or tables, so that it can be vectorised.
#[inline(always)]
fn half_to_float(bits: u16) -> f32 {
    /// 2^112: the difference of the exponents' biases; the product also normalises subnormals.
    const REBIAS: f32 = f32::from_bits(239 << 23);
    let sign = u32::from(bits & 0x8000) << 16;
    let magnitude = f32::from_bits(u32::from(bits & 0x7FFF) << 13) * REBIAS;
    let special = if bits & 0x7C00 == 0x7C00 { 0x7F80_0000 } else { 0 };
    f32::from_bits(magnitude.to_bits() | special | sign)
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    #[test]
    fn every_half_converts_like_the_reference() {
        for bits in 0..=u16::MAX {
            let (got, want) = (half_to_float(bits), f16::from_bits(bits).to_f32());
            assert!(got == want || (got.is_nan() && want.is_nan()), "{bits:#x}: {got} {want}");
        }
    }

    #[test]
    fn the_exponential_is_accurate_between_its_clamps() {
        for i in -8730..=8830 {
            let x = i as f32 / 100.0;
            let got = f64::from(Array::splat(x).exp().to_array()[0]);
            let want = f64::from(x).exp();
            assert!((got / want - 1.0).abs() < 3e-7, "e^{x}: {got} {want}");
        }
        let ends = [f32::NEG_INFINITY, -100.0, 0.0, 100.0].map(|x| Array::splat(x).exp().0[0]);
        assert!(ends[0] == ends[1] && ends[1] < 1.3e-38 && ends[2] == 1.0 && ends[3].is_finite());
        assert!(Array::splat(f32::NAN).exp().0[0].is_nan());
    }
}
