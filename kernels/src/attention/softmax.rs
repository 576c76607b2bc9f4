//! The running softmax, and how the sums of two runs of positions are joined.

use std::ops::Range;

use crate::elementwise::{exp_minus_of, largest_of};
use crate::lanes::{LANES, Lanes};

/// What one query has summed up over some positions.
#[derive(Default)]
pub struct Partial {
    pub softmax: Running,
    /// `[value dimension]`, relative to the largest score.
    pub sums: Vec<f32>,
}

impl Partial {
    #[inline(always)]
    pub fn begin(&mut self, softmax: &Running, sums: &[f32]) {
        self.softmax = *softmax;
        self.sums.clear();
        self.sums.extend_from_slice(sums);
    }

    /// Adds what later positions gave.
    #[inline(always)]
    pub fn join(&mut self, later: &Running, sums: &[f32]) {
        // The query sees none of them.
        if later.sum == 0.0 {
            return;
        }
        let max = self.softmax.max.max(later.max);
        let (before, after) = ((self.softmax.max - max).exp(), (later.max - max).exp());
        self.softmax = Running { max, sum: self.softmax.sum * before + later.sum * after };
        for (total, sum) in self.sums.iter_mut().zip(sums) {
            *total = *total * before + sum * after;
        }
    }
}

/// A softmax over chunks: the largest score so far and the sum of exponentials relative to it.
#[derive(Clone, Copy)]
pub struct Running {
    max: f32,
    pub sum: f32,
}

impl Default for Running {
    fn default() -> Self {
        Running { max: f32::NEG_INFINITY, sum: 0.0 }
    }
}

impl Running {
    /// Turns the `visible` scores into weights and the others into zeros; `scores` are whole
    /// vectors. Returns the factor for all that was summed before.
    #[inline(always)]
    pub fn add<L: Lanes>(&mut self, scores: &mut [f32], visible: Range<usize>) -> f32 {
        let visible = visible.start..visible.end.min(scores.len());
        if visible.is_empty() {
            scores.fill(0.0);
            return 1.0;
        }
        scores[..visible.start].fill(f32::NEG_INFINITY);
        scores[visible.end..].fill(f32::NEG_INFINITY);
        let scores = scores.as_chunks_mut::<LANES>().0;
        let max = largest_of::<L>(scores).max(self.max);
        let factor = (self.max - max).exp();
        self.sum = self.sum * factor + exp_minus_of::<L>(scores, max);
        self.max = max;
        factor
    }
}
