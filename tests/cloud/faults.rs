//! The matrix of faults: whatever a server does, a consult fails as it should and within its
//! deadline. `scripts/test-faults` prints it.

use super::*;
use support::Response;

const DEADLINE: Duration = Duration::from_millis(800);
/// For a busy machine.
const SLACK: Duration = Duration::from_secs(5);
const APART: Duration = Duration::from_millis(20);

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
    Fault { name: name.into(), server: always(reaction), failures: failures.to_vec() }
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
        ("a self-signed certificate", Identity::self_signed_stranger(), Failure::Tls),
        ("no TLS", Identity::plain(), Failure::NotTls),
    ];
    let of = |(name, identity, failure): (&str, Identity, Failure)| Fault {
        name: name.into(),
        server: Server::start(&identity, |_| Reaction::json(200, PARIS)),
        failures: vec![failure],
    };
    rows.map(of).into()
}

#[test]
fn matrix_of_faults() {
    let faults = [statuses(), answers(), lines(), certificates()].into_iter().flatten();
    let good = always(|| Reaction::json(200, PARIS));
    println!("{:<40} {:>6} {:>6}  failure", "fault", "status", "ms");
    let mut rows = 0;
    for Fault { name, server, failures } in faults {
        let size = if name.contains("never read") { 16 << 20 } else { 20 };
        let context = vec![b'x'; size];
        let begun = Instant::now();
        let (answer, cost) = consult(&client(&server), &context, DEADLINE);
        let took = begun.elapsed();
        let failure = answer.map(drop).unwrap_err();
        println!("{name:<40} {:>6} {:>6}  {failure}", cost.http_status, took.as_millis());
        let late = failure == Failure::Timeout && took < DEADLINE;
        assert!(failures.contains(&failure), "{name}: {failure}");
        assert!(took < DEADLINE + SLACK && !late, "{name}: {took:?}");
        assert!(cost.requests <= 1, "{name}: asked {} times", cost.requests);
        rows += 1;
    }
    assert!(ask(&client(&good)).is_ok());
    println!("{rows} faults, all within {DEADLINE:?} and as they should fail");
    assert!(rows >= 70, "{rows}");
}
