//! Texts and token ids of a program's users, and what the model is made to write of them.

use hybrid::session::Tokenize;

use crate::parts::{Parts, text};
use crate::{Target, small};

pub const TARGET: Target = Target {
    name: "prompt",
    run,
    seeds,
    words: &[
        "<|endoftext|>",
        "<|",
        "|>",
        "he",
        "\r\n",
        "\u{301}",
        "\u{200d}",
        "\u{fffd}",
        "\u{ac00}",
        "\u{1f469}\u{200d}\u{1f680}",
        "\u{0}",
        "   ",
        "aaaaaaaaaaaaaaaa",
        "123456789",
    ],
    longest: 8 << 10,
};

/// The first byte chooses what is done with the others.
fn run(input: &[u8]) {
    let mut parts = Parts(input);
    let how = parts.byte();
    let model = small::model();
    let mut session = small::session();
    let written = text(parts.0);
    let tokenize = Tokenize { add_bos: how & 1 > 0, control: how & 2 > 0 };
    if let Ok(ids) = model.tokenize(&written, tokenize) {
        let bytes = model.detokenize(&ids, tokenize.control).unwrap();
        // Without control tokens in it, a text comes back as it was.
        assert!(tokenize.control || bytes == written.as_bytes(), "another text came back");
        let first = &ids[..ids.len().min(16)];
        assert!(first.is_empty() || session.prompt_tokens(first).is_ok());
    }
    let any: Vec<u32> = parts.0.as_chunks().0.iter().map(|id| u32::from_le_bytes(*id)).collect();
    let _ = session.prompt_tokens(&any);
    let _ = model.detokenize(&any, true);
    for _ in 0..2 {
        if session.prompt(&written).is_ok() {
            let _ = session.step();
        }
        let length = session.len();
        let _ = session.rewind(how as usize);
        assert!(session.len() <= length);
    }
    session.reset();
    assert_eq!((session.len(), session.text()), (0, String::new()));
}

fn seeds() -> Vec<Vec<u8>> {
    let texts =
        ["Hello, world!", "he<|endoftext|>he", "\u{e9}\u{301}\u{1f469}\u{200d}\u{1f680}", ""];
    let ids: Vec<u8> =
        [1_u32, 2, 257, 258, 259, u32::MAX].iter().flat_map(|id| id.to_le_bytes()).collect();
    let seed = |how: u8, bytes: &[u8]| [&[how], bytes].concat();
    (0..4).zip(texts).map(|(how, text)| seed(how, text.as_bytes())).chain([seed(5, &ids)]).collect()
}
