//! What holds of the vocabulary of every source.

use anyhow::{Result, anyhow};
use hybrid::bundle::TokenInfo;
use hybrid::tokens::Tokens;

/// Says which tokens a bundle does not have.
pub fn left_out(tokens: &[String]) -> Option<String> {
    let first = tokens.first()?;
    let more = match tokens.len() {
        1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    Some(format!("left out token {first:?}{more}: the model's output has no row for it"))
}

/// Why a vocabulary that is longer than the model's output cannot be cut.
pub fn ordinary_without_row(token: &str, id: usize, rows: usize) -> anyhow::Error {
    anyhow!(
        "token {id} ({token:?}) is part of ordinary text, but the model's output has only {rows} \
         rows: tokenizer and weights are not from the same model"
    )
}

/// Loads `tokenizer.json` as the runtime will, and has it say its fingerprint.
pub fn fingerprinted(json: &[u8], info: TokenInfo) -> Result<TokenInfo> {
    let fingerprint = Tokens::new(json, info.clone())?.fingerprint();
    Ok(TokenInfo { fingerprint, ..info })
}
