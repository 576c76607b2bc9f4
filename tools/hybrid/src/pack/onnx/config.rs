//! The JSON files beside an ONNX export.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use hybrid::bundle::TokenInfo;
use serde_json::Value;
use tokenizers::Tokenizer;

use super::super::tokenizer::ends_text;
use super::file::{MAX_TEXT_BYTES, read};

/// `config.json`, and what of the optional files is needed.
#[derive(Debug)]
pub struct Config {
    pub name: Option<String>,
    pub model_type: String,
    pub layers: usize,
    pub hidden: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub vocabulary: usize,
    pub context: usize,
    pub chat_template: Option<String>,
    model: Value,
    generation: Value,
    tokenizer: Value,
}

impl Config {
    pub fn read(dir: &Path) -> Result<Config> {
        let model = model_config(dir)?;
        let size = |key| size(&model, key)?.with_context(|| format!("config.json has no {key}"));
        let hidden = size("hidden_size")?;
        let heads = size("num_attention_heads")?;
        let optional = |key| super::config::size(&model, key);
        let tokenizer = optional_json(&dir.join("tokenizer_config.json"))?;
        Ok(Config {
            name: text(&model["_name_or_path"]).filter(|name| !name.is_empty()),
            model_type: text(&model["model_type"]).context("config.json has no model_type")?,
            layers: size("num_hidden_layers")?,
            hidden,
            heads,
            kv_heads: optional("num_key_value_heads")?.unwrap_or(heads),
            head_dim: optional("head_dim")?.unwrap_or((hidden / heads).max(1)),
            vocabulary: size("vocab_size")?,
            context: size("max_position_embeddings")?,
            chat_template: chat_template(dir, &tokenizer)?,
            generation: optional_json(&dir.join("generation_config.json"))?,
            tokenizer,
            model,
        })
    }

    /// What the manifest says of the tokens, without the fingerprint. `left_out`: tokens that the
    /// files name but the model's output of `rows` rows does not have.
    pub fn tokens(&self, json: &[u8], rows: usize, left_out: &[String]) -> Result<TokenInfo> {
        for name in ["bos_token", "eos_token"] {
            let token = token_text(&self.tokenizer[name]).unwrap_or_default();
            ensure!(
                !left_out.iter().any(|left| left == token),
                "{name} of tokenizer_config.json is {token:?}, but the model's output has no row \
                 for it"
            );
        }
        let tokenizer = Tokenizer::from_bytes(json)
            .map_err(|e| anyhow::anyhow!("tokenizer.json cannot be loaded: {e}"))?;
        let highest = tokenizer.get_vocab(true).into_values().max();
        let usable = highest.context("tokenizer.json has no token")? as usize + 1;
        ensure!(
            usable <= rows,
            "tokenizer.json has {usable} tokens, the model's output {rows} rows"
        );
        let bos = self.bos(&tokenizer);
        if let Some(id) = bos {
            ensure!(
                (id as usize) < usable,
                "bos_token_id is {id}, but the model can write only {usable} tokens"
            );
        }
        let stop = self.stop(&tokenizer, usable);
        ensure!(
            !stop.is_empty(),
            "no token is known to end a text; set eos_token_id in generation_config.json"
        );
        let add_bos = bos.is_some() && self.adds_bos(&tokenizer, bos)?;
        Ok(TokenInfo { bos, add_bos, stop, usable, fingerprint: String::new() })
    }

    fn bos(&self, tokenizer: &Tokenizer) -> Option<u32> {
        let named = named_token(&self.tokenizer["bos_token"], tokenizer);
        named.or_else(|| ids(&self.model["bos_token_id"]).first().copied())
    }

    /// The tokenizer's own setting, else what `tokenizer.json` does with an empty text.
    fn adds_bos(&self, tokenizer: &Tokenizer, bos: Option<u32>) -> Result<bool> {
        if let Some(add) = self.tokenizer["add_bos_token"].as_bool() {
            return Ok(add);
        }
        let encoding = tokenizer.encode("", true);
        let encoding = encoding.map_err(|e| anyhow::anyhow!("tokenizer.json: {e}"))?;
        Ok(encoding.get_ids().first().copied() == bos)
    }

    /// What ends a chat first, then whatever the files or a control token's name say.
    fn stop(&self, tokenizer: &Tokenizer, usable: usize) -> Vec<u32> {
        let mut stop = Vec::new();
        stop.extend(named_token(&self.tokenizer["eos_token"], tokenizer));
        stop.extend(ids(&self.generation["eos_token_id"]));
        stop.extend(ids(&self.model["eos_token_id"]));
        let mut control: Vec<_> = tokenizer
            .get_added_tokens_decoder()
            .into_iter()
            .filter(|(_, token)| token.special && ends_text(&token.content))
            .map(|(id, _)| id)
            .collect();
        control.sort_unstable();
        stop.extend(control);
        let mut once = Vec::new();
        for id in stop {
            if (id as usize) < usable && !once.contains(&id) {
                once.push(id);
            }
        }
        once
    }
}

/// What older families call the same.
const OLD_NAMES: &[(&str, &str)] = &[
    ("n_embd", "hidden_size"),
    ("n_head", "num_attention_heads"),
    ("n_layer", "num_hidden_layers"),
    ("n_positions", "max_position_embeddings"),
];

/// `config.json`, with what is about text at its top; without it what `genai_config.json` says,
/// under the names of `config.json`.
fn model_config(dir: &Path) -> Result<Value> {
    let path = dir.join("config.json");
    let genai = optional_json(&dir.join(GENAI_CONFIG))?;
    let mut model = match path.is_file() || !genai["model"].is_object() {
        true => json(&path)?,
        false => from_genai(&genai["model"]),
    };
    if let Some(Value::Object(text)) = model.get_mut("text_config").map(Value::take) {
        let rest = model.as_object_mut().context("config.json is not an object")?;
        rest.extend(text);
    }
    for (old, name) in OLD_NAMES {
        if model[*name].is_null() && !model[*old].is_null() {
            model[*name] = model[*old].take();
        }
    }
    Ok(model)
}

pub const GENAI_CONFIG: &str = "genai_config.json";

fn from_genai(model: &Value) -> Value {
    let decoder = &model["decoder"];
    serde_json::json!({
        "model_type": model["type"],
        "vocab_size": model["vocab_size"],
        "max_position_embeddings": model["context_length"],
        "bos_token_id": model["bos_token_id"],
        "eos_token_id": model["eos_token_id"],
        "hidden_size": decoder["hidden_size"],
        "head_dim": decoder["head_size"],
        "num_attention_heads": decoder["num_attention_heads"],
        "num_key_value_heads": decoder["num_key_value_heads"],
        "num_hidden_layers": decoder["num_hidden_layers"],
    })
}

/// The graph's file that `genai_config.json` names.
pub fn genai_file(dir: &Path) -> Result<Option<String>> {
    let genai = optional_json(&dir.join(GENAI_CONFIG))?;
    Ok(text(&genai["model"]["decoder"]["filename"]))
}

/// A file of its own, or in `tokenizer_config.json`: one template, or several by name.
fn chat_template(dir: &Path, tokenizer: &Value) -> Result<Option<String>> {
    let path = dir.join("chat_template.jinja");
    if path.is_file() {
        let template = String::from_utf8(read(&path, MAX_TEXT_BYTES)?);
        return template.context("chat_template.jinja is not UTF-8").map(Some);
    }
    let value = &tokenizer["chat_template"];
    let named = value.as_array().into_iter().flatten();
    let default =
        named.filter(|entry| entry["name"] == "default").find_map(|e| text(&e["template"]));
    Ok(text(value).or(default))
}

fn json(path: &Path) -> Result<Value> {
    let bytes = read(path, MAX_TEXT_BYTES)?;
    let value: Value = serde_json::from_slice(&bytes)
        .with_context(|| format!("{} is not JSON", path.display()))?;
    ensure!(value.is_object(), "{} is not a JSON object", path.display());
    Ok(value)
}

fn optional_json(path: &Path) -> Result<Value> {
    if path.is_file() { json(path) } else { Ok(Value::Object(Default::default())) }
}

fn size(value: &Value, key: &str) -> Result<Option<usize>> {
    match &value[key] {
        Value::Null => Ok(None),
        found => {
            let size = found.as_u64().and_then(|n| usize::try_from(n).ok());
            let sound = size.filter(|n| (1..=1 << 24).contains(n));
            sound.map(Some).with_context(|| format!("config.json: {key} is {found}"))
        }
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// An id, or several.
fn ids(value: &Value) -> Vec<u32> {
    let one = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value.as_array() {
        Some(several) => several.iter().filter_map(one).collect(),
        None => one(value).into_iter().collect(),
    }
}

/// A token given as its text, or as an object with its `content`.
fn token_text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value["content"].as_str())
}

fn named_token(value: &Value, tokenizer: &Tokenizer) -> Option<u32> {
    tokenizer.token_to_id(token_text(value)?)
}
