//! What a server gives the library: the program behind `scripts/try-cloud`.
//!
//!     try_cloud BUNDLE --cloud-url URL [the options of `hybrid run` under "The cloud"]
//!
//! It probes the server, then asks it to continue two fixed texts, a few times each, and says what
//! came back, and what one consult costs. Exit status 1: it does not work.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Arg, Command, value_parser};
use hybrid::Cancel;
use hybrid::bundle::{Bundle, Verify};
use hybrid::cloud::{Cloud, Exchange};
use hybrid::consult::{Chat, Consult, Continuation, Cost, Request};
use hybrid::tokens::{Message, Tokens};
use hybrid_common::cloud::{Named, cloud, cloud_arguments};

const TIMES: usize = 5;
const DEADLINE: Duration = Duration::from_secs(20);

fn main() -> Result<()> {
    let bundle = Arg::new("BUNDLE").required(true).value_parser(value_parser!(PathBuf));
    let arguments = cloud_arguments(Named::IfTheServerWantsIt);
    let arguments = Command::new("try_cloud").arg(bundle).args(arguments).get_matches();
    let options = cloud(&arguments)?.context("which server? give --cloud-url")?;
    let bundle: &PathBuf = arguments.get_one("BUNDLE").context("required by clap")?;
    let tokens = Tokens::open(&Bundle::open(Path::new(bundle), Verify::AllButWeights)?)?;
    let cloud = Cloud::new(options)?;

    let begun = Instant::now();
    let exchange = cloud.probe(&tokens, &Cancel::new())?;
    println!(
        "probe      {:?}, {exchange:?} cross the wire, {:.0?}",
        cloud.server(),
        begun.elapsed()
    );
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
