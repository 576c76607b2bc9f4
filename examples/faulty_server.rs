//! A cloud LLM that fails often: what `scripts/soak` lets a client talk to.
//!
//!     faulty_server SHARE CA.pem
//!
//! Writes its CA to the file and prints its URL. It answers `/v1/completions` with one token, and
//! fails a SHARE, 0 to 1, of the requests in one of many ways, until its input ends. Then it prints
//! what it counted, as JSON.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;

#[path = "../tests/support/mod.rs"]
mod support;

use support::{Identity, Reaction, Recorded, Response, Server};

const ANSWER: &str = r#"{"choices":[{"text":" a","finish_reason":"length"}],
    "usage":{"prompt_tokens":9,"completion_tokens":1}}"#;
/// Between two bytes of an answer that never ends.
const APART: Duration = Duration::from_millis(20);

#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    /// Good answers.
    answers: AtomicU64,
    /// Of these, those after which the connection was closed: the next request may be sent into the
    /// void before the client sees that.
    closed: AtomicU64,
}

impl Counts {
    fn react(&self, share: f64, request: &Recorded) -> Reaction {
        let number = self.requests.fetch_add(1, Relaxed);
        if request.path != "/v1/completions" {
            return Reaction::json(404, "{}");
        }
        let draw = draw(number);
        if share * u64::MAX as f64 > draw as f64 {
            return fault(draw);
        }
        self.answers.fetch_add(1, Relaxed);
        let answer = Response::json(200, ANSWER);
        match draw % 16 {
            0 => {
                self.closed.fetch_add(1, Relaxed);
                Reaction::AnswerThenClose(answer)
            }
            1 => Reaction::Answer(Response { chunked: true, ..answer }),
            // And another answer, which nobody has asked for.
            2 => Reaction::Raw(answer.bytes().repeat(2)),
            _ => Reaction::Answer(answer),
        }
    }
}

fn fault(draw: u64) -> Reaction {
    let answer = || Response::json(200, ANSWER).bytes();
    match draw % 64 {
        // What costs the client its deadline is rare.
        0 => Reaction::Silence,
        1 => Reaction::Dribble(answer(), APART),
        2..8 => Reaction::Close,
        8..14 => Reaction::Bytes(answer()[..answer().len() - 1].to_vec()),
        14..22 => Reaction::Bytes(b"SSH-2.0-OpenSSH\r\n\r\n".to_vec()),
        22..29 => Reaction::json(200, "<html>Welcome</html>"),
        29..36 => Reaction::json(200, r#"{"choices":[]}"#),
        36..43 => Reaction::json(429, "{}"),
        43..50 => Reaction::json(503, "{}"),
        50..57 => Reaction::json(302, "{}"),
        _ => Reaction::json(500, &"x".repeat(100_000)),
    }
}

/// Evenly spread, and the same in every run (SplitMix64).
fn draw(number: u64) -> u64 {
    let mixed = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [share, ca] = arguments.as_slice() else { bail!("usage: faulty_server SHARE CA.pem") };
    let share: f64 = share.parse().context("SHARE is no number")?;
    let counts = Arc::<Counts>::default();
    let counting = counts.clone();
    let react = move |request: &Recorded| counting.react(share, request);
    let server = Server::forgetful(&Identity::good(), react);
    std::fs::write(ca, server.ca_pem()).context("cannot write the CA")?;
    println!("{}", server.url());
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    let connections = server.connections();
    drop(server);
    let [requests, answers, closed] =
        [&counts.requests, &counts.answers, &counts.closed].map(|count| count.load(Relaxed));
    let report = json!({
        "requests": requests, "answers": answers, "closed": closed, "connections": connections,
    });
    println!("{report}");
    Ok(())
}
