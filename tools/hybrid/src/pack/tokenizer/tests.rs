//! Ids against those that llama.cpp gave for the same texts (see scripts/tools/llama_tokens.py).

use hybrid::tokens::{Tokens, to_text};

use super::super::gguf::Value;
use super::super::testing::{QWEN2, SMOLLM2, model, recorded};
use super::*;

/// All texts that come out differently.
fn differences(metadata: &Metadata, ids: &str) -> Vec<String> {
    let tokenizer = from_gguf(metadata, usize::MAX).unwrap();
    let tokens = Tokens::new(&tokenizer.json, tokenizer.info).unwrap();
    let texts: Vec<String> = recorded("token-texts.json");
    let expected: Vec<[Vec<u32>; 2]> = recorded(ids);
    assert_eq!(texts.len(), expected.len());
    let mut different = Vec::new();
    for (text, expected) in texts.iter().zip(expected) {
        for (special, expected) in [true, false].into_iter().zip(expected) {
            let found = tokens.encode(text, special).unwrap();
            if found != expected {
                different.push(format!("{text:?} special {special}: {found:?} not {expected:?}"));
            }
        }
    }
    different
}

#[test]
fn ids_are_those_of_llama_cpp() {
    for (name, ids) in [(SMOLLM2, "tokens-smollm2.json"), (QWEN2, "tokens-qwen2.json")] {
        let (gguf, _map) = model(name);
        let different = differences(&gguf.metadata, ids);
        assert!(different.is_empty(), "{ids}: {}\n{}", different.len(), different.join("\n"));
    }
}

/// What scripts/tools/llama_pre.py recorded; its help says what the fields are.
#[derive(serde::Deserialize)]
struct Recorded {
    tokens: Vec<String>,
    merges: Vec<String>,
    texts: Vec<String>,
    ids: Vec<Vec<Vec<u32>>>,
    groups: Vec<Group>,
}

#[derive(serde::Deserialize)]
struct Group {
    names: Vec<String>,
    adds_bos: bool,
    which: Vec<usize>,
}

impl Recorded {
    /// The vocabulary as a file's metadata: its last three tokens end a text, begin it, and are
    /// user-defined.
    fn metadata(&self, pre: &str) -> Metadata {
        let bytes = (0..=255).map(spelled_byte);
        let tokens: Vec<_> = bytes.chain(self.tokens.iter().cloned()).collect();
        let [end, bos, _] = [3, 2, 1].map(|back| Value::Integer((tokens.len() - back) as i128));
        let mut kinds = vec![1; tokens.len()];
        kinds.splice(tokens.len() - 3.., [3, 3, 4]);
        let mut metadata = Metadata::default();
        for (key, value) in [
            ("model", Value::Text("gpt2".to_owned())),
            ("pre", Value::Text(pre.to_owned())),
            ("tokens", Value::Texts(tokens)),
            ("merges", Value::Texts(self.merges.clone())),
            ("token_type", Value::Integers(kinds)),
            ("eos_token_id", end),
            ("bos_token_id", bos),
        ] {
            metadata.set(&format!("tokenizer.ggml.{key}"), value);
        }
        metadata
    }

    /// Where `which` says which of a text's `ids` are llama.cpp's.
    fn differences(&self, name: &str, tokenizer: Tokenizer, which: &[usize]) -> Vec<String> {
        let tokens = Tokens::new(&tokenizer.json, tokenizer.info).unwrap();
        let pieces = |ids: &[u32]| -> Vec<String> {
            ids.iter().map(|id| to_text(tokens.bytes_with_special(*id))).collect()
        };
        let mut different = Vec::new();
        for ((text, ids), which) in self.texts.iter().zip(&self.ids).zip(which) {
            let (found, expected) = (tokens.encode(text, false).unwrap(), &ids[*which]);
            if found != *expected {
                let (found, expected) = (pieces(&found), pieces(expected));
                different.push(format!("{name} {text:?}: {found:?} not {expected:?}"));
            }
        }
        different
    }
}

fn spelled_byte(byte: u8) -> String {
    let printable = |b: &u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let code = match printable(&byte) {
        true => u32::from(byte),
        false => 0x100 + (0..byte).filter(|b| !printable(b)).count() as u32,
    };
    char::from_u32(code).unwrap().to_string()
}

#[test]
fn every_way_of_splitting_is_that_of_llama_cpp() {
    let recorded: Recorded = recorded("pre.json");
    let mut different = Vec::new();
    for group in &recorded.groups {
        let mut compared: Vec<*const pre::Pre> = Vec::new();
        for name in &group.names {
            let tokenizer = from_gguf(&recorded.metadata(name), usize::MAX).unwrap();
            assert_eq!(tokenizer.info.add_bos, group.adds_bos, "{name}");
            // Names of one row of the table have one tokenizer.
            let row: *const _ = pre::find(name).unwrap();
            if !compared.contains(&row) {
                compared.push(row);
                different.extend(recorded.differences(name, tokenizer, &group.which));
            }
        }
    }
    assert!(different.is_empty(), "{}\n{}", different.len(), different.join("\n"));
    let mut names: Vec<_> = recorded.groups.iter().flat_map(|group| &group.names).collect();
    let mut known = pre::names();
    names.sort();
    known.sort();
    assert_eq!(names, known, "names without a record, or records without a name");
}

/// A SentencePiece vocabulary as a file's metadata: text, score and type of each token.
fn sentence_piece(rows: &[(String, f32, i128)]) -> Metadata {
    let mut metadata = Metadata::default();
    for (key, value) in [
        ("model", Value::Text("llama".to_owned())),
        ("tokens", Value::Texts(rows.iter().map(|row| row.0.clone()).collect())),
        ("scores", Value::Floats(rows.iter().map(|row| row.1).collect())),
        ("token_type", Value::Integers(rows.iter().map(|row| row.2 as i64).collect())),
        ("bos_token_id", Value::Integer(1)),
        ("eos_token_id", Value::Integer(2)),
    ] {
        metadata.set(&format!("tokenizer.ggml.{key}"), value);
    }
    metadata
}

#[test]
fn sentence_piece_ids_are_those_of_llama_cpp() {
    let mut rows: Vec<_> = recorded("spm-vocabulary.json");
    let different = differences(&sentence_piece(&rows), "tokens-spm.json");
    assert!(different.is_empty(), "{}\n{}", different.len(), different.join("\n"));
    // The rest is what `llama_tokens.py --runs` adds.
    let unused = [("\u{2581}the\u{2581}", 0.5), ("qu\u{416}", -3.0), ("\u{416}", -3.0)];
    let unused = unused.map(|(text, score)| (text.to_owned(), score, 5));
    let run = |white: &str, length| (white.repeat(length), 0.0, 4);
    let runs = ["\u{2581}", "\n"].into_iter().flat_map(|w| (2..8).map(move |n| run(w, n)));
    for row in unused.into_iter().chain(runs) {
        if !rows.iter().any(|known| known.0 == row.0) {
            rows.push(row);
        }
    }
    let mut metadata = sentence_piece(&rows);
    metadata.set("tokenizer.ggml.add_space_prefix", Value::Integer(0));
    let different = differences(&metadata, "tokens-spm-runs.json");
    assert!(different.is_empty(), "{}\n{}", different.len(), different.join("\n"));
}

#[test]
fn real_vocabularies_are_described() {
    let cases = [
        (SMOLLM2, 49152, vec![2, 0, 4], Some(1)),
        (QWEN2, 151_665, vec![151_645, 128_247, 151_643, 151_662, 151_663, 151_664], Some(151_643)),
    ];
    for (name, usable, stop, bos) in cases {
        let (gguf, _map) = model(name);
        let found = from_gguf(&gguf.metadata, usize::MAX).unwrap();
        assert_eq!((found.info.usable, found.info.stop, found.info.bos), (usable, stop, bos));
        assert!(!found.info.add_bos);
    }
}

/// As llama.cpp takes them where a file does not say: begin and end by SentencePiece's own ids, a
/// space in front. What is for other kinds of vocabularies changes nothing.
#[test]
fn sentence_piece_has_defaults() {
    let rows: Vec<_> = recorded("spm-vocabulary.json");
    let bare = |keys: &[(&str, Value)]| {
        let mut metadata = Metadata::default();
        for key in ["model", "tokens", "scores", "token_type"] {
            let key = format!("tokenizer.ggml.{key}");
            metadata.set(&key, sentence_piece(&rows).get(&key).unwrap().clone());
        }
        for (key, value) in keys {
            metadata.set(&format!("tokenizer.ggml.{key}"), value.clone());
        }
        metadata
    };
    let others = [
        ("remove_extra_whitespaces", Value::Integer(1)),
        ("add_sep_token", Value::Integer(1)),
        ("add_eos_token", Value::Integer(1)),
    ];
    for keys in [&[][..], &others] {
        let metadata = bare(keys);
        let info = from_gguf(&metadata, usize::MAX).unwrap().info;
        assert_eq!((info.bos, info.add_bos, info.stop.first()), (Some(1), true, Some(&2)));
        let different = differences(&metadata, "tokens-spm.json");
        assert!(different.is_empty(), "{}\n{}", different.len(), different.join("\n"));
    }
    let named = bare(&[("bos_token_id", Value::Integer(2)), ("add_bos_token", Value::Integer(0))]);
    let info = from_gguf(&named, usize::MAX).unwrap().info;
    assert_eq!((info.bos, info.add_bos), (Some(2), false));
}
