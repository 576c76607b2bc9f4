//! Rotary position embedding, NEOX order: dimension `i` turns together with `i + dims / 2`.

use crate::error::{Error, Result};

/// Positions have this many digits...
const DIGITS: usize = 3;
/// ...in this base.
const BASE: usize = 64;

/// The angles of every position, as sines and cosines.
///
/// Pair `i` of position `p` turns by `p · base^(−2i / dims) / factor[i]`. A table of all positions
/// would be large and computing sines per token slow, so the table holds the three base-64 digits
/// of a position, combined by the addition theorems in f64: exact to the last bit of the f32
/// result.
#[derive(Debug, Clone)]
pub struct Rope {
    pairs: usize,
    /// `[digit's place][digit][pair]`: cosine and sine.
    turns: Vec<[f64; 2]>,
}

impl Rope {
    /// Positions must be below this.
    pub const POSITIONS: usize = BASE.pow(DIGITS as u32);

    /// `dims`: how many leading dimensions of a head turn, even; 0 for a layer without RoPE.
    /// `factors`: divisors of the frequencies, `dims / 2` of them, none for plain RoPE.
    pub fn new(dims: usize, base: f32, factors: Option<&[f32]>) -> Result<Rope> {
        let pairs = dims / 2;
        if !(dims.is_multiple_of(2) && base.is_finite() && base > 0.0) {
            return Err(Error::Model(format!("RoPE over {dims} dimensions with base {base}")));
        }
        let usable = |f: &[f32]| f.len() == pairs && f.iter().all(|f| f.is_finite() && *f > 0.0);
        if factors.is_some_and(|f| !usable(f)) {
            return Err(Error::Model(format!("RoPE needs {pairs} positive frequency factors")));
        }
        let frequency = |pair: usize| {
            let exponent = -2.0 * pair as f64 / dims as f64;
            f64::from(base).powf(exponent) / factors.map_or(1.0, |f| f64::from(f[pair]))
        };
        let frequencies: Vec<f64> = (0..pairs).map(frequency).collect();
        let mut turns = Vec::with_capacity(DIGITS * BASE * pairs);
        for place in 0..DIGITS as u32 {
            for digit in 0..BASE {
                let position = (digit * BASE.pow(place)) as f64;
                turns.extend(frequencies.iter().map(|f| {
                    let (sin, cos) = (position * f).sin_cos();
                    [cos, sin]
                }));
            }
        }
        Ok(Rope { pairs, turns })
    }

    /// What turns is also made longer by a factor, as YaRN and LongRoPE do.
    pub fn lengthened(mut self, factor: f32) -> Result<Rope> {
        if !(factor.is_finite() && factor > 0.0) {
            return Err(Error::Model(format!("RoPE that lengthens by {factor}")));
        }
        // Digits are multiplied with each other, so one of them is enough.
        for turn in self.turns.iter_mut().take(BASE * self.pairs).flatten() {
            *turn *= f64::from(factor);
        }
        Ok(self)
    }

    /// Dimensions that turn.
    pub fn dims(&self) -> usize {
        2 * self.pairs
    }

    /// Appends the cosines of all pairs at a position, then the sines.
    pub(super) fn push_angles(&self, position: usize, out: &mut Vec<f32>) {
        debug_assert!(position < Self::POSITIONS);
        let digits: [&[[f64; 2]]; DIGITS] = std::array::from_fn(|place| {
            let digit = position / BASE.pow(place as u32) % BASE;
            &self.turns[(place * BASE + digit) * self.pairs..][..self.pairs]
        });
        let start = out.len();
        out.resize(start + 2 * self.pairs, 0.0);
        let (cos, sin) = out[start..].split_at_mut(self.pairs);
        for pair in 0..self.pairs {
            let turn = digits[1..].iter().fold(digits[0][pair], |a, digit| {
                let b = digit[pair];
                [a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]]
            });
            (cos[pair], sin[pair]) = (turn[0] as f32, turn[1] as f32);
        }
    }

    /// Turns one head: `head` is only read, `out` is as long.
    #[inline(always)]
    pub(super) fn turn(&self, angles: &[f32], head: &[f32], out: &mut [f32]) {
        let (cos, sin) = angles.split_at(self.pairs);
        out.copy_from_slice(head);
        let (low, high) = out[..2 * self.pairs].split_at_mut(self.pairs);
        for (((low, high), cos), sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
            (*low, *high) = (*low * cos - *high * sin, *high * cos + *low * sin);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn angles_are_exact_at_every_distance() {
        let factors: Vec<f32> = (0..32).map(|i| 1.0 + i as f32 / 4.0).collect();
        for factors in [None, Some(factors.as_slice())] {
            let rope = Rope::new(64, 1_000_000.0, factors).unwrap();
            for position in [0, 1, 63, 64, 4095, 4096, 32767, Rope::POSITIONS - 1] {
                let mut angles = Vec::new();
                rope.push_angles(position, &mut angles);
                for pair in 0..32 {
                    let frequency = 1e6f64.powf(-(pair as f64) / 32.0);
                    let factor = factors.map_or(1.0, |f| f64::from(f[pair]));
                    let (sin, cos) = (position as f64 * frequency / factor).sin_cos();
                    assert!((f64::from(angles[pair]) - cos).abs() < 1e-7, "{position} {pair}");
                    assert!((f64::from(angles[32 + pair]) - sin).abs() < 1e-7);
                }
            }
        }
    }

    #[test]
    fn pairs_turn_and_the_rest_stays() {
        let rope = Rope::new(4, 100.0, None).unwrap();
        let mut angles = Vec::new();
        rope.push_angles(3, &mut angles);
        let mut out = [0.0; 6];
        rope.turn(&angles, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &mut out);
        let (s0, c0, s1, c1) = (3f32.sin(), 3f32.cos(), 0.3f32.sin(), 0.3f32.cos());
        let want =
            [c0 - 3.0 * s0, 2.0 * c1 - 4.0 * s1, 3.0 * c0 + s0, 4.0 * c1 + 2.0 * s1, 5.0, 6.0];
        out.iter().zip(want).for_each(|(o, w)| assert!((o - w).abs() < 1e-5, "{out:?} {want:?}"));
    }

    #[test]
    fn what_turns_can_be_lengthened_and_nothing_need_turn() {
        let rope = Rope::new(2, 100.0, None).unwrap().lengthened(1.5).unwrap();
        let mut angles = Vec::new();
        rope.push_angles(4097, &mut angles);
        let mut out = [0.0; 3];
        rope.turn(&angles, &[2.0, 0.0, 7.0], &mut out);
        let (sin, cos) = 4097f32.sin_cos();
        let want = [3.0 * cos, 3.0 * sin, 7.0];
        out.iter().zip(want).for_each(|(o, w)| assert!((o - w).abs() < 1e-5, "{out:?} {want:?}"));

        let none = Rope::new(0, 100.0, None).unwrap();
        none.push_angles(5, &mut vec![]);
        none.turn(&[], &[1.0, 2.0, 3.0], &mut out);
        assert_eq!((none.dims(), out), (0, [1.0, 2.0, 3.0]));
    }

    #[test]
    fn senseless_parameters_are_errors() {
        assert!(Rope::new(7, 10000.0, None).is_err());
        assert!(Rope::new(8, -1.0, None).is_err());
        assert!(Rope::new(8, f32::NAN, None).is_err());
        assert!(Rope::new(8, 10000.0, Some(&[1.0; 3])).is_err());
        assert!(Rope::new(8, 10000.0, Some(&[0.0; 4])).is_err());
        assert!(Rope::new(8, 10000.0, None).unwrap().lengthened(0.0).is_err());
        assert!(Rope::new(8, 10000.0, None).unwrap().lengthened(f32::INFINITY).is_err());
    }
}
