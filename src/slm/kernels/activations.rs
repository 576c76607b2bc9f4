//! The right-hand side of a matmul: rows of activations, as floats and as 8-bit blocks.

use super::format::{BLOCK, GROUP};
use super::lanes::{LANES, Lanes};
use crate::error::{Error, Result};

/// Most rows that a kernel multiplies with one pass over a tile.
pub(super) const PANEL_ROWS: usize = 16;

/// Added to a small float it leaves the nearest integer (ties to even) in the low bits.
const ROUND: f32 = 12_582_912.0;

/// `rows × cols` activations, kept for reuse from one matmul to the next.
///
/// Quantised weights use the 8-bit form: per 32 columns `x ≈ scale · code`, codes −127 to 127.
/// Rows are grouped in *panels* of 16, 8, 4, 2 or 1 rows; within a panel all rows of a block lie
/// together, so that a kernel walks through memory once.
#[derive(Debug, Clone, Default)]
pub struct Activations {
    rows: usize,
    cols: usize,
    /// Blocks per row, padded with zeros to rest groups.
    blocks: usize,
    values: Vec<f32>,
    codes: Vec<[i8; BLOCK]>,
    scales: Vec<f32>,
    sums: Vec<[i32; 2]>,
    offsets: Vec<f32>,
}

/// Up to 16 rows; every slice is `[block][row]`.
#[derive(Clone, Copy)]
pub(super) struct Panel<'a> {
    pub first: usize,
    pub rows: usize,
    pub codes: &'a [[i8; BLOCK]],
    pub scales: &'a [f32],
    /// The codes' sums over each half block, negated: times the weights' zero point they are what an
    /// accumulator of unsigned codes starts from.
    pub sums: &'a [[i32; 2]],
    /// Scale times the block's sum: what a weight's `min` is multiplied with.
    pub offsets: &'a [f32],
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

    /// Row-major floats, exactly as loaded.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    pub(super) fn panels(&self) -> impl Iterator<Item = Panel<'_>> {
        let mut next = 0;
        std::iter::from_fn(move || {
            let rows = panel_rows(self.rows - next)?;
            let range = next * self.blocks..(next + rows) * self.blocks;
            let panel = Panel {
                first: next,
                rows,
                codes: &self.codes[range.clone()],
                scales: &self.scales[range.clone()],
                sums: &self.sums[range.clone()],
                offsets: &self.offsets[range],
            };
            next += rows;
            Some(panel)
        })
    }

    /// Sizes the buffers for `x` and keeps a copy of it.
    pub(super) fn resize(&mut self, x: &[f32], cols: usize) -> Result<()> {
        if cols == 0 || x.is_empty() || !x.len().is_multiple_of(cols) {
            return Err(Error::InvalidArgument(format!(
                "{} activations are not rows of {cols}",
                x.len()
            )));
        }
        self.rows = x.len() / cols;
        self.cols = cols;
        self.blocks = cols.div_ceil(GROUP) * 2;
        self.values.clear();
        self.values.extend_from_slice(x);
        let count = self.rows * self.blocks;
        self.codes.resize(count, [0; BLOCK]);
        self.scales.resize(count, 0.0);
        self.sums.resize(count, [0; 2]);
        self.offsets.resize(count, 0.0);
        Ok(())
    }
}

/// How many of `left` rows go into the next panel: the sizes the kernels are compiled for.
fn panel_rows(left: usize) -> Option<usize> {
    [PANEL_ROWS, 8, 4, 2, 1].into_iter().find(|&rows| rows <= left)
}

/// Fills the 8-bit form from the float rows.
#[inline(always)]
pub(super) fn quantise<L: Lanes>(acts: &mut Activations) {
    let (cols, blocks) = (acts.cols, acts.blocks);
    let mut first = 0;
    while let Some(rows) = panel_rows(acts.rows - first) {
        for row in 0..rows {
            let values = &acts.values[(first + row) * cols..][..cols];
            for block in 0..blocks {
                let at = first * blocks + block * rows + row;
                let (codes, scale, sums) = quantise_block::<L>(values, block * BLOCK);
                acts.codes[at] = codes;
                acts.scales[at] = scale;
                acts.sums[at] = [-sums[0], -sums[1]];
                acts.offsets[at] = scale * (sums[0] + sums[1]) as f32;
            }
        }
        first += rows;
    }
}

#[inline(always)]
fn quantise_block<L: Lanes>(row: &[f32], start: usize) -> ([i8; BLOCK], f32, [i32; 2]) {
    let rest = row.get(start..).unwrap_or(&[]);
    let [low, high] = match rest.as_chunks::<LANES>().0 {
        [low, high, ..] => [L::load(low), L::load(high)],
        _ => {
            let (low, high) = rest.split_at(rest.len().min(LANES));
            [L::load_part(low, 0.0), L::load_part(high, 0.0)]
        }
    };
    let largest = low.abs().max(high.abs()).largest();
    let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    let mut codes = [0; BLOCK];
    let mut sums = [0; 2];
    for (half, x) in [low, high].into_iter().enumerate() {
        let shifted = x.mul(L::splat(inverse)).add(L::splat(ROUND)).to_array();
        for (i, x) in shifted.into_iter().enumerate() {
            let code = x.to_bits() as u8 as i8;
            codes[half * 16 + i] = code;
            sums[half] += i32::from(code);
        }
    }
    (codes, largest / 127.0, sums)
}
