//! Ids against those that llama.cpp gave for the same texts (see scripts/tools/llama_tokens.py).

use hybrid::tokens::Tokens;

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
    let cases = [
        (SMOLLM2, None, "tokens-smollm2.json"),
        (QWEN2, None, "tokens-qwen2.json"),
        // The same vocabulary split in other ways.
        (SMOLLM2, Some("llama-bpe"), "tokens-smollm2-llama-bpe.json"),
        (SMOLLM2, Some("default"), "tokens-smollm2-default.json"),
        (SMOLLM2, Some("gpt-2"), "tokens-smollm2-gpt-2.json"),
    ];
    for (name, pre, ids) in cases {
        let (mut gguf, _map) = model(name);
        if let Some(pre) = pre {
            gguf.metadata.set("tokenizer.ggml.pre", Value::Text(pre.to_owned()));
        }
        let different = differences(&gguf.metadata, ids);
        assert!(different.is_empty(), "{ids}: {}\n{}", different.len(), different.join("\n"));
    }
}

/// A SentencePiece vocabulary as a file's metadata: text, score and type of each token.
fn sentence_piece() -> Metadata {
    let rows: Vec<(String, f32, i64)> = recorded("spm-vocabulary.json");
    let mut metadata = Metadata::default();
    metadata.set("tokenizer.ggml.model", Value::Text("llama".to_owned()));
    let tokens = rows.iter().map(|(token, _, _)| token.clone()).collect();
    metadata.set("tokenizer.ggml.tokens", Value::Texts(tokens));
    metadata.set("tokenizer.ggml.scores", Value::Floats(rows.iter().map(|row| row.1).collect()));
    metadata
        .set("tokenizer.ggml.token_type", Value::Integers(rows.iter().map(|row| row.2).collect()));
    metadata.set("tokenizer.ggml.bos_token_id", Value::Integer(1));
    metadata.set("tokenizer.ggml.eos_token_id", Value::Integer(2));
    metadata
}

#[test]
fn sentence_piece_ids_are_those_of_llama_cpp() {
    let different = differences(&sentence_piece(), "tokens-spm.json");
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
