//! The cloud client against a real llama.cpp server behind nginx with TLS. Not part of a plain
//! `cargo test` (`test = false` in Cargo.toml): `scripts/test-cloud` starts the server, packs the
//! bundles and runs it.

use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use hybrid::Cancel;
use hybrid::bundle::{Bundle, Verify};
use hybrid::cloud::{Cloud, CloudOptions, Exchange, Roots, ServerKind};
use hybrid::consult::{Answer, Chat, Consult, Continuation, Cost, Failure, Request};
use hybrid::tokens::{Message, Tokens};

const KINDS: [ServerKind; 2] = [ServerKind::OpenAi, ServerKind::LlamaCpp];
/// For a real LLM on a busy machine.
const TIME: Duration = Duration::from_secs(60);
const FRANCE: &str = "Berlin is the capital of Germany. Paris is the capital of";
/// A character of several tokens comes next.
const ANIMALS: &str = "猫 = 🐱, 犬 = 🐶, 猫 = 🐱, 犬 = 🐶, 猫 = 🐱, 犬 =";
/// The answer is complete: the end comes next.
const DONE: &str = "<|im_start|>user\nSay OK.<|im_end|>\n<|im_start|>assistant\nOK.<|im_end|>\n\
    <|im_start|>user\nSay OK.<|im_end|>\n<|im_start|>assistant\nOK.<|im_end|>\n\
    <|im_start|>user\nSay OK.<|im_end|>\n<|im_start|>assistant\nOK.";

/// Without its variable the test fails: it must not pass without having seen a server.
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; run scripts/test-cloud"))
}

fn options(kind: ServerKind) -> CloudOptions {
    CloudOptions {
        url: variable("HYBRID_CLOUD_URL"),
        server: kind,
        model: String::new(),
        token: Some(variable("HYBRID_CLOUD_TOKEN")),
        roots: Roots::PemFile(variable("HYBRID_CLOUD_CA").into()),
        ..CloudOptions::default()
    }
}

/// Of the bundle with the server's vocabulary, or of the other one.
fn vocabulary(name: &str) -> Tokens {
    let bundle = Bundle::open(Path::new(&variable(name)), Verify::AllButWeights).unwrap();
    Tokens::open(&bundle).unwrap()
}

/// Of the vocabulary that is the server's.
fn same_fingerprint() -> &'static str {
    static SAME: OnceLock<String> = OnceLock::new();
    SAME.get_or_init(|| vocabulary("HYBRID_TEST_SAME").info().fingerprint.clone())
}

/// A client that exchanges ids, and the vocabulary.
fn sharing(kind: ServerKind) -> (Cloud, Tokens) {
    let tokens = vocabulary("HYBRID_TEST_SAME");
    let cloud = Cloud::new(options(kind)).unwrap();
    let exchange = cloud.probe(&tokens, &Cancel::new()).unwrap();
    assert_eq!(exchange, Exchange::Ids, "the vocabularies are the same");
    (cloud, tokens)
}

fn consult(
    cloud: &Cloud,
    ids: &[u32],
    bytes: &[u8],
    max_tokens: u32,
) -> (Result<Answer, Failure>, Cost) {
    let cancel = Cancel::new();
    let deadline = Instant::now() + TIME;
    let vocabulary = same_fingerprint();
    let cancel = &cancel;
    cloud.consult(&Request { ids, vocabulary, bytes, chat: None, max_tokens, deadline, cancel })
}

fn ids(answer: &Answer) -> &[u32] {
    match &answer.continuation {
        Continuation::Ids(ids) => ids,
        Continuation::Bytes(bytes) => panic!("bytes instead of ids: {bytes:?}"),
    }
}

#[test]
fn ids_are_exchanged_exactly() {
    for kind in KINDS {
        let (cloud, tokens) = sharing(kind);
        let prompt = tokens.encode(FRANCE, false).unwrap();
        let (answer, cost) = consult(&cloud, &prompt, b"", 4);
        let answer = answer.unwrap();
        assert!(tokens.bytes_of(ids(&answer)).starts_with(b" France"), "{kind:?}: {answer:?}");
        assert_eq!((ids(&answer).len(), answer.end), (4, false));
        // Not one token more: no beginning-of-text was put in front.
        assert_eq!(cost.prompt_tokens, prompt.len() as u64);
        assert_eq!(cost.completion_tokens, 4);

        let (first, cost) = consult(&cloud, &prompt, b"", 1);
        assert_eq!(ids(&first.unwrap()), &ids(&answer)[..1]);
        assert!(cost.cached_tokens > 0 && cost.cached_tokens <= cost.prompt_tokens, "{cost:?}");
    }
}

#[test]
fn ids_within_a_character_are_exact_or_refused() {
    for kind in KINDS {
        let (cloud, tokens) = sharing(kind);
        let prompt = tokens.encode(ANIMALS, false).unwrap();
        let mut longest = Vec::new();
        let mut partial = false;
        for burst in 1..=6 {
            match consult(&cloud, &prompt, b"", burst).0 {
                Ok(answer) => {
                    let got = ids(&answer);
                    assert!(got.starts_with(&longest), "{kind:?}: {got:?} after {longest:?}");
                    partial |= std::str::from_utf8(&tokens.bytes_of(got)).is_err();
                    longest = got.to_vec();
                }
                Err(failure) => {
                    assert_eq!((kind, failure), (ServerKind::OpenAi, Failure::Protocol));
                    partial = true;
                }
            }
        }
        assert!(partial, "{kind:?}: the prompt must lead into a character of several tokens");
        if kind == ServerKind::LlamaCpp {
            assert!(String::from_utf8_lossy(&tokens.bytes_of(&longest)).contains('🐶'));
        }
    }
}

#[test]
fn the_end_is_seen() {
    let other = vocabulary("HYBRID_TEST_OTHER");
    for kind in KINDS {
        let (cloud, tokens) = sharing(kind);
        let prompt = tokens.encode(DONE, true).unwrap();
        let answer = consult(&cloud, &prompt, b"", 4).0.unwrap();
        assert_eq!((ids(&answer), answer.end), (&[][..], true), "{kind:?}");

        let unprobed = Cloud::new(options(kind)).unwrap();
        let answer =
            consult(&unprobed, &other.encode(DONE, true).unwrap(), DONE.as_bytes(), 4).0.unwrap();
        assert_eq!(
            (answer.continuation, answer.end),
            (Continuation::Bytes(vec![]), true),
            "{kind:?}"
        );
    }
}

#[test]
fn bytes_are_exchanged_with_another_vocabulary() {
    let other = vocabulary("HYBRID_TEST_OTHER");
    for kind in KINDS {
        let cloud = Cloud::new(options(kind)).unwrap();
        let exchange = cloud.probe(&other, &Cancel::new()).unwrap();
        assert_eq!(exchange, Exchange::Bytes, "the vocabularies differ");
        let (answer, cost) = consult(&cloud, &[1], FRANCE.as_bytes(), 4);
        let Continuation::Bytes(bytes) = answer.unwrap().continuation else { panic!("not bytes") };
        assert!(bytes.starts_with(b" France"), "{kind:?}: {bytes:?}");
        assert!(cost.prompt_tokens > 0);

        // A burst that ends within a character gives the whole ones before it, or nothing.
        for burst in 1..=6 {
            match consult(&cloud, &[1], ANIMALS.as_bytes(), burst).0 {
                Ok(answer) => {
                    let Continuation::Bytes(bytes) = answer.continuation else {
                        panic!("not bytes")
                    };
                    let text = String::from_utf8(bytes).unwrap();
                    assert!(" 🐶,".starts_with(&text) || text.starts_with(" 🐶,"), "{text:?}");
                }
                Err(failure) => assert_eq!(failure, Failure::Protocol),
            }
        }
    }
}

/// The probe has seen that it continues "Par".
#[test]
fn chats_are_continued() {
    let tokens = vocabulary("HYBRID_TEST_SAME");
    let ask = Message { role: "user".into(), content: "What is the capital of Germany?".into() };
    for kind in [ServerKind::ChatContinue, ServerKind::ChatTrailing] {
        let cloud = Cloud::new(options(kind)).unwrap();
        assert_eq!(cloud.probe(&tokens, &Cancel::new()).unwrap(), Exchange::Messages, "{kind:?}");
        let messages = std::slice::from_ref(&ask);
        let chat = Chat { messages, answer: "The capital of Germany is Ber" };
        let (cancel, deadline) = (Cancel::new(), Instant::now() + TIME);
        let request = Request {
            ids: &[],
            vocabulary: same_fingerprint(),
            bytes: b"not sent",
            chat: Some(chat),
            max_tokens: 4,
            deadline,
            cancel: &cancel,
        };
        match cloud.consult(&request).0.unwrap().continuation {
            Continuation::Bytes(bytes) => assert!(bytes.starts_with(b"lin"), "{kind:?}: {bytes:?}"),
            Continuation::Ids(ids) => panic!("{kind:?}: ids {ids:?}"),
        }
    }
}

#[test]
fn the_wire_format_is_found() {
    let cloud = Cloud::new(options(ServerKind::Auto)).unwrap();
    let exchange = cloud.probe(&vocabulary("HYBRID_TEST_SAME"), &Cancel::new()).unwrap();
    assert_eq!((cloud.server(), exchange), (ServerKind::LlamaCpp, Exchange::Ids));
}

#[test]
fn refusals_of_a_real_server() {
    for kind in KINDS {
        let wrong = CloudOptions { token: Some("wrong".into()), ..options(kind) };
        let wrong = Cloud::new(wrong).unwrap();
        assert_eq!(consult(&wrong, &[1], b"x", 1).0.unwrap_err(), Failure::Unauthorized);
        let same = vocabulary("HYBRID_TEST_SAME");
        let error = wrong.probe(&same, &Cancel::new()).unwrap_err().to_string();
        assert!(error.contains("refused the token"), "{error}");

        let (cloud, _) = sharing(kind);
        let too_long = consult(&cloud, &[100; 100_000], b"", 1).0.unwrap_err();
        assert_eq!(too_long, Failure::Status);
        // The connection is usable again.
        assert!(consult(&cloud, &[100, 101], b"", 1).0.is_ok());
    }
}

/// More requests than the servers in between serve on one connection; nobody notices.
#[test]
fn many_consults_in_a_row() {
    let (cloud, tokens) = sharing(ServerKind::LlamaCpp);
    let prompt = tokens.encode(FRANCE, false).unwrap();
    for _ in 0..120 {
        let answer = consult(&cloud, &prompt, b"", 1).0.unwrap();
        assert_eq!(tokens.bytes_of(ids(&answer)), b" France");
    }
}
