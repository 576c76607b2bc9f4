//! An LLM for the tests of the tool, behind a TLS server of our own: it agrees with the SLM exactly
//! where the SLM is sure.

#![allow(dead_code)] // Each test binary uses a part of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use hybrid::Cancel;
use hybrid::sampler::{Sampler, Sampling, logit_stats};
use hybrid::session::Model;
use hybrid::slm::Rows;
use hybrid_common::cli::Program;
use serde_json::{Value, json};
use temp_dir::TempDir;

use super::gguf;
use super::support::{Identity, Reaction, Recorded, Server};

/// Runs a program. Exit status, stdout, stderr.
pub fn spawn(program: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Runs another program than the test's own in this process. The status that it would exit with,
/// and why.
pub fn call(program: &Program, arguments: &[&str]) -> (Option<i32>, String) {
    match program.run(arguments) {
        Ok(()) => (Some(0), String::new()),
        Err(error) if error.is::<clap::Error>() => (Some(2), error.to_string()),
        Err(error) => (Some(1), format!("{error:#}")),
    }
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Packs a small model; another `heads` makes another file.
pub fn pack(temp: &TempDir, name: &str, kv_heads: usize) -> PathBuf {
    pack_with(temp, name, kv_heads, |_| ())
}

/// The same model, but its vocabulary has another merge, and it writes nothing but ASCII.
pub fn pack_foreign(temp: &TempDir, name: &str) -> PathBuf {
    pack_with(temp, name, 2, |file| {
        let tokens = file.pairs.iter_mut().find(|(key, _)| key == "tokenizer.ggml.tokens");
        let (_, gguf::Value::Texts(tokens)) = tokens.unwrap() else { panic!("no tokens") };
        *tokens.iter_mut().find(|token| *token == "he").unwrap() = "xy".into();
        // As GPT-2 spells bytes: itself, or from 256 on in order.
        let is_ascii =
            |token: &String| token.chars().all(|c| matches!(c as u32, ..0x7F | 256..290));
        let other: Vec<bool> = tokens.iter().map(|token| !is_ascii(token)).collect();
        file.set("tokenizer.ggml.merges", gguf::Value::Texts(vec!["x y".into()]));
        let rows = file.tensor("output.weight").data.chunks_exact_mut(4 * gguf::HIDDEN);
        rows.zip(other).filter(|(_, other)| *other).for_each(|(row, _)| row.fill(0));
    })
}

fn pack_with(
    temp: &TempDir,
    name: &str,
    kv_heads: usize,
    change: impl FnOnce(&mut gguf::File),
) -> PathBuf {
    let (model, bundle) = (temp.child(format!("{name}.gguf")), temp.child(name));
    let mut file = gguf::Model { kv_heads, ..gguf::Model::new("qwen2") }.file();
    let template = "{% for message in messages %}{{ message.content }}{% endfor %}";
    file.set("tokenizer.chat_template", gguf::Value::Text(template.into()));
    change(&mut file);
    fs::write(&model, file.bytes()).unwrap();
    hybrid_cli::PROGRAM.run(["pack", text(&model), "-o", text(&bundle)]).unwrap();
    bundle
}

/// The SLM's token after `ids` and its log-probability.
fn candidate(model: &Model, ids: &[u32]) -> (u32, f32) {
    let mut state = model.slm.spawn(0).unwrap();
    let logits = state.feed(ids, Rows::Last, &Cancel::new()).unwrap().logits;
    let token = Sampler::new(Sampling::default(), 0).unwrap().sample(&logits, ids).unwrap();
    (token, logit_stats(&logits, token).log_p)
}

/// The log-probability under which the LLM disagrees: a fifth of the texts'.
pub fn limit(model: &Model) -> f32 {
    let mut all: Vec<f32> = (0..50u32)
        .map(|i| candidate(model, &[(i * 7) % 200 + 1, (i * 31) % 200 + 1, i + 1]).1)
        .collect();
    all.sort_by(f32::total_cmp);
    all[10]
}

/// llama.cpp's server as far as a client needs it. Its LLM ends a text when `length` tokens, the
/// prompt's among them, are there.
pub fn server(model: Arc<Model>, length: usize) -> Server {
    let limit = limit(&model);
    Server::start(&Identity::good(), move |request: &Recorded| {
        let body = request.json();
        let ids = |value: &Value| serde_json::from_value::<Vec<u32>>(value.clone()).unwrap();
        let encode = |text| model.tokens.encode(text, true).unwrap();
        let answer = match request.path.as_str() {
            "/tokenize" => {
                let special = body["parse_special"] == true;
                let tokens = model.tokens.encode(body["content"].as_str().unwrap(), special);
                json!({ "tokens": tokens.unwrap() })
            }
            "/detokenize" => {
                let bytes = model.tokens.bytes_of(&ids(&body["tokens"]));
                json!({ "content": String::from_utf8(bytes).unwrap() })
            }
            "/completion" => {
                let (prompt, others) = match body["prompt"].as_str() {
                    // Text is answered with text.
                    Some(text) => (encode(text), encode("xz")),
                    None => (ids(&body["prompt"]), vec![b'x'.into(), b'y'.into()]),
                };
                complete(&model, limit, length, prompt, &others, &body["n_predict"])
            }
            path => panic!("{path}"),
        };
        Reaction::json(200, &answer.to_string())
    })
}

/// `others`: what the LLM says where it disagrees; the second where the SLM says the first.
fn complete(
    model: &Model,
    limit: f32,
    length: usize,
    mut ids: Vec<u32>,
    others: &[u32],
    burst: &Value,
) -> Value {
    let (mut tokens, burst) = (Vec::new(), burst.as_u64().unwrap() as usize);
    while tokens.len() < burst && ids.len() + 1 < length {
        let (token, log_p) = candidate(model, &ids);
        let other = others[usize::from(token == others[0])];
        let token = if log_p < limit || model.tokens.is_stop(token) { other } else { token };
        tokens.push(token);
        ids.push(token);
    }
    let end = ids.len() + 1 >= length && tokens.len() < burst;
    if end {
        tokens.push(model.tokens.stop());
    }
    let content = String::from_utf8_lossy(&model.tokens.bytes_of(&tokens)).into_owned();
    json!({ "content": content, "tokens": tokens, "stop_type": if end { "eos" } else { "limit" } })
}
