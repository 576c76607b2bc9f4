//! The quantised formats as types, so that each gets its own loops.

use super::format::Format;

/// 64 bytes, as they lie in a tile.
pub(super) type Line = [u8; 64];

/// A quantised format.
pub(super) trait Code {
    const FORMAT: Format;
    /// Lines of one group: scales, mins and two blocks of codes.
    const LINES: usize = Self::FORMAT.group_bytes() / 64;
    /// Lines of one block's codes.
    const BLOCK_LINES: usize = Self::FORMAT.block_bytes() / 64;
    /// For kernels that add products in pairs to 16 bits: how many quads fit together, so that
    /// 2 · 127 · largest code · `QUADS` ≤ 32767.
    const QUADS: usize;
    /// For the same kernels: whether codes are unpacked around zero. Unsigned 8-bit codes would
    /// overflow; signed ones, at most 128 from zero, do not.
    const SIGNED: bool = matches!(Self::FORMAT, Format::Q4T | Format::Q8);
}

macro_rules! codes {
    ($($name:ident: $quads:literal)*) => {
        $(pub(super) struct $name;
        impl Code for $name {
            const FORMAT: Format = Format::$name;
            const QUADS: usize = $quads;
        })*
    };
}
codes!(Q4: 8 Q4M: 8 Q4T: 1 Q5: 4 Q5M: 4 Q6: 2 Q8: 1);
