//! `hybrid bench`: how fast a bundle's SLM runs, as one JSON line.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::{Arg, ArgMatches, Command, value_parser};
use hybrid::Cancel;
use hybrid::bundle::{Bundle, Verify};
use hybrid::slm::{Rows, Slm};
use hybrid_common::arguments::text;
use hybrid_common::cli::print;

pub fn command() -> Command {
    let count = |name, default, help| {
        text(name, "N", help).default_value(default).value_parser(value_parser!(u32))
    };
    Command::new("bench")
        .about("Measure how fast a model reads a prompt and generates; prints one JSON line")
        .arg(
            Arg::new("BUNDLE")
                .help("Directory of the bundle")
                .required(true)
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(count("prompt-tokens", "128", "Length of the prompt in tokens"))
        .arg(count("tokens", "64", "Tokens to generate"))
        .arg(hybrid_common::arguments::threads())
}

pub fn run(arguments: &ArgMatches) -> Result<()> {
    let dir: &PathBuf = arguments.get_one("BUNDLE").expect("required by clap");
    let count = |name| *arguments.get_one::<u32>(name).expect("has a default") as usize;
    let (prompt_tokens, tokens) = (count("prompt-tokens"), count("tokens"));
    ensure!(prompt_tokens > 0 && tokens > 0, "--prompt-tokens and --tokens must be at least 1");

    // Hashes are `hybrid check`'s business; they would only heat the caches here.
    let bundle = Bundle::open(dir, Verify::AllButWeights)?;
    let threads = *arguments.get_one::<usize>("threads").expect("has a default");
    let slm = Slm::open(&bundle, threads)?;
    let context = prompt_tokens + tokens + 1;
    let limit = slm.context_limit();
    ensure!(
        context <= limit,
        "--prompt-tokens and --tokens need a context of {context} tokens, but the model has \
         {limit}; take fewer"
    );
    let usable = bundle.manifest().tokens.usable as u32;
    let speed = measure(&slm, usable, prompt_tokens, tokens)?;
    let line = serde_json::json!({
        "model": bundle.manifest().model.name,
        "prompt_tokens": prompt_tokens,
        "tokens": tokens,
        "threads": threads.max(1),
        "prefill_tok_s": speed.prompt,
        "decode_tok_s": speed.generation,
    });
    print(&format!("{line}\n"))
}

/// In tokens per second.
#[derive(Debug, Clone, Copy, Default)]
pub struct Speed {
    pub prompt: f64,
    pub generation: f64,
}

/// How fast a prompt of so many tokens is read and so many more are written. `usable`: the ids
/// below are tokens.
pub fn measure(slm: &Slm, usable: u32, prompt_tokens: usize, tokens: usize) -> Result<Speed> {
    let mut state = slm.spawn(prompt_tokens + tokens + 1)?;
    // What the ids are does not change the work; what they are not is all equal.
    let prompt: Vec<u32> = (0..prompt_tokens as u32).map(|i| (i * 7919 + 13) % usable).collect();

    let cancel = Cancel::new();
    // Reads the weights into memory once.
    state.feed(&prompt[..1], Rows::Last, &cancel)?;
    state.rewind(1)?;

    let start = Instant::now();
    let mut logits = state.feed(&prompt, Rows::Last, &cancel)?.logits;
    let prefill = start.elapsed().as_secs_f64();
    let start = Instant::now();
    for _ in 0..tokens {
        logits = state.feed(&[largest(&logits)], Rows::Last, &cancel)?.logits;
    }
    let decode = start.elapsed().as_secs_f64();
    Ok(Speed { prompt: prompt_tokens as f64 / prefill, generation: tokens as f64 / decode })
}

fn largest(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.map_or(0, |(id, _)| id as u32)
}
