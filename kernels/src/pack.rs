//! Writes matrices in the tile layout of [`super::format`], one tile of 16 rows at a time.

use std::io::Write;

use half::f16;

use super::format::{BLOCK, Format, GROUP, TILE_ROWS};
use crate::error::{Error, Result};

/// One logical row, filled by the source of a matrix. All vectors are empty when it is handed over.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RowBuffer {
    /// `F32`, `F16`: `cols` values.
    pub values: Vec<f32>,
    /// Quantised: `cols` unsigned codes, each below two to the power of the format's bits.
    pub codes: Vec<u8>,
    /// Quantised: one scale per 32 columns, in `Q6` per 16 columns.
    pub scales: Vec<f16>,
    /// `Q4M`, `Q5M`: one minimum per 32 columns, added to `scale · code`.
    pub mins: Vec<f16>,
}

impl RowBuffer {
    fn clear(&mut self) {
        self.values.clear();
        self.codes.clear();
        self.scales.clear();
        self.mins.clear();
    }

    fn check(&self, format: Format, cols: usize) -> Result<()> {
        let blocks = cols / BLOCK;
        let expected = match format.is_quantised() {
            true => {
                let mins = if format.has_mins() { blocks } else { 0 };
                [0, cols, blocks * format.scales_per_block(), mins]
            }
            false => [cols, 0, 0, 0],
        };
        let found = [self.values.len(), self.codes.len(), self.scales.len(), self.mins.len()];
        if found != expected {
            return Err(Error::InvalidArgument(format!(
                "a row in format {} needs {expected:?} values, codes, scales and mins, not \
                 {found:?}",
                format.name()
            )));
        }
        let limit = (1u32 << format.code_bits().min(8)) - 1;
        match self.codes.iter().find(|&&code| u32::from(code) > limit) {
            Some(code) => Err(Error::InvalidArgument(format!(
                "code {code} does not fit format {}",
                format.name()
            ))),
            None => Ok(()),
        }
    }
}

/// Packs a matrix: `row(r, buffer)` is asked for each row once, in order, and must fill `buffer`.
/// Writes exactly [`Format::packed_bytes`] bytes, a multiple of 64. An error of `row` is passed on.
pub fn pack_matrix<E: From<Error>>(
    format: Format,
    rows: usize,
    cols: usize,
    row: &mut dyn FnMut(usize, &mut RowBuffer) -> Result<(), E>,
    out: &mut dyn Write,
) -> Result<(), E> {
    let total = format.packed_bytes(rows, cols)?;
    let mut buffer = RowBuffer::default();
    let mut fill = |r: usize, buffer: &mut RowBuffer| {
        buffer.clear();
        row(r, buffer)?;
        buffer.check(format, cols).map_err(E::from)
    };
    if !format.is_quantised() {
        let mut written = 0;
        for r in 0..rows {
            fill(r, &mut buffer)?;
            let bytes = float_row(format, &buffer.values);
            written += bytes.len();
            write(out, &bytes)?;
        }
        write(out, &vec![0; total - written])?;
        return Ok(());
    }
    let mut tile = vec![0; cols.div_ceil(GROUP) * format.group_bytes()];
    for first in (0..rows).step_by(TILE_ROWS) {
        tile.fill(0);
        for r in first..rows.min(first + TILE_ROWS) {
            fill(r, &mut buffer)?;
            put_row(format, &mut tile, r - first, &buffer);
        }
        write(out, &tile)?;
    }
    Ok(())
}

fn write(out: &mut dyn Write, bytes: &[u8]) -> Result<()> {
    out.write_all(bytes).map_err(Error::Write)
}

fn float_row(format: Format, values: &[f32]) -> Vec<u8> {
    match format {
        Format::F16 => values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    }
}

/// Scatters one row into its lane of a zeroed tile.
fn put_row(format: Format, tile: &mut [u8], lane: usize, row: &RowBuffer) {
    let per_group = 2 * format.scales_per_block();
    for (g, group) in tile.chunks_exact_mut(format.group_bytes()).enumerate() {
        for (part, scale) in row.scales.iter().skip(g * per_group).take(per_group).enumerate() {
            put_half(group, part * TILE_ROWS + lane, *scale);
        }
        for (part, min) in row.mins.iter().skip(g * per_group).take(per_group).enumerate() {
            put_half(&mut group[format.scales_bytes()..], part * TILE_ROWS + lane, *min);
        }
        for (col, code) in row.codes.iter().skip(g * GROUP).take(GROUP).enumerate() {
            put_code(format, group, lane, col, *code);
        }
    }
}

fn put_half(bytes: &mut [u8], index: usize, value: f16) {
    bytes[2 * index..2 * index + 2].copy_from_slice(&value.to_le_bytes());
}

/// The inverse of [`super::matrix::code_at`].
fn put_code(format: Format, group: &mut [u8], row: usize, col: usize, code: u8) {
    let start = format.codes_offset() + col / BLOCK * format.block_bytes();
    let block = &mut group[start..start + format.block_bytes()];
    let (quad, lane) = (col % BLOCK / 4, 4 * row + col % 4);
    if format == Format::Q8 {
        block[quad * 64 + lane] = code;
        return;
    }
    block[quad % 4 * 64 + lane] |= (code & 15) << (quad / 4 * 4);
    match format {
        Format::Q5 | Format::Q5M => {
            block[256 + quad * 8 + lane / 8] |= (code >> 4) << (lane % 8);
        }
        Format::Q6 => block[256 + quad / 4 * 64 + lane] |= (code >> 4) << (quad % 4 * 2),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{self, pack, unpack_row};
    use crate::{aligned::Aligned, matrix::Matrix};

    proptest! {
        #[test]
        fn every_row_comes_back_exactly(
            (format, rows) in testing::matrix_rows(40, 5),
        ) {
            let bytes = pack(format, &rows);
            let cols = testing::cols(&rows);
            let matrix = Matrix::new(format, rows.len(), cols, &bytes).unwrap();
            for (r, row) in rows.iter().enumerate() {
                prop_assert_eq!(&unpack_row(&matrix, r), row);
            }
        }

        #[test]
        fn dequantised_rows_equal_the_formula((format, rows) in testing::matrix_rows(20, 4)) {
            let bytes = pack(format, &rows);
            let cols = testing::cols(&rows);
            let matrix = Matrix::new(format, rows.len(), cols, &bytes).unwrap();
            let mut out = vec![0.0; cols];
            for (r, row) in rows.iter().enumerate() {
                matrix.dequantise_row(r, &mut out).unwrap();
                for (got, want) in out.iter().zip(testing::row_values(format, row)) {
                    prop_assert!((f64::from(*got) - want).abs() <= want.abs() * 1e-6 + 1e-6);
                }
            }
        }
    }

    #[test]
    fn rows_that_do_not_fit_are_errors() {
        let fill = |codes: usize, code: u8, scales: usize, mins: usize| RowBuffer {
            values: vec![],
            codes: vec![code; codes],
            scales: vec![f16::ONE; scales],
            mins: vec![f16::ONE; mins],
        };
        let table = [
            (Format::Q4, fill(32, 15, 1, 0), true),
            (Format::Q4, fill(32, 16, 1, 0), false),
            (Format::Q4, fill(31, 1, 1, 0), false),
            (Format::Q4, fill(32, 1, 2, 0), false),
            (Format::Q4, fill(32, 1, 1, 1), false),
            (Format::Q4M, fill(32, 1, 1, 0), false),
            (Format::Q4M, fill(32, 1, 1, 1), true),
            (Format::Q6, fill(32, 63, 1, 0), false),
            (Format::Q6, fill(32, 63, 2, 0), true),
            (Format::Q8, fill(32, 255, 1, 0), true),
            (Format::F32, fill(32, 1, 1, 0), false),
        ];
        for (format, row, fits) in table {
            let mut source = |_: usize, buffer: &mut RowBuffer| {
                *buffer = row.clone();
                Ok::<_, Error>(())
            };
            let mut out = Vec::new();
            let result = pack_matrix(format, 3, 32, &mut source, &mut out);
            assert_eq!(result.is_ok(), fits, "{format:?} {row:?}");
            if fits {
                assert_eq!(out.len(), format.packed_bytes(3, 32).unwrap());
                let out = Aligned::from_slice(&out);
                assert!(Matrix::new(format, 3, 32, &out).is_ok());
            }
        }
    }

    #[test]
    fn errors_of_source_and_sink_come_through() {
        #[derive(Debug)]
        struct Own;
        impl From<Error> for Own {
            fn from(error: Error) -> Own {
                panic!("{error}")
            }
        }
        let mut failing = |_: usize, _: &mut RowBuffer| Err(Own);
        let result = pack_matrix(Format::Q4, 1, 32, &mut failing, &mut Vec::new());
        assert!(matches!(result, Err(Own)));
        let mut source = |_: usize, buffer: &mut RowBuffer| {
            buffer.values = vec![1.0; 4];
            Ok::<_, Error>(())
        };
        let mut full: &mut [u8] = &mut [0; 8];
        let result = pack_matrix(Format::F32, 1, 4, &mut source, &mut full);
        assert!(matches!(result, Err(Error::Write(_))));
    }
}
