//! Models and recordings for tests.

use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::gguf::Gguf;

#[path = "../../../../tests/support/gguf.rs"]
pub mod gguf;

pub const SMOLLM2: &str = "smollm2-135m-instruct-q4_1.gguf";
pub const QWEN2: &str = "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf";

/// A real model in the folder `HYBRID_MODELS`, as `scripts/test` sets it: one that is not there is a failure.
/// Without the variable, one in the cache of the scripts, or nothing to test.
pub fn model(name: &str) -> Option<(Gguf, Mmap)> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let cache = || variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
    let path = match variable("HYBRID_MODELS") {
        Some(folder) => folder.join(name),
        None => Some(cache()?.join("libhybrid").join(name)).filter(|path| path.is_file())?,
    };
    let file = File::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let map = hybrid::bundle::map(&file).unwrap();
    Some((Gguf::parse(&map).unwrap(), map))
}

/// What llama.cpp said, from tests/data.
pub fn recorded<T: serde::de::DeserializeOwned>(name: &str) -> T {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/llama-cpp");
    serde_json::from_slice(&std::fs::read(dir.join(name)).unwrap()).unwrap()
}
