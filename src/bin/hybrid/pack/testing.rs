//! Models and recordings for tests.

use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::gguf::Gguf;

#[path = "../../../../tests/support/gguf.rs"]
pub mod gguf;

pub const SMOLLM2: &str = "smollm2-135m-instruct-q4_1.gguf";
pub const QWEN2: &str = "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf";

/// A real model in the folder `HYBRID_MODELS`, else in the cache of the scripts. `scripts/test` fetches
/// them; a test that finds none says so and passes.
pub fn model(name: &str) -> Option<(Gguf, Mmap)> {
    let path = folder()?.join(name);
    match File::open(&path) {
        Ok(file) => {
            let map = hybrid::bundle::map(&file).unwrap();
            Some((Gguf::parse(&map).unwrap(), map))
        }
        Err(error) => {
            eprintln!("not tested: {}: {error}", path.display());
            None
        }
    }
}

fn folder() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    variable("HYBRID_MODELS").or_else(|| {
        let cache =
            variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")))?;
        Some(cache.join("libhybrid"))
    })
}

/// What llama.cpp said, from tests/data.
pub fn recorded<T: serde::de::DeserializeOwned>(name: &str) -> T {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/llama-cpp");
    serde_json::from_slice(&std::fs::read(dir.join(name)).unwrap()).unwrap()
}
