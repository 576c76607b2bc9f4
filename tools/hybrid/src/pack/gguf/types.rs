//! ggml's tensor types: how large their blocks are, and what becomes of them in a bundle.

use anyhow::{Result, bail};
use hybrid::slm::kernels::{Format, RowBuffer};

use super::blocks::*;

/// A row of [`TensorType::ALL`].
#[derive(Clone, Copy)]
pub struct TensorType {
    id: u32,
    name: &'static str,
    /// Values in one block and the bytes it takes.
    block: (usize, usize),
    packing: Packing,
}

/// Takes one block of exactly the type's size apart; `None` if it is shorter.
pub(super) type Decode = fn(&[u8], &mut RowBuffer) -> Option<()>;

#[derive(Clone, Copy)]
enum Packing {
    /// Its codes are the format's.
    Kept(Format, Decode),
    /// In a format with more bits, which holds the same values, but for `Q2_K` and `BF16` to the
    /// last bit (see there).
    Recoded(Format, Decode),
    Refused,
}
use Packing::{Kept, Recoded, Refused};

const fn new(
    id: u32,
    name: &'static str,
    values: usize,
    bytes: usize,
    packing: Packing,
) -> TensorType {
    TensorType { id, name, block: (values, bytes), packing }
}

impl TensorType {
    // Those that other sources than GGUF files are written in.
    pub const F32: TensorType = new(0, "F32", 1, 4, Kept(Format::F32, f32_value));
    pub const F16: TensorType = new(1, "F16", 1, 2, Kept(Format::F16, f16_value));
    pub const Q4_0: TensorType = new(2, "Q4_0", 32, 18, Kept(Format::Q4, q4_0));
    pub const Q4_1: TensorType = new(3, "Q4_1", 32, 20, Kept(Format::Q4M, q4_1));
    pub const Q5_1: TensorType = new(7, "Q5_1", 32, 24, Kept(Format::Q5M, q5_1));
    pub const Q8_0: TensorType = new(8, "Q8_0", 32, 34, Kept(Format::Q8, q8_0));

    /// All that files may have, so that an error can name the one it is about.
    pub const ALL: [TensorType; 34] = [
        TensorType::F32,
        TensorType::F16,
        TensorType::Q4_0,
        TensorType::Q4_1,
        new(6, "Q5_0", 32, 22, Kept(Format::Q5, q5_0)),
        TensorType::Q5_1,
        TensorType::Q8_0,
        new(9, "Q8_1", 32, 36, Refused),
        new(10, "Q2_K", 256, 84, Recoded(Format::Q8, q2_k)),
        new(11, "Q3_K", 256, 110, Recoded(Format::Q6, q3_k)),
        new(12, "Q4_K", 256, 144, Kept(Format::Q4M, q4_k)),
        new(13, "Q5_K", 256, 176, Kept(Format::Q5M, q5_k)),
        new(14, "Q6_K", 256, 210, Kept(Format::Q6, q6_k)),
        new(15, "Q8_K", 256, 292, Refused),
        new(16, "IQ2_XXS", 256, 66, Refused),
        new(17, "IQ2_XS", 256, 74, Refused),
        new(18, "IQ3_XXS", 256, 98, Refused),
        new(19, "IQ1_S", 256, 50, Refused),
        new(20, "IQ4_NL", 32, 18, Kept(Format::Q4T, iq4_nl)),
        new(21, "IQ3_S", 256, 110, Refused),
        new(22, "IQ2_S", 256, 82, Refused),
        new(23, "IQ4_XS", 256, 136, Kept(Format::Q4T, iq4_xs)),
        new(24, "I8", 1, 1, Refused),
        new(25, "I16", 1, 2, Refused),
        new(26, "I32", 1, 4, Refused),
        new(27, "I64", 1, 8, Refused),
        new(28, "F64", 1, 8, Refused),
        new(29, "IQ1_M", 256, 56, Refused),
        new(30, "BF16", 1, 2, Recoded(Format::F16, bf16_value)),
        new(34, "TQ1_0", 256, 54, Recoded(Format::Q4, tq1_0)),
        new(35, "TQ2_0", 256, 66, Recoded(Format::Q4, tq2_0)),
        new(39, "MXFP4", 32, 17, Recoded(Format::Q5, mxfp4)),
        new(40, "NVFP4", 64, 36, Refused),
        new(41, "Q1_0", 128, 18, Recoded(Format::Q4, q1_0)),
    ];

    /// Those that can be packed.
    pub fn supported() -> impl Iterator<Item = TensorType> {
        TensorType::ALL.into_iter().filter(|kind| !matches!(kind.packing, Refused))
    }

    /// The type of this number. Fails on a number whose blocks have no known size.
    pub fn from_id(id: u32) -> Result<TensorType> {
        let known = TensorType::ALL.into_iter().find(|kind| kind.id == id);
        match (known, dropped(id)) {
            (Some(kind), _) => Ok(kind),
            (None, Some(name)) => bail!(
                "llama.cpp has dropped tensor type {name}; make the file again with \
                 `llama-quantize`, in Q4_0"
            ),
            (None, None) => bail!("tensor type number {id} is unknown; {}", way_out()),
        }
    }

    /// Fails on a type that cannot be packed and says which one can.
    pub fn check(self) -> Result<()> {
        match self.packing {
            Refused => bail!("tensor type {} is not supported; {}", self.name, way_out()),
            _ => Ok(()),
        }
    }

    /// The number that stands for the type in a file.
    #[cfg(test)]
    pub fn id(self) -> u32 {
        self.id
    }

    pub fn name(self) -> &'static str {
        self.name
    }

    /// Values in one block and the bytes it takes.
    pub fn block(self) -> (usize, usize) {
        self.block
    }

    /// Whether it has values and no codes: norm weights and biases are never anything else.
    pub fn is_float(self) -> bool {
        matches!(self.name, "F32" | "F16" | "BF16")
    }

    /// The kernels' format that holds these blocks.
    pub fn format(self) -> Format {
        match self.packing {
            Kept(format, _) | Recoded(format, _) => format,
            // Never written: its blocks have no decoder.
            Refused => Format::F32,
        }
    }

    pub(super) fn decoder(self) -> Option<Decode> {
        match self.packing {
            Kept(_, decode) | Recoded(_, decode) => Some(decode),
            Refused => None,
        }
    }

    /// What becomes of `count` matrices of a type that no format keeps as it is.
    pub fn note(self, count: usize) -> Option<String> {
        let Recoded(format, _) = self.packing else { return None };
        let (values, bytes) = self.block;
        Some(format!(
            "{count} matrices of type {} are packed as {}: {:.1} bits a weight instead of {:.1}",
            self.name,
            format.name(),
            format.bits_per_weight(),
            8.0 * bytes as f32 / values as f32
        ))
    }
}

impl PartialEq for TensorType {
    fn eq(&self, other: &TensorType) -> bool {
        self.id == other.id
    }
}

impl Eq for TensorType {}

impl std::fmt::Debug for TensorType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Types that old files have and nothing reads any more: rows of `Q4_0` and `IQ4_NL` interleaved
/// for one CPU, and the first attempts at 4 bits.
fn dropped(id: u32) -> Option<&'static str> {
    Some(match id {
        4 => "Q4_2",
        5 => "Q4_3",
        31 => "Q4_0_4_4",
        32 => "Q4_0_4_8",
        33 => "Q4_0_8_8",
        36 => "IQ4_NL_4_4",
        37 => "IQ4_NL_4_8",
        38 => "IQ4_NL_8_8",
        _ => return None,
    })
}

fn way_out() -> String {
    let names: Vec<_> = TensorType::supported().map(TensorType::name).collect();
    format!(
        "make the file again with `llama-quantize` from one with more bits: Q4_K_M, IQ4_XS, Q5_K_M \
         and Q8_0 are good choices. Supported are {}",
        names.join(", ")
    )
}
