//! Tensors of a GGUF file: name, shape, type and where the data lie.

use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};
use hybrid::slm::kernels::RowBuffer;

use super::cursor::{Cursor, TOO_SHORT};
use super::types::TensorType;

const MAX_NAME_BYTES: usize = 256;

/// One tensor. `rows` by `cols`; a vector has one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    pub kind: TensorType,
    pub rows: usize,
    pub cols: usize,
    /// Bytes from the start of the data section, before [`Tensor::place`].
    offset: u64,
    /// Where in the file.
    pub data: Range<usize>,
}

impl Tensor {
    /// One whose data lie at `data` already.
    pub fn new(kind: TensorType, rows: usize, cols: usize, data: Range<usize>) -> Tensor {
        Tensor { kind, rows, cols, offset: 0, data }
    }

    pub(super) fn parse(cursor: &mut Cursor) -> Result<(String, Tensor)> {
        let name = cursor.string()?;
        ensure!(name.len() <= MAX_NAME_BYTES, "its name has {} bytes", name.len());
        let tensor = Tensor::parse_shape(cursor).with_context(|| name.to_owned())?;
        Ok((name.to_owned(), tensor))
    }

    fn parse_shape(cursor: &mut Cursor) -> Result<Tensor> {
        let dimensions = cursor.u32()?;
        ensure!((1..=4).contains(&dimensions), "{dimensions} dimensions, expected 1 to 4");
        let mut shape = [1; 4];
        for size in shape.iter_mut().take(dimensions as usize) {
            *size = cursor.u64()?;
        }
        let [cols, rows, rest @ ..] = shape;
        ensure!(rest == [1, 1], "shape {shape:?} is not a matrix or vector");
        let kind = TensorType::from_id(cursor.u32()?)?;
        let size = |n: u64| match usize::try_from(n) {
            // Below 2^32 each, so that a product of two cannot overflow.
            Ok(n) if (1..=u32::MAX as usize).contains(&n) => Ok(n),
            _ => bail!("shape {shape:?} is out of range"),
        };
        let (rows, cols) = (size(rows)?, size(cols)?);
        let (block, _) = kind.block();
        ensure!(
            cols.is_multiple_of(block),
            "{cols} columns are not a multiple of {block}, the block size of {}",
            kind.name()
        );
        Ok(Tensor { kind, rows, cols, offset: cursor.u64()?, data: 0..0 })
    }

    /// Finds the data in the file: `start` is where the data section begins.
    pub(super) fn place(&mut self, start: usize, alignment: usize, file: usize) -> Result<()> {
        let offset = usize::try_from(self.offset).unwrap_or(usize::MAX);
        ensure!(offset.is_multiple_of(alignment), "offset {offset} is not aligned to {alignment}");
        let begin = start.checked_add(offset);
        let bytes = self.rows.checked_mul(self.row_bytes());
        let end = begin.zip(bytes).and_then(|(begin, bytes)| begin.checked_add(bytes));
        match begin.zip(end) {
            Some((begin, end)) if end <= file => {
                self.data = begin..end;
                Ok(())
            }
            _ => bail!("its data goes on after the file's {file} bytes: {TOO_SHORT}"),
        }
    }

    /// Bytes of one row.
    pub fn row_bytes(&self) -> usize {
        let (block, bytes) = self.kind.block();
        self.cols / block * bytes
    }

    /// The bytes of one row.
    pub fn row<'a>(&self, file: &'a [u8], row: usize) -> Option<&'a [u8]> {
        file.get(self.data.clone())?.chunks_exact(self.row_bytes()).nth(row)
    }

    /// Takes row `row` apart, appending to the empty vectors of `out` that the format uses.
    pub fn decode_row(&self, file: &[u8], row: usize, out: &mut RowBuffer) -> Result<()> {
        let bytes = self.row(file, row).with_context(|| format!("row {row} is out of range"))?;
        self.kind.check()?;
        let decode = self.kind.decoder().context("its type has no decoder")?;
        let (_, block_bytes) = self.kind.block();
        for block in bytes.chunks_exact(block_bytes) {
            decode(block, out).with_context(|| {
                let name = self.kind.name();
                format!("row {row} has a {name} value that no f16 holds; make the file as Q8_0")
            })?;
        }
        Ok(())
    }

    /// All values of a float tensor, row after row: norm weights and biases are never quantised.
    pub fn floats(&self, file: &[u8]) -> Result<Vec<f32>> {
        if !self.kind.is_float() {
            bail!("it has type {}, expected F32, F16 or BF16", self.kind.name());
        }
        let mut out = RowBuffer::default();
        for row in 0..self.rows {
            self.decode_row(file, row, &mut out)?;
        }
        Ok(out.values)
    }
}
