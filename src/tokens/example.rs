//! Two small vocabularies for tests: one control token for turns, a stop token, every byte, and a
//! few merges; once as byte-level BPE and once as SentencePiece.

use serde_json::{Value, json};

use super::Tokens;
use crate::bundle::TokenInfo;

pub const END: u32 = 0;
pub const USER: u32 = 1;
pub const HE: u32 = 258;
pub const LL: u32 = 259;
pub const HELL: u32 = 260;
pub const HELLO: u32 = 261;
/// The first id that is no token.
pub const PADDING: u32 = 262;

/// The token of a single byte.
pub const fn byte(byte: u8) -> u32 {
    2 + byte as u32
}

pub fn info() -> TokenInfo {
    TokenInfo {
        bos: None,
        add_bos: false,
        stop: vec![END],
        usable: PADDING as usize,
        fingerprint: String::new(),
    }
}

pub fn byte_level() -> Tokens {
    byte_level_with(info())
}

pub fn byte_level_with(info: TokenInfo) -> Tokens {
    Tokens::new(byte_level_json().as_bytes(), info).expect("the example is valid")
}

pub fn byte_level_json() -> String {
    let level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false,
        "use_regex": false});
    tokenizer(spell_byte_level, &level, &level, false)
}

pub fn sentence_piece() -> Tokens {
    let prepend = json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "first",
        "split": false});
    let decoder = json!({"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "},
        {"type": "ByteFallback"}, {"type": "Fuse"},
    ]});
    let json = tokenizer(spell_sentence_piece, &prepend, &decoder, true);
    Tokens::new(json.as_bytes(), info()).expect("the example is valid")
}

fn tokenizer(spell: fn(u8) -> String, before: &Value, decoder: &Value, fallback: bool) -> String {
    let mut vocabulary = json!({"<|end|>": END, "<|user|>": USER, "he": HE, "ll": LL,
        "hell": HELL, "hello": HELLO});
    for b in 0..=255 {
        vocabulary[spell(b)] = byte(b).into();
    }
    let control = |id: u32, content: &str| {
        json!({"id": id, "content": content, "special": true, "normalized": false,
            "single_word": false, "lstrip": false, "rstrip": false})
    };
    json!({
        "version": "1.0",
        "added_tokens": [control(END, "<|end|>"), control(USER, "<|user|>")],
        "normalizer": null,
        "pre_tokenizer": before,
        "post_processor": null,
        "decoder": decoder,
        "model": {"type": "BPE", "vocab": vocabulary, "byte_fallback": fallback,
            "merges": [["h", "e"], ["l", "l"], ["he", "ll"], ["hell", "o"]]},
    })
    .to_string()
}

fn spell_byte_level(byte: u8) -> String {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let code = if printable(byte) {
        u32::from(byte)
    } else {
        0x100 + (0..byte).filter(|&b| !printable(b)).count() as u32
    };
    char::from_u32(code).expect("a code under 0x200").to_string()
}

fn spell_sentence_piece(byte: u8) -> String {
    match byte {
        b' ' => "\u{2581}".into(),
        b'!'..=b'~' => char::from(byte).to_string(),
        _ => format!("<0x{byte:02X}>"),
    }
}
