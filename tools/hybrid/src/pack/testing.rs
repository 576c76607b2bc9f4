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
