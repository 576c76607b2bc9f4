//! The vocabulary as a GGUF file gives it.

use std::collections::HashSet;

use anyhow::{Context, Result, bail, ensure};
use hybrid::bundle::TokenInfo;
use serde_json::{Value, json};

use super::super::gguf::{Metadata, required};
use super::super::vocabulary::ordinary_without_row;

/// The same limit as a manifest's.
const MAX_TOKENS: usize = 1 << 22;
/// Published ones have a few hundred. What finds a token's parts takes time by its square.
const MAX_TOKEN_BYTES: usize = 4096;

/// A vocabulary as the file gives it.
pub struct Vocabulary<'a> {
    pub tokens: &'a [String],
    pub kinds: Vec<Kind>,
    /// Ids at and above this one are padding of the output matrix, or have no row in it.
    pub usable: usize,
}

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Normal,
    /// Stands for unknown text; like a control token it is not found in plain text.
    Unknown,
    Control,
    /// Found in plain text before anything else is tokenised.
    UserDefined,
    Unused,
    Byte,
}

/// What the two kinds of vocabularies do differently.
pub struct Parts {
    pub normalizer: Value,
    pub pre_tokenizer: Value,
    pub decoder: Value,
    pub model: Value,
    /// Where the file does not say whether a prompt begins with `bos`.
    pub add_bos: bool,
    /// `bos` and `eos` of files that do not name them.
    pub edges: Option<[u32; 2]>,
}

impl<'a> Vocabulary<'a> {
    pub fn read(metadata: &'a Metadata, rows: usize) -> Result<Self> {
        let key = "tokenizer.ggml.tokens";
        let tokens = required(key, metadata.texts(key))?;
        ensure!((1..=MAX_TOKENS).contains(&tokens.len()), "{key} has {} entries", tokens.len());
        let longest = tokens.iter().map(|token| token.len()).max().unwrap_or(0);
        ensure!(longest <= MAX_TOKEN_BYTES, "{key} has a token of {longest} bytes");
        let key = "tokenizer.ggml.token_type";
        let kinds = match metadata.integers(key)? {
            Some(kinds) => {
                kinds.iter().map(|kind| Kind::from_number(*kind)).collect::<Result<_>>()?
            }
            None => vec![Kind::Normal; tokens.len()],
        };
        ensure!(
            kinds.len() == tokens.len(),
            "{key} has {} entries for {} tokens",
            kinds.len(),
            tokens.len()
        );
        let is_used = |(kind, token): (&Kind, &String)| *kind != Kind::Unused && !is_padding(token);
        let last = kinds.iter().zip(tokens).take(rows).rposition(is_used);
        let usable = last.context("every token is unused")? + 1;
        let mut seen = HashSet::new();
        if let Some(twice) = tokens.iter().take(usable).find(|token| !seen.insert(*token)) {
            bail!("token {twice:?} is there twice");
        }
        Ok(Vocabulary { tokens, kinds, usable })
    }

    /// Tokens without a row in the output matrix: the model can neither read nor write them. Those
    /// that are found only by their whole text may be left out; without any other, ordinary text
    /// would become other tokens than the model was trained on.
    pub fn left_out(&self, rows: usize) -> Result<Vec<String>> {
        let mut left_out = Vec::new();
        for (id, (token, kind)) in self.tokens.iter().zip(&self.kinds).enumerate().skip(rows) {
            match kind {
                _ if is_padding(token) => {}
                Kind::Unused => {}
                Kind::Control | Kind::Unknown | Kind::UserDefined => left_out.push(token.clone()),
                Kind::Normal | Kind::Byte => {
                    return Err(ordinary_without_row(token, id, rows));
                }
            }
        }
        Ok(left_out)
    }

    /// Usable tokens: id, text, kind.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &str, Kind)> {
        let tokens = self.tokens.iter().zip(&self.kinds).take(self.usable);
        (0..).zip(tokens).map(|(id, (token, kind))| (id, token.as_str(), *kind))
    }

    /// Those that are looked for in the text first. `special` ones can be switched off when
    /// encoding.
    pub fn added_tokens(&self) -> Vec<Value> {
        self.iter()
            .filter(|(_, _, kind)| kind.is_special() || *kind == Kind::UserDefined)
            .map(|(id, token, kind)| {
                json!({
                    "id": id,
                    "content": token,
                    "single_word": false,
                    "lstrip": false,
                    "rstrip": false,
                    "normalized": false,
                    "special": kind.is_special(),
                })
            })
            .collect()
    }

    /// Text to id, for the model's part of `tokenizer.json`.
    pub fn ids(&self) -> serde_json::Map<String, Value> {
        self.iter().map(|(id, token, _)| (token.to_owned(), id.into())).collect()
    }

    /// Without the fingerprint.
    pub fn info(
        &self,
        metadata: &Metadata,
        bos: Option<u32>,
        stop: Vec<u32>,
        add_bos: bool,
    ) -> Result<TokenInfo> {
        let add_bos = metadata.flag("tokenizer.ggml.add_bos_token")?.unwrap_or(add_bos);
        ensure!(!stop.is_empty(), "no token is known to end a text (tokenizer.ggml.eos_token_id)");
        let add_bos = add_bos && bos.is_some();
        Ok(TokenInfo { bos, add_bos, stop, usable: self.usable, fingerprint: String::new() })
    }

    /// `bos` or `eos`; `default` where the file does not name it.
    pub fn edge(
        &self,
        metadata: &Metadata,
        name: &str,
        default: Option<u32>,
    ) -> Result<Option<u32>> {
        let named = self.special(metadata, name)?.or(default);
        Ok(named.filter(|id| (*id as usize) < self.usable))
    }

    /// `tokenizer.ggml.NAME_token_id`, if it is the id of a usable token.
    pub fn special(&self, metadata: &Metadata, name: &str) -> Result<Option<u32>> {
        let key = format!("tokenizer.ggml.{name}_token_id");
        match metadata.integer(&key)? {
            None => Ok(None),
            Some(id) => match u32::try_from(id) {
                // Written by some converters for "none".
                Ok(u32::MAX) => Ok(None),
                Ok(id) if (id as usize) < self.usable => Ok(Some(id)),
                _ => bail!("{key} is {id}, but the model can write only {} tokens", self.usable),
            },
        }
    }
}

impl Kind {
    pub fn from_number(number: i64) -> Result<Kind> {
        Ok(match number {
            1 => Kind::Normal,
            2 => Kind::Unknown,
            3 => Kind::Control,
            4 => Kind::UserDefined,
            5 => Kind::Unused,
            6 => Kind::Byte,
            other => bail!("token type {other} is unknown"),
        })
    }

    pub fn is_special(self) -> bool {
        matches!(self, Kind::Control | Kind::Unknown)
    }
}

/// Converters fill the vocabulary up to the rows of the output matrix with `[PAD123]`.
fn is_padding(token: &str) -> bool {
    let number = token.strip_prefix("[PAD").and_then(|rest| rest.strip_suffix(']'));
    number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}
