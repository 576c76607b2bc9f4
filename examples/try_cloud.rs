//! What a server gives the library: the program behind `scripts/try-cloud`.
//!
//!     try_cloud BUNDLE URL SERVER [MODEL [CA.pem]]
//!
//! SERVER is a wire format, `auto` for the one that is found. The access token is read from the
//! variable HYBRID_CLOUD_TOKEN. It probes the server, then asks it to continue two fixed texts,
//! a few times each, and says what came back, and what one consult costs. Exit status 1: it does
//! not work.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hybrid::Cancel;
use hybrid::bundle::{Bundle, Verify};
use hybrid::cloud::{Cloud, CloudOptions, Exchange, Roots, ServerKind};
use hybrid::consult::{Chat, Consult, Continuation, Cost, Request};
use hybrid::tokens::{Message, Tokens};

const TIMES: usize = 5;
const DEADLINE: Duration = Duration::from_secs(20);
const SERVERS: [(&str, ServerKind); 8] = [
    ("auto", ServerKind::Auto),
    ("openai", ServerKind::OpenAi),
    ("llama-cpp", ServerKind::LlamaCpp),
    ("sglang", ServerKind::SgLang),
    ("chat-continue", ServerKind::ChatContinue),
    ("chat-prefix", ServerKind::ChatPrefix),
    ("chat-trailing", ServerKind::ChatTrailing),
    ("anthropic", ServerKind::Anthropic),
];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bundle, url, server, rest @ ..] = arguments.as_slice() else {
        bail!("usage: try_cloud BUNDLE URL SERVER [MODEL [CA.pem]]");
    };
    let kind = SERVERS.iter().find(|(name, _)| name == server).map(|(_, kind)| *kind);
    let token = std::env::var("HYBRID_CLOUD_TOKEN").ok().filter(|token| !token.is_empty());
    let options = CloudOptions {
        url: url.clone(),
        kind: kind.with_context(|| format!("no such server: {server}"))?,
        model: rest.first().cloned().unwrap_or_default(),
        token,
        roots: rest.get(1).map_or(Roots::System, |ca| Roots::PemFile(ca.into())),
        ..CloudOptions::default()
    };
    let tokens = Tokens::open(&Bundle::open(Path::new(bundle), Verify::AllButWeights)?)?;
    let cloud = Cloud::new(options)?;

    let begun = Instant::now();
    let exchange = cloud.probe(&tokens, &Cancel::new())?;
    println!("probe      {:?}, {exchange:?} cross the wire, {:.0?}", cloud.kind(), begun.elapsed());
    for (max_tokens, answer) in [(1, "The capital of France is"), (8, "The primes begin with 2,")] {
        for turn in 1..=TIMES {
            let (text, cost) = ask(&cloud, &tokens, exchange, answer, max_tokens)?;
            report(turn, &text, &cost);
        }
    }
    println!("works");
    Ok(())
}

/// What continues `answer`.
fn ask(
    cloud: &Cloud,
    tokens: &Tokens,
    exchange: Exchange,
    answer: &str,
    max_tokens: u32,
) -> Result<(String, Cost)> {
    let messages = [Message { role: "user".into(), content: "Answer in one sentence.".into() }];
    let chat = (exchange == Exchange::Messages).then_some(Chat { messages: &messages, answer });
    let (result, cost) = cloud.consult(&Request {
        ids: &tokens.encode_prompt(answer, true)?,
        vocabulary: &tokens.info().fingerprint,
        bytes: answer.as_bytes(),
        chat,
        max_tokens,
        deadline: Instant::now() + DEADLINE,
        cancel: &Cancel::new(),
    });
    let bytes = match result.with_context(|| format!("status {}", cost.http_status))?.continuation {
        Continuation::Ids(ids) => tokens.bytes_of(&ids),
        Continuation::Bytes(bytes) => bytes,
    };
    Ok((String::from_utf8_lossy(&bytes).into_owned(), cost))
}

fn report(turn: usize, text: &str, cost: &Cost) {
    println!(
        "consult {turn}  {text:?}, {:.1?}, {} bytes up, {} down, {} prompt tokens ({} cached)",
        cost.elapsed, cost.bytes_sent, cost.bytes_received, cost.prompt_tokens, cost.cached_tokens,
    );
}
