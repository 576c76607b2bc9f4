//! What a server answers, in every wire format, through the real client: HTTP in TLS over a socket
//! of 127.0.0.1.

use std::collections::VecDeque;
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use hybrid::Cancel;
use hybrid::cloud::{Cloud, CloudOptions, ServerKind};
use hybrid::consult::{Chat, Consult, Continuation, Request};
use hybrid::tokens::Message;

use crate::Target;
use crate::parts::Parts;
use crate::support::{Identity, Reaction, Recorded, Response, Server, Toy};

pub const CONSULT: Target = Target {
    name: "consult",
    run: |input| attack(input, consult),
    seeds: consult_seeds,
    words: WORDS,
    longest: 16 << 10,
};

pub const PROBE: Target = Target {
    name: "probe",
    run: |input| {
        attack(input, |cloud| {
            let _ = cloud.probe(&Toy::new(), &Cancel::new());
            consult(cloud);
        });
    },
    seeds: probe_seeds,
    words: WORDS,
    longest: 16 << 10,
};

const WORDS: &[&str] = &[
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.0 ",
    "content-length: ",
    "transfer-encoding: chunked\r\n",
    "retry-after: ",
    "location: ",
    "connection: close\r\n",
    "content-encoding: gzip\r\n",
    "\r\n\r\n",
    "ffffffffffffffff\r\n",
    "0\r\n\r\n",
    "\"choices\"",
    "\"text\"",
    "\"message\"",
    "\"content\"",
    "\"finish_reason\"",
    "\"logprobs\"",
    "\"token_ids\"",
    "\"tokens\"",
    "\"output_ids\"",
    "\"meta_info\"",
    "\"stop_type\"",
    "\"usage\"",
    "\"prompt_tokens\"",
    "\"completion_tokens\"",
    "\"type\"",
    "\"stop_reason\"",
    "\"length\"",
    "\"limit\"",
    "\"stop\"",
    "null",
    "-1",
    "1e999",
    "18446744073709551616",
    "\\ud800",
    "\\u0000",
    "<|end|>",
    "\u{fffd}",
    "[[[[[[[[",
    "{\"a\":{\"a\":",
];

const KINDS: [ServerKind; 8] = [
    ServerKind::Auto,
    ServerKind::OpenAi,
    ServerKind::LlamaCpp,
    ServerKind::SgLang,
    ServerKind::ChatContinue,
    ServerKind::ChatPrefix,
    ServerKind::ChatTrailing,
    ServerKind::Anthropic,
];

/// Between what answers the first request, the second and so on.
const NEXT: u8 = 0xff;
/// Set in the first byte: the answers are all that the server sends, not bodies of JSON alone.
const RAW: u8 = 0x80;

/// What the server answers from now on. Requests for tokens are answered rightly every other time.
static ANSWERS: Mutex<VecDeque<Reaction>> = Mutex::new(VecDeque::new());

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    Server::start(&Identity::good(), |request: &Recorded| {
        let next = ANSWERS.lock().unwrap().pop_front();
        next.or_else(|| Toy::new().answer(request)).unwrap_or(Reaction::Close)
    })
});

/// The first byte says which wire format the client has, and whether answers are [`RAW`].
fn attack(input: &[u8], call: impl FnOnce(&Cloud)) {
    let mut parts = Parts(input);
    let first = parts.byte();
    let mut answers = ANSWERS.lock().unwrap();
    answers.clear();
    // Not endless: a probe asks some dozen times.
    while !parts.0.is_empty() && answers.len() < 32 {
        let answer = parts.until(NEXT);
        let chunked = answers.len() % 2 == 1;
        answers.push_back(match first & RAW {
            0 => {
                let header = vec![("content-type", "application/json".to_owned())];
                let body = answer.to_vec();
                Reaction::Answer(Response { status: 200, header, body, chunked })
            }
            _ => Reaction::Bytes(answer.to_vec()),
        });
    }
    drop(answers);
    let options = CloudOptions {
        url: SERVER.url(),
        server: KINDS[first as usize % KINDS.len()],
        model: "big".into(),
        roots: SERVER.roots(),
        ..CloudOptions::default()
    };
    call(&Cloud::new(options).unwrap());
}

fn consult(cloud: &Cloud) {
    let messages = [Message { role: "user".into(), content: "Capital of France?".into() }];
    let cancel = Cancel::new();
    let request = Request {
        ids: &[105, 115],
        vocabulary: Toy::FINGERPRINT,
        bytes: b"is",
        chat: Some(Chat { messages: &messages, answer: "is" }),
        max_tokens: 3,
        deadline: Instant::now() + Duration::from_secs(5),
        cancel: &cancel,
    };
    let (answer, _) = cloud.consult(&request);
    match answer.map(|answer| answer.continuation) {
        Ok(Continuation::Ids(ids)) => assert!(ids.len() <= 3, "more tokens than were asked for"),
        Ok(Continuation::Bytes(bytes)) => assert!(std::str::from_utf8(&bytes).is_ok()),
        Err(_) => {}
    }
}

const OPENAI: &str = r#"{"choices":[{"text":" Paris","index":0,"logprobs":null,"token_ids":[32,80],
"finish_reason":"length"}],"usage":{"prompt_tokens":5,"completion_tokens":1,
"prompt_tokens_details":{"cached_tokens":4}}}"#;
const LLAMA_CPP: &str = r#"{"content":"xy","tokens":[120,121],"stop_type":"limit",
"tokens_evaluated":5,"tokens_cached":4}"#;
const SGLANG: &str = r#"{"text":"xy","output_ids":[120,121],
"meta_info":{"finish_reason":{"type":"length"},"prompt_tokens":5,"completion_tokens":2}}"#;
const CHAT: &str = r#"{"choices":[{"message":{"role":"assistant","content":" Paris"},
"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":1}}"#;
const ANTHROPIC: &str = r#"{"content":[{"type":"text","text":" Paris"}],"stop_reason":"end_turn",
"usage":{"input_tokens":5,"output_tokens":1}}"#;

/// What a server of [`KINDS`] answers, in this order.
const GOOD: [&str; 8] = [OPENAI, OPENAI, LLAMA_CPP, SGLANG, CHAT, CHAT, CHAT, ANTHROPIC];

fn consult_seeds() -> Vec<Vec<u8>> {
    let json =
        GOOD.iter().enumerate().map(|(kind, body)| [&[kind as u8], body.as_bytes()].concat());
    let raw = RAWS.iter().map(|raw| [&[RAW | 1], raw.as_bytes()].concat());
    let deep = [&[1][..], "[".repeat(10_000).as_bytes()].concat();
    json.chain(raw).chain([deep]).collect()
}

const RAWS: [&str; 8] = [
    "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n{}",
    "HTTP/1.1 429 Busy\r\nretry-after: 99999999999999999999\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 503 Busy\r\nretry-after: Fri, 31 Dec 9999 23:59:59 GMT\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 302 Found\r\nlocation: https://127.0.0.1:9/\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n{",
    "HTTP/1.1 200 OK\r\ncontent-length: -1\r\ncontent-encoding: gzip\r\n\r\n\u{1f}",
];

fn probe_seeds() -> Vec<Vec<u8>> {
    let tokens = r#"{"tokens":[105,115],"count":2,"max_model_len":100}"#;
    let of = |(kind, body): (usize, &&str)| {
        let answers = [body, tokens, body, r#"{"content":"is"}"#, body].map(str::as_bytes);
        [&[kind as u8][..], &answers.join(&NEXT)].concat()
    };
    GOOD.iter().enumerate().map(of).collect()
}
