//! A vocabulary without the tokens that a corpus never needs.
//!
//! What stays: tokens of the corpus and of the chat template; tokens for bytes, so that every text
//! can still be written; control tokens and all others that are looked for in the text; and what
//! merges make on the way to a token that stays. So the corpus has the same tokens as before, and
//! any other text has the same bytes.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Context, Result, bail, ensure};
use hybrid::bundle::TokenInfo;
use hybrid::tokens::{ChatTemplate, Message, Tokens};
use hybrid_common::interrupt;
use serde_json::{Map, Value};

use super::cut::cut_vocabulary;
use crate::pack;
use crate::pack::from_gguf::PackedSource;
use crate::pack::tokenizer::Tokenizer;

/// Texts are encoded in pieces of about so many bytes, which end with a line.
const PIECE: usize = 256 << 10;

/// The model with the vocabulary that `corpus` needs.
pub fn cut(source: &PackedSource, corpus: &str) -> Result<PackedSource> {
    let Tokenizer { json, info, left_out } = &source.tokenizer;
    let tokens = Tokens::new(json, info.clone())?;
    let mut document: Value = serde_json::from_slice(json)?;
    let used = used(&tokens, source.chat_template.as_deref(), corpus)?;
    let kept = Kept::new(&document, info, &used)?;
    kept.rewrite(&mut document)?;
    let json = serde_json::to_vec(&document)?;
    let id = |id: u32| kept.id(id).with_context(|| format!("token {id} is not kept"));
    let info = TokenInfo {
        bos: info.bos.map(id).transpose()?,
        stop: info.stop.iter().map(|stop| id(*stop)).collect::<Result<_>>()?,
        usable: kept.ids.len(),
        ..info.clone()
    };
    let info = pack::vocabulary::fingerprinted(&json, info)?;
    let tokenizer = Tokenizer { json, info, left_out: left_out.clone() };
    kept.check(&tokens, &Tokens::new(&tokenizer.json, tokenizer.info.clone())?, corpus)?;
    let rows: Vec<usize> = kept.ids.iter().map(|id| *id as usize).collect();
    let (plan, bytes) = cut_vocabulary(&source.plan, &source.file, &rows)?;
    Ok(source.changed(plan, bytes, tokenizer, ""))
}

/// The ids that the corpus is written in, and chats.
fn used(tokens: &Tokens, template: Option<&str>, corpus: &str) -> Result<BTreeSet<u32>> {
    let mut used = BTreeSet::new();
    for piece in pieces(corpus) {
        interrupt::check()?;
        used.extend(tokens.encode(piece, true)?);
    }
    let Some(template) = template else { return Ok(used) };
    let template = ChatTemplate::new(template, tokens)?;
    let message = |role: &str| Message { role: role.into(), content: "Hi".into() };
    let turns = ["user", "assistant", "user"].map(message).to_vec();
    let with_system: Vec<_> = [message("system")].into_iter().chain(turns.clone()).collect();
    for chat in [turns, with_system] {
        // Some templates refuse a system message.
        if let Ok(text) = template.render(&chat) {
            used.extend(tokens.encode(&text, true)?);
        }
    }
    Ok(used)
}

fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let end = rest.get(..rest.floor_char_boundary(PIECE)).unwrap_or(rest);
        let end = match end.len() == rest.len() {
            true => end.len(),
            false => end.rfind('\n').map_or(end.len(), |line| line + 1),
        };
        let (piece, after) = rest.split_at_checked(end).filter(|(piece, _)| !piece.is_empty())?;
        rest = after;
        Some(piece)
    })
}

/// Tokens that stay.
struct Kept {
    /// Old ids, ascending: a token's new id is its place here.
    ids: Vec<u32>,
}

impl Kept {
    fn new(document: &Value, info: &TokenInfo, used: &BTreeSet<u32>) -> Result<Kept> {
        let vocabulary = vocabulary(document)?;
        let merges = Merges::new(document)?;
        let mut ids: BTreeSet<u32> = used.clone();
        ids.extend(info.bos.iter().chain(&info.stop));
        ids.extend(added(document).filter_map(|token| id_of(&token["id"])));
        ids.extend(document["model"]["unk_token"].as_str().and_then(|text| vocabulary.get(text)));
        for (text, id) in &vocabulary {
            if is_byte(text) {
                ids.insert(*id);
            }
        }
        let texts: HashMap<u32, &str> = vocabulary.iter().map(|(text, id)| (*id, *text)).collect();
        for id in ids.clone() {
            interrupt::check()?;
            let Some(text) = texts.get(&id) else { continue };
            let parts = merges.parts(text);
            ids.extend(parts.into_iter().filter_map(|part| vocabulary.get(part)));
        }
        ids.retain(|id| (*id as usize) < info.usable);
        Ok(Kept { ids: ids.into_iter().collect() })
    }

    /// The new id of a token.
    fn id(&self, old: u32) -> Option<u32> {
        self.ids.binary_search(&old).ok().map(|at| at as u32)
    }

    /// Changes a `tokenizer.json`.
    fn rewrite(&self, document: &mut Value) -> Result<()> {
        for token in document["added_tokens"].as_array_mut().into_iter().flatten() {
            let id = id_of(&token["id"]).and_then(|id| self.id(id));
            token["id"] = id.context("an added token has no id")?.into();
        }
        // It has ids of the old vocabulary, and nothing reads it.
        document["post_processor"] = Value::Null;
        let model = document["model"].as_object_mut().context("tokenizer.json has no model")?;
        let old = model.get_mut("vocab").context("a vocabulary")?.take();
        let mut vocabulary = Map::new();
        for (text, id) in old.as_object().into_iter().flatten() {
            if let Some(id) = id_of(id).and_then(|id| self.id(id)) {
                vocabulary.insert(text.clone(), id.into());
            }
        }
        let merges = model.get_mut("merges").and_then(Value::as_array_mut);
        merges.context("merges")?.retain(|merge| {
            pair(merge).is_some_and(|(left, right)| {
                let whole = format!("{left}{right}");
                [left, right, &whole].iter().all(|text| vocabulary.contains_key(*text))
            })
        });
        model.insert("vocab".into(), Value::Object(vocabulary));
        Ok(())
    }

    /// The corpus must have the tokens that it had.
    fn check(&self, before: &Tokens, after: &Tokens, corpus: &str) -> Result<()> {
        for piece in pieces(corpus) {
            interrupt::check()?;
            let ids = before.encode(piece, true)?;
            let wanted: Option<Vec<u32>> = ids.iter().map(|id| self.id(*id)).collect();
            ensure!(
                wanted == Some(after.encode(piece, true)?),
                "the corpus would get other tokens than before; the vocabulary of this model \
                 cannot be cut"
            );
        }
        for (new, old) in self.ids.iter().enumerate() {
            let same = after.bytes_with_special(new as u32) == before.bytes_with_special(*old);
            ensure!(same, "token {old} would get other bytes than before");
        }
        Ok(())
    }
}

/// Text to id.
fn vocabulary(document: &Value) -> Result<HashMap<&str, u32>> {
    let Some(vocabulary) = document["model"]["vocab"].as_object() else {
        bail!("only vocabularies of BPE can be cut")
    };
    Ok(vocabulary.iter().filter_map(|(text, id)| Some((text.as_str(), id_of(id)?))).collect())
}

fn added(document: &Value) -> impl Iterator<Item = &Value> {
    document["added_tokens"].as_array().into_iter().flatten()
}

fn id_of(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

/// Whether a token stands for one byte, in either spelling.
fn is_byte(text: &str) -> bool {
    let mut characters = text.chars();
    let one = characters.next().filter(|_| characters.next().is_none());
    // The alphabet of byte-level BPE: Latin-1, and 68 characters for what does not print.
    let in_alphabet = one.is_some_and(|c| u32::from(c) < 0x100 + 68);
    let hex = text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    in_alphabet || hex.is_some_and(|hex| hex.len() == 2 && u8::from_str_radix(hex, 16).is_ok())
}

/// The two texts of a merge: a list of two, or both with a space between, which can only begin a
/// text.
fn pair(merge: &Value) -> Option<(&str, &str)> {
    if let Some(text) = merge.as_str() {
        let (space, _) = text.char_indices().skip(1).find(|(_, c)| *c == ' ')?;
        let (left, right) = text.split_at_checked(space)?;
        return Some((left, right.strip_prefix(' ')?));
    }
    match merge.as_array()?.as_slice() {
        [left, right] => Some((left.as_str()?, right.as_str()?)),
        _ => None,
    }
}

/// Pairs and their ranks.
struct Merges<'a>(HashMap<(&'a str, &'a str), usize>);

impl<'a> Merges<'a> {
    fn new(document: &'a Value) -> Result<Merges<'a>> {
        let merges = document["model"]["merges"].as_array().context("model.merges is missing")?;
        let pairs = merges.iter().enumerate();
        Ok(Merges(pairs.filter_map(|(rank, merge)| Some((pair(merge)?, rank))).collect()))
    }

    /// What the merges put `text` together from, all on the way. Within a longer text it is the
    /// same: a token of it is what no merge has crossed the ends of.
    fn parts<'t>(&self, text: &'t str) -> Vec<&'t str> {
        let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
        let mut cuts: Vec<usize> = std::iter::once(0).chain(ends).collect();
        let mut parts: Vec<&str> = cuts.windows(2).filter_map(|c| text.get(c[0]..c[1])).collect();
        loop {
            let ranks = cuts.windows(3).enumerate().filter_map(|(at, cuts)| {
                let pair = (text.get(cuts[0]..cuts[1])?, text.get(cuts[1]..cuts[2])?);
                Some((*self.0.get(&pair)?, at))
            });
            let Some((_, at)) = ranks.min() else { return parts };
            cuts.remove(at + 1);
            parts.extend(cuts.get(at..at + 2).and_then(|cuts| text.get(cuts[0]..cuts[1])));
        }
    }
}

#[cfg(test)]
#[path = "vocabulary_tests.rs"]
mod tests;
