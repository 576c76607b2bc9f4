//! `tokenizer.json`, and texts that go through it.

use hybrid::bundle::{FileRole, TokenInfo};
use hybrid::tokens::Tokens;
use serde_json::{Value, json};

use crate::Target;
use crate::parts::text;
use crate::small::Files;

pub const TARGET: Target = Target {
    name: "tokenizer",
    run,
    seeds,
    words: &[
        "\"type\"",
        "\"BPE\"",
        "\"vocab\"",
        "\"merges\"",
        "\"added_tokens\"",
        "\"normalizer\"",
        "\"pre_tokenizer\"",
        "\"post_processor\"",
        "\"decoder\"",
        "\"Sequence\"",
        "\"Replace\"",
        "\"pattern\"",
        "\"Regex\"",
        "\"String\"",
        "\"content\"",
        "\"Prepend\"",
        "\"NFC\"",
        "\"NFKC\"",
        "\"Lowercase\"",
        "\"ByteLevel\"",
        "\"Metaspace\"",
        "\"Split\"",
        "\"Digits\"",
        "\"Punctuation\"",
        "\"behavior\"",
        "\"Isolated\"",
        "\"Removed\"",
        "\"invert\"",
        "\"byte_fallback\"",
        "\"ByteFallback\"",
        "\"Fuse\"",
        "\"Strip\"",
        "\"unk_token\"",
        "\"dropout\"",
        "\"continuing_subword_prefix\"",
        "\"end_of_word_suffix\"",
        "\"special\"",
        "\"lstrip\"",
        "\"single_word\"",
        "\"normalized\"",
        "\"id\"",
        "\\u2581",
        "(?=",
        "(?!",
        "\\\\1",
        "\\\\p{L}+",
        "{1,1000}",
        "(a+)+",
        "null",
        "true",
        "0.5",
        "\"##\"",
        "\"\"",
        "4294967295",
    ],
    longest: 64 << 10,
};

const TEXTS: [&str; 4] = [
    "Hello, world! <|endoftext|> he 123456 \r\n\t  x",
    "A\u{30a}\u{323}\u{fb01}\u{ac00}\u{11a8}\u{e9}e\u{301} \u{1f469}\u{200d}\u{1f680}\u{0}",
    "",
    " ",
];

fn run(input: &[u8]) {
    let Some(usable) = tokens_of(input) else { return };
    let info =
        TokenInfo { bos: None, add_bos: false, stop: vec![0], usable, fingerprint: String::new() };
    let Ok(tokens) = Tokens::new(input, info) else { return };
    let own = text(&input[input.len().saturating_sub(300)..]);
    let long = "aaaaaaaaaaaaaaa b".repeat(200);
    for text in TEXTS.into_iter().chain([&*own, &*long]) {
        for control in [false, true] {
            if let Ok(ids) = tokens.encode(text, control) {
                assert!(ids.iter().all(|id| (*id as usize) < usable));
            }
        }
        let _ = tokens.encode_continuation(text);
    }
}

/// How many ids it says it has: what an honest manifest would say.
fn tokens_of(json: &[u8]) -> Option<usize> {
    let file: Value = serde_json::from_slice(json).ok()?;
    let vocab = file["model"]["vocab"].as_object()?;
    let added = file["added_tokens"].as_array().map_or(&[][..], |list| list);
    let new =
        added.iter().filter(|one| !one["content"].as_str().is_some_and(|t| vocab.contains_key(t)));
    Some((vocab.len() + new.count()).max(1))
}

fn seeds() -> Vec<Vec<u8>> {
    let files = Files::small();
    let plain: Value = serde_json::from_slice(files.file(FileRole::Tokenizer)).unwrap();
    let regex = |pattern: &str| json!({"Regex": pattern});
    let split = |pattern: &str| {
        json!({"type": "Split", "pattern": regex(pattern),
            "behavior": "Isolated", "invert": false})
    };
    let replace = |from: &str, to: &str| {
        json!({"type": "Replace", "pattern": {"String": from},
            "content": to})
    };
    let sequence = |list: Vec<Value>| json!({"type": "Sequence", "normalizers": list});
    let level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false,
        "use_regex": false});
    let changes: [(&str, Value); 10] = [
        ("normalizer", json!({"type": "NFC"})),
        (
            "normalizer",
            sequence(vec![json!({"type": "Prepend", "prepend": "_"}), replace(" ", "_")]),
        ),
        ("normalizer", sequence(vec![replace("a", "aa"); 34])),
        ("normalizer", replace("a", &"b".repeat(10_000))),
        ("normalizer", json!({"type": "Replace", "pattern": regex("(?=(a+))b"), "content": ""})),
        (
            "pre_tokenizer",
            json!({"type": "Sequence", "pretokenizers": [
            split(r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|\s+(?!\S)|\s+"), level]}),
        ),
        ("pre_tokenizer", split("(a+)+b")),
        (
            "pre_tokenizer",
            json!({"type": "Metaspace", "replacement": "\u{2581}",
            "prepend_scheme": "always", "split": true}),
        ),
        (
            "pre_tokenizer",
            json!({"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": true}, level]}),
        ),
        (
            "decoder",
            json!({"type": "Sequence", "decoders": [replace("\u{2581}", " "),
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}),
        ),
    ];
    let changed = changes.map(|(key, value)| {
        let mut file = plain.clone();
        file[key] = value;
        file
    });
    let models = [
        ("dropout", json!(0.5)),
        ("unk_token", json!("h")),
        ("continuing_subword_prefix", json!("##")),
        ("byte_fallback", json!(true)),
        ("ignore_merges", json!(true)),
    ];
    let models = models.map(|(key, value)| {
        let mut file = plain.clone();
        file["model"][key] = value;
        file
    });
    [plain.clone()]
        .into_iter()
        .chain(changed)
        .chain(models)
        .map(|f| f.to_string().into_bytes())
        .collect()
}
