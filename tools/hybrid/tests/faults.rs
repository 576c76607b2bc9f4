//! The matrix of faults: whatever a server does, the session writes what it writes alone, each step
//! within its deadline, and says how the consult failed. `scripts/test-faults` prints it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hybrid::bundle::Bundle;
use hybrid::cloud::{Cloud, CloudOptions, ServerKind};
use hybrid::consult::Failure;
use hybrid::policy::Budget;
use hybrid::reward::Threshold;
use hybrid::session::{ConsultOptions, End, Gate, Model, Session, SessionOptions, Source, Step};
use temp_dir::TempDir;

#[path = "../../../tests/support/gguf.rs"]
#[allow(dead_code)]
mod gguf;
#[path = "../../../tests/support/mod.rs"]
mod support;
#[path = "models/synthetic.rs"]
#[allow(dead_code)]
mod synthetic;

use support::{Identity, Reaction, Response, Server};

const DEADLINE: Duration = Duration::from_millis(800);
/// For a busy machine.
const SLACK: Duration = Duration::from_secs(5);
const APART: Duration = Duration::from_millis(20);
const TOKENS: usize = 8;
/// An answer of llama.cpp's `/v1/completions`.
const PARIS: &str = r#"{"choices":[{"text":" Paris","finish_reason":"length"}]}"#;

struct Fault {
    name: String,
    server: Server,
    /// Any of these.
    failures: Vec<Failure>,
}

fn fault(
    name: impl Into<String>,
    failures: &[Failure],
    reaction: impl Fn() -> Reaction + Send + Sync + 'static,
) -> Fault {
    let server = Server::start(&Identity::good(), move |_| reaction());
    Fault { name: name.into(), server, failures: failures.to_vec() }
}

fn statuses() -> Vec<Fault> {
    let codes = [
        201, 202, 204, 206, 300, 301, 302, 303, 304, 307, 308, 400, 401, 402, 403, 404, 405, 406,
        407, 408, 409, 410, 411, 413, 414, 415, 421, 422, 425, 426, 429, 431, 451, 500, 501, 502,
        503, 504, 507, 508, 511, 520, 529, 599,
    ];
    let of = |code: u16| {
        let failure = match code {
            401 | 403 => Failure::Unauthorized,
            429 | 503 => Failure::Busy,
            _ => Failure::Status,
        };
        let body = if matches!(code, 204 | 304) { "" } else { PARIS };
        fault(format!("status {code}"), &[failure], move || Reaction::json(code, body))
    };
    codes.map(of).into()
}

fn answers() -> Vec<Fault> {
    let rows: [(&str, Vec<u8>); 17] = [
        ("an empty answer", vec![]),
        ("a page", b"<html>Welcome</html>".to_vec()),
        ("an empty object", b"{}".to_vec()),
        ("a list", b"[]".to_vec()),
        ("null", b"null".to_vec()),
        ("a number", b"7".to_vec()),
        ("no choices", br#"{"choices":[]}"#.to_vec()),
        ("choices that are no list", br#"{"choices":{"text":"x"}}"#.to_vec()),
        ("a text that is null", br#"{"choices":[{"text":null}]}"#.to_vec()),
        ("a text that is a number", br#"{"choices":[{"text":7}]}"#.to_vec()),
        ("an error in a good answer", br#"{"error":{"message":"no"}}"#.to_vec()),
        ("no token and no end", br#"{"choices":[{"text":"","finish_reason":"length"}]}"#.to_vec()),
        ("a part of a character", "{\"choices\":[{\"text\":\"\u{fffd}\"}]}".into()),
        ("no UTF-8", b"{\"choices\":[{\"text\":\"\xff\"}]}".to_vec()),
        ("JSON cut short", br#"{"choices":[{"text":"Par"#.to_vec()),
        ("JSON a hundred thousand deep", b"[".repeat(100_000)),
        ("two objects", br#"{"choices":[{"text":"x"}]}{}"#.to_vec()),
    ];
    let of = |(name, body): (&str, Vec<u8>)| {
        let respond =
            move || Reaction::Answer(Response { body: body.clone(), ..Response::json(200, "") });
        fault(name, &[Failure::Protocol], respond)
    };
    rows.map(of).into()
}

fn lines() -> Vec<Fault> {
    let whole = || Response::json(200, PARIS).bytes();
    let cut = |at: usize| move || Reaction::Bytes(whole()[..at].to_vec());
    let raw = |bytes: &'static [u8]| move || Reaction::Bytes(bytes.to_vec());
    let dribble = |start: &'static [u8], more: &'static [u8]| {
        move || Reaction::Dribble([start, &more.repeat(1000)].concat(), APART)
    };
    let (connect, protocol, timeout) = (Failure::Connect, Failure::Protocol, Failure::Timeout);
    let chunks = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    vec![
        fault("the connection is closed at once", &[connect], || Reaction::Close),
        fault("cut within the status line", &[connect], cut(5)),
        fault("cut within the header", &[connect], cut(30)),
        fault("cut before the last byte", &[connect], cut(whole().len() - 1)),
        fault("no HTTP", &[protocol], raw(b"SSH-2.0-OpenSSH\r\n\r\n")),
        fault("zero bytes", &[protocol], raw(b"\0\0\0\0\r\n\r\n")),
        fault(
            "a bad chunk",
            &[protocol, connect],
            raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n"),
        ),
        fault(
            "a length that is no number",
            &[protocol, connect],
            raw(b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n{}"),
        ),
        fault("no answer", &[timeout], || Reaction::Silence),
        fault("an answer byte by byte", &[timeout], move || Reaction::Dribble(whole(), APART)),
        fault("endless header fields", &[timeout], dribble(b"HTTP/1.1 200 OK\r\n", b"x: y\r\n")),
        fault("an endless body", &[timeout], dribble(chunks, b"1\r\n \r\n")),
        fault("sixteen megabytes", &[protocol, timeout], || {
            Reaction::json(200, &format!(r#"{{"x":"{}"}}"#, "x".repeat(16 << 20)))
        }),
        Fault { name: "no handshake".into(), server: Server::mute(), failures: vec![timeout] },
        Fault {
            name: "the request is never read".into(),
            server: Server::deaf(),
            failures: vec![timeout],
        },
    ]
}

fn certificates() -> Vec<Fault> {
    let rows = [
        ("a certificate of another CA", Identity::wrong_ca(), Failure::Tls),
        ("an expired certificate", Identity::expired(), Failure::Tls),
        ("a certificate that is not valid yet", Identity::not_yet_valid(), Failure::Tls),
        ("a certificate for another name", Identity::wrong_name(), Failure::Tls),
        ("a stranger's self-signed certificate", Identity::self_signed_stranger(), Failure::Tls),
        ("an expired self-signed certificate", Identity::self_signed_expired(), Failure::Tls),
        ("no TLS", Identity::plain(), Failure::NotTls),
    ];
    let of = |(name, identity, failure): (&str, Identity, Failure)| Fault {
        name: name.into(),
        server: Server::start(&identity, |_| Reaction::json(200, PARIS)),
        failures: vec![failure],
    };
    rows.map(of).into()
}

fn model() -> Arc<Model> {
    let dir = TempDir::new().unwrap();
    // The map outlives the file's name.
    let bundle: Bundle = synthetic::packed(gguf::Model::new("llama"), 64, dir.path());
    Arc::new(Model::from_bundle(bundle, 0).unwrap())
}

/// A session that asks about every token, `consults` times at most.
fn session(model: &Arc<Model>, server: &Server, name: String, consults: u64) -> Session {
    let cloud = Cloud::new(CloudOptions {
        url: server.url(),
        server: ServerKind::OpenAi,
        model: name,
        roots: server.roots(),
        ..CloudOptions::default()
    });
    let options = SessionOptions::default();
    let mut session = Session::new(model.clone(), Some(Arc::new(cloud.unwrap())), options).unwrap();
    session.set_gate(Gate { threshold: Threshold::Value(2.0), ..Gate::default() }).unwrap();
    session.set_budget(Budget { consults: Some(consults), ..Budget::default() }).unwrap();
    let consult = ConsultOptions { deadline: DEADLINE, ..ConsultOptions::default() };
    session.set_consult(consult).unwrap();
    session
}

/// The tokens, and what each step took.
fn written(session: &mut Session) -> Vec<(Step, Duration)> {
    session.prompt("he").unwrap();
    let mut steps: Vec<(Step, Duration)> = Vec::new();
    while steps.len() < TOKENS && steps.last().is_none_or(|(step, _)| step.end == End::None) {
        let begun = Instant::now();
        steps.push((session.step().unwrap(), begun.elapsed()));
    }
    steps
}

fn ids(steps: &[(Step, Duration)]) -> Vec<u32> {
    steps.iter().map(|(step, _)| step.token).collect()
}

#[test]
fn matrix_of_faults() {
    let model = model();
    let alone = Session::new(model.clone(), None, SessionOptions::default());
    let alone = ids(&written(&mut alone.unwrap()));
    assert_eq!(alone.len(), TOKENS, "the model writes on");
    let good = Server::start(&Identity::good(), |_| Reaction::json(200, PARIS));
    let helped = written(&mut session(&model, &good, String::new(), 1));
    assert_eq!(helped[0].0.source, Source::Cloud);
    assert_ne!(ids(&helped), alone, "a cloud that answers is seen in the text");

    let faults = [statuses(), answers(), lines(), certificates()].into_iter().flatten();
    println!("{:<40} {:>6} {:>6}  {:<5} failure", "fault", "status", "ms", "text");
    let mut rows = 0;
    for Fault { name, server, failures } in faults {
        // A request that is longer than what a loopback connection holds.
        let padding = if name.contains("never read") { 16 << 20 } else { 0 };
        // A second consult meets what the first one left of its connection.
        let consults = if failures.contains(&Failure::Timeout) { 1 } else { 2 };
        let mut session = session(&model, &server, "x".repeat(padding), consults);
        let steps = written(&mut session);
        let text = if ids(&steps) == alone { "equal" } else { "OTHER" };
        let (first, took) = &steps[0];
        let failure = first.failure.map_or("none".to_owned(), |failure| failure.to_string());
        println!(
            "{name:<40} {:>6} {:>6}  {text:<5} {failure}",
            first.http_status,
            took.as_millis()
        );
        assert_eq!(text, "equal", "{name}");
        for (step, took) in &steps {
            assert_eq!(step.source, Source::Fallback, "{name}");
            let late = step.failure == Some(Failure::Timeout) && *took < DEADLINE;
            assert!(*took < DEADLINE + SLACK && !late, "{name}: {took:?}");
            let expected = step.failure.is_some_and(|failure| failures.contains(&failure));
            assert_eq!(expected, step.consulted, "{name}: {:?}", step.failure);
        }
        let usage = session.usage();
        assert_eq!(usage.failures, usage.consults, "{name}");
        assert!(first.consulted && usage.requests <= usage.consults + 1, "{name}: {usage:?}");
        rows += 1;
    }
    println!("{rows} faults: within {DEADLINE:?}, the text that of the SLM alone");
    assert!(rows >= 70, "{rows}");
}
