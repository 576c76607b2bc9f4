//! The right-hand side of a matmul: rows of activations, as floats and as 8-bit blocks.

use std::ops::Range;

use super::format::{BLOCK, GROUP};
use super::lanes::{LANES, Lanes};
use super::parts::Parts;
use crate::error::{Error, Result};

/// Most rows that a kernel multiplies with one pass over a tile.
pub(super) const PANEL_ROWS: usize = 16;

/// 1.5 · 2^23: added to a small float it leaves the nearest integer (ties to even) in the low bits.
/// And an integer under 2^22 added to its bits makes the float that is larger by the integer.
pub(super) const ROUND: f32 = 12_582_912.0;

/// 32 activations of one row: `x ≈ scale · code`, codes −127 to 127.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(16))]
pub(super) struct ActBlock {
    /// First, so that assembly finds them.
    pub codes: [i8; BLOCK],
    pub scale: f32,
    /// Scale times the sum of the codes: what a weight's `min` is multiplied with.
    pub offset: f32,
    /// The bits of [`ROUND`] and eight times `negated`: what an accumulator of 4-bit codes starts
    /// from, so that in the end it is a float's bits.
    pub start: i32,
    /// The codes' sum, negated: times the weights' zero point it is what an accumulator of unsigned
    /// codes starts from.
    pub negated: i16,
    /// The same for the first 16 codes alone.
    pub negated_low: i16,
}

/// `rows × cols` activations, kept for reuse from one matmul to the next.
///
/// Quantised weights use the 8-bit blocks; float weights the floats, which are kept on demand. Rows
/// are grouped in *panels* of 16, 8, 4, 2 or 1 rows; within a panel all rows of a block lie
/// together, so that a kernel walks through memory once.
#[derive(Debug, Clone, Default)]
pub struct Activations {
    rows: usize,
    cols: usize,
    /// Blocks per row, padded with zeros to whole groups.
    blocks_per_row: usize,
    values: Vec<f32>,
    blocks: Vec<ActBlock>,
}

/// The float rows alone, with the sizes of the 8-bit form.
pub(super) struct Floats<'a> {
    rows: usize,
    pub cols: usize,
    blocks_per_row: usize,
    values: &'a [f32],
}

impl Floats<'_> {
    /// Runs of 16 rows, which quantising can be split into; the last one may be short.
    pub fn runs(&self) -> usize {
        self.rows.div_ceil(PANEL_ROWS)
    }
}

/// Up to 16 rows.
#[derive(Clone, Copy)]
pub(super) struct Panel<'a> {
    pub first: usize,
    pub rows: usize,
    /// `[block][row]`
    pub blocks: &'a [ActBlock],
}

impl Activations {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Row-major floats, exactly as kept; none unless they are.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Copies the floats that were quantised last, for float weights. Fails when `x` is not as
    /// many.
    pub fn keep_floats(&mut self, x: &[f32]) -> Result<()> {
        if x.len() != self.rows * self.cols {
            return Err(Error::InvalidArgument(format!(
                "{} floats for {} x {} activations",
                x.len(),
                self.rows,
                self.cols
            )));
        }
        self.values.extend_from_slice(x);
        Ok(())
    }

    #[inline(always)]
    pub(super) fn panels(&self) -> impl Iterator<Item = Panel<'_>> {
        let mut next = 0;
        std::iter::from_fn(move || {
            let (first, rows) = (next, panel_rows(self.rows - next)?);
            next += rows;
            let range = first * self.blocks_per_row..next * self.blocks_per_row;
            Some(Panel { first, rows, blocks: &self.blocks[range] })
        })
    }

    /// What is quantised, and where to.
    pub(super) fn prepare<'a>(
        &'a mut self,
        x: &'a [f32],
        cols: usize,
    ) -> Result<(Floats<'a>, Parts<'a, ActBlock>)> {
        if cols == 0 || x.is_empty() || !x.len().is_multiple_of(cols) {
            return Err(Error::InvalidArgument(format!(
                "{} activations are not rows of {cols}",
                x.len()
            )));
        }
        self.rows = x.len() / cols;
        self.cols = cols;
        self.blocks_per_row = cols.div_ceil(GROUP) * 2;
        self.values.clear();
        self.blocks.resize(self.rows * self.blocks_per_row, ActBlock::default());
        let (rows, blocks_per_row) = (self.rows, self.blocks_per_row);
        Ok((Floats { rows, cols, blocks_per_row, values: x }, Parts::new(&mut self.blocks)))
    }
}

/// How many of `left` rows go into the next panel: the sizes the kernels are compiled for.
fn panel_rows(left: usize) -> Option<usize> {
    Some(PANEL_ROWS.min(1 << left.checked_ilog2()?))
}

/// Makes the 8-bit form of some runs of 16 rows.
///
/// # Safety
/// No other call uses the same runs of `out` at the same time.
#[inline(always)]
pub(super) unsafe fn quantise<L: Lanes>(x: &Floats, runs: Range<usize>, out: &Parts<ActBlock>) {
    let (cols, blocks) = (x.cols, x.blocks_per_row);
    let end = x.rows.min(runs.end * PANEL_ROWS);
    let mut first = runs.start * PANEL_ROWS;
    while let Some(rows) = panel_rows(end - first) {
        // SAFETY: the caller gave these rows to this call alone.
        let panel = unsafe { out.get(first * blocks..(first + rows) * blocks) };
        for row in 0..rows {
            let values = &x.values[(first + row) * cols..][..cols];
            for block in 0..blocks {
                let rest = values.get(block * BLOCK..).unwrap_or(&[]);
                panel[block * rows + row] = quantise_block::<L>(rest);
            }
        }
        first += rows;
    }
}

/// Quantises the next 32 values, missing ones as zeros.
#[inline(always)]
fn quantise_block<L: Lanes>(rest: &[f32]) -> ActBlock {
    let [low, high] = match rest.as_chunks::<LANES>().0 {
        [low, high, ..] => [L::load(low), L::load(high)],
        _ => {
            let (low, high) = rest.split_at(rest.len().min(LANES));
            [L::load_part(low, 0.0), L::load_part(high, 0.0)]
        }
    };
    let largest = low.abs().max(high.abs()).largest();
    let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    let (factor, shift) = (L::splat(inverse), L::splat(ROUND));
    let (low, high) = (low.mul(factor).add(shift), high.mul(factor).add(shift));
    let halves = [low.to_low_bytes(), high.to_low_bytes()];
    let low_sum = L::sum_of_bytes(&halves[0]);
    let sum = low_sum + L::sum_of_bytes(&halves[1]);
    let mut codes = [0; BLOCK];
    codes.copy_from_slice(halves.as_flattened());
    let scale = largest / 127.0;
    ActBlock {
        codes,
        scale,
        offset: scale * f32::from(sum),
        start: ROUND.to_bits() as i32 - 8 * i32::from(sum),
        negated: -sum,
        negated_low: -low_sum,
    }
}
