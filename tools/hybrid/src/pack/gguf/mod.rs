//! A bounded reader of GGUF files, versions 2 and 3.
//!
//! The file is untrusted: every count, length and offset is checked against the bytes there are
//! before anything is allocated or sliced, and nothing panics.

mod blocks;
mod cursor;
mod metadata;
mod tensor;
mod types;

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

use cursor::Cursor;
pub use metadata::{Metadata, Value, required};
pub use tensor::Tensor;
pub use types::TensorType;

const MAGIC: &[u8] = b"GGUF";
const DEFAULT_ALIGNMENT: usize = 32;
const MAX_ALIGNMENT: usize = 1 << 20;

/// What the file says. The tensors' data stay in the file's bytes.
#[derive(Debug)]
pub struct Gguf {
    pub metadata: Metadata,
    /// By name.
    pub tensors: BTreeMap<String, Tensor>,
}

impl Gguf {
    /// Reads the head of the file and checks that every tensor lies inside `file`.
    pub fn parse(file: &[u8]) -> Result<Gguf> {
        let mut cursor = Cursor::new(file);
        let (metadata, tensor_count) = Gguf::begin(&mut cursor)?;
        if let Some(parts) = metadata.integer("split.count")?
            && parts > 1
        {
            bail!("this is one of {parts} files of a split model; merge them into one GGUF first");
        }
        let alignment = alignment(&metadata)?;
        let mut tensors = Vec::new();
        for index in 0..tensor_count {
            let tensor =
                Tensor::parse(&mut cursor).with_context(|| format!("tensor number {index}"))?;
            tensors.push(tensor);
        }
        let data = cursor.position().next_multiple_of(alignment);
        let mut by_name = BTreeMap::new();
        for (name, mut tensor) in tensors {
            tensor.place(data, alignment, file.len()).with_context(|| name.clone())?;
            ensure!(!by_name.contains_key(&name), "tensor {name} is there twice");
            by_name.insert(name, tensor);
        }
        Ok(Gguf { metadata, tensors: by_name })
    }

    /// Only what stands before the tensors.
    pub fn metadata(file: &[u8]) -> Result<Metadata> {
        Ok(Gguf::begin(&mut Cursor::new(file))?.0)
    }

    /// The metadata, and how many tensors follow.
    fn begin(cursor: &mut Cursor) -> Result<(Metadata, u64)> {
        ensure!(cursor.take(4)? == MAGIC, "not a GGUF file: it does not begin with \"GGUF\"");
        match cursor.u32()? {
            2 | 3 => {}
            version if version.swap_bytes() <= 3 => {
                bail!("big-endian GGUF files are not supported")
            }
            version => bail!("GGUF version {version} is not supported; versions 2 and 3 are"),
        }
        let tensor_count = cursor.u64()?;
        let pair_count = cursor.u64()?;
        Ok((Metadata::parse(cursor, pair_count)?, tensor_count))
    }
}

fn alignment(metadata: &Metadata) -> Result<usize> {
    let key = "general.alignment";
    let Some(value) = metadata.integer(key)? else { return Ok(DEFAULT_ALIGNMENT) };
    match usize::try_from(value) {
        Ok(value) if value.is_power_of_two() && value <= MAX_ALIGNMENT => Ok(value),
        _ => bail!("{key} is {value}, expected a power of two up to {MAX_ALIGNMENT}"),
    }
}

#[cfg(test)]
mod tests;
