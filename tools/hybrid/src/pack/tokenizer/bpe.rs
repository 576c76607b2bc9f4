//! Byte-level BPE (`tokenizer.ggml.model` = `gpt2`).

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::super::gguf::{Metadata, required};
use super::pre;
use super::vocabulary::{Parts, Vocabulary};

pub(super) fn parts(metadata: &Metadata, vocabulary: &Vocabulary) -> Result<Parts> {
    let name = metadata.text("tokenizer.ggml.pre")?.unwrap_or("default");
    let pre = pre::find(name)?;
    let ids = vocabulary.ids();
    let merges = merges(metadata, &ids)?;
    let byte_level = json!({
        "type": "ByteLevel",
        "add_prefix_space": false,
        "trim_offsets": false,
        "use_regex": false,
    });
    let mut steps: Vec<Value> = pre
        .patterns
        .iter()
        .map(|pattern| {
            json!({
                "type": "Split",
                "pattern": {"Regex": pattern},
                "behavior": "Isolated",
                "invert": false,
            })
        })
        .collect();
    steps.push(byte_level.clone());
    Ok(Parts {
        normalizer: Value::Null,
        pre_tokenizer: json!({"type": "Sequence", "pretokenizers": steps}),
        decoder: byte_level,
        model: json!({
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": pre.ignore_merges,
            "vocab": ids,
            "merges": merges,
        }),
        add_bos: pre.add_bos,
        edges: None,
    })
}

/// Pairs in order of rank. The file writes them with a space between, which a token cannot contain
/// but as its first character.
fn merges(metadata: &Metadata, ids: &serde_json::Map<String, Value>) -> Result<Vec<Value>> {
    let key = "tokenizer.ggml.merges";
    let merges = required(key, metadata.texts(key))?;
    let pair = |merge: &String| -> Result<Value> {
        let space = merge.char_indices().skip(1).find(|(_, c)| *c == ' ').map(|(at, _)| at);
        let (left, right) = merge
            .split_at_checked(space.context("it has no space")?)
            .context("it cannot be split")?;
        let right = &right[1..];
        for token in [left, right, &format!("{left}{right}")] {
            ensure!(ids.contains_key(token), "{token:?} is not a token");
        }
        Ok(json!([left, right]))
    };
    let named = |merge| pair(merge).with_context(|| format!("{key}: {merge:?}"));
    merges.iter().map(named).collect()
}
