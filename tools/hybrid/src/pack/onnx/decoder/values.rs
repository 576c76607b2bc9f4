//! The numbers in constants, inside the file or in one beside it.

use std::collections::btree_map::{BTreeMap, Entry};
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use half::{bf16, f16};
use hybrid::bundle;
use memmap2::Mmap;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, TensorProto};

use super::super::external::{Piece, is_external};

/// Files with external data, mapped.
pub struct Values {
    dir: PathBuf,
    maps: BTreeMap<String, Mmap>,
}

impl Values {
    pub fn open(graph: &GraphProto, dir: &Path) -> Result<Values> {
        let mut maps = BTreeMap::new();
        for tensor in graph.initializer.iter().filter(|tensor| is_external(tensor)) {
            let piece =
                Piece::of(tensor, dir).with_context(|| format!("tensor {}", tensor.name))?;
            if let Entry::Vacant(place) = maps.entry(piece.location) {
                let map = bundle::map(&File::open(dir.join(place.key()))?)?;
                place.insert(map);
            }
        }
        Ok(Values { dir: dir.to_owned(), maps })
    }

    /// The bytes as they would be in `raw_data`.
    pub fn bytes(&self, tensor: &TensorProto) -> Result<Vec<u8>> {
        let named = || format!("tensor {}", tensor.name);
        if is_external(tensor) {
            let piece = Piece::of(tensor, &self.dir).with_context(named)?;
            let map = self.maps.get(&piece.location).with_context(named)?;
            return map.get(piece.range()?).map(<[u8]>::to_vec).with_context(named);
        }
        if !tensor.raw_data.is_empty() {
            return Ok(tensor.raw_data.clone());
        }
        Ok(match kind(tensor) {
            DataType::Float => tensor.float_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
            DataType::Int64 => tensor.int64_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
            DataType::Float16 | DataType::Bfloat16 => {
                tensor.int32_data.iter().flat_map(|v| (*v as u16).to_le_bytes()).collect()
            }
            DataType::Int32 => tensor.int32_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
            _ => tensor.int32_data.iter().map(|v| *v as u8).collect(),
        })
    }

    pub fn floats(&self, tensor: &TensorProto) -> Result<Vec<f32>> {
        let bytes = self.bytes(tensor)?;
        let halves = bytes.as_chunks().0.iter().copied();
        let values: Vec<f32> = match kind(tensor) {
            DataType::Float => {
                bytes.as_chunks().0.iter().copied().map(f32::from_le_bytes).collect()
            }
            DataType::Float16 => halves.map(|b| f16::from_le_bytes(b).to_f32()).collect(),
            DataType::Bfloat16 => halves.map(|b| bf16::from_le_bytes(b).to_f32()).collect(),
            other => bail!("{} has type {}, expected floats", tensor.name, other.as_str_name()),
        };
        self.check_length(tensor, values.len())?;
        Ok(values)
    }

    pub fn integers(&self, tensor: &TensorProto) -> Result<Vec<i64>> {
        let bytes = self.bytes(tensor)?;
        Ok(match kind(tensor) {
            DataType::Int32 => {
                let values = bytes.as_chunks().0.iter();
                values.map(|b| i64::from(i32::from_le_bytes(*b))).collect()
            }
            _ => bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect(),
        })
    }

    fn check_length(&self, tensor: &TensorProto, found: usize) -> Result<()> {
        let wanted = count(tensor);
        ensure!(wanted == Some(found), "{} has {found} values, expected {wanted:?}", tensor.name);
        Ok(())
    }
}

pub fn kind(tensor: &TensorProto) -> DataType {
    DataType::try_from(tensor.data_type).unwrap_or(DataType::Undefined)
}

/// How many values the shape says.
pub fn count(tensor: &TensorProto) -> Option<usize> {
    tensor
        .dims
        .iter()
        .try_fold(1usize, |product, &dim| product.checked_mul(usize::try_from(dim).ok()?))
}

/// The sizes of a matrix.
pub fn matrix(tensor: &TensorProto) -> Result<(usize, usize)> {
    let size = |dim: i64| usize::try_from(dim).ok().filter(|n| (1..1 << 32).contains(n));
    match tensor.dims[..] {
        [a, b] => size(a).zip(size(b)),
        _ => None,
    }
    .with_context(|| format!("{} has shape {:?}, expected a matrix", tensor.name, tensor.dims))
}

/// Floats or codes, and not sizes or masks.
pub fn is_weight(tensor: &TensorProto) -> bool {
    let types = [DataType::Float, DataType::Float16, DataType::Bfloat16, DataType::Uint8];
    types.contains(&kind(tensor)) && count(tensor).is_none_or(|count| count > 1024)
}
