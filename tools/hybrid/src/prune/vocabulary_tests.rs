//! Vocabularies of both kinds, cut: the corpus keeps its tokens, every text its bytes, the model
//! its numbers.

use std::fs;

use hybrid::Cancel;
use hybrid::bundle::{Bundle, Verify};
use hybrid::slm::{Rows, Slm};
use hybrid::tokens::Tokens;
use temp_dir::TempDir;

use super::*;
use crate::pack::Options;
use crate::pack::testing::gguf::{self, File, HIDDEN, Value};
use crate::prune::Task;

const CORPUS: &str = "hello hello\nthe hell of it\n";
const NASTY: [&str; 6] =
    ["", "  \n\n\t ", "xyxyxy hello", "naïve 😀 \u{10FFFF}\0", "<|endoftext|></s>", "ĠĊ<0x0A>"];

/// A model with these tokens: text, score, type.
fn model(kind: &str, tokens: &[(String, f32, i32)], merges: &[&str]) -> File {
    let mut file = gguf::Model::new("llama").file();
    let texts = |values: &[&str]| Value::Texts(values.iter().map(|v| v.to_string()).collect());
    let all: Vec<&str> = tokens.iter().map(|token| token.0.as_str()).collect();
    for (key, value) in [
        ("model", Value::Text(kind.into())),
        ("tokens", texts(&all)),
        ("scores", Value::F32s(tokens.iter().map(|token| token.1).collect())),
        ("token_type", Value::I32s(tokens.iter().map(|token| token.2).collect())),
        ("merges", texts(merges)),
        ("bos_token_id", Value::U32(0)),
        ("eos_token_id", Value::U32(1)),
    ] {
        file.set(&format!("tokenizer.ggml.{key}"), value);
    }
    for name in ["token_embd.weight", "output.weight"] {
        let tensor = file.tensor(name);
        tensor.shape[1] = tokens.len() as u64;
        let values = (0..tokens.len() * HIDDEN).map(|i| (i * 7919 % 1999) as f32 / 1e4 - 0.1);
        tensor.data = values.flat_map(f32::to_le_bytes).collect();
    }
    file
}

fn token(text: &str, score: f32, kind: i32) -> (String, f32, i32) {
    (text.to_owned(), score, kind)
}

fn byte_level() -> File {
    let printable = |b: &u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let others = (0..=255).filter(|b| !printable(b)).count() as u32;
    let alphabet = (0..=255).filter(printable).map(u32::from).chain(256..256 + others);
    let special = ["<|begin|>", "<|endoftext|>"].map(|text| token(text, 0.0, 3));
    // `xy` and what is made of it are never needed; `he` and `hel` are on the way to `hell`.
    let merges = ["x y", "h e", "xy xy", "l l", "he ll", "t he", "hell o", "Ġ hello", "o f", "i t"];
    let made = merges.map(|merge| token(&merge.replace(' ', ""), 0.0, 1));
    let alphabet = alphabet.filter_map(char::from_u32).map(|c| token(&c.to_string(), 0.0, 1));
    let runs = [token("\t\t", 0.0, 4), token("[PAD270]", 0.0, 5)];
    let tokens: Vec<_> = special.into_iter().chain(made).chain(alphabet).chain(runs).collect();
    model("gpt2", &tokens, &merges)
}

fn sentence_piece() -> File {
    let mut tokens = vec![token("<s>", 0.0, 3), token("</s>", 0.0, 3), token("<unk>", 0.0, 2)];
    tokens.extend((0..=255).map(|byte| token(&format!("<0x{byte:02X}>"), 0.0, 6)));
    for (at, text) in ["xy", "▁h", "el", "ell", "▁hell", "lo", "▁hello", "▁t", "he", "▁the", "xyxy"]
        .into_iter()
        .enumerate()
    {
        tokens.push(token(text, -(at as f32), 1));
    }
    tokens.extend("▁abcdefhilotxyz".chars().map(|c| token(&c.to_string(), -50.0, 1)));
    model("llama", &tokens, &[])
}

/// The model, and the model without the tokens that the corpus does not need.
fn cut(file: &File, temp: &TempDir) -> [Bundle; 2] {
    let [path, whole, dir] = ["model.gguf", "whole", "pruned"].map(|name| temp.child(name));
    fs::write(&path, file.bytes()).unwrap();
    let options = Options { replace: true, ..Options::new() };
    let source = pack::open(&path, options).unwrap();
    pack::write(source, &whole, options).unwrap().put_into_place().unwrap();
    let task = Task { options, shares: vec![0.0], tokens: 64, whole: 0, threads: 0 };
    task.prune(&path, &dir, None, Some(CORPUS), None).unwrap();
    [whole, dir].map(|dir| Bundle::open(&dir, Verify::All).unwrap())
}

#[test]
fn the_corpus_keeps_its_tokens_and_every_text_its_bytes() {
    for (file, gone) in [(byte_level(), 2), (sentence_piece(), 3)] {
        let temp = TempDir::new().unwrap();
        let [whole, pruned] = cut(&file, &temp);
        let [before, after] = [&whole, &pruned].map(|bundle| Tokens::open(bundle).unwrap());
        let usable = [&whole, &pruned].map(|bundle| bundle.manifest().tokens.usable);
        assert!(usable[1] + gone <= usable[0], "{usable:?}");
        let pieces = |tokens: &Tokens, text: &str| -> Vec<Vec<u8>> {
            let ids = tokens.encode(text, true).unwrap();
            ids.iter().map(|id| tokens.bytes_with_special(*id).to_vec()).collect()
        };
        for text in [CORPUS, "hello", "hell of", "<|endoftext|>", "</s>", "\t\t"] {
            assert_eq!(pieces(&before, text), pieces(&after, text), "{text:?}");
        }
        assert_ne!(pieces(&before, "xyxy"), pieces(&after, "xyxy"));
        for text in NASTY {
            let ids = after.encode_continuation(text).unwrap();
            let bytes = ids.map(|ids| after.bytes_of(&ids));
            assert_eq!(bytes.as_deref(), Some(text.as_bytes()), "{text:?}");
        }
        let text = |tokens: &Tokens, id: u32| tokens.bytes_with_special(id).to_vec();
        assert_eq!(text(&before, before.stop()), text(&after, after.stop()));
        let bos = [&before, &after].map(|tokens| text(tokens, tokens.info().bos.unwrap()));
        assert_eq!(bos[0], bos[1]);
    }
}

#[test]
fn the_numbers_of_what_stays_are_the_same() {
    for file in [byte_level(), sentence_piece()] {
        let temp = TempDir::new().unwrap();
        let [whole, pruned] = cut(&file, &temp);
        let [before, after] = [&whole, &pruned].map(|bundle| {
            let tokens = Tokens::open(bundle).unwrap();
            let ids = tokens.encode(CORPUS, true).unwrap();
            let slm = Slm::open(bundle, 0).unwrap();
            let mut state = slm.spawn(0).unwrap();
            let logits = state.feed(&ids, Rows::Last, &Cancel::new()).unwrap().logits;
            let named = logits
                .into_iter()
                .zip(0..)
                .map(move |(logit, id)| (tokens.bytes_with_special(id).to_vec(), logit));
            named.collect::<Vec<_>>()
        });
        // Bytes of SentencePiece are the same as some letters: both keep their order.
        let mut rest = before.iter();
        for (token, logit) in &after {
            let same = rest.find(|(text, other)| text == token && other == logit);
            assert!(same.is_some(), "{token:?} {logit}");
        }
    }
}
