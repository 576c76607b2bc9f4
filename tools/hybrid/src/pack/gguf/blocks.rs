//! ggml's blocks, taken apart into codes, scales and minimums. Codes are kept exactly, but for
//! `Q2_K`. Scales are kept exactly too, but where a super-block's scale times the block's is
//! rounded to f16: in the K types and `IQ4_XS`.

use half::{bf16, f16};
use hybrid::slm::kernels::RowBuffer;
use hybrid::slm::kernels::format::BLOCK;

// Each of these takes one block of exactly the type's size; `None` if it is shorter.

fn half(bytes: &[u8], at: usize) -> Option<f16> {
    Some(f16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(super) fn f32_value(block: &[u8], out: &mut RowBuffer) -> Option<()> {
    out.values.push(f32::from_le_bytes(block.try_into().ok()?));
    Some(())
}

pub(super) fn f16_value(block: &[u8], out: &mut RowBuffer) -> Option<()> {
    out.values.push(half(block, 0)?.to_f32());
    Some(())
}

/// The upper half of an f32. An f16 has more bits for the fraction and fewer for the exponent: what
/// is under 2⁻¹⁴ loses bits that no sum shows, and what an f16 cannot hold is refused.
pub(super) fn bf16_value(block: &[u8], out: &mut RowBuffer) -> Option<()> {
    let value = bf16::from_le_bytes(block.try_into().ok()?).to_f32();
    out.values.push(value);
    (!value.is_finite() || value.abs() <= f16::MAX.to_f32()).then_some(())
}

/// Scale; 16 bytes, value `j` in the low and `j + 16` in the high nibble of byte `j`.
pub(super) fn q4_0(block: &[u8], out: &mut RowBuffer) -> Option<()> {
    out.scales.push(half(block, 0)?);
    nibbles(block.get(2..18)?, out);
    Some(())
}

/// Scale, minimum, then as Q4_0.
pub(super) fn q4_1(block: &[u8], out: &mut RowBuffer) -> Option<()> {
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
pub(super) fn q5_0(block: &[u8], out: &mut RowBuffer) -> Option<()> {
    out.scales.push(half(block, 0)?);
    five_bits(block.get(2..22)?, out)
}

/// Scale, minimum, then as Q5_0.
pub(super) fn q5_1(block: &[u8], out: &mut RowBuffer) -> Option<()> {
    out.scales.push(half(block, 0)?);
    out.mins.push(half(block, 2)?);
    five_bits(block.get(4..24)?, out)
}

fn five_bits(bytes: &[u8], out: &mut RowBuffer) -> Option<()> {
    let high = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?);
    let start = out.codes.len();
    nibbles(bytes.get(4..)?, out);
    for (j, code) in out.codes.get_mut(start..)?.iter_mut().enumerate() {
        *code |= ((high >> j & 1) as u8) << 4;
    }
    Some(())
}

/// Scale, 32 signed bytes. Our codes are unsigned, around 128.
pub(super) fn q8_0(block: &[u8], out: &mut RowBuffer) -> Option<()> {
    out.scales.push(half(block, 0)?);
    out.codes.extend(block.get(2..34)?.iter().map(|byte| byte ^ 0x80));
    Some(())
}

/// Eight blocks of 32: scale and minimum of the super-block, 12 bytes with 6-bit scales and
/// minimums of the blocks, then per two blocks 32 bytes: the first block in the low, the second in
/// the high nibbles.
pub(super) fn q4_k(block: &[u8], out: &mut RowBuffer) -> Option<()> {
    six_bit_scales(block, out)?;
    for bytes in block.get(16..144)?.chunks_exact(32) {
        nibbles(bytes, out);
    }
    Some(())
}

/// As Q4_K, with 32 bytes in front of the nibbles: bit `j` of byte `l` is the fifth bit of value
/// `l` of block `j`.
pub(super) fn q5_k(block: &[u8], out: &mut RowBuffer) -> Option<()> {
    six_bit_scales(block, out)?;
    let high = block.get(16..48)?;
    for (j, bytes) in block.get(48..176)?.chunks_exact(32).enumerate() {
        for (j, shift) in [(2 * j, 0), (2 * j + 1, 4)] {
            let code = |(low, high): (&u8, &u8)| low >> shift & 15 | (high >> j & 1) << 4;
            out.codes.extend(bytes.iter().zip(high).map(code));
        }
    }
    Some(())
}

/// The first 16 bytes of Q4_K and Q5_K.
fn six_bit_scales(block: &[u8], out: &mut RowBuffer) -> Option<()> {
    let (d, d_min) = (half(block, 0)?.to_f32(), half(block, 2)?.to_f32());
    let packed: &[u8; 12] = block.get(4..16)?.try_into().ok()?;
    for j in 0..8 {
        let (scale, min) = six_bit_pair(packed, j)?;
        out.scales.push(f16::from_f32(d * f32::from(scale)));
        out.mins.push(f16::from_f32(-d_min * f32::from(min)));
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
pub(super) fn q6_k(block: &[u8], out: &mut RowBuffer) -> Option<()> {
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

/// 16 blocks of 16: 32 bytes of top bits, 64 of low bit pairs, 12 with the blocks' scales, the
/// super-block's scale. Codes are around 4. Bit `j` of byte `l` of the top bits is that of value
/// `32 · j + l`.
pub(super) fn q3_k(block: &[u8], out: &mut RowBuffer) -> Option<()> {
    /// From codes around 4 to those of `Q6`.
    const UP: u8 = 32 - 4;
    let d = half(block, 108)?.to_f32();
    let high = block.get(..32)?;
    for (j, low) in bit_pairs(block.get(32..96)?).enumerate() {
        let code = |(low, high): (u8, &u8)| UP + (low | (high >> j & 1) << 2);
        out.codes.extend(low.zip(high).map(code));
    }
    let packed = block.get(96..108)?;
    for j in 0..16 {
        // Four bits in the first eight bytes, two in the last four.
        let low = packed.get(j % 8)? >> (j / 8 * 4) & 15;
        let high = packed.get(8 + j % 4)? >> (j / 4 * 2) & 3;
        let scale = f32::from(low | high << 4) - 32.0;
        out.scales.push(f16::from_f32(d * scale));
    }
    Some(())
}

/// 16 blocks of 16: a byte each with scale (low) and minimum (high), 64 bytes of bit pairs, scale
/// and minimum of the super-block. No format has minimums for 16 columns, so the values are rounded
/// to 8 bits: by 0.4 % of the largest of 32 at most.
pub(super) fn q2_k(block: &[u8], out: &mut RowBuffer) -> Option<()> {
    let (d, d_min) = (half(block, 80)?.to_f32(), half(block, 82)?.to_f32());
    let pairs = block.get(..16)?.as_chunks::<2>().0;
    for (codes, pair) in bit_pairs(block.get(16..80)?).zip(pairs) {
        let mut values = [0.0; BLOCK];
        for (at, (value, code)) in values.iter_mut().zip(codes).enumerate() {
            let both = pair.get(at / 16)?;
            *value = d * f32::from(both & 15) * f32::from(code) - d_min * f32::from(both >> 4);
        }
        eight_bits(&values, out);
    }
    Some(())
}

/// The low bits of 256 values, 32 at a time: byte `l` of each half has the values `l`, `l + 32`,
/// `l + 64` and `l + 96`.
fn bit_pairs(bytes: &[u8]) -> impl Iterator<Item = impl Iterator<Item = u8>> {
    let shifted = |half: &'_ [u8]| [0, 2, 4, 6].map(|shift| (half.to_vec(), shift));
    let runs = bytes.chunks(32).flat_map(shifted);
    runs.map(|(half, shift)| half.into_iter().map(move |byte| byte >> shift & 3))
}

/// As Q8_0 has them: the nearest codes around 128, the largest value 127 from it.
fn eight_bits(values: &[f32; BLOCK], out: &mut RowBuffer) {
    let largest = values.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    let scale = f16::from_f32(largest / 127.0);
    let inverse = if scale > f16::ZERO { 1.0 / scale.to_f32() } else { 0.0 };
    let code = |value: &f32| (value * inverse).round().clamp(-127.0, 127.0) + 128.0;
    out.scales.push(scale);
    out.codes.extend(values.iter().map(|value| code(value) as u8));
}

/// As Q4_0, with codes for a table.
pub(super) fn iq4_nl(block: &[u8], out: &mut RowBuffer) -> Option<()> {
    q4_0(block, out)
}

/// Eight blocks of 32: the super-block's scale, 16 bits with two bits of each block's scale, four
/// bytes with four, then the blocks' nibbles as in Q4_0. The blocks' scales are around 32.
pub(super) fn iq4_xs(block: &[u8], out: &mut RowBuffer) -> Option<()> {
    let d = half(block, 0)?.to_f32();
    let high = u16::from_le_bytes(block.get(2..4)?.try_into().ok()?);
    let low = block.get(4..8)?;
    for (j, bytes) in block.get(8..136)?.chunks_exact(16).enumerate() {
        let low = low.get(j / 2)? >> (j % 2 * 4) & 15;
        let scale = low | ((high >> (2 * j) & 3) as u8) << 4;
        out.scales.push(f16::from_f32(d * (f32::from(scale) - 32.0)));
        nibbles(bytes, out);
    }
    Some(())
}

/// The exponent of the scale, then as Q4_0, with codes for 4-bit floats. Doubled, these are small
/// integers. Scales that an f16 cannot hold are refused, but those that are nothing beside others.
pub(super) fn mxfp4(block: &[u8], out: &mut RowBuffer) -> Option<()> {
    const DOUBLED: [u8; 8] = [0, 1, 2, 3, 4, 6, 8, 12];
    let exponent = i32::from(*block.first()?) - 128;
    let scale = f16::from_f32(2f32.powi(exponent));
    let start = out.codes.len();
    nibbles(block.get(1..17)?, out);
    for code in out.codes.get_mut(start..)? {
        let size = *DOUBLED.get(usize::from(*code & 7))?;
        *code = if *code < 8 { 16 + size } else { 16 - size };
    }
    out.scales.push(scale);
    scale.is_finite().then_some(())
}

/// 48 bytes with five digits to the base of three each, four with four, the scale. A digit is the
/// top of the byte times three, and what is left is the rest of them. In the first 32 bytes and in
/// the next 16, the first digits of all come first.
pub(super) fn tq1_0(block: &[u8], out: &mut RowBuffer) -> Option<()> {
    for (bytes, digits) in [(block.get(..32)?, 5), (block.get(32..48)?, 5), (block.get(48..52)?, 4)]
    {
        let mut rest = bytes.to_vec();
        for _ in 0..digits {
            for byte in &mut rest {
                let tripled = 3 * u16::from(*byte);
                out.codes.push(AROUND_ONE + (tripled >> 8) as u8);
                *byte = tripled as u8;
            }
        }
    }
    one_scale(half(block, 52)?, 256, out);
    Some(())
}

/// 64 bytes of bit pairs, the scale.
pub(super) fn tq2_0(block: &[u8], out: &mut RowBuffer) -> Option<()> {
    for codes in bit_pairs(block.get(..64)?) {
        out.codes.extend(codes.map(|code| AROUND_ONE + code));
    }
    one_scale(half(block, 64)?, 256, out);
    Some(())
}

/// What is added to a code around 1 to make one of `Q4`.
const AROUND_ONE: u8 = 8 - 1;

/// The scale; a bit for each of 128 values, the scale or its negative.
pub(super) fn q1_0(block: &[u8], out: &mut RowBuffer) -> Option<()> {
    for byte in block.get(2..18)? {
        out.codes.extend((0..8).map(|bit| if byte >> bit & 1 == 1 { 9 } else { 7 }));
    }
    one_scale(half(block, 0)?, 128, out);
    Some(())
}

/// The same scale for every 32 of some values.
fn one_scale(scale: f16, values: usize, out: &mut RowBuffer) {
    out.scales.resize(out.scales.len() + values / BLOCK, scale);
}
