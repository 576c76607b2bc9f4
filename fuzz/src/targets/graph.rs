//! The SLM's graph, packed or plain, under a right hash.

use std::path::Path;

use hybrid::bundle::FileRole;

use crate::Target;
use crate::small::{Files, try_out};

pub const TARGET: Target = Target {
    name: "graph",
    run,
    seeds,
    words: &[
        "org.libhybrid",
        "QuantEmbedding",
        "RmsNorm",
        "SkipRmsNorm",
        "QuantMatMul",
        "HeadNorm",
        "Attention",
        "Activate",
        "SelectRows",
        "Add",
        "Mul",
        "MatMul",
        "Reshape",
        "Transpose",
        "Gather",
        "Concat",
        "Slice",
        "Softmax",
        "Cast",
        "Constant",
        "Shape",
        "Expand",
        "Loop",
        "If",
        "heads",
        "kv_heads",
        "head_dim",
        "rope_dim",
        "rope_base",
        "window",
        "soft_cap",
        "scales",
        "epsilon",
        "queries",
        "keys",
        "function",
        "gated",
        "weight",
        "weights",
        "input_ids",
        "rows",
        "hidden",
        "logits",
    ],
    longest: 96 << 10,
};

fn run(input: &[u8]) {
    let files = Files::small().with(FileRole::Graph, "graph", input);
    try_out(files.open());
    let mut plain = files;
    plain.manifest["model"]["graph"] = "plain".into();
    try_out(plain.open());
}

fn seeds() -> Vec<Vec<u8>> {
    let export =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/plain-export/model.onnx");
    vec![Files::small().file(FileRole::Graph).to_vec(), std::fs::read(export).unwrap()]
}
