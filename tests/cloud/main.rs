//! The promises of the cloud client, each against a TLS server of our own.

use std::time::{Duration, Instant};

use hybrid::Cancel;
use hybrid::cloud::{Cloud, CloudOptions, ServerKind};
use hybrid::consult::{Answer, Consult, Continuation, Cost, Failure, Request};

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod connections;
mod deadline;
mod ids;
mod servers;
mod tls;
mod token;
mod trust;

use support::{Identity, Reaction, Recorded, Server};

/// Long enough for a busy machine; no test waits for it.
const PLENTY: Duration = Duration::from_secs(20);

/// An answer of llama.cpp's `/v1/completions`.
const PARIS: &str = r#"{
    "choices":[{"text":" Paris","index":0,"logprobs":null,"finish_reason":"length"}],
    "usage":{"prompt_tokens":5,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":4}}
}"#;

fn options(server: &Server) -> CloudOptions {
    CloudOptions {
        url: server.url(),
        server: ServerKind::OpenAi,
        model: "big".into(),
        roots: server.roots(),
        ..CloudOptions::default()
    }
}

fn client(server: &Server) -> Cloud {
    Cloud::new(options(server)).expect("a client")
}

/// A server that always answers the same.
fn always(answer: impl Fn() -> Reaction + Send + Sync + 'static) -> Server {
    Server::start(&Identity::good(), move |_: &Recorded| answer())
}

fn ask(cloud: &Cloud) -> Result<Answer, Failure> {
    consult(cloud, b"The capital of France is", PLENTY).0
}

fn consult(cloud: &Cloud, bytes: &[u8], time: Duration) -> (Result<Answer, Failure>, Cost) {
    let cancel = Cancel::new();
    let ids: Vec<u32> = bytes.iter().map(|&byte| byte.into()).collect();
    let deadline = Instant::now() + time;
    let vocabulary = support::Toy::FINGERPRINT;
    let (ids, cancel) = (&ids, &cancel);
    let request = Request { ids, vocabulary, bytes, chat: None, max_tokens: 3, deadline, cancel };
    cloud.consult(&request)
}

fn bytes(text: &str) -> Continuation {
    Continuation::Bytes(text.as_bytes().to_vec())
}
