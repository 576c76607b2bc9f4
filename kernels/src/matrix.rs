//! A packed weight matrix in memory somebody else owns (usually a mapped file).

use half::f16;

use super::format::{ALIGN, BLOCK, Format, GROUP, TILE_ROWS};
use crate::error::{Error, Result};

/// A checked view of a packed matrix: see [`super::format`] for the layout.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    format: Format,
    rows: usize,
    cols: usize,
    bytes: &'a [u8],
}

impl<'a> Matrix<'a> {
    /// Fails when `bytes` is not exactly [`Format::packed_bytes`] long or not 64-byte aligned.
    pub fn new(format: Format, rows: usize, cols: usize, bytes: &'a [u8]) -> Result<Self> {
        let expected = format.packed_bytes(rows, cols)?;
        if bytes.len() != expected {
            return Err(Error::Weights(format!(
                "a {rows} x {cols} matrix in format {} has {} bytes instead of {expected}",
                format.name(),
                bytes.len()
            )));
        }
        if !(bytes.as_ptr() as usize).is_multiple_of(ALIGN) {
            return Err(Error::Weights("a weight matrix is not 64-byte aligned".into()));
        }
        Ok(Matrix { format, rows, cols, bytes })
    }

    pub fn format(&self) -> Format {
        self.format
    }

    /// Output features.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Input features.
    pub fn cols(&self) -> usize {
        self.cols
    }

    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Runs of 16 rows, the unit in which work can be split; the last one may be short.
    pub fn tiles(&self) -> usize {
        self.rows.div_ceil(TILE_ROWS)
    }

    /// Groups of 64 columns in a tile of a quantised format.
    pub(super) fn groups(&self) -> usize {
        self.cols.div_ceil(GROUP)
    }

    pub(super) fn tile(&self, tile: usize) -> &'a [u8] {
        let bytes = self.groups() * self.format.group_bytes();
        &self.bytes[tile * bytes..(tile + 1) * bytes]
    }

    /// Writes row `row` as `cols` floats. Fails when there is no such row or `out` is not `cols`
    /// long.
    pub fn dequantise_row(&self, row: usize, out: &mut [f32]) -> Result<()> {
        if row >= self.rows || out.len() != self.cols {
            return Err(Error::InvalidArgument(format!(
                "row {row} as {} values of a {} x {} matrix",
                out.len(),
                self.rows,
                self.cols
            )));
        }
        match self.format {
            Format::F32 => {
                let (values, _) = self.bytes[row * self.cols * 4..].as_chunks::<4>();
                out.iter_mut().zip(values).for_each(|(o, v)| *o = f32::from_le_bytes(*v));
            }
            Format::F16 => {
                let (values, _) = self.bytes[row * self.cols * 2..].as_chunks::<2>();
                out.iter_mut().zip(values).for_each(|(o, v)| *o = f16::from_le_bytes(*v).to_f32());
            }
            _ => self.dequantise_codes(row, out),
        }
        Ok(())
    }

    fn dequantise_codes(&self, row: usize, out: &mut [f32]) {
        let format = self.format;
        let lane = row % TILE_ROWS;
        let width = BLOCK / format.scales_per_block();
        let groups = self.tile(row / TILE_ROWS).chunks_exact(format.group_bytes());
        for (out, group) in out.chunks_mut(GROUP).zip(groups) {
            for (part, out) in out.chunks_mut(width).enumerate() {
                let scale = half_at(group, part * TILE_ROWS + lane);
                let min = match format.has_mins() {
                    true => half_at(&group[format.scales_bytes()..], part * TILE_ROWS + lane),
                    false => 0.0,
                };
                for (i, out) in out.iter_mut().enumerate() {
                    let col = part * width + i;
                    let code = code_at(format, group, lane, col);
                    *out = scale * format.value(code) as f32 + min;
                }
            }
        }
    }
}

/// The `index`th f16 of `bytes`.
fn half_at(bytes: &[u8], index: usize) -> f32 {
    f16::from_le_bytes([bytes[2 * index], bytes[2 * index + 1]]).to_f32()
}

/// Reads the code of a row and column out of a group.
pub(super) fn code_at(format: Format, group: &[u8], row: usize, col: usize) -> u8 {
    let start = format.codes_offset() + col / BLOCK * format.block_bytes();
    let block = &group[start..start + format.block_bytes()];
    let (quad, lane) = (col % BLOCK / 4, 4 * row + col % 4);
    if format == Format::Q8 {
        return block[quad * 64 + lane];
    }
    let nibble = (block[quad % 4 * 64 + lane] >> (quad / 4 * 4)) & 15;
    let high = match format {
        Format::Q5 | Format::Q5M => (block[256 + quad * 8 + lane / 8] >> (lane % 8)) & 1,
        Format::Q6 => (block[256 + quad / 4 * 64 + lane] >> (quad % 4 * 2)) & 3,
        _ => 0,
    };
    nibble | high << 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aligned::Aligned;

    #[test]
    fn wrong_lengths_alignments_and_rows_are_errors() {
        let bytes = Aligned::<u8>::zeroed(576 + 1);
        assert!(Matrix::new(Format::Q4, 16, 64, &bytes[..576]).is_ok());
        assert!(Matrix::new(Format::Q4, 16, 64, &bytes[..575]).is_err());
        assert!(Matrix::new(Format::Q4, 16, 64, &bytes[1..577]).is_err());
        assert!(Matrix::new(Format::Q4, 17, 64, &bytes[..576]).is_err());
        let matrix = Matrix::new(Format::Q4, 5, 64, &bytes[..576]).unwrap();
        assert!(matrix.dequantise_row(4, &mut [0.0; 64]).is_ok());
        assert!(matrix.dequantise_row(5, &mut [0.0; 64]).is_err());
        assert!(matrix.dequantise_row(0, &mut [0.0; 63]).is_err());
    }
}
