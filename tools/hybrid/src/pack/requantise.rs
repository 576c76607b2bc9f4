//! `--bits 4`: matrices in fewer bits than the source has them, for boards with less memory.

use anyhow::Result;
use half::f16;
use hybrid::slm::kernels::format::BLOCK;
use hybrid::slm::kernels::{Format, RowBuffer};
use hybrid_common::interrupt;

use super::plan::{Matrix, Plan};

/// What becomes of the source's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bits {
    /// They are kept exactly.
    AsTheyAre,
    /// What has more than 4 bits gets 4, a scale and a minimum per 32 columns.
    Four,
}

impl Bits {
    /// The format that a matrix is packed in.
    pub fn format(self, matrix: &Matrix) -> Format {
        match (self, matrix.tensor.kind.format()) {
            // Without minimums (4.5 bits instead of 5) SmolLM2's perplexity grew by a third.
            (Bits::Four, format) if format.code_bits() > 4 && fits_blocks(matrix) => Format::Q4M,
            (_, format) => format,
        }
    }

    /// Why a matrix keeps its type though it has more bits than were asked for.
    pub fn exception(self, matrix: &Matrix) -> Option<String> {
        let bits = matrix.tensor.kind.format().code_bits();
        (self == Bits::Four && bits > 4 && !fits_blocks(matrix)).then(|| {
            format!(
                "{} stays {}: its {} columns are not a multiple of {BLOCK}",
                matrix.name,
                matrix.tensor.kind.name(),
                matrix.tensor.cols
            )
        })
    }

    /// Row `row` of a matrix in its packed format.
    pub fn row(
        self,
        matrix: &Matrix,
        file: &[u8],
        row: usize,
        buffer: &mut RowBuffer,
    ) -> Result<()> {
        interrupt::check()?;
        let from = matrix.tensor.kind.format();
        let row = matrix.order.source_row(row);
        if self.format(matrix) == from {
            return matrix.tensor.decode_row(file, row, buffer);
        }
        for block in values(matrix, file, row)?.as_chunks().0 {
            let block = quantise(block, 4);
            buffer.scales.push(block.scale);
            buffer.mins.push(block.min);
            buffer.codes.extend(block.codes);
        }
        Ok(())
    }
}

/// Quantised formats have a scale per block of columns.
fn fits_blocks(matrix: &Matrix) -> bool {
    matrix.tensor.cols.is_multiple_of(BLOCK)
}

/// Makes the output matrix the embedding's where the file has it twice, each time with other bits:
/// the finer one stands for both.
pub fn tie(plan: &mut Plan, file: &[u8]) -> Result<()> {
    let [output] = plan.output.matrices.as_slice() else { return Ok(()) };
    let bits = |matrix: &Matrix| matrix.tensor.kind.format().code_bits();
    if output.name != plan.embedding.name && are_alike(output, &plan.embedding, file)? {
        if bits(output) > bits(&plan.embedding) {
            plan.embedding.tensor = output.tensor.clone();
        }
        plan.output.matrices = vec![plan.embedding.clone()];
    }
    Ok(())
}

/// Whether two matrices differ by no more than rounding to 4 bits makes them.
fn are_alike(a: &Matrix, b: &Matrix, file: &[u8]) -> Result<bool> {
    /// Of the squares' sum; matrices that have nothing in common differ by 2.
    const ROUNDING: f64 = 0.05;
    if (a.tensor.rows, a.tensor.cols) != (b.tensor.rows, b.tensor.cols) {
        return Ok(false);
    }
    let (mut difference, mut size) = (0.0, 0.0);
    for row in 0..a.tensor.rows {
        interrupt::check()?;
        let (a, b) = (values(a, file, row)?, values(b, file, row)?);
        for (a, b) in a.iter().zip(b) {
            difference += f64::from((a - b).powi(2));
            size += f64::from(a * a);
        }
    }
    Ok(difference <= ROUNDING * size)
}

/// A row of the source.
pub fn values(matrix: &Matrix, file: &[u8], row: usize) -> Result<Vec<f32>> {
    let mut buffer = RowBuffer::default();
    matrix.tensor.decode_row(file, row, &mut buffer)?;
    let format = matrix.tensor.kind.format();
    if !format.is_quantised() {
        return Ok(buffer.values);
    }
    let columns = BLOCK / format.scales_per_block();
    let mut values = Vec::with_capacity(buffer.codes.len());
    for (block, codes) in buffer.codes.chunks(columns).enumerate() {
        let scale = buffer.scales[block].to_f32();
        let min = buffer.mins.get(block).map_or(0.0, |min| min.to_f32());
        values.extend(codes.iter().map(|&code| scale * format.value(code) as f32 + min));
    }
    Ok(values)
}

/// A block of [`Format::Q4M`] or [`Format::Q5M`]: `scale · code + min`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Block {
    pub scale: f16,
    pub min: f16,
    pub codes: [u8; BLOCK],
}

/// With about the least squared error. Tried are steps from one that is wider than the whole range
/// needs down to where both ends are cut off; each is replaced by the line that fits the codes it
/// gives best.
pub fn quantise(values: &[f32; BLOCK], bits: u32) -> Block {
    const TRIED: std::ops::RangeInclusive<i32> = -4..=20;
    let low = values.iter().copied().fold(f32::INFINITY, f32::min);
    let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut best = Block { scale: f16::ZERO, min: f16::from_f32(low), codes: [0; BLOCK] };
    let mut least = error(values, &best);
    if low == high {
        return best;
    }
    let (middle, largest) = ((low + high) / 2.0, ((1 << bits) - 1) as f32);
    for tried in TRIED {
        let step = (high - low) / (largest + largest / 60.0 * tried as f32);
        let start = middle - largest / 2.0 * step;
        let (scale, min) = fit(values, &codes(values, step, start, largest));
        let (scale, min) = (f16::from_f32(scale), f16::from_f32(min));
        let codes = codes(values, scale.to_f32(), min.to_f32(), largest).map(|code| code as u8);
        let block = Block { scale, min, codes };
        let error = error(values, &block);
        if error < least {
            (best, least) = (block, error);
        }
    }
    best
}

fn codes(values: &[f32; BLOCK], scale: f32, min: f32, largest: f32) -> [f32; BLOCK] {
    /// Added to a small float it leaves the nearest integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let inverse = 1.0 / scale;
    values.map(|value| ((value - min) * inverse).clamp(0.0, largest) + ROUND - ROUND)
}

/// Scale and minimum of the least squared error for some codes.
fn fit(values: &[f32; BLOCK], codes: &[f32; BLOCK]) -> (f32, f32) {
    let mean = |x: &[f32; BLOCK]| x.iter().sum::<f32>() / BLOCK as f32;
    let (value_mean, code_mean) = (mean(values), mean(codes));
    let (mut product, mut square) = (0.0, 0.0);
    for (value, code) in values.iter().zip(codes) {
        product += (value - value_mean) * (code - code_mean);
        square += (code - code_mean).powi(2);
    }
    let scale = product / square;
    (scale, value_mean - scale * code_mean)
}

/// The sum of squares.
fn error(values: &[f32; BLOCK], block: &Block) -> f32 {
    let (scale, min) = (block.scale.to_f32(), block.min.to_f32());
    let mut sum = 0.0;
    for (value, code) in values.iter().zip(&block.codes) {
        sum += (value - (scale * f32::from(*code) + min)).powi(2);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values as weights are spread, from a small generator.
    fn spread(seed: u32) -> [f32; BLOCK] {
        let mut state = seed;
        std::array::from_fn(|_| {
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 24) as f32 - 0.5
            };
            (next() + next() + next() + next()) * 0.05
        })
    }

    #[test]
    fn what_has_4_bits_comes_back() {
        for (scale, min) in [(0.25, -2.0), (3.0, 0.5), (0.125, -100.0)] {
            let values = std::array::from_fn(|i| scale * (i % 16) as f32 + min);
            let block = quantise(&values, 4);
            assert_eq!(error(&values, &block), 0.0, "{scale} {min} {block:?}");
        }
        for value in [0.0, 1e-9, 7.0, -0.25] {
            let values = [value; BLOCK];
            assert!(error(&values, &quantise(&values, 4)) <= 1e-13, "{value}");
        }
        // One value apart, and a range that is too small for an f16's step.
        for (other, limit) in [(1.0, 1e-6), (1e-9, 1e-16)] {
            let mut values = [0.0; BLOCK];
            values[7] = other;
            assert!(error(&values, &quantise(&values, 4)) <= limit, "{other}");
        }
    }

    /// Close to the best of a fine grid of scales and minimums, and better than the range's own.
    #[test]
    fn the_error_is_about_the_least() {
        let (mut ours, mut best, mut plain) = (0.0, 0.0, 0.0);
        for seed in 0..60 {
            let values = spread(seed);
            let low = values.iter().copied().fold(f32::INFINITY, f32::min);
            let step = (values.iter().copied().fold(f32::NEG_INFINITY, f32::max) - low) / 15.0;
            let with = |scale: f32, min: f32| {
                let codes = values.map(|value| ((value - min) / scale).round().clamp(0.0, 15.0));
                values.iter().zip(codes).map(|(v, c)| (v - scale * c - min).powi(2)).sum::<f32>()
            };
            ours += error(&values, &quantise(&values, 4));
            plain += with(step, low);
            let grid = (40..110).flat_map(|scale| (-10..60).map(move |min| (scale, min)));
            let errors = grid.map(|(scale, min)| {
                with(step * scale as f32 / 100.0, low + step * min as f32 / 20.0)
            });
            best += errors.fold(f32::INFINITY, f32::min);
        }
        assert!(ours < 1.15 * best, "{ours} where {best} can be had");
        assert!(ours < 0.9 * plain, "{ours} beside {plain}");
    }
}
