//! GGUF files, packed as by `hybrid pack`: what is in front of the weights, and the weights
//! themselves in every type.

use std::fs;

use temp_dir::TempDir;

use crate::gguf::{HIDDEN, Model, TYPES, Value};
use crate::parts::Parts;
use crate::{Target, small};

pub const HEADER: Target = Target {
    name: "gguf-header",
    run: run_header,
    seeds: header_seeds,
    words: &[
        "general.architecture",
        "general.alignment",
        "llama",
        "qwen2",
        "qwen3",
        "gemma3",
        "phi3",
        ".block_count",
        ".context_length",
        ".embedding_length",
        ".feed_forward_length",
        ".attention.head_count",
        ".attention.head_count_kv",
        ".attention.key_length",
        ".rope.freq_base",
        ".rope.dimension_count",
        ".rope.scaling.type",
        ".rope.scaling.factor",
        "tokenizer.ggml.model",
        "tokenizer.ggml.pre",
        "tokenizer.ggml.tokens",
        "tokenizer.ggml.scores",
        "tokenizer.ggml.token_type",
        "tokenizer.ggml.merges",
        "tokenizer.ggml.eos_token_id",
        "tokenizer.chat_template",
        "gpt2",
        "llama-bpe",
        "token_embd.weight",
        "output.weight",
        "output_norm.weight",
        "blk.0.attn_q.weight",
        "blk.0.ffn_down.weight",
        "GGUF",
    ],
    longest: 32 << 10,
};

pub const TENSORS: Target = Target {
    name: "gguf-tensors",
    run: run_tensors,
    seeds: tensor_seeds,
    words: &["\u{0}\u{7c}", "\u{0}", "\u{1}\u{0}"],
    longest: 4 << 10,
};

/// So that packing is quick.
const Q4_0: u32 = 2;

/// Behind a header stand as many zeros as a small model has weights, if it wants them.
const WEIGHTS: usize = 1 << 20;

fn pack(file: &[u8]) {
    let temp = TempDir::new().unwrap();
    fs::write(temp.child("model.gguf"), file).unwrap();
    if small::pack(&temp.child("model.gguf"), &temp.child("bundle")).is_err() {
        assert!(!temp.child("bundle").exists(), "an error leaves a bundle");
    }
}

fn run_header(input: &[u8]) {
    pack(input);
    pack(&[input, &vec![0; WEIGHTS][..]].concat());
}

fn header_seeds() -> Vec<Vec<u8>> {
    let header = |architecture| {
        let mut file = Model { kind: Q4_0, ..Model::new(architecture) }.file();
        file.set("tokenizer.chat_template", Value::Text("{{ messages[0].content }}".into()));
        let mut bytes = file.bytes();
        let weights: usize = file.tensors.iter().map(|t| t.data.len().next_multiple_of(32)).sum();
        bytes.truncate((bytes.len() + 31).saturating_sub(weights) / 32 * 32);
        bytes
    };
    ["llama", "qwen2", "qwen3", "gemma3"].map(header).to_vec()
}

/// The first byte is the type of all matrices; their bytes are the others over and over.
fn run_tensors(input: &[u8]) {
    let mut parts = Parts(input);
    let (kind, ..) = TYPES[parts.byte() as usize % TYPES.len()];
    let pattern = if parts.0.is_empty() { &[0][..] } else { parts.0 };
    let mut file = Model { kind, ..Model::new("llama") }.file();
    let matrices = file.tensors.iter_mut().filter(|tensor| tensor.shape.len() > 1);
    let mut bytes = pattern.iter().copied().cycle();
    matrices
        .for_each(|tensor| tensor.data.iter_mut().zip(&mut bytes).for_each(|(b, new)| *b = new));
    pack(&file.bytes());
}

fn tensor_seeds() -> Vec<Vec<u8>> {
    let seed = |kind: usize| {
        let (_, block, bytes, _) = TYPES[kind];
        let count = bytes * (HIDDEN / block).min(2);
        [kind as u8].into_iter().chain((0..count).map(|n| (n * 37) as u8)).collect()
    };
    (0..TYPES.len()).map(seed).collect()
}
