//! What the rows of the table make of a file: the graph's nodes and their attributes.

use std::collections::BTreeSet;

use super::family::FAMILIES;
use super::testing::gguf::{File, HIDDEN, LAYERS, Model, Tensor, Value};
use super::testing::{lfm2, vector};
use super::tests::{Packed, number, pack_file, pack_with_options, weights_of};
use super::*;

fn decimal(node: &tract_onnx::pb::NodeProto, name: &str) -> Option<f32> {
    node.attribute.iter().find(|attribute| attribute.name == name).map(|attribute| attribute.f)
}

fn refusal(file: &File) -> String {
    format!("{:#}", pack_file(file).err().unwrap())
}

#[test]
fn names_are_there_once() {
    let names: BTreeSet<_> = FAMILIES.iter().map(|family| family.name).collect();
    assert_eq!(names.len(), FAMILIES.len());
    assert!(names.len() >= 20, "{names:?}");
}

#[test]
fn an_unknown_architecture_matters_more_than_a_tensor_that_cannot_be_read() {
    let mut file = Model::new("mamba").file();
    file.tensor("blk.0.ffn_up.weight").kind = 99;
    let error = refusal(&file);
    assert!(error.contains("architecture mamba is not supported"), "{error}");
    let mut file = Model::new("llama").file();
    file.tensor("blk.0.ffn_up.weight").kind = 99;
    assert!(refusal(&file).contains("blk.0.ffn_up.weight"));
}

#[test]
fn what_a_family_needs_must_be_there_and_nothing_else() {
    let error = refusal(&Model::new("qwen3").file());
    assert!(error.contains("blk.0.attn_q_norm.weight is missing"), "{error}");
    let mut file = Model::new("qwen2").file();
    file.tensors.push(vector("blk.0.attn_q_norm.weight", &[1.0; 64]));
    let error = refusal(&file);
    assert!(error.contains("blk.0.attn_q_norm.weight is not known"), "{error}");
    let mut file = Model::new("qwen3").file();
    for layer in 0..LAYERS {
        for part in ["q", "k"] {
            let name = format!("blk.{layer}.attn_{part}_norm.weight");
            file.tensors.push(vector(&name, &[1.5; 64]));
        }
    }
    let packed = pack_file(&file).unwrap();
    let norm = packed.nodes("HeadNorm")[1];
    assert_eq!((number(norm, "queries"), number(norm, "keys")), (256, 128));
    assert_eq!(packed.initializer("head_norm.1.keys.gamma"), [1.5; 64]);
    file.tensor("blk.1.attn_k_norm.weight").shape = vec![32];
    assert!(refusal(&file).contains("expected 64 or 128"));
}

#[test]
fn windows_are_where_the_file_or_the_family_has_them() {
    let windows = |packed: &Packed| -> Vec<_> {
        let nodes = packed.nodes("Attention");
        let is_window = |a: &&tract_onnx::pb::AttributeProto| a.name == "window";
        nodes.iter().map(|node| node.attribute.iter().find(is_window).map(|a| a.i)).collect()
    };
    let mut file = Model::new("llama").file();
    assert_eq!(windows(&pack_file(&file).unwrap()), [None, None]);
    file.set("llama.attention.sliding_window", Value::U32(16));
    assert_eq!(windows(&pack_file(&file).unwrap()), [Some(16), Some(16)]);
    file.set("llama.attention.sliding_window_pattern", Value::U32(2));
    assert_eq!(windows(&pack_file(&file).unwrap()), [Some(16), None]);
    file.set("llama.attention.sliding_window_pattern", Value::I32s(vec![0, 1]));
    assert_eq!(windows(&pack_file(&file).unwrap()), [None, Some(16)]);
    file.set("llama.attention.sliding_window_pattern", Value::I32s(vec![0]));
    assert!(refusal(&file).contains("1 entries for 2 layers"));
}

#[test]
fn scales_are_factors_in_the_graph() {
    let mut file = Model::new("granite").file();
    for (key, value) in [("embedding_scale", 12.0), ("residual_scale", 0.25), ("logit_scale", 8.0)]
    {
        file.set(&format!("granite.{key}"), Value::F32(value));
    }
    file.set("granite.attention.scale", Value::F32(0.5));
    let packed = pack_file(&file).unwrap();
    assert_eq!(packed.nodes("Mul").len(), 2 + 2 * LAYERS);
    assert_eq!(packed.initializer("residual.0.by"), [12.0]);
    assert_eq!(packed.initializer("down.1.scaled.by"), [0.25]);
    assert_eq!(packed.initializer("logits.by"), [0.125]);
    let attention = packed.nodes("Attention")[0];
    let scales = attention.attribute.iter().find(|a| a.name == "scales").unwrap();
    assert_eq!(scales.floats, [0.5]);

    let mut file = Model::new("qwen2").file();
    file.set("qwen2.residual_scale", Value::F32(0.25));
    assert!(refusal(&file).contains("a scale that this family does not have"));
    file.set("qwen2.residual_scale", Value::F32(0.0));
    file.set("qwen2.attention.scale", Value::F32(-1.0));
    assert!(refusal(&file).contains("expected a positive number"));
}

#[test]
fn one_matrix_may_be_queries_keys_and_values() {
    let mut file = Model::new("llama").file();
    let mut joined = Vec::new();
    for part in ["q", "k", "v"] {
        joined.extend_from_slice(&file.tensor(&format!("blk.0.attn_{part}.weight")).data);
    }
    let separate = pack_file(&file).unwrap();
    file.tensors.retain(|tensor| {
        !["q", "k", "v"].iter().any(|part| tensor.name == format!("blk.0.attn_{part}.weight"))
    });
    let shape = vec![HIDDEN as u64, 512];
    file.tensors.push(Tensor {
        name: "blk.0.attn_qkv.weight".into(),
        shape,
        kind: 0,
        data: joined,
    });
    let packed = pack_file(&file).unwrap();
    assert_eq!(weights_of(packed.nodes("QuantMatMul")[0]), ["blk.0.attn_qkv.weight"]);
    for (part, start, rows) in [("q", 0, 256), ("k", 256, 128), ("v", 384, 128)] {
        for row in [0, 1, 33, rows - 1] {
            let own = separate.row(&format!("blk.0.attn_{part}.weight"), row);
            assert_eq!(packed.row("blk.0.attn_qkv.weight", start + row), own, "{part} {row}");
        }
    }
}

#[test]
fn layers_may_lack_a_part() {
    let mut file = Model::new("deci").file();
    file.set("deci.attention.head_count", Value::I32s(vec![4, 0]));
    file.set("deci.attention.head_count_kv", Value::I32s(vec![2, 0]));
    file.set("deci.feed_forward_length", Value::I32s(vec![0, 512]));
    file.tensors.retain(|tensor| {
        !tensor.name.starts_with("blk.1.attn") && !tensor.name.starts_with("blk.0.ffn")
    });
    let packed = pack_file(&file).unwrap();
    let count = |op| packed.nodes(op).len();
    assert_eq!((count("Attention"), count("Activate"), count("SelectRows")), (1, 1, 2));
    file.set("deci.feed_forward_length", Value::I32s(vec![0, 0]));
    assert!(refusal(&file).contains("layer 1 has nothing in it"));
}

#[test]
fn a_layer_may_be_a_convolution() {
    let mut file = lfm2();
    file.pairs.retain(|(key, _)| key != "lfm2.shortconv.l_cache");
    assert!(refusal(&file).contains("lfm2.shortconv.l_cache is missing"));
    file.set("lfm2.shortconv.l_cache", Value::U32(3));
    let packed = pack_file(&file).unwrap();
    let conv = packed.nodes("ShortConv")[0];
    assert_eq!((number(conv, "width"), number(conv, "taps")), (HIDDEN as i64, 3));
    let kernel = packed.initializer("conv_kernel.0");
    assert_eq!(
        (kernel[..2].to_vec(), kernel[HIDDEN], kernel.len()),
        (vec![0.0, 3.0], 1.0, 3 * HIDDEN)
    );
    assert_eq!((packed.nodes("ShortConv").len(), packed.nodes("Attention").len()), (1, 1));
    file.set("lfm2.shortconv.l_cache", Value::U32(4));
    assert!(refusal(&file).contains("expected 256 x 4"));
    file.set("lfm2.shortconv.l_cache", Value::U32(65));
    assert!(refusal(&file).contains("at most 64"));
}

/// Expected values by hand from the formulas of the paper: dimensions 64, base 10000.
#[test]
fn yarn_keeps_fast_frequencies_and_stretches_slow_ones() {
    let mut file = Model::new("llama").file();
    file.set("llama.context_length", Value::U32(4096));
    file.set("llama.rope.scaling.type", Value::Text("yarn".into()));
    file.set("llama.rope.scaling.factor", Value::F32(4.0));
    file.set("llama.rope.scaling.original_context_length", Value::U32(1024));
    let packed = pack_file(&file).unwrap();
    let factors = packed.initializer("rope_factors.0");
    // 64 · ln(1024 / 64π) / (2 · ln 10000) = 5.65, and with 2π 17.7.
    assert_eq!((factors[5], factors[18], factors[31]), (1.0, 4.0, 4.0));
    assert!((factors[11] - 1.0 / (1.0 - 0.75 * 6.0 / 13.0)).abs() < 1e-5, "{factors:?}");
    let length = decimal(packed.nodes("Attention")[0], "rope_length").unwrap();
    assert!((length - (0.1 * 4f32.ln() + 1.0)).abs() < 1e-6, "{length}");
    file.set("llama.rope.scaling.factor", Value::F32(-4.0));
    assert!(refusal(&file).contains("expected a positive number"));
}

#[test]
fn longrope_has_factors_for_a_context() {
    let mut file = Model::new("llama").file();
    file.set("llama.context_length", Value::U32(4096));
    file.set("llama.rope.scaling.type", Value::Text("longrope".into()));
    file.set("llama.rope.scaling.original_context_length", Value::U32(1024));
    file.set("llama.rope.scaling.attn_factor", Value::F32(1.25));
    file.tensors.push(vector("rope_factors_short.weight", &[1.5; 32]));
    file.tensors.push(vector("rope_factors_long.weight", &[7.0; 32]));
    for (asked, context, factor) in
        [(None, 1024, 1.5), (Some(512), 512, 1.5), (Some(1025), 1025, 7.0)]
    {
        let options = Options { context: asked, ..Options::new() };
        let packed = pack_with_options(&file, options).unwrap();
        assert_eq!(packed.bundle.manifest().model.context, context);
        assert_eq!(packed.initializer("rope_factors.0"), [factor; 32]);
        assert_eq!(decimal(packed.nodes("Attention")[0], "rope_length"), Some(1.25));
    }
    let options = Options { context: Some(4097), ..Options::new() };
    let error = format!("{:#}", pack_with_options(&file, options).err().unwrap());
    assert!(error.contains("the model was made for 4096"), "{error}");
}

#[test]
fn some_layers_turn_nothing() {
    let dims = |file: &File| -> Vec<i64> {
        let packed = pack_file(file).unwrap();
        packed.nodes("Attention").iter().map(|node| number(node, "rope_dim")).collect()
    };
    let mut file = Model::new("granite").file();
    assert_eq!(dims(&file), [64, 64]);
    file.set("granite.rope.scaling.finetuned", Value::Bool(false));
    assert_eq!(dims(&file), [0, 0]);
}
