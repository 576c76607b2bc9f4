//! The steps around BPE that a `tokenizer.json` may ask for. The tokenisers' crate knows more of
//! them; each would bring its code and its tables to the board.

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use tokenizers::normalizers::{Prepend, Replace};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::metaspace::Metaspace;
use tokenizers::pre_tokenizers::split::Split;
use tokenizers::{Decoder, Encoding, NormalizedString, Normalizer};
use tokenizers::{PostProcessor, PreTokenizedString, PreTokenizer};

use super::nfc;

/// Changes the text.
pub enum NormalizerStep {
    Nfc,
    Prepend(Prepend),
    Replace(Replace),
    Sequence(Vec<NormalizerStep>),
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
        let step = Step::deserialize(deserializer)?;
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
        let step = Step::deserialize(deserializer)?;
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

impl Step {
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
        match self {
            Self::Nfc => {
                nfc::normalize(text);
                Ok(())
            }
            Self::Prepend(step) => step.normalize(text),
            Self::Replace(step) => step.normalize(text),
            Self::Sequence(steps) => steps.iter().try_for_each(|step| step.normalize(text)),
        }
    }
}

impl PreTokenizer for PreTokenizerStep {
    fn pre_tokenize(&self, text: &mut PreTokenizedString) -> tokenizers::Result<()> {
        match self {
            Self::ByteLevel(step) => step.pre_tokenize(text),
            Self::Digits(step) => step.pre_tokenize(text),
            Self::Metaspace(step) => step.pre_tokenize(text),
            Self::Split(step) => step.pre_tokenize(text),
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
        assert!(open("post_processor", serde_json::json!({"type": "TemplateProcessing"})).is_ok());
    }
}
