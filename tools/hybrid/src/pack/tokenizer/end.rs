//! Tokens that end a text.

use anyhow::Result;

use super::super::gguf::Metadata;
use super::vocabulary::{Kind, Vocabulary};

/// Texts of tokens that end a text or a turn in the models of today. A token with such a text is a
/// control token, also where a file calls it a normal one: llama.cpp sees it so, and ids must be
/// the same.
const NAMES: &[&str] = &[
    "</s>",
    "<EOT>",
    "<eos>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<|call|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<|end|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|im_end|>",
    "<|return|>",
    "[EOS]",
    "[EOT]",
    "_<EOT>",
    "<｜end▁of▁sentence｜>",
];

/// Texts of control tokens that end a file where code models fill in the middle: whatever follows
/// them is another file. Never made control tokens by their name alone.
const FILE_ENDS: &[&str] =
    &["<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<fim_pad>", "<reponame>"];

/// Whether a control token with this text ends a text.
pub fn ends_text(token: &str) -> bool {
    NAMES.contains(&token) || FILE_ENDS.contains(&token)
}

pub(super) fn mark_control(vocabulary: &mut Vocabulary) {
    for (token, kind) in vocabulary.tokens.iter().zip(&mut vocabulary.kinds) {
        if NAMES.contains(&token.as_str()) {
            *kind = Kind::Control;
        }
    }
}

/// The model's own end of text first, then all others, each once.
pub(super) fn stop_tokens(
    vocabulary: &Vocabulary,
    eos: Option<u32>,
    metadata: &Metadata,
) -> Result<Vec<u32>> {
    let mut stop: Vec<u32> = eos.into_iter().collect();
    for name in ["eot", "eom"] {
        stop.extend(vocabulary.special(metadata, name)?);
    }
    for (id, token, kind) in vocabulary.iter() {
        if kind == Kind::Control && ends_text(token) {
            stop.push(id);
        }
    }
    let mut once = Vec::new();
    for id in stop {
        if !once.contains(&id) {
            once.push(id);
        }
    }
    Ok(once)
}
