//! `tokenizer.json` out of a GGUF file's own vocabulary.

mod bpe;
mod end;
mod pre;
mod spm;
mod vocabulary;

pub use end::ends_text;

use anyhow::{Result, bail};
use hybrid::bundle::TokenInfo;
use serde_json::json;

use super::gguf::{Metadata, required};
use super::vocabulary::fingerprinted;
use vocabulary::Vocabulary;

/// The content of `tokenizer.json` and what the manifest says of it.
#[derive(Clone)]
pub struct Tokenizer {
    pub json: Vec<u8>,
    pub info: TokenInfo,
    /// Tokens of the file that the model cannot read or write and that are left out.
    pub left_out: Vec<String>,
}

/// Builds the tokenizer of a model whose output matrix has `rows` rows. Its ids are those of
/// llama.cpp for the same file.
pub fn from_gguf(metadata: &Metadata, rows: usize) -> Result<Tokenizer> {
    let key = "tokenizer.ggml.model";
    let model = required(key, metadata.text(key))?;
    let mut vocabulary = Vocabulary::read(metadata, rows)?;
    end::mark_control(&mut vocabulary);
    let left_out = vocabulary.left_out(rows)?;
    let parts = match model {
        "gpt2" => bpe::parts(metadata, &vocabulary)?,
        "llama" => spm::parts(metadata, &vocabulary)?,
        other => bail!("{key} {other} is not supported; supported are gpt2 and llama"),
    };
    let document = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": vocabulary.added_tokens(),
        "normalizer": parts.normalizer,
        "pre_tokenizer": parts.pre_tokenizer,
        "post_processor": null,
        "decoder": parts.decoder,
        "model": parts.model,
    });
    let json = serde_json::to_vec(&document)?;
    let [bos, eos] = parts.edges.map_or([None; 2], |edges| edges.map(Some));
    let stop = end::stop_tokens(&vocabulary, vocabulary.edge(metadata, "eos", eos)?, metadata)?;
    let info =
        vocabulary.info(metadata, vocabulary.edge(metadata, "bos", bos)?, stop, parts.add_bos)?;
    let info = fingerprinted(&json, info)?;
    Ok(Tokenizer { json, info, left_out })
}

#[cfg(test)]
mod tests;
