//! Real models for tests. `scripts/test` fetches them; a test that finds none says so and passes.

use std::fs::File;
use std::path::PathBuf;

use memmap2::Mmap;

use super::gguf::Gguf;

pub const SMOLLM2: &str = "smollm2-135m-instruct-q4_1.gguf";
pub const QWEN2: &str = "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf";

/// In the folder `HYBRID_MODELS`, else in the cache of the scripts.
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
