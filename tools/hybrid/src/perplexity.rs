//! `hybrid perplexity`: how well a bundle's SLM predicts a text, in windows as in
//! [`hybrid::slm::perplexity`], so that other runtimes can be compared on the same tokens.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Arg, ArgMatches, Command, value_parser};
use hybrid::bundle::{Bundle, Verify};
use hybrid::slm::{self, Perplexity, Slm};
use hybrid::tokens::Tokens;
use hybrid_common::arguments::text;
use hybrid_common::cli::print;
use hybrid_common::interrupt;
use hybrid_common::progress::Steps;

pub fn command() -> Command {
    let path = |name, help| Arg::new(name).help(help).value_parser(value_parser!(PathBuf));
    let count = |name, help| text(name, "N", help).value_parser(value_parser!(u32).range(2..));
    Command::new("perplexity")
        .about("Measure how well a model predicts a text; prints one JSON line")
        .after_help(
            "The text is scored in windows of --context tokens. `tokens` is the number of tokens \
             scored, `mean_nll` their mean negative log-likelihood in nats, and `perplexity` is \
             e to the power of mean_nll.",
        )
        .arg(path("BUNDLE", "Directory of the bundle").required(true))
        .arg(path("text", "Text to score (UTF-8)").long("text").value_name("FILE").required(true))
        .arg(count("tokens", "Use only the first N tokens of the text"))
        .arg(count("context", "Tokens in a window").default_value("512"))
        .arg(hybrid_common::arguments::threads())
}

pub fn run(arguments: &ArgMatches) -> Result<()> {
    let path = |name| arguments.get_one::<PathBuf>(name).expect("required by clap");
    let count = |name| arguments.get_one::<u32>(name).map(|count| *count as usize);
    let window = count("context").expect("has a default");
    let bundle = Bundle::open(path("BUNDLE"), Verify::AllButWeights)?;
    let threads = *arguments.get_one("threads").expect("has a default");
    let found = score(&bundle, path("text"), count("tokens"), window, threads)?;
    let line = serde_json::json!({
        "model": bundle.manifest().model.name,
        "tokens": found.tokens,
        "mean_nll": found.nll / found.tokens as f64,
        "perplexity": found.value(),
    });
    print(&format!("{line}\n"))
}

/// Scores a text file, or its first `tokens`.
pub fn score(
    bundle: &Bundle,
    text: &Path,
    tokens: Option<usize>,
    window: usize,
    threads: usize,
) -> Result<Perplexity> {
    let name = text.display();
    let text = std::fs::read(text).with_context(|| format!("cannot read {name}"))?;
    let text = String::from_utf8(text).with_context(|| format!("{name} is not UTF-8"))?;
    score_text(bundle, &Slm::open(bundle, threads)?, &text, tokens, window)
        .with_context(|| name.to_string())
}

/// Scores a text, or its first `tokens`. `slm`: that of the bundle.
pub fn score_text(
    bundle: &Bundle,
    slm: &Slm,
    text: &str,
    tokens: Option<usize>,
    window: usize,
) -> Result<Perplexity> {
    let tokenizer = Tokens::open(bundle)?;
    let mut ids = tokenizer.encode(text, false)?;
    ids.truncate(tokens.unwrap_or(usize::MAX));
    let ids = with_bos(&tokenizer, &ids, window);
    ensure!(
        ids.len() >= window,
        "there are only {} tokens to score, but a window has {window}; use a longer text or \
         smaller windows",
        ids.len()
    );
    let bar = Steps::new("scoring", (ids.len() - ids.len() % window) as u64);
    Ok(slm::perplexity(slm, &ids, window, &interrupt::cancel(), |_| bar.add(window as u64))?)
}

/// The tokens with the `bos` in front of every window of `window` that the model wants there.
pub fn with_bos(tokens: &Tokens, ids: &[u32], window: usize) -> Vec<u32> {
    let info = tokens.info();
    let bos: Vec<u32> = info.bos.filter(|_| info.add_bos).into_iter().collect();
    let own = ids.chunks(window.saturating_sub(bos.len()).max(1));
    own.flat_map(|own| [bos.as_slice(), own].concat()).collect()
}
