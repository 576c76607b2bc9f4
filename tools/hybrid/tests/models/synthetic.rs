//! Bundles of synthetic models for tests of the SLM. Needs `gguf` beside it.

use std::fs;
use std::path::Path;
use std::process::Command;

use hybrid::bundle::{Bundle, FileRole, Manifest, Verify, Writer};

use super::gguf;

/// Packs `source` (a GGUF file or an export) with the tool, as a person would.
pub fn pack(source: &Path, bundle: &Path) -> Bundle {
    let output = Command::new(env!("CARGO_BIN_EXE_hybrid"))
        .arg("pack")
        .arg(source)
        .arg("-o")
        .arg(bundle)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Bundle::open(bundle, Verify::All).unwrap()
}

/// A packed synthetic model with room for `context` tokens, in `dir`.
pub fn packed(model: gguf::Model, context: u32, dir: &Path) -> Bundle {
    let mut file = model.file();
    let key = format!("{}.context_length", model.architecture);
    file.set(&key, gguf::Value::U32(context));
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("model.gguf"), file.bytes()).unwrap();
    pack(&dir.join("model.gguf"), &dir.join("bundle"))
}

/// A copy of a bundle with another graph and manifest, hashes in order.
pub fn with_graph(
    bundle: &Bundle,
    graph: &[u8],
    change: impl FnOnce(&mut Manifest),
    dir: &Path,
) -> Bundle {
    let mut manifest = bundle.manifest().clone();
    change(&mut manifest);
    let mut writer = Writer::create(dir, false).unwrap();
    writer.add_bytes(FileRole::Graph, graph).unwrap();
    writer.add_bytes(FileRole::Weights, &bundle.weights().unwrap()).unwrap();
    writer.add_bytes(FileRole::Tokenizer, &bundle.read(FileRole::Tokenizer).unwrap()).unwrap();
    writer.finish(manifest).unwrap();
    Bundle::open(dir, Verify::All).unwrap()
}
