//! `hybrid perplexity`: how well a bundle's SLM predicts a text, in windows as in
//! [`hybrid::slm::perplexity`], so that other runtimes can be compared on the same tokens.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Arg, ArgMatches, Command, value_parser};
use hybrid::Cancel;
use hybrid::bundle::{Bundle, Verify};
use hybrid::slm::{self, Perplexity, Slm};
use hybrid::tokens::Tokens;
use indicatif::{ProgressBar, ProgressStyle};

pub fn command() -> Command {
    let path = |name, help| Arg::new(name).help(help).value_parser(value_parser!(PathBuf));
    let count = |name| Arg::new(name).long(name).value_parser(value_parser!(usize));
    Command::new("perplexity")
        .about(
            "Score a text: prints tokens, negative log-likelihood and perplexity as one JSON line",
        )
        .arg(path("BUNDLE", "The bundle's directory").required(true))
        .arg(path("text", "The text, UTF-8").long("text").value_name("FILE").required(true))
        .arg(count("tokens").help("Use only the text's first tokens"))
        .arg(count("context").help("Tokens per window").default_value("512"))
        .arg(hybrid_common::arguments::threads())
}

pub fn run(arguments: &ArgMatches) -> Result<()> {
    let path = |name| arguments.get_one::<PathBuf>(name).expect("required by clap");
    let count = |name| arguments.get_one::<usize>(name).copied();
    let window = count("context").expect("has a default");
    let bundle = Bundle::open(path("BUNDLE"), Verify::AllButWeights)?;
    let threads = *arguments.get_one("threads").expect("has a default");
    let found = score(&bundle, path("text"), count("tokens"), window, threads)?;
    let line = serde_json::json!({
        "model": bundle.manifest().model.name,
        "tokens": found.tokens,
        "nll": found.nll / found.tokens as f64,
        "perplexity": found.value(),
    });
    println!("{line}");
    Ok(())
}

/// Scores a text file, or its first `tokens`.
pub fn score(
    bundle: &Bundle,
    text: &Path,
    tokens: Option<usize>,
    window: usize,
    threads: usize,
) -> Result<Perplexity> {
    let text =
        std::fs::read_to_string(text).with_context(|| format!("reading {}", text.display()))?;
    let slm = Slm::open(bundle, threads)?;
    let mut ids = Tokens::open(bundle)?.encode(&text, false)?;
    ids.truncate(tokens.unwrap_or(usize::MAX));

    let bar = bar((ids.len() - ids.len() % window.max(1)) as u64);
    let found =
        slm::perplexity(&slm, &ids, window, &Cancel::new(), |done| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    Ok(found)
}

fn bar(tokens: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("scoring   {bar:40} {pos}/{len} tokens {eta}");
    // The template is a constant, so this only falls back if indicatif changes its syntax.
    ProgressBar::new(tokens).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
