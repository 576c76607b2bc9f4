//! How a weight matrix lies in memory: the contract between the packer and the kernels.
//!
//! A matrix has `rows` output features and `cols` input features. `F32` and `F16` are row-major,
//! little-endian. The quantised formats are made of *tiles* so that one vector register holds the
//! codes of 16 rows and a dot product needs no horizontal sum:
//!
//! - A **tile** is 16 rows ([`TILE_ROWS`]) by all columns; tiles follow each other. Missing rows of
//!   the last tile are zero.
//! - A tile is a run of **groups** of 64 columns ([`GROUP`]), that is two **blocks** of 32
//!   ([`BLOCK`]). With an odd number of blocks the last group's second block is zero.
//! - A group holds, every part a multiple of 64 bytes, so that every load is aligned:
//!
//!   | part | bytes | order |
//!   |---|---|---|
//!   | scales | 64, `Q6` 128 | f16 `[block][half][16 rows]`; only `Q6` has two 16-column halves |
//!   | mins | `Q4M`, `Q5M` 64 | f16 `[block][16 rows]` |
//!   | codes | 2 × [`Format::block_bytes`] | block 0, then block 1 |
//!
//! - The codes of a block are eight **quads** of four columns. A quad is 64 byte lanes, lane
//!   `4·row + column % 4`: what `vpdpbusd` (and four rows at a time `sdot`) multiplies with four
//!   activations broadcast to every row.
//!
//!   | format | bytes of a block | a quad's codes |
//!   |---|---|---|
//!   | `Q4`, `Q4M`, `Q4T` | 4 × 64 | vector `j`: quad `j` in the low nibbles, `j + 4` in the high |
//!   | `Q5`, `Q5M` | as `Q4`, then 8 × 8 | fifth bits of quad `j`: a 64-bit mask, bit = lane |
//!   | `Q6` | as `Q4`, then 2 × 64 | top bits of quad `4p + t`: bits `2t`, `2t + 1` of vector `p` |
//!   | `Q8` | 8 × 64 | vector `j`: quad `j` |
//!
//! Codes are unsigned. A weight is `scale · (code − zero_point) + min`; in `Q4T` the code is first
//! looked up in [`TABLE`].

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Rows interleaved in one tile.
pub const TILE_ROWS: usize = 16;
/// Columns that share one activation scale and (but for `Q6`) one weight scale.
pub const BLOCK: usize = 32;
/// Columns stored together: two blocks.
pub const GROUP: usize = 2 * BLOCK;
/// Alignment of every matrix, tile and group in bytes.
pub const ALIGN: usize = 64;

/// The values of `Q4T`'s codes around 128: close together where weights are many (those of ggml's
/// `IQ4_NL`).
pub const TABLE: [u8; 16] =
    [1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241];

/// Number format and layout of a weight matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    F32,
    F16,
    /// 4 bits around 8, one scale per 32 columns (GGUF `Q4_0`).
    Q4,
    /// 4 bits from 0, one scale and one minimum per 32 columns (GGUF `Q4_1`, `Q4_K`).
    Q4M,
    /// 4 bits into [`TABLE`], one scale per 32 columns (GGUF `IQ4_NL`, `IQ4_XS`).
    Q4T,
    /// 5 bits around 16, one scale per 32 columns (GGUF `Q5_0`).
    Q5,
    /// 5 bits from 0, one scale and one minimum per 32 columns (GGUF `Q5_1`, `Q5_K`).
    Q5M,
    /// 6 bits around 32, one scale per 16 columns (GGUF `Q6_K`).
    Q6,
    /// 8 bits around 128, one scale per 32 columns (GGUF `Q8_0`).
    Q8,
}

impl Format {
    pub const ALL: [Format; 9] = [
        Format::F32,
        Format::F16,
        Format::Q4,
        Format::Q4M,
        Format::Q4T,
        Format::Q5,
        Format::Q5M,
        Format::Q6,
        Format::Q8,
    ];

    /// The name that also stands in files.
    pub const fn name(self) -> &'static str {
        match self {
            Format::F32 => "f32",
            Format::F16 => "f16",
            Format::Q4 => "q4",
            Format::Q4M => "q4m",
            Format::Q4T => "q4t",
            Format::Q5 => "q5",
            Format::Q5M => "q5m",
            Format::Q6 => "q6",
            Format::Q8 => "q8",
        }
    }

    /// Whether weights are codes with scales, in tiles.
    pub const fn is_quantised(self) -> bool {
        !matches!(self, Format::F32 | Format::F16)
    }

    /// Bits of one code, or of one float.
    pub const fn code_bits(self) -> u32 {
        match self {
            Format::F32 => 32,
            Format::F16 => 16,
            Format::Q4 | Format::Q4M | Format::Q4T => 4,
            Format::Q5 | Format::Q5M => 5,
            Format::Q6 => 6,
            Format::Q8 => 8,
        }
    }

    /// Bits per weight with scales and mins, without padding.
    pub fn bits_per_weight(self) -> f32 {
        match self.is_quantised() {
            true => (self.group_bytes() * 8) as f32 / (TILE_ROWS * GROUP) as f32,
            false => self.code_bits() as f32,
        }
    }

    /// The code that stands for zero before `min` is added.
    pub const fn zero_point(self) -> u8 {
        match self {
            Format::F32 | Format::F16 | Format::Q4M | Format::Q5M => 0,
            Format::Q4 => 8,
            Format::Q5 => 16,
            Format::Q6 => 32,
            Format::Q4T | Format::Q8 => 128,
        }
    }

    /// What a code is multiplied with its scale as: how far from zero it is.
    pub fn value(self, code: u8) -> i32 {
        let code = match self {
            Format::Q4T => TABLE[usize::from(code & 15)],
            _ => code,
        };
        i32::from(code) - i32::from(self.zero_point())
    }

    /// Whether every scale comes with a minimum.
    pub const fn has_mins(self) -> bool {
        matches!(self, Format::Q4M | Format::Q5M)
    }

    /// Scales per block of 32 columns.
    pub const fn scales_per_block(self) -> usize {
        match self {
            Format::F32 | Format::F16 => 0,
            Format::Q6 => 2,
            _ => 1,
        }
    }

    /// Bytes of the codes of one block: 16 rows by 32 columns.
    pub const fn block_bytes(self) -> usize {
        TILE_ROWS * BLOCK * self.code_bits() as usize / 8
    }

    /// Bytes of the scales of one group.
    pub const fn scales_bytes(self) -> usize {
        2 * self.scales_per_block() * TILE_ROWS * 2
    }

    /// Where the codes begin in a group: after scales and mins.
    pub const fn codes_offset(self) -> usize {
        match self.has_mins() {
            true => 2 * self.scales_bytes(),
            false => self.scales_bytes(),
        }
    }

    /// Bytes of one group: 16 rows by 64 columns.
    pub const fn group_bytes(self) -> usize {
        self.codes_offset() + 2 * self.block_bytes()
    }

    /// Bytes of a packed matrix, a multiple of [`ALIGN`]. Fails on a zero size, on `cols` that is
    /// not a multiple of 32 in a quantised format, and on sizes beyond the address space.
    pub fn packed_bytes(self, rows: usize, cols: usize) -> Result<usize> {
        let invalid = |why| {
            let name = self.name();
            Err(Error::InvalidArgument(format!("a {rows} x {cols} matrix in format {name}: {why}")))
        };
        if rows == 0 || cols == 0 {
            return invalid("rows and columns must be at least 1");
        }
        if self.is_quantised() && !cols.is_multiple_of(BLOCK) {
            return invalid("columns must be a multiple of 32");
        }
        let bytes = match self.is_quantised() {
            true => cols
                .div_ceil(GROUP)
                .checked_mul(self.group_bytes())
                .and_then(|tile| tile.checked_mul(rows.div_ceil(TILE_ROWS))),
            false => rows
                .checked_mul(cols)
                .and_then(|n| n.checked_mul(self.code_bits() as usize / 8))
                .and_then(|n| n.checked_next_multiple_of(ALIGN)),
        };
        match bytes {
            Some(bytes) if bytes <= isize::MAX as usize => Ok(bytes),
            _ => invalid("too large"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_follow_the_layout() {
        let table = [
            (Format::F32, 3, 5, 64, 32.0),
            (Format::F16, 7, 5, 128, 16.0),
            (Format::Q4, 16, 64, 576, 4.5),
            (Format::Q4M, 16, 64, 640, 5.0),
            (Format::Q4T, 16, 64, 576, 4.5),
            (Format::Q5, 17, 64, 2 * 704, 5.5),
            (Format::Q5M, 17, 64, 2 * 768, 6.0),
            (Format::Q6, 16, 96, 2 * 896, 7.0),
            (Format::Q8, 1, 32, 1088, 8.5),
        ];
        for (format, rows, cols, bytes, bits) in table {
            assert_eq!(format.packed_bytes(rows, cols).unwrap(), bytes, "{}", format.name());
            assert_eq!(format.bits_per_weight(), bits, "{}", format.name());
            if format.is_quantised() {
                assert!(format.group_bytes() % ALIGN == 0 && format.codes_offset() % ALIGN == 0);
            }
        }
    }

    #[test]
    fn impossible_sizes_are_errors() {
        for format in Format::ALL {
            assert!(format.packed_bytes(0, 32).is_err());
            assert!(format.packed_bytes(16, 0).is_err());
            assert!(format.packed_bytes(usize::MAX, usize::MAX & !31).is_err());
            assert_eq!(format.packed_bytes(16, 33).is_err(), format.is_quantised());
        }
    }

    #[test]
    fn the_name_is_the_one_in_files() {
        for format in Format::ALL {
            assert_eq!(serde_json::to_string(&format).unwrap(), format!("\"{}\"", format.name()));
        }
    }
}
