//! Rows of numbers as a GGUF file has them.

use anyhow::{Result, bail};
use half::f16;
use hybrid::slm::kernels::format::BLOCK;

use crate::pack::gguf::TensorType;
use crate::pack::requantise::quantise;

/// Appends a row in one of the types that cut matrices are written in. Types with blocks need whole
/// ones.
pub fn encode(row: &[f32], kind: TensorType, out: &mut Vec<u8>) -> Result<()> {
    let (blocks, rest) = row.as_chunks::<BLOCK>();
    match kind.name() {
        "F32" => out.extend(row.iter().flat_map(|value| value.to_le_bytes())),
        "F16" => {
            out.extend(row.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()));
        }
        _ if !rest.is_empty() => bail!("{} values are no whole blocks", row.len()),
        "Q4_1" => blocks.iter().for_each(|block| with_minimum(block, 4, out)),
        "Q5_1" => blocks.iter().for_each(|block| with_minimum(block, 5, out)),
        "Q8_0" => blocks.iter().for_each(|block| eight_bits(block, out)),
        other => bail!("no rows of type {other} are written"),
    }
    Ok(())
}

/// Scale, minimum, with five bits the top bits of all codes; then 16 bytes, code `j` in the low and
/// `j + 16` in the high nibble of byte `j`.
fn with_minimum(values: &[f32; BLOCK], bits: u32, out: &mut Vec<u8>) {
    let block = quantise(values, bits);
    out.extend(block.scale.to_le_bytes());
    out.extend(block.min.to_le_bytes());
    if bits == 5 {
        let top = block.codes.iter().rev().fold(0u32, |top, code| top << 1 | u32::from(code >> 4));
        out.extend(top.to_le_bytes());
    }
    let (low, high) = block.codes.split_at(BLOCK / 2);
    out.extend(low.iter().zip(high).map(|(low, high)| low & 15 | high << 4));
}

/// Scale, then signed bytes, the largest 127 from zero.
fn eight_bits(values: &[f32; BLOCK], out: &mut Vec<u8>) {
    let largest = values.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    let scale = f16::from_f32(largest / 127.0);
    let inverse = if scale > f16::ZERO { 1.0 / scale.to_f32() } else { 0.0 };
    out.extend(scale.to_le_bytes());
    out.extend(values.iter().map(|v| (v * inverse).round().clamp(-127.0, 127.0) as i8 as u8));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::gguf::Tensor;
    use crate::pack::plan::{Matrix, RowOrder};
    use crate::pack::requantise;

    #[test]
    fn rows_come_back() {
        let row: Vec<f32> = (0..64).map(|i| ((i * 37 % 64) as f32 - 30.0) / 16.0).collect();
        for (kind, step) in [
            (TensorType::F32, 0.0),
            (TensorType::F16, 0.0),
            (TensorType::Q8_0, 4.0 / 255.0),
            (TensorType::Q5_1, 4.0 / 31.0),
            (TensorType::Q4_1, 4.0 / 15.0),
        ] {
            let mut bytes = Vec::new();
            encode(&row, kind, &mut bytes).unwrap();
            let tensor = Tensor::new(kind, 1, row.len(), 0..bytes.len());
            assert_eq!(tensor.row_bytes(), bytes.len(), "{kind:?}");
            let matrix = Matrix { name: String::new(), tensor, order: RowOrder::AsIs };
            let back = requantise::values(&matrix, &bytes, 0).unwrap();
            for (a, b) in row.iter().zip(back) {
                assert!((a - b).abs() <= 0.75 * step, "{kind:?}: {a} {b}");
            }
        }
        for (kind, row) in [(TensorType::Q8_0, &row[..33]), (TensorType::Q4_0, &row[..])] {
            assert!(encode(row, kind, &mut Vec::new()).is_err());
        }
    }
}
