//! SentencePiece BPE (`tokenizer.ggml.model` = `llama`). SentencePiece joins the two neighbours
//! whose union has the best score; BPE joins those whose merge has the lowest rank. They do the
//! same when the merges are all ways to cut each token in two tokens, ranked by the token's score.

use std::collections::HashSet;

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

use super::super::gguf::{Metadata, required};
use super::vocabulary::{Kind, Parts, Vocabulary};

const SPACE: &str = "\u{2581}";

pub(super) fn parts(metadata: &Metadata, vocabulary: &Vocabulary) -> Result<Parts> {
    let merges = merges(metadata, vocabulary)?;
    let ids = vocabulary.ids();
    if let Some(byte) = (0..=255u8).find(|byte| !ids.contains_key(&format!("<0x{byte:02X}>"))) {
        bail!(
            "there is no token <0x{byte:02X}>, and a vocabulary without tokens for all bytes is \
             not supported"
        );
    }
    let unknown = vocabulary.iter().find(|(_, _, kind)| *kind == Kind::Unknown);
    let mut normalizers = vec![replace(" ", SPACE)];
    let mut decoders =
        vec![replace(SPACE, " "), json!({"type": "ByteFallback"}), json!({"type": "Fuse"})];
    if metadata.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true) {
        normalizers.insert(0, json!({"type": "Prepend", "prepend": SPACE}));
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    Ok(Parts {
        normalizer: json!({"type": "Sequence", "normalizers": normalizers}),
        pre_tokenizer: Value::Null,
        decoder: json!({"type": "Sequence", "decoders": decoders}),
        model: json!({
            "type": "BPE",
            "dropout": null,
            "unk_token": unknown.map(|(_, token, _)| token),
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": true,
            "byte_fallback": true,
            "ignore_merges": false,
            "vocab": ids,
            "merges": merges,
        }),
        add_bos: true,
        // SentencePiece's own order: unknown, begin, end.
        edges: Some([1, 2]),
    })
}

fn replace(from: &str, to: &str) -> Value {
    json!({"type": "Replace", "pattern": {"String": from}, "content": to})
}

/// All pairs of tokens whose union is a token, best score first. Control and byte tokens are never
/// found in plain text.
///
/// Where scores are equal, SentencePiece joins what is further left. Runs of white space are such
/// tokens: one that has begun to grow goes on growing, so the longer union comes first.
fn merges<'a>(metadata: &Metadata, vocabulary: &'a Vocabulary) -> Result<Vec<[&'a str; 2]>> {
    let key = "tokenizer.ggml.scores";
    let scores = required(key, metadata.floats(key))?;
    ensure!(
        scores.len() == vocabulary.tokens.len() && scores.iter().all(|score| !score.is_nan()),
        "{key} has {} entries for {} tokens, or one is not a number",
        scores.len(),
        vocabulary.tokens.len()
    );
    let is_text = |kind| matches!(kind, Kind::Normal | Kind::UserDefined | Kind::Unused);
    let pieces: HashSet<&str> = vocabulary
        .iter()
        .filter(|(_, _, kind)| is_text(*kind))
        .map(|(_, token, _)| token)
        .collect();
    let mut ranked = Vec::new();
    for ((id, token, kind), score) in vocabulary.iter().zip(scores) {
        if !is_text(kind) {
            continue;
        }
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            if pieces.contains(left) && pieces.contains(right) {
                ranked.push((*score, token.len(), id, [left, right]));
            }
        }
    }
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)).then(a.2.cmp(&b.2)));
    Ok(ranked.into_iter().map(|(_, _, _, pair)| pair).collect())
}
