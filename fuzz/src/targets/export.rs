//! A folder with an ONNX export, packed as by `hybrid pack`: its configuration and its graph.

use std::fs;
use std::path::{Path, PathBuf};

use hybrid::bundle::FileRole;
use temp_dir::TempDir;

use crate::Target;
use crate::parts::Parts;
use crate::small::{self, Files};

pub const TARGET: Target = Target {
    name: "export",
    run,
    seeds,
    words: &[
        "\"model\"",
        "\"decoder\"",
        "\"filename\"",
        "\"head_size\"",
        "\"hidden_size\"",
        "\"num_attention_heads\"",
        "\"num_hidden_layers\"",
        "\"num_key_value_heads\"",
        "\"model_type\"",
        "\"vocab_size\"",
        "\"eos_token_id\"",
        "\"rope_theta\"",
        "\"rope_scaling\"",
        "\"max_position_embeddings\"",
        "../",
        "/etc/",
        "MatMulNBits",
        "GroupQueryAttention",
        "SkipSimplifiedLayerNormalization",
        "SimplifiedLayerNormalization",
        "RotaryEmbedding",
        "GatherBlockQuantized",
        "com.microsoft",
        "past_key_values.0.key",
        "present.0.key",
        "external",
        "location",
        "offset",
        "length",
        "model.onnx.data",
        "bits",
        "block_size",
        "accuracy_level",
        "\u{0}",
    ],
    longest: 96 << 10,
};

/// Folder, configuration, graph, and whether there are weights beside it.
const EXPORTS: [(&str, &str, &str, bool); 4] = [
    ("fused-exports/genai", "genai_config.json", "model.onnx", true),
    ("fused-exports/tied", "config.json", "model.onnx", false),
    ("fused-exports/separate", "config.json", "model_q4.onnx", false),
    ("plain-export", "config.json", "model.onnx", false),
];

fn folder(export: usize) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data").join(EXPORTS[export].0)
}

/// The first byte chooses the export, up to the next NUL is its configuration, then its graph.
fn run(input: &[u8]) {
    let mut parts = Parts(input);
    let export = parts.byte() as usize % EXPORTS.len();
    let (_, config, graph, has_data) = EXPORTS[export];
    let temp = TempDir::new().unwrap();
    fs::write(temp.child(config), parts.until(0)).unwrap();
    fs::write(temp.child(graph), parts.0).unwrap();
    fs::write(temp.child("tokenizer.json"), Files::small().file(FileRole::Tokenizer)).unwrap();
    if has_data {
        fs::copy(folder(export).join("model.onnx.data"), temp.child("model.onnx.data")).unwrap();
    }
    if small::pack(temp.path(), &temp.child("bundle")).is_err() {
        assert!(!temp.child("bundle").exists(), "an error leaves a bundle");
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let seed = |export: usize| {
        let (_, config, graph, _) = EXPORTS[export];
        let read = |name: &str| fs::read(folder(export).join(name)).unwrap();
        [&[export as u8][..], &read(config), &[0], &read(graph)].concat()
    };
    // The others are longer than an input may be.
    (0..EXPORTS.len()).map(seed).filter(|seed| seed.len() <= TARGET.longest).collect()
}
