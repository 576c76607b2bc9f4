//! What a `tokenizer.json` must not have, looked at before the tokenisers' crate builds anything
//! of it: what that crate would take much memory for, or panic on.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Published control tokens have 60 bytes at most.
const MAX_ADDED_TOKEN: usize = 4096;
/// All of them together: the automaton that finds them has 75 bytes for each of these.
const MAX_ADDED_TOKENS: usize = 512 << 10;

#[derive(Deserialize)]
struct Outline {
    #[serde(default)]
    added_tokens: Option<Vec<Added>>,
    model: Model,
}

#[derive(Deserialize)]
struct Added {
    content: String,
}

#[derive(Deserialize)]
struct Model {
    #[serde(default)]
    dropout: Option<f64>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
    #[serde(default)]
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    vocab: Longest,
    #[serde(default)]
    merges: Longest,
}

/// What is wrong, for people.
pub fn check(json: &[u8]) -> Result<(), String> {
    let Outline { added_tokens, model } =
        serde_json::from_slice(json).map_err(|e| e.to_string())?;
    let lengths = added_tokens.iter().flatten().map(|token| token.content.len());
    if lengths.clone().any(|len| len > MAX_ADDED_TOKEN) {
        return Err(format!("an added token has more than {MAX_ADDED_TOKEN} bytes"));
    }
    if lengths.sum::<usize>() > MAX_ADDED_TOKENS {
        return Err(format!("its added tokens have more than {MAX_ADDED_TOKENS} bytes"));
    }
    if model.dropout.is_some_and(|dropout| dropout != 0.0) {
        return Err("model.dropout is for training; set it to null".into());
    }
    let affixes = [
        ("continuing_subword_prefix", model.continuing_subword_prefix),
        ("end_of_word_suffix", model.end_of_word_suffix),
    ];
    for (name, affix) in affixes {
        if affix.is_some_and(|affix| !affix.is_empty()) {
            return Err(format!("model.{name} is not supported"));
        }
    }
    if model.merges.0 > model.vocab.0 {
        return Err("model.merges makes a token that is longer than all of model.vocab".into());
    }
    Ok(())
}

/// The most bytes of a key of the vocabulary, or of what a merge makes. Nothing is kept.
#[derive(Default)]
struct Longest(usize);

impl<'de> Deserialize<'de> for Longest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Longest, D::Error> {
        deserializer.deserialize_any(LongestVisitor)
    }
}

struct LongestVisitor;

impl<'de> Visitor<'de> for LongestVisitor {
    type Value = Longest;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a vocabulary or merges")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Longest, A::Error> {
        let mut longest = 0;
        while let Some((Length(len), IgnoredAny)) = map.next_entry()? {
            longest = longest.max(len);
        }
        Ok(Longest(longest))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut merges: A) -> Result<Longest, A::Error> {
        let mut longest = 0;
        while let Some(Merge(len)) = merges.next_element()? {
            longest = longest.max(len);
        }
        Ok(Longest(longest))
    }

    fn visit_unit<E>(self) -> Result<Longest, E> {
        Ok(Longest(0))
    }
}

/// The bytes of a text.
struct Length(usize);

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Length, D::Error> {
        deserializer.deserialize_str(MergeVisitor).map(|merge| Length(merge.0))
    }
}

/// `"a b"` without its space, or `["a", "b"]`.
struct Merge(usize);

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Merge, D::Error> {
        deserializer.deserialize_any(MergeVisitor).map(|merge| match merge {
            MergeText(len, true) => Merge(len.saturating_sub(1)),
            MergeText(len, false) => Merge(len),
        })
    }
}

/// Bytes, and whether they were one text.
struct MergeText(usize, bool);

struct MergeVisitor;

impl<'de> Visitor<'de> for MergeVisitor {
    type Value = MergeText;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a text or a pair of texts")
    }

    fn visit_str<E>(self, text: &str) -> Result<MergeText, E> {
        Ok(MergeText(text.len(), true))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<MergeText, A::Error> {
        let mut bytes = 0;
        while let Some(Length(len)) = parts.next_element()? {
            bytes += len;
        }
        Ok(MergeText(bytes, false))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::Tokens;
    use super::super::example::*;

    #[test]
    fn what_panics_or_takes_memory_is_refused() {
        let added = |content: String| {
            json!([{"id": 1000, "content": content, "special": true, "normalized": false,
                "single_word": false, "lstrip": false, "rstrip": false}])
        };
        let many = (0..200).map(|n| added(format!("{n}{}", "x".repeat(4000)))[0].clone());
        let rows: [(&str, Value, &str); 9] = [
            ("/added_tokens", added("x".repeat(10 << 20)), "4096 bytes"),
            ("/added_tokens", many.collect(), "524288 bytes"),
            ("/model/dropout", json!(0.5), "dropout"),
            ("/model/continuing_subword_prefix", json!("##"), "continuing_subword_prefix"),
            ("/model/end_of_word_suffix", json!("</w>"), "end_of_word_suffix"),
            ("/model/merges", json!([["hello", "hello"]]), "longer than all"),
            ("/model/merges", json!(["hello hello"]), "longer than all"),
            ("/model/merges", json!([7]), "pair of texts"),
            ("/model/vocab", json!("x"), "vocabulary"),
        ];
        for (place, value, part) in rows {
            let mut file: Value = serde_json::from_str(&byte_level_json()).unwrap();
            for name in ["dropout", "continuing_subword_prefix", "end_of_word_suffix"] {
                file["model"][name] = Value::Null;
            }
            *file.pointer_mut(place).unwrap() = value;
            let opened = Tokens::new(file.to_string().as_bytes(), info());
            let error = opened.err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.contains(part), "{place}: {error}");
        }
        let mut file: Value = serde_json::from_str(&byte_level_json()).unwrap();
        file["model"]["dropout"] = json!(0.0);
        file["model"]["continuing_subword_prefix"] = json!("");
        assert!(Tokens::new(file.to_string().as_bytes(), info()).is_ok());
    }
}
