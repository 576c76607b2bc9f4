//! Token ids are exchanged only after the server has shown that they mean the same.

use super::*;
use hybrid::cloud::Exchange;
use support::Toy;

const LLAMA: &str = r#"{"content":"x","tokens":[120,121],"stop_type":"limit"}"#;

/// A server with the vocabulary `toy`, which answers a completion with `completion`.
fn server(toy: Toy, completion: &'static str) -> Server {
    Server::start(&Identity::good(), move |request| {
        toy.answer(request).unwrap_or_else(|| Reaction::json(200, completion))
    })
}

fn llama(server: &Server) -> Cloud {
    Cloud::new(CloudOptions { server: ServerKind::LlamaCpp, ..options(server) }).unwrap()
}

fn probe(cloud: &Cloud) -> hybrid::Result<Exchange> {
    cloud.probe(&Toy::new(), &Cancel::new())
}

fn prompt_of(request: &Recorded) -> serde_json::Value {
    request.json()["prompt"].clone()
}

#[test]
fn equal_vocabularies_exchange_ids() {
    let server = server(Toy::new(), LLAMA);
    let cloud = llama(&server);
    assert!(!cloud.shares_vocabulary(Toy::FINGERPRINT));
    assert_eq!(probe(&cloud).unwrap(), Exchange::Ids);
    assert!(cloud.shares_vocabulary(Toy::FINGERPRINT));
    let answer = consult(&cloud, b"is", PLENTY).0.unwrap();
    assert_eq!((answer.continuation, answer.end), (Continuation::Ids(vec![120, 121]), false));
    assert_eq!(prompt_of(server.requests().last().unwrap()), serde_json::json!([105, 115]));
}

#[test]
fn without_a_probe_bytes_are_exchanged() {
    let server = server(Toy::new(), LLAMA);
    let answer = consult(&llama(&server), b"is", PLENTY).0.unwrap();
    assert_eq!(answer.continuation, bytes("x"));
    assert_eq!(prompt_of(&server.requests()[0]), "is");
}

#[test]
fn different_vocabularies_exchange_bytes() {
    for words in [["語", " fox"], [" fox", " fo"]] {
        let server = server(Toy::with_words(words), LLAMA);
        let cloud = llama(&server);
        assert_eq!(probe(&cloud).unwrap(), Exchange::Bytes, "{words:?}");
        assert_eq!(consult(&cloud, b"is", PLENTY).0.unwrap().continuation, bytes("x"));
    }
}

#[test]
fn a_server_that_cannot_tokenise_gets_bytes() {
    for status in [400, 404, 405, 501] {
        let server = always(move || Reaction::json(status, "{}"));
        assert_eq!(probe(&client(&server)).unwrap(), Exchange::Bytes, "{status}");
    }
    let server = always(|| Reaction::json(200, "not JSON"));
    assert_eq!(probe(&client(&server)).unwrap(), Exchange::Bytes);
}

/// vLLM before `return_token_ids` tokenises alike, and then answers without ids.
#[test]
fn a_server_that_answers_without_ids_gets_bytes() {
    let text = r#"{"choices":[{"text":"x","finish_reason":"length"}]}"#;
    for (kind, completion) in [
        (ServerKind::OpenAi, text),
        (ServerKind::LlamaCpp, r#"{"content":"x","stop_type":"limit"}"#),
        (ServerKind::SgLang, r#"{"text":"x"}"#),
    ] {
        let server = server(Toy::new(), completion);
        let cloud = Cloud::new(CloudOptions { server: kind, ..options(&server) }).unwrap();
        assert_eq!(probe(&cloud).unwrap(), Exchange::Bytes, "{kind:?}");
        assert_eq!(ask(&cloud).unwrap().continuation, bytes("x"), "{kind:?}");
    }
    // And one that refuses prompts of ids.
    let server = Server::start(&Identity::good(), move |request| {
        let refuse = request.path == "/v1/completions" && request.json()["prompt"].is_array();
        let completion = || match refuse {
            true => Reaction::json(400, "{}"),
            false => Reaction::json(200, text),
        };
        Toy::new().answer(request).unwrap_or_else(completion)
    });
    let cloud = client(&server);
    assert_eq!(probe(&cloud).unwrap(), Exchange::Bytes);
    assert_eq!(ask(&cloud).unwrap().continuation, bytes("x"));
}

#[test]
fn a_probe_can_be_cancelled() {
    let server = always(|| Reaction::Silence);
    let (cloud, cancel) = (client(&server), Cancel::new());
    let begun = Instant::now();
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(100));
            cancel.raise();
        });
        cloud.probe(&Toy::new(), &cancel)
    });
    assert!(matches!(result, Err(hybrid::Error::Cancelled)), "{result:?}");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_probe_that_cannot_be_made_says_why() {
    let untrusted = Server::start(&Identity::wrong_ca(), |_| Reaction::Close);
    let gone = always(|| Reaction::Close);
    let gone_options = options(&gone);
    drop(gone);
    let refusing = always(|| Reaction::json(401, "{}"));
    let loading = always(|| Reaction::json(503, "{}"));
    let rows = [
        (client(&untrusted), "certificate"),
        (Cloud::new(gone_options).unwrap(), "no connection"),
        (client(&refusing), "refused the token"),
        (client(&loading), "busy or loading"),
    ];
    for (cloud, reason) in rows {
        let error = probe(&cloud).unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains("https://127.0.0.1:"), "{error}");
        assert!(!cloud.shares_vocabulary(Toy::FINGERPRINT));
    }
}

#[test]
fn a_later_no_takes_the_yes_back() {
    let server = server(Toy::new(), LLAMA);
    let cloud = llama(&server);
    assert_eq!(probe(&cloud).unwrap(), Exchange::Ids);
    let other = cloud.probe(&Toy::with_words(["no", " fox"]), &Cancel::new());
    assert_eq!(other.unwrap(), Exchange::Bytes);
    assert!(!cloud.shares_vocabulary(Toy::FINGERPRINT));
}

/// Two bundles with one client: the ids of the other vocabulary would be nonsense to the server.
#[test]
fn a_yes_is_for_one_vocabulary() {
    let server = server(Toy::new(), LLAMA);
    let cloud = llama(&server);
    assert_eq!(probe(&cloud).unwrap(), Exchange::Ids);
    assert!(!cloud.shares_vocabulary("another"));
    let (cancel, deadline) = (Cancel::new(), Instant::now() + PLENTY);
    let (ids, bytes, cancel) = (&[1u32, 2][..], &b"is"[..], &cancel);
    let other =
        Request { ids, vocabulary: "another", bytes, chat: None, max_tokens: 3, deadline, cancel };
    assert_eq!(cloud.consult(&other).0.unwrap().continuation, super::bytes("x"));
    assert_eq!(prompt_of(server.requests().last().unwrap()), "is");
}

#[test]
fn a_context_of_ids_may_end_within_a_character() {
    let server = server(Toy::new(), LLAMA);
    let cloud = llama(&server);
    probe(&cloud).unwrap();
    assert!(consult(&cloud, b"Caf\xc3", PLENTY).0.is_ok());
}

#[test]
fn what_ids_mean_on_the_wire() {
    use Continuation::Ids;
    use ServerKind::{LlamaCpp, OpenAi};
    let rows = [
        // The end, as its token.
        (LlamaCpp, r#"{"content":"","tokens":[259],"stop_type":"eos"}"#, Ok((Ids(vec![]), true))),
        (
            LlamaCpp,
            r#"{"content":"a","tokens":[97,258],"stop_type":"eos"}"#,
            Ok((Ids(vec![97]), true)),
        ),
        // A part of a character.
        (
            LlamaCpp,
            r#"{"content":"\ufffd","tokens":[240,159],"stop_type":"limit"}"#,
            Ok((Ids(vec![240, 159]), false)),
        ),
        (LlamaCpp, r#"{"content":"a","stop_type":"limit"}"#, Err(Failure::Protocol)),
        (LlamaCpp, r#"{"content":"a","tokens":[260],"stop_type":"limit"}"#, Err(Failure::Protocol)),
        (
            LlamaCpp,
            r#"{"content":"a","tokens":[1,2,3,4],"stop_type":"limit"}"#,
            Err(Failure::Protocol),
        ),
        // vLLM
        (
            OpenAi,
            r#"{"choices":[{"text":"a","token_ids":[97,259],"finish_reason":"stop"}]}"#,
            Ok((Ids(vec![97]), true)),
        ),
        // llama.cpp
        (
            OpenAi,
            r#"{"choices":[{"text":"a","logprobs":{"content":[{"id":97}]},
                "finish_reason":"length"}],
                "usage":{"completion_tokens":1}}"#,
            Ok((Ids(vec![97]), false)),
        ),
        // llama.cpp where three tokens make one character: the ids are not exact.
        (
            OpenAi,
            r#"{"choices":[{"text":"a","logprobs":{"content":[{"id":97}]},
                "finish_reason":"length"}],
                "usage":{"completion_tokens":3}}"#,
            Err(Failure::Protocol),
        ),
        (OpenAi, r#"{"choices":[{"text":"a","finish_reason":"length"}]}"#, Err(Failure::Protocol)),
    ];
    for (kind, completion, expected) in rows {
        // The probe gets ids, whatever comes after it.
        let server = Server::start(&Identity::good(), move |request| {
            let json = request.json();
            let probing = [&json["max_tokens"], &json["n_predict"]].iter().any(|n| **n == 2);
            let good = match kind {
                LlamaCpp => LLAMA,
                _ => r#"{"choices":[{"text":"x","token_ids":[120]}]}"#,
            };
            let completion = if probing { good } else { completion };
            Toy::new().answer(request).unwrap_or_else(|| Reaction::json(200, completion))
        });
        let cloud = Cloud::new(CloudOptions { server: kind, ..options(&server) }).unwrap();
        assert_eq!(probe(&cloud).unwrap(), Exchange::Ids);
        let got = ask(&cloud).map(|answer| (answer.continuation, answer.end));
        assert_eq!(got, expected, "{completion}");
    }
}
