//! Tensors of a GGUF file: name, shape, type and where the data lie.

use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};

use super::cursor::{Cursor, TOO_SHORT};

const MAX_NAME_BYTES: usize = 256;

/// The tensor types that can be packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorType {
    F32,
    F16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q8_0,
    Q4K,
    Q6K,
}

impl TensorType {
    pub const ALL: [TensorType; 8] = [
        TensorType::F32,
        TensorType::F16,
        TensorType::Q4_0,
        TensorType::Q4_1,
        TensorType::Q5_0,
        TensorType::Q8_0,
        TensorType::Q4K,
        TensorType::Q6K,
    ];

    /// The number that stands for the type in a file.
    pub fn id(self) -> u32 {
        match self {
            TensorType::F32 => 0,
            TensorType::F16 => 1,
            TensorType::Q4_0 => 2,
            TensorType::Q4_1 => 3,
            TensorType::Q5_0 => 6,
            TensorType::Q8_0 => 8,
            TensorType::Q4K => 12,
            TensorType::Q6K => 14,
        }
    }

    pub fn name(self) -> &'static str {
        type_name(self.id()).unwrap_or("?")
    }

    /// Values in one block and the bytes it takes.
    pub fn block(self) -> (usize, usize) {
        match self {
            TensorType::F32 => (1, 4),
            TensorType::F16 => (1, 2),
            TensorType::Q4_0 => (32, 18),
            TensorType::Q4_1 => (32, 20),
            TensorType::Q5_0 => (32, 22),
            TensorType::Q8_0 => (32, 34),
            TensorType::Q4K => (256, 144),
            TensorType::Q6K => (256, 210),
        }
    }

    fn from_id(id: u32) -> Result<TensorType> {
        if let Some(known) = TensorType::ALL.into_iter().find(|t| t.id() == id) {
            return Ok(known);
        }
        let supported = TensorType::ALL.map(TensorType::name).join(", ");
        match type_name(id) {
            Some(name) => bail!("tensor type {name} is not supported; supported are {supported}"),
            None => bail!("tensor type number {id} is unknown; supported are {supported}"),
        }
    }
}

/// Names of all types that files may have, so that an error can name the one it is about.
fn type_name(id: u32) -> Option<&'static str> {
    Some(match id {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        4 => "Q4_2",
        5 => "Q4_3",
        6 => "Q5_0",
        7 => "Q5_1",
        8 => "Q8_0",
        9 => "Q8_1",
        10 => "Q2_K",
        11 => "Q3_K",
        12 => "Q4_K",
        13 => "Q5_K",
        14 => "Q6_K",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        30 => "BF16",
        31 => "Q4_0_4_4",
        32 => "Q4_0_4_8",
        33 => "Q4_0_8_8",
        34 => "TQ1_0",
        35 => "TQ2_0",
        36 => "IQ4_NL_4_4",
        37 => "IQ4_NL_4_8",
        38 => "IQ4_NL_8_8",
        39 => "MXFP4",
        _ => return None,
    })
}

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
}
