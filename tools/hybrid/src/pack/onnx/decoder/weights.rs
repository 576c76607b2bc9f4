//! Matrices as ONNX Runtime's operators have them, written as tensors of a GGUF file: codes stay
//! what they are.

use std::ops::Range;

use anyhow::{Context, Result, ensure};
use half::f16;
use tract_onnx::pb::{NodeProto, TensorProto};

use super::super::super::gguf::TensorType;
use super::index::{Index, input, integer};
use super::values::{Values, kind, matrix};
use tract_onnx::pb::tensor_proto::DataType;

/// Columns that share a scale in GGUF.
const BLOCK: usize = 32;

/// `rows` by `cols`, a row for each output.
#[derive(Debug, Clone, PartialEq)]
pub struct Weight {
    pub rows: usize,
    pub cols: usize,
    values: Numbers,
}

#[derive(Debug, Clone, PartialEq)]
enum Numbers {
    /// `transposed`: value (row, column) lies at column · rows + row.
    Floats { values: Vec<f32>, halves: bool, transposed: bool },
    /// `scale · (code - zero)` for each block of columns.
    Codes { codes: Vec<u8>, bits: usize, block: usize, scales: Vec<f32>, zeros: Vec<f32> },
}

impl Weight {
    /// Of `MatMul` and `Gemm`: a constant of floats, its outputs along `output_axis`.
    pub fn floats(values: &Values, tensor: &TensorProto, output_axis: usize) -> Result<Weight> {
        let shape = matrix(tensor)?;
        let transposed = output_axis == 1;
        let (rows, cols) = if transposed { (shape.1, shape.0) } else { shape };
        let halves = kind(tensor) == DataType::Float16;
        let values = Numbers::Floats { values: values.floats(tensor)?, halves, transposed };
        Ok(Weight { rows, cols, values })
    }

    /// Of `MatMulNBits`.
    pub fn matmul_n_bits(index: &Index, node: &NodeProto) -> Result<Weight> {
        let size = |name: &str| -> Result<usize> {
            let found = integer(node, name).and_then(|n| usize::try_from(n).ok());
            found.filter(|n| (1..1 << 32).contains(n)).with_context(|| format!("{name} is missing"))
        };
        let (rows, cols, block) = (size("N")?, size("K")?, size("block_size")?);
        ensure!(input(node, 4).is_none(), "columns in another order (g_idx) are not supported");
        let packed = integer(node, "weight_prepacked").unwrap_or(0);
        ensure!(packed == 0, "weights in a GPU's order are not supported; take the CPU's variant");
        let bits = integer(node, "bits").unwrap_or(4);
        Weight::blocks(index, node, [1, 2, 3], (rows, cols), bits, block, None)
    }

    /// Of `GatherBlockQuantized`.
    pub fn gather_block_quantized(index: &Index, node: &NodeProto) -> Result<Weight> {
        let name = input(node, 0).context("it has no data")?;
        let (data, _) = index.constant(name).with_context(|| format!("{name} is computed"))?;
        let [rows, .., last] = data.dims[..] else {
            anyhow::bail!("{name} has shape {:?}, expected a matrix", data.dims)
        };
        // Native types have two values in a byte, but count values.
        let native = match kind(data) {
            DataType::Uint8 => None,
            _ => Some(data.data_type == INT4),
        };
        let bits = if native.is_some() { 4 } else { integer(node, "bits").unwrap_or(4) };
        let columns: i64 = data.dims[1..].iter().product();
        let columns = if native.is_some() { columns } else { columns * 8 / bits.max(1) };
        let block = integer(node, "block_size").unwrap_or(128);
        let axis = integer(node, "quantize_axis").unwrap_or(1);
        // A matrix that is the output's, too, lies in blocks and is reshaped.
        let is_last = [-1, 1, data.dims.len() as i64 - 1].contains(&axis);
        ensure!(is_last && last > 0, "its blocks do not lie along rows");
        ensure!(integer(node, "gather_axis").unwrap_or(0) == 0, "it does not gather rows");
        let sizes = [rows, columns, block].map(|n| usize::try_from(n).unwrap_or(0));
        let [rows, cols, block] = sizes;
        Weight::blocks(index, node, [0, 2, 3], (rows, cols), bits, block, native)
    }

    /// `native`: codes of a type of 4 bits, and whether it is signed.
    fn blocks(
        index: &Index,
        node: &NodeProto,
        inputs: [usize; 3],
        (rows, cols): (usize, usize),
        bits: i64,
        block: usize,
        native: Option<bool>,
    ) -> Result<Weight> {
        ensure!([4, 8].contains(&bits), "{bits} bits are not supported; supported are 4 and 8");
        ensure!(block >= 16 && block.is_power_of_two(), "a block size of {block} is not supported");
        let bits = bits as usize;
        let sane = |n: usize| (1..1 << 24).contains(&n);
        ensure!(
            sane(rows) && sane(cols) && (cols * bits).is_multiple_of(8),
            "a matrix of {rows} rows and {cols} columns is not supported"
        );
        let per_row = cols.div_ceil(block);
        let constant = |at: usize| {
            let name = input(node, inputs[at]).context("an input is missing")?;
            index
                .constant(name)
                .map(|(tensor, _)| tensor)
                .with_context(|| format!("{name} is computed"))
        };
        let mut codes = index.values.bytes(constant(0)?)?;
        let padded = if native.is_some() || inputs[0] == 0 { cols } else { per_row * block };
        let found = codes.len();
        ensure!(found == rows * padded * bits / 8, "{found} bytes are not {rows} rows of {cols}");
        if native == Some(true) {
            codes.iter_mut().for_each(|pair| *pair ^= 0x88);
        }
        let scales = index.values.floats(constant(1)?)?;
        let blocks = rows * per_row;
        ensure!(scales.len() == blocks, "{} scales are not {blocks}", scales.len());
        let middle = if native == Some(false) { 0.0 } else { (1 << (bits - 1)) as f32 };
        let zeros = match input(node, inputs[2]) {
            None => vec![middle; blocks],
            Some(_) => {
                let tensor = constant(2)?;
                let row_bytes = (per_row * bits).div_ceil(8);
                match kind(tensor) {
                    DataType::Float | DataType::Float16 => index.values.floats(tensor)?,
                    _ => {
                        let mut bytes = index.values.bytes(tensor)?;
                        if native == Some(true) {
                            bytes.iter_mut().for_each(|pair| *pair ^= 0x88);
                        }
                        ensure!(bytes.len() == rows * row_bytes, "zero points of another shape");
                        let at =
                            |i: usize| code(&bytes, i / per_row * row_bytes, i % per_row, bits);
                        (0..blocks).map(|i| f32::from(at(i))).collect()
                    }
                }
            }
        };
        ensure!(zeros.len() == blocks, "{} zero points are not {blocks}", zeros.len());
        Ok(Weight { rows, cols, values: Numbers::Codes { codes, bits, block, scales, zeros } })
    }

    /// The type that keeps the numbers.
    pub fn kind(&self) -> TensorType {
        match &self.values {
            Numbers::Floats { halves: true, .. } => TensorType::F16,
            Numbers::Floats { .. } => TensorType::F32,
            Numbers::Codes { bits, block, scales, zeros, .. } => {
                let fits = self.cols.is_multiple_of(BLOCK) && block.is_multiple_of(BLOCK);
                let exact = |scale: &f32| {
                    (f16::from_f32(*scale).to_f32() - scale).abs() <= scale.abs() * 1e-3
                };
                let middle = (1 << (bits - 1)) as f32;
                let symmetric = zeros.iter().all(|zero| *zero == middle);
                match (bits, symmetric) {
                    _ if !fits || !scales.iter().all(exact) => TensorType::F32,
                    (4, true) => TensorType::Q4_0,
                    (4, false) => TensorType::Q4_1,
                    (_, true) => TensorType::Q8_0,
                    (_, false) => TensorType::F16,
                }
            }
        }
    }

    /// Whether numbers of few bits become floats.
    pub fn grows(&self) -> bool {
        self.kind().is_float() && matches!(self.values, Numbers::Codes { .. })
    }

    /// Rows as the tensor type has them.
    pub fn write(&self, rows: Range<usize>, out: &mut Vec<u8>) {
        let kind = self.kind();
        for row in rows {
            if kind == TensorType::F32 {
                (0..self.cols).for_each(|col| out.extend(self.value(row, col).to_le_bytes()));
            } else if kind == TensorType::F16 {
                (0..self.cols)
                    .for_each(|col| out.extend(f16::from_f32(self.value(row, col)).to_le_bytes()));
            } else {
                (0..self.cols / BLOCK).for_each(|block| self.block(kind, row, block, out));
            }
        }
    }

    fn block(&self, kind: TensorType, row: usize, at: usize, out: &mut Vec<u8>) {
        let Numbers::Codes { scales, zeros, block, .. } = &self.values else { return };
        let of = row * self.cols.div_ceil(*block) + at * BLOCK / block;
        out.extend(f16::from_f32(scales[of]).to_le_bytes());
        let code = |col: usize| self.code(row, at * BLOCK + col);
        if kind == TensorType::Q8_0 {
            out.extend((0..BLOCK).map(|col| code(col).wrapping_sub(128)));
            return;
        }
        if kind == TensorType::Q4_1 {
            out.extend(f16::from_f32(-scales[of] * zeros[of]).to_le_bytes());
        }
        out.extend((0..BLOCK / 2).map(|col| code(col) | code(col + BLOCK / 2) << 4));
    }

    fn value(&self, row: usize, col: usize) -> f32 {
        match &self.values {
            Numbers::Floats { values, transposed: false, .. } => values[row * self.cols + col],
            Numbers::Floats { values, .. } => values[col * self.rows + row],
            Numbers::Codes { scales, zeros, block, .. } => {
                let of = row * self.cols.div_ceil(*block) + col / block;
                scales[of] * (f32::from(self.code(row, col)) - zeros[of])
            }
        }
    }

    fn code(&self, row: usize, col: usize) -> u8 {
        let Numbers::Codes { codes, bits, .. } = &self.values else { return 0 };
        let row_bytes = codes.len() / self.rows;
        code(codes, row * row_bytes, col, *bits)
    }
}

/// ONNX's number of the type; the second of the two with 4 bits.
const INT4: i32 = 22;

/// Code `at` of those that begin at byte `start`.
fn code(bytes: &[u8], start: usize, at: usize, bits: usize) -> u8 {
    match bits {
        8 => bytes[start + at],
        _ => bytes[start + at / 2] >> (4 * (at % 2)) & 0xF,
    }
}
