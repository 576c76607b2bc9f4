//! The steps around BPE that a `tokenizer.json` may ask for. The tokenisers' crate knows more of
//! them; each would bring its code and its tables to the board.

use std::cell::Cell;

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use tokenizers::normalizer::SplitDelimiterBehavior;
use tokenizers::normalizers::Prepend;
use tokenizers::pattern::Invert;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::metaspace::Metaspace;
use tokenizers::{Decoder, Encoding, NormalizedString, Normalizer};
use tokenizers::{PostProcessor, PreTokenizedString, PreTokenizer};

use super::nfc;
use super::pattern::{Found, Pattern, check_watch, refuse};

/// A normaliser may make a text this many times as long, and [`MAX_ADDED`] bytes longer. The
/// published ones at most triple it.
const MAX_GROWTH: usize = 4;
const MAX_ADDED: usize = 1024;
/// Steps of one file; published ones have ten at most.
const MAX_STEPS: usize = 64;

/// Changes the text.
pub enum NormalizerStep {
    Nfc,
    Prepend(Prepend),
    Replace(Replace),
    Sequence(Vec<NormalizerStep>),
}

/// Puts `content` in the place of all that matches.
#[derive(Deserialize)]
pub struct Replace {
    pattern: Pattern,
    content: String,
}

#[derive(Deserialize)]
pub struct Split {
    pattern: Pattern,
    behavior: SplitDelimiterBehavior,
    invert: bool,
}

/// Splits the text into the pieces that BPE works on.
pub enum PreTokenizerStep {
    ByteLevel(ByteLevel),
    Digits(Digits),
    Metaspace(Metaspace),
    Split(Split),
    Sequence(Vec<PreTokenizerStep>),
}

/// Accepted and not run: it would add control tokens, which encoding here never asks for.
#[derive(Deserialize)]
pub struct AnyPostProcessor {}

/// Kept to see how the vocabulary spells bytes (`table`), and not run: the table has every token's
/// bytes.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub struct DecoderDescription(Value);

impl<'de> Deserialize<'de> for NormalizerStep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let step = Step::counted(deserializer)?;
        match step.kind() {
            "NFC" => Ok(Self::Nfc),
            "Prepend" => step.parse().map(Self::Prepend),
            "Replace" => step.parse().map(Self::Replace),
            "Sequence" => step.parse_list("normalizers").map(Self::Sequence),
            _ => Err(step.unknown("normalizer", "NFC, Prepend, Replace, Sequence")),
        }
    }
}

impl<'de> Deserialize<'de> for PreTokenizerStep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let step = Step::counted(deserializer)?;
        match step.kind() {
            "ByteLevel" => step.parse().map(Self::ByteLevel),
            "Digits" => step.parse().map(Self::Digits),
            "Metaspace" => step.parse().map(Self::Metaspace),
            "Split" => step.parse().map(Self::Split),
            "Sequence" => step.parse_list("pretokenizers").map(Self::Sequence),
            _ => {
                let known = "ByteLevel, Digits, Metaspace, Split, Sequence";
                Err(step.unknown("pre_tokenizer", known))
            }
        }
    }
}

/// A step as the file has it: an object whose `type` says what the rest means.
#[derive(Deserialize)]
#[serde(transparent)]
struct Step(Value);

thread_local! {
    static STEPS: Cell<usize> = const { Cell::new(0) };
}

/// To be called before a file is read.
pub fn begin_file() {
    STEPS.set(0);
}

impl Step {
    fn counted<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Step, D::Error> {
        STEPS.set(STEPS.get() + 1);
        if STEPS.get() > MAX_STEPS {
            return Err(D::Error::custom(format!("more than {MAX_STEPS} steps")));
        }
        Step::deserialize(deserializer)
    }

    fn kind(&self) -> &str {
        self.0["type"].as_str().unwrap_or_default()
    }

    fn parse<T: DeserializeOwned, E: Error>(&self) -> Result<T, E> {
        T::deserialize(&self.0).map_err(|e| E::custom(format!("{}: {e}", self.kind())))
    }

    fn parse_list<T: DeserializeOwned, E: Error>(&self, field: &str) -> Result<Vec<T>, E> {
        Vec::deserialize(&self.0[field]).map_err(|e| E::custom(format!("{field}: {e}")))
    }

    fn unknown<E: Error>(&self, part: &str, known: &str) -> E {
        E::custom(format!("a {part} of type {:?} is not supported; known are {known}", self.kind()))
    }
}

impl Normalizer for NormalizerStep {
    fn normalize(&self, text: &mut NormalizedString) -> tokenizers::Result<()> {
        check_watch()?;
        match self {
            Self::Nfc => {
                nfc::normalize(text);
                Ok(())
            }
            Self::Prepend(step) => {
                check_growth(text, text.len().saturating_add(step.prepend.len()))?;
                step.normalize(text)
            }
            Self::Replace(step) => {
                let parts = step.pattern.find(text.get())?;
                let matches = parts.iter().filter(|(_, matches)| *matches);
                let added = matches.count().saturating_mul(step.content.len());
                // Before anything is made of it, and without what the matches leave free.
                let kept = parts.iter().filter(|(_, matches)| !matches);
                let kept: usize = kept.map(|((start, end), _)| end - start).sum();
                check_growth(text, kept.saturating_add(added))?;
                text.replace(Found::new(parts), &step.content)
            }
            Self::Sequence(steps) => steps.iter().try_for_each(|step| step.normalize(text)),
        }
    }
}

fn check_growth(text: &NormalizedString, bytes: usize) -> tokenizers::Result<()> {
    if bytes > MAX_GROWTH.saturating_mul(text.len_original()).saturating_add(MAX_ADDED) {
        return refuse("its normaliser makes the text over 4 times as long");
    }
    Ok(())
}

impl PreTokenizer for PreTokenizerStep {
    fn pre_tokenize(&self, text: &mut PreTokenizedString) -> tokenizers::Result<()> {
        check_watch()?;
        match self {
            Self::ByteLevel(step) => step.pre_tokenize(text),
            Self::Digits(step) => step.pre_tokenize(text),
            Self::Metaspace(step) => step.pre_tokenize(text),
            Self::Split(step) => text.split(|_, piece| match step.invert {
                true => piece.split(Invert(&step.pattern), step.behavior),
                false => piece.split(&step.pattern, step.behavior),
            }),
            Self::Sequence(steps) => steps.iter().try_for_each(|step| step.pre_tokenize(text)),
        }
    }
}

impl PostProcessor for AnyPostProcessor {
    fn added_tokens(&self, _is_pair: bool) -> usize {
        0
    }

    fn process_encodings(
        &self,
        encodings: Vec<Encoding>,
        _special: bool,
    ) -> tokenizers::Result<Vec<Encoding>> {
        Ok(encodings)
    }
}

impl Decoder for DecoderDescription {
    fn decode_chain(&self, _tokens: Vec<String>) -> tokenizers::Result<Vec<String>> {
        Err("tokens are decoded by the table of their bytes".into())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Tokens;
    use super::super::example::*;
    use super::MAX_STEPS;

    /// With `part` (a field of the file) instead of the example's.
    fn open(part: &str, json: serde_json::Value) -> Result<Tokens, String> {
        let mut file: serde_json::Value = serde_json::from_str(&byte_level_json()).unwrap();
        file[part] = json;
        Tokens::new(file.to_string().as_bytes(), info()).map_err(|e| e.to_string())
    }

    #[test]
    fn steps_change_and_split_the_text() {
        let level = serde_json::json!({"type": "ByteLevel", "add_prefix_space": false,
            "trim_offsets": false, "use_regex": false});
        let after = |step| serde_json::json!({"type": "Sequence", "pretokenizers": [step, level]});
        let replace =
            serde_json::json!({"type": "Replace", "pattern": {"String": "j"}, "content": "h"});
        let prepend = serde_json::json!({"type": "Prepend", "prepend": "h"});
        let both = serde_json::json!({"type": "Sequence", "normalizers": [replace, prepend]});
        let split = serde_json::json!({"type": "Split", "pattern": {"Regex": "h|\\p{N}"},
            "behavior": "Isolated", "invert": false});
        let digits = serde_json::json!({"type": "Digits", "individual_digits": true});
        let (h, e) = (byte(b'h'), byte(b'e'));
        let rows = [
            ("normalizer", serde_json::json!({"type": "NFC"}), "e\u{301}", "é", vec![]),
            ("normalizer", replace, "je", "he", vec![HE]),
            ("normalizer", both, "je", "hhe", vec![h, HE]),
            ("pre_tokenizer", after(split), "he", "he", vec![h, e]),
            ("pre_tokenizer", after(digits), "1he", "1he", vec![byte(b'1'), HE]),
        ];
        for (part, step, text, same, ids) in rows {
            let tokens = open(part, step).unwrap();
            let got = tokens.encode(text, true).unwrap();
            assert_eq!(tokens.bytes_of(&got), same.as_bytes(), "{text}");
            assert!(ids.is_empty() || got == ids, "{text}: {got:?}");
        }
    }

    /// Each step doubles the text, or as good as.
    #[test]
    fn growth_is_bounded_before_it_takes_memory() {
        let doubles = serde_json::json!({"type": "Replace", "pattern": {"String": "b"},
            "content": "bb"});
        let prepends = serde_json::json!({"type": "Prepend", "prepend": "b".repeat(200)});
        let rows = [
            (vec![doubles.clone(); 34], "b"),
            (vec![prepends; 34], "b"),
            (vec![doubles; 3], &"b".repeat(100_000)),
        ];
        for (steps, text) in rows {
            let tokens =
                open("normalizer", serde_json::json!({"type": "Sequence", "normalizers": steps}));
            let error = match tokens {
                Ok(tokens) => tokens.encode(text, true).unwrap_err().to_string(),
                Err(error) => error,
            };
            assert!(error.contains("4 times as long"), "{error}");
        }
    }

    #[test]
    fn other_steps_are_refused_by_name() {
        let rows = [
            ("normalizer", serde_json::json!({"type": "BertNormalizer"}), "\"BertNormalizer\""),
            ("normalizer", serde_json::json!({"type": 3}), "known are NFC"),
            ("normalizer", serde_json::json!({"type": "Prepend"}), "Prepend: missing field"),
            ("normalizer", serde_json::json!({"type": "Sequence"}), "normalizers: "),
            ("normalizer", serde_json::json!(7), "known are NFC"),
            ("pre_tokenizer", serde_json::json!({"type": "Whitespace"}), "\"Whitespace\""),
            ("pre_tokenizer", serde_json::json!({"type": "Split"}), "Split: missing field"),
        ];
        for (part, step, expected) in rows {
            let error = open(part, step.clone()).err().unwrap_or_default();
            assert!(error.contains(expected), "{step}: {error}");
        }
        let replace = |pattern, content: &str| {
            let mut step = serde_json::json!({"type": "Replace", "content": content});
            step["pattern"] = pattern;
            step
        };
        let string = |text: &str| serde_json::json!({"String": text});
        let regex = |source: &str| serde_json::json!({"Regex": source});
        let many = vec![serde_json::json!({"type": "NFC"}); MAX_STEPS];
        let rows = [
            (replace(string(""), "x"), "an empty pattern"),
            (replace(regex("x*"), "x"), "matches the empty text"),
            (replace(regex(r"(?=(a+))\1+b"), "x"), "look-around"),
            (replace(string("a"), &"b".repeat(100_000)), "4 times as long"),
            (replace(regex("."), ""), "deletes"),
            (replace(string("a"), ""), "deletes \"a\""),
            (replace(regex("(?s).+"), "x"), "deletes"),
            (serde_json::json!({"type": "Sequence", "normalizers": many}), "64 steps"),
        ];
        for (step, expected) in rows {
            let error = open("normalizer", step).err().unwrap_or_default();
            assert!(error.contains(expected), "{expected}: {error}");
        }
        assert!(open("post_processor", serde_json::json!({"type": "TemplateProcessing"})).is_ok());
    }
}
