//! A `tokenizer.json` with more tokens than the model's output has rows. Gemma 3 is such a model:
//! one token stands for an image, which only the vision part reads.

use anyhow::{Context, Result};
use serde_json::Value;

use super::super::vocabulary::ordinary_without_row;

/// `tokenizer.json` without the tokens that have no row, and their texts. Only added tokens may be
/// left out: they are found by their whole text and are no part of any other token.
pub fn fit(json: Vec<u8>, rows: usize) -> Result<(Vec<u8>, Vec<String>)> {
    let mut document: Value =
        serde_json::from_slice(&json).context("tokenizer.json is not JSON")?;
    let has_no_row = |id: &Value| id.as_u64().is_some_and(|id| id >= rows as u64);
    let mut left_out = Vec::new();
    if let Some(added) = document.get_mut("added_tokens").and_then(Value::as_array_mut) {
        for token in added.extract_if(.., |token| has_no_row(&token["id"])) {
            left_out.push(token["content"].as_str().unwrap_or_default().to_owned());
        }
    }
    let vocabulary = document.pointer_mut("/model/vocab").and_then(Value::as_object_mut);
    if let Some(vocabulary) = vocabulary {
        vocabulary.retain(|token, id| !has_no_row(id) || !left_out.contains(token));
        if let Some((token, id)) = vocabulary.iter().find(|(_, id)| has_no_row(id)) {
            let id = id.as_u64().and_then(|id| usize::try_from(id).ok()).unwrap_or(usize::MAX);
            return Err(ordinary_without_row(token, id, rows));
        }
    }
    if left_out.is_empty() {
        return Ok((json, left_out));
    }
    Ok((serde_json::to_vec(&document)?, left_out))
}
