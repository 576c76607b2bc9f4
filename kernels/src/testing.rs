//! What the kernels' tests share: random matrices, their exact values, and reading a packed row
//! back.

use half::f16;
use proptest::prelude::*;

use super::aligned::Aligned;
use super::format::{BLOCK, Format, GROUP, TILE_ROWS};
use super::matrix::{Matrix, code_at};
use super::pack::{RowBuffer, pack_matrix};

/// Any format with 1 to `max_rows` rows of 1 to `max_blocks` blocks.
pub fn matrix_rows(
    max_rows: usize,
    max_blocks: usize,
) -> impl Strategy<Value = (Format, Vec<RowBuffer>)> {
    (0..Format::ALL.len(), 1..=max_rows, 1..=max_blocks, any::<u64>()).prop_map(
        |(format, rows, blocks, seed)| {
            let format = Format::ALL[format];
            (format, random_rows(format, rows, blocks * BLOCK, seed))
        },
    )
}

/// Rows with codes over the whole range, extremes included, and scales over four decades.
pub fn random_rows(format: Format, rows: usize, cols: usize, seed: u64) -> Vec<RowBuffer> {
    let mut random = Random(seed);
    (0..rows).map(|_| random_row(format, cols, &mut random)).collect()
}

fn random_row(format: Format, cols: usize, random: &mut Random) -> RowBuffer {
    if !format.is_quantised() {
        let values = (0..cols).map(|_| f16::from_f32(random.signed()).to_f32()).collect();
        return RowBuffer { values, ..RowBuffer::default() };
    }
    let limit = (1u64 << format.code_bits()) - 1;
    let scales = cols / BLOCK * format.scales_per_block();
    let mins = if format.has_mins() { cols / BLOCK } else { 0 };
    let extreme = random.below(4) == 0;
    let mut code = || match extreme {
        true => random.below(2) * limit,
        false => random.below(limit + 1),
    };
    let codes = (0..cols).map(|_| code() as u8).collect();
    let mut scale = |_| f16::from_f32(random.signed() * 10f32.powi(-(random.below(4) as i32)));
    RowBuffer {
        values: vec![],
        codes,
        scales: (0..scales).map(&mut scale).collect(),
        mins: (0..mins).map(&mut scale).collect(),
    }
}

pub fn cols(rows: &[RowBuffer]) -> usize {
    rows[0].values.len().max(rows[0].codes.len())
}

pub fn pack(format: Format, rows: &[RowBuffer]) -> Aligned<u8> {
    let mut out = Vec::new();
    let mut source = |r: usize, buffer: &mut RowBuffer| {
        *buffer = rows[r].clone();
        Ok::<_, crate::Error>(())
    };
    pack_matrix(format, rows.len(), cols(rows), &mut source, &mut out).unwrap();
    Aligned::from_slice(&out)
}

/// What a row means, in f64.
pub fn row_values(format: Format, row: &RowBuffer) -> Vec<f64> {
    if !format.is_quantised() {
        return row.values.iter().map(|&v| f64::from(v)).collect();
    }
    let width = BLOCK / format.scales_per_block();
    let value = |(col, code): (usize, &u8)| {
        let min = row.mins.get(col / width).map_or(0.0, |m| m.to_f64());
        row.scales[col / width].to_f64() * f64::from(format.value(*code)) + min
    };
    row.codes.iter().enumerate().map(value).collect()
}

/// The inverse of packing: reads a row back out of the layout.
pub fn unpack_row(matrix: &Matrix, row: usize) -> RowBuffer {
    let (format, cols) = (matrix.format(), matrix.cols());
    let mut out = RowBuffer::default();
    if !format.is_quantised() {
        out.values = vec![0.0; cols];
        matrix.dequantise_row(row, &mut out.values).unwrap();
        return out;
    }
    let (tile, lane) = (matrix.tile(row / TILE_ROWS), row % TILE_ROWS);
    let group = |col: usize| &tile[col / GROUP * format.group_bytes()..][..format.group_bytes()];
    out.codes = (0..cols).map(|col| code_at(format, group(col), lane, col % GROUP)).collect();
    let halves = |offset: usize, per_group: usize, count: usize| {
        let read = |i: usize| {
            let group = &group(i / per_group * GROUP)[offset..];
            let at = 2 * (i % per_group * TILE_ROWS + lane);
            f16::from_le_bytes([group[at], group[at + 1]])
        };
        (0..count).map(read).collect()
    };
    let per_block = format.scales_per_block();
    out.scales = halves(0, 2 * per_block, cols / BLOCK * per_block);
    if format.has_mins() {
        out.mins = halves(format.scales_bytes(), 2, cols / BLOCK);
    }
    out
}

/// A small generator (SplitMix64): the same seed gives the same test data.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Between -1 and 1.
    pub fn signed(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}
