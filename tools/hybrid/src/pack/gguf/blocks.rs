//! ggml's blocks, taken apart into codes, scales and minimums. Codes are kept exactly. Scales are
//! kept exactly too, but for the K types: their super-block's scale times the block's is rounded to
//! f16.

use anyhow::{Context, Result, bail};
use half::f16;
use hybrid::slm::kernels::{Format, RowBuffer};

use super::{Tensor, TensorType};

impl TensorType {
    /// The kernels' format that holds these blocks.
    pub fn format(self) -> Format {
        match self {
            TensorType::F32 => Format::F32,
            TensorType::F16 => Format::F16,
            TensorType::Q4_0 => Format::Q4,
            TensorType::Q4_1 | TensorType::Q4K => Format::Q4M,
            TensorType::Q5_0 => Format::Q5,
            TensorType::Q8_0 => Format::Q8,
            TensorType::Q6K => Format::Q6,
        }
    }
}

impl Tensor {
    /// Takes row `row` apart, appending to the empty vectors of `out` that the format uses.
    pub fn decode_row(&self, file: &[u8], row: usize, out: &mut RowBuffer) -> Result<()> {
        let bytes = self.row(file, row).with_context(|| format!("row {row} is out of range"))?;
        let (_, block_bytes) = self.kind.block();
        let decode = match self.kind {
            TensorType::F32 => f32_value,
            TensorType::F16 => f16_value,
            TensorType::Q4_0 => q4_0,
            TensorType::Q4_1 => q4_1,
            TensorType::Q5_0 => q5_0,
            TensorType::Q8_0 => q8_0,
            TensorType::Q4K => q4_k,
            TensorType::Q6K => q6_k,
        };
        for block in bytes.chunks_exact(block_bytes) {
            decode(block, out).context("a block has the wrong size")?;
        }
        Ok(())
    }

    /// All values of a float tensor, row after row: norm weights and biases are never quantised.
    pub fn floats(&self, file: &[u8]) -> Result<Vec<f32>> {
        if !matches!(self.kind, TensorType::F32 | TensorType::F16) {
            bail!("it has type {}, expected F32 or F16", self.kind.name());
        }
        let mut out = RowBuffer::default();
        for row in 0..self.rows {
            self.decode_row(file, row, &mut out)?;
        }
        Ok(out.values)
    }
}

// Each of these takes one block of exactly the type's size; `None` if it is shorter.

fn half(bytes: &[u8], at: usize) -> Option<f16> {
    Some(f16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn f32_value(block: &[u8], out: &mut RowBuffer) -> Option<()> {
    out.values.push(f32::from_le_bytes(block.try_into().ok()?));
    Some(())
}

fn f16_value(block: &[u8], out: &mut RowBuffer) -> Option<()> {
    out.values.push(half(block, 0)?.to_f32());
    Some(())
}

/// Scale; 16 bytes, value `j` in the low and `j + 16` in the high nibble of byte `j`.
fn q4_0(block: &[u8], out: &mut RowBuffer) -> Option<()> {
    out.scales.push(half(block, 0)?);
    nibbles(block.get(2..18)?, out);
    Some(())
}

/// Scale, minimum, then as Q4_0.
fn q4_1(block: &[u8], out: &mut RowBuffer) -> Option<()> {
    out.scales.push(half(block, 0)?);
    out.mins.push(half(block, 2)?);
    nibbles(block.get(4..20)?, out);
    Some(())
}

fn nibbles(bytes: &[u8], out: &mut RowBuffer) {
    out.codes.extend(bytes.iter().map(|byte| byte & 15));
    out.codes.extend(bytes.iter().map(|byte| byte >> 4));
}

/// Scale; the fifth bits of all 32 values; then as Q4_0.
fn q5_0(block: &[u8], out: &mut RowBuffer) -> Option<()> {
    out.scales.push(half(block, 0)?);
    let high = u32::from_le_bytes(block.get(2..6)?.try_into().ok()?);
    let start = out.codes.len();
    nibbles(block.get(6..22)?, out);
    for (j, code) in out.codes.get_mut(start..)?.iter_mut().enumerate() {
        *code |= ((high >> j & 1) as u8) << 4;
    }
    Some(())
}

/// Scale, 32 signed bytes. Our codes are unsigned, around 128.
fn q8_0(block: &[u8], out: &mut RowBuffer) -> Option<()> {
    out.scales.push(half(block, 0)?);
    out.codes.extend(block.get(2..34)?.iter().map(|byte| byte ^ 0x80));
    Some(())
}

/// Eight blocks of 32: scale and minimum of the super-block, 12 bytes with 6-bit scales and
/// minimums of the blocks, then per two blocks 32 bytes: the first block in the low, the second in
/// the high nibbles.
fn q4_k(block: &[u8], out: &mut RowBuffer) -> Option<()> {
    let (d, d_min) = (half(block, 0)?.to_f32(), half(block, 2)?.to_f32());
    let packed: &[u8; 12] = block.get(4..16)?.try_into().ok()?;
    for j in 0..8 {
        let (scale, min) = six_bit_pair(packed, j)?;
        out.scales.push(f16::from_f32(d * f32::from(scale)));
        out.mins.push(f16::from_f32(-d_min * f32::from(min)));
    }
    for bytes in block.get(16..144)?.chunks_exact(32) {
        nibbles(bytes, out);
    }
    Some(())
}

/// Scale and minimum of block `j`: the first four lie in six bits each, the others are split up:
/// four bits in the last bytes, two in the top of the first ones.
fn six_bit_pair(packed: &[u8; 12], j: usize) -> Option<(u8, u8)> {
    let byte = |at: usize| packed.get(at).copied();
    if j < 4 {
        return Some((byte(j)? & 63, byte(j + 4)? & 63));
    }
    let low = byte(j + 4)?;
    Some((low & 15 | byte(j - 4)? >> 6 << 4, low >> 4 | byte(j)? >> 6 << 4))
}

/// 16 blocks of 16: 128 bytes of low nibbles, 64 of top bit pairs, 16 signed scales, the
/// super-block's scale. Each half has 128 values: 64 bytes of nibbles (low nibbles first), and byte
/// `l` of 32 bytes of bit pairs belongs to the values `l`, `l + 32`, `l + 64` and `l + 96`.
fn q6_k(block: &[u8], out: &mut RowBuffer) -> Option<()> {
    let d = half(block, 208)?.to_f32();
    let (low, high) = (block.get(..128)?, block.get(128..192)?);
    for (low, high) in low.chunks_exact(64).zip(high.chunks_exact(32)) {
        let (first, second) = low.split_at(32);
        for (shift, nibble, bytes) in [(0, 0, first), (2, 0, second), (4, 4, first), (6, 4, second)]
        {
            let code = |(l, h): (&u8, &u8)| l >> nibble & 15 | (h >> shift & 3) << 4;
            out.codes.extend(bytes.iter().zip(high).map(code));
        }
    }
    for scale in block.get(192..208)? {
        out.scales.push(f16::from_f32(d * f32::from(*scale as i8)));
    }
    Some(())
}
