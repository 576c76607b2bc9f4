//! Whether the server's token ids mean the same bytes as the bundle's: asked when the
//! program calls for it, with fixed texts and ids. Nothing of a user is sent.
//!
//! Three questions, each one request: the ids of a fixed text, read with the bundle's vocabulary,
//! must give that text; the names of the control tokens must be the bundle's ids; and a spread of
//! ids over the whole vocabulary must be the text that the bundle says.
//!
//! A yes proves that the two vocabularies are the same in everything that was compared, which no
//! two different ones of practice survive. It does not prove every id (ids that are parts of
//! characters cannot be compared as text), nor equal merge rules (which ids do not need), nor that
//! the server still runs the same model tomorrow.

use serde::{Deserialize, Serialize};

use super::format::Shared;
use crate::tokens::Tokens;

/// What the probe must know of the bundle's vocabulary.
pub trait Vocabulary {
    /// Tells it from others, see [`crate::bundle::TokenInfo::fingerprint`].
    fn fingerprint(&self) -> &str;
    /// Ids from here on are padding.
    fn usable(&self) -> u32;
    /// Ids that end a text.
    fn stop(&self) -> Vec<u32>;
    /// The exact bytes of a plain token; empty for a control token.
    fn bytes(&self, id: u32) -> &[u8];
    /// The name of a control token, or the bytes of a plain one.
    fn bytes_with_special(&self, id: u32) -> &[u8];
}

impl Vocabulary for Tokens {
    fn fingerprint(&self) -> &str {
        &self.info().fingerprint
    }

    fn usable(&self) -> u32 {
        // At most 2^22 when a bundle is opened.
        self.info().usable as u32
    }

    fn stop(&self) -> Vec<u32> {
        self.info().stop.clone()
    }

    fn bytes(&self, id: u32) -> &[u8] {
        self.bytes(id)
    }

    fn bytes_with_special(&self, id: u32) -> &[u8] {
        self.bytes_with_special(id)
    }
}

/// Prose, code, digits, white space, and scripts of two, three and four bytes a character.
const TEXT: &str = "The quick brown fox doesn't jump over 1234567890 lazy dogs.\n\
    fn main() {\n    let mut x = [0u8; 16];\n\treturn x[3] >= 7 && !done; // ok\n}\n\n\
    {\"key\": \"value\", \"list\": [1, 2.5e-3, null]}   \n\
    Größe, naïve, señor; Съешь же ещё; ελληνικά; 日本語の文章、中文字符; 한국어; عربى; 🙂🚀🇪🇺";

/// Ids compared at most, spread evenly.
const IDS: u32 = 512;
/// Control tokens compared at most; some vocabularies reserve hundreds.
const CONTROL: usize = 64;

/// A server that answers both llama.cpp's `/tokenize` (`content`, `add_special`, `parse_special`)
/// and vLLM's (`prompt`, `add_special_tokens`) is asked in both ways at once: each ignores the
/// other's.
#[derive(Serialize)]
struct Tokenize<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    model: &'a str,
    content: &'a str,
    prompt: &'a str,
    add_special: bool,
    add_special_tokens: bool,
    parse_special: bool,
}

#[derive(Deserialize)]
struct Ids {
    tokens: Vec<u32>,
}

#[derive(Serialize)]
struct Detokenize<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    model: &'a str,
    tokens: &'a [u32],
}

/// `content` of llama.cpp, `prompt` of vLLM, `text` of SGLang.
#[derive(Deserialize)]
struct Text {
    #[serde(alias = "prompt", alias = "text")]
    content: String,
}

/// Sends a body to a path; `None` where the server has no such thing or answered something else.
pub(super) type Post<'a, E> = dyn Fn(&str, &[u8]) -> Result<Option<Vec<u8>>, E> + 'a;

/// What goes on from here has whole characters in each token. Some servers give no ids for those
/// that share one.
const PLAIN: &str = "The capital of France is";

/// `None`: the vocabularies differ, or the server cannot tell. Otherwise what is shared, and the
/// ids of a plain text.
pub(super) fn compare<E>(
    vocabulary: &dyn Vocabulary,
    model: &str,
    post: &Post<E>,
) -> Result<Option<(Shared, Vec<u32>)>, E> {
    let shared = Shared {
        fingerprint: vocabulary.fingerprint().to_owned(),
        usable: vocabulary.usable(),
        stop: vocabulary.stop(),
        control: control(vocabulary),
    };
    let probe = Probe { vocabulary, model, post };
    if !(probe.text()? && probe.control(&shared)? && probe.spread()?) {
        return Ok(None);
    }
    Ok(probe.tokenize(PLAIN, false)?.map(|ids| (shared, ids)))
}

struct Probe<'a, E> {
    vocabulary: &'a dyn Vocabulary,
    model: &'a str,
    post: &'a Post<'a, E>,
}

impl<E> Probe<'_, E> {
    fn text(&self) -> Result<bool, E> {
        let Some(ids) = self.tokenize(TEXT, false)? else { return Ok(false) };
        let bytes = self.read(&ids);
        // Vocabularies of the SentencePiece kind begin every text with a space.
        Ok(bytes == TEXT.as_bytes() || bytes.strip_prefix(b" ") == Some(TEXT.as_bytes()))
    }

    fn control(&self, shared: &Shared) -> Result<bool, E> {
        let mut ids = shared.control.clone();
        ids.truncate(CONTROL);
        ids.extend(shared.stop.iter().filter(|id| !ids.contains(id)).copied().collect::<Vec<_>>());
        let names: Vec<u8> =
            ids.iter().flat_map(|&id| self.vocabulary.bytes_with_special(id)).copied().collect();
        match String::from_utf8(names) {
            Ok(names) if names.is_empty() => Ok(true),
            Ok(names) => Ok(self.tokenize(&names, true)? == Some(ids)),
            Err(_) => Ok(false),
        }
    }

    fn spread(&self) -> Result<bool, E> {
        let ids = spread(self.vocabulary);
        let body = Detokenize { model: self.model, tokens: &ids };
        let text: Option<Text> = self.ask("/detokenize", &body)?;
        Ok(text.is_some_and(|text| text.content.into_bytes() == self.read(&ids)))
    }

    fn tokenize(&self, text: &str, special: bool) -> Result<Option<Vec<u32>>, E> {
        let body = Tokenize {
            model: self.model,
            content: text,
            prompt: text,
            add_special: false,
            add_special_tokens: false,
            parse_special: special,
        };
        let ids: Option<Ids> = self.ask("/tokenize", &body)?;
        Ok(ids.map(|ids| ids.tokens))
    }

    fn ask<A: for<'de> Deserialize<'de>>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Option<A>, E> {
        let Ok(body) = serde_json::to_vec(body) else { return Ok(None) };
        let answer = (self.post)(path, &body)?;
        Ok(answer.and_then(|answer| serde_json::from_slice(&answer).ok()))
    }

    fn read(&self, ids: &[u32]) -> Vec<u8> {
        let known = ids.iter().filter(|&&id| id < self.vocabulary.usable());
        known.flat_map(|&id| self.vocabulary.bytes(id)).copied().collect()
    }
}

fn control(vocabulary: &dyn Vocabulary) -> Vec<u32> {
    (0..vocabulary.usable())
        .filter(|&id| {
            vocabulary.bytes(id).is_empty() && !vocabulary.bytes_with_special(id).is_empty()
        })
        .collect()
}

/// Ids whose text survives any server's detokenizer: words and parts of words, since some servers
/// tidy the space around punctuation, and no space in front of the first, which some take away.
fn spread(vocabulary: &dyn Vocabulary) -> Vec<u32> {
    let usable = vocabulary.usable();
    let stride = (usable / IDS).max(1);
    let mut ids: Vec<u32> = (0..usable)
        .step_by(stride as usize)
        .filter_map(|start| {
            (start..usable.min(start + stride)).find(|&id| is_word(vocabulary.bytes(id)))
        })
        .collect();
    let first = ids.iter().position(|&id| !vocabulary.bytes(id).starts_with(b" "));
    ids.rotate_left(first.unwrap_or(0));
    ids
}

fn is_word(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let word = text.strip_prefix(' ').unwrap_or(text);
    !word.is_empty() && word.chars().all(char::is_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids 0..=255 are bytes, then words, then two control tokens.
    struct Toy {
        tokens: Vec<(&'static [u8], bool)>,
    }

    impl Toy {
        fn new(words: &[&'static str]) -> Toy {
            static BYTES: [u8; 256] = {
                let mut bytes = [0; 256];
                let mut i = 0;
                while i < 256 {
                    bytes[i] = i as u8;
                    i += 1;
                }
                bytes
            };
            let mut tokens: Vec<_> = BYTES.chunks(1).map(|byte| (byte, false)).collect();
            tokens.extend(words.iter().map(|word| (word.as_bytes(), false)));
            tokens.extend([(&b"<|start|>"[..], true), (&b"<|end|>"[..], true)]);
            Toy { tokens }
        }

        fn tokenize(&self, text: &str, special: bool) -> Vec<u32> {
            let mut rest = text.as_bytes();
            let mut ids = Vec::new();
            while !rest.is_empty() {
                let fits = |&(_, &(bytes, control)): &(usize, &(&[u8], bool))| {
                    rest.starts_with(bytes) && (special || !control)
                };
                let best =
                    self.tokens.iter().enumerate().filter(fits).max_by_key(|(_, t)| t.0.len());
                let (id, (bytes, _)) = best.unwrap();
                ids.push(id as u32);
                rest = &rest[bytes.len()..];
            }
            ids
        }
    }

    impl Vocabulary for Toy {
        fn fingerprint(&self) -> &str {
            "toy"
        }
        fn usable(&self) -> u32 {
            self.tokens.len() as u32
        }
        fn stop(&self) -> Vec<u32> {
            vec![self.usable() - 1]
        }
        fn bytes(&self, id: u32) -> &[u8] {
            let (bytes, control) = self.tokens[id as usize];
            if control { &[] } else { bytes }
        }
        fn bytes_with_special(&self, id: u32) -> &[u8] {
            self.tokens[id as usize].0
        }
    }

    /// A server with the vocabulary `toy`, speaking llama.cpp's or vLLM's dialect.
    fn serve(toy: &Toy, vllm: bool, path: &str, body: &[u8]) -> Option<Vec<u8>> {
        let body: serde_json::Value = serde_json::from_slice(body).unwrap();
        let added = &body[if vllm { "add_special_tokens" } else { "add_special" }];
        assert_ne!(added, true);
        let answer = match path {
            "/tokenize" => {
                let text = body[if vllm { "prompt" } else { "content" }].as_str().unwrap();
                let special = vllm || body["parse_special"].as_bool().unwrap();
                serde_json::json!({ "count": 1, "tokens": toy.tokenize(text, special) })
            }
            "/detokenize" => {
                let ids: Vec<u32> = serde_json::from_value(body["tokens"].clone()).unwrap();
                let bytes: Vec<u8> =
                    ids.iter().flat_map(|&id| toy.tokens[id as usize].0).copied().collect();
                let key = if vllm { "prompt" } else { "content" };
                serde_json::json!({ key: String::from_utf8_lossy(&bytes) })
            }
            other => panic!("unexpected path {other}"),
        };
        Some(serde_json::to_vec(&answer).unwrap())
    }

    fn compare_toys(ours: &Toy, theirs: &Toy, vllm: bool) -> Option<Shared> {
        let post = |path: &str, body: &[u8]| Ok::<_, ()>(serve(theirs, vllm, path, body));
        compare(ours, "", &post).unwrap().map(|(shared, _)| shared)
    }

    #[test]
    fn equal_vocabularies_are_found_equal() {
        let toy = Toy::new(&[" fox", "The", " main", "语"]);
        for vllm in [false, true] {
            let shared = compare_toys(&toy, &toy, vllm).unwrap();
            let (stop, control) = (vec![261], vec![260, 261]);
            let want = Shared { fingerprint: "toy".into(), usable: 262, stop, control };
            assert_eq!(shared, want);
        }
    }

    #[test]
    fn different_vocabularies_are_found_different() {
        let ours = Toy::new(&[" fox", "The", " main"]);
        let rows = [
            // Seen in the text.
            Toy::new(&["The", " fox", " main"]),
            Toy::new(&[" fox", "The", " main", " lazy"]),
            // Seen only among the ids.
            Toy::new(&[" fox", "The", " zebra"]),
        ];
        for theirs in rows {
            assert_eq!(compare_toys(&ours, &theirs, false), None);
        }
        let mut renamed = Toy::new(&[" fox", "The", " main"]);
        renamed.tokens.last_mut().unwrap().0 = b"<|stop|>";
        assert_eq!(compare_toys(&ours, &renamed, false), None);
    }

    #[test]
    fn a_server_that_cannot_tell_is_a_no() {
        let toy = Toy::new(&[]);
        for answer in [None, Some(b"{}".to_vec()), Some(b"<html>".to_vec())] {
            let post = |_: &str, _: &[u8]| Ok::<_, ()>(answer.clone());
            assert_eq!(compare(&toy, "", &post), Ok(None));
        }
        let post = |_: &str, _: &[u8]| Err("no connection");
        assert_eq!(compare(&toy, "", &post), Err("no connection"));
    }
}
