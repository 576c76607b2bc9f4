//! Models and recordings for tests.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use memmap2::Mmap;

use super::gguf::Gguf;

#[path = "../../../../tests/support/gguf.rs"]
pub mod gguf;

pub const SMOLLM2: &str = "smollm2";
pub const QWEN2: &str = "qwen-0.5b";

/// The real model that `scripts/models` knows by `name`; the script fetches what is missing.
pub fn model(name: &str) -> (Gguf, Mmap) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/models");
    let output = Command::new("python3").arg(script).arg(name).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let path = String::from_utf8(output.stdout).unwrap();
    let map = hybrid::bundle::map(&File::open(path.trim()).unwrap()).unwrap();
    (Gguf::parse(&map).unwrap(), map)
}

/// What llama.cpp said, from tests/data.
pub fn recorded<T: serde::de::DeserializeOwned>(name: &str) -> T {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/llama-cpp");
    serde_json::from_slice(&std::fs::read(dir.join(name)).unwrap()).unwrap()
}

/// A model whose first layer is a convolution over three tokens, and whose second is attention.
pub fn lfm2() -> gguf::File {
    let mut file = gguf::Model::new("lfm2").file();
    let matrix = |name: &str, rows: usize| {
        let values = (0..rows * gguf::HIDDEN).map(|i| (i % 7) as f32 / 100.0);
        let data = values.flat_map(f32::to_le_bytes).collect();
        gguf::Tensor {
            name: name.into(),
            shape: vec![gguf::HIDDEN as u64, rows as u64],
            kind: 0,
            data,
        }
    };
    file.tensors
        .retain(|tensor| !tensor.name.starts_with("blk.0.attn_") || tensor.name.contains("norm"));
    file.tensors.push(matrix("blk.0.shortconv.in_proj.weight", 3 * gguf::HIDDEN));
    file.tensors.push(matrix("blk.0.shortconv.out_proj.weight", gguf::HIDDEN));
    // Of each channel the taps: 0, 1, 2, then 3, 4, 5.
    let taps: Vec<f32> = (0..3 * gguf::HIDDEN).map(|i| i as f32).collect();
    let shape = vec![3, gguf::HIDDEN as u64];
    file.tensors.push(gguf::Tensor { shape, ..vector("blk.0.shortconv.conv.weight", &taps) });
    for part in ["q", "k"] {
        file.tensors.push(vector(&format!("blk.1.attn_{part}_norm.weight"), &[1.0; 64]));
    }
    file.tensor("output_norm.weight").name = "token_embd_norm.weight".into();
    file.set("lfm2.attention.head_count_kv", gguf::Value::I32s(vec![0, 2]));
    file.set("lfm2.shortconv.l_cache", gguf::Value::U32(3));
    file
}

pub fn vector(name: &str, values: &[f32]) -> gguf::Tensor {
    let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    gguf::Tensor { name: name.into(), shape: vec![values.len() as u64], kind: 0, data }
}
