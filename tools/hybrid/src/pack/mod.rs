//! `hybrid pack`: makes a bundle of a model file.

#[cfg(test)]
mod chat_tests;
mod family;
mod from_gguf;
mod gguf;
mod graph;
mod onnx;
mod plan;
mod requantise;
#[cfg(test)]
mod testing;
mod tokenizer;
mod weights;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use hybrid::bundle::{Bundle, Manifest, TokenInfo, Verify, Writer, sha256_reader};
use hybrid::tokens::Tokens;

use crate::perplexity;
use hybrid_common::progress::{Bytes, Spinner};
use requantise::Bits;

/// What `--perplexity` scores at most, in windows of 512.
const SCORED_TOKENS: usize = 8704;

pub fn command() -> Command {
    Command::new("pack")
        .about("Make a bundle of a GGUF file or of a directory with an ONNX export")
        .arg(
            Arg::new("MODEL")
                .help(
                    "A .gguf file, or a directory with model.onnx, tokenizer.json and config.json",
                )
                .required(true)
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(
            Arg::new("output")
                .help("The bundle's directory")
                .short('o')
                .long("output")
                .value_name("BUNDLE")
                .required(true)
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(
            Arg::new("force")
                .help("Replace the bundle if there is one")
                .long("force")
                .action(ArgAction::SetTrue),
        )
        .arg(
            Arg::new("bits")
                .help("4: round weights with more bits; smaller and faster, and less exact")
                .long("bits")
                .value_parser(["4"]),
        )
        .arg(
            Arg::new("perplexity")
                .help("With --bits: say how well it still predicts this text, UTF-8")
                .long("perplexity")
                .value_name("FILE")
                .requires("bits")
                .value_parser(value_parser!(PathBuf)),
        )
}

pub fn run(arguments: &ArgMatches) -> Result<()> {
    let model: &PathBuf = arguments.get_one("MODEL").expect("required by clap");
    let output: &PathBuf = arguments.get_one("output").expect("required by clap");
    let bits = match arguments.contains_id("bits") {
        true => Bits::Four,
        false => Bits::AsTheyAre,
    };
    pack(model, output, bits, arguments.get_flag("force"))
        .with_context(|| format!("cannot pack {}", model.display()))?;
    if bits == Bits::Four {
        let text = arguments.get_one::<PathBuf>("perplexity");
        compare(model, output, text.map(PathBuf::as_path))?;
    }
    Ok(())
}

/// Says what fewer bits have brought and cost.
fn compare(model: &Path, output: &Path, text: Option<&Path>) -> Result<()> {
    let size = |bundle: &Bundle| Ok::<_, anyhow::Error>(bundle.weights()?.len() as f64);
    let smaller = Bundle::open(output, Verify::AllButWeights)?;
    let megabytes = size(&smaller)? / 1e6;
    let Some(text) = text else {
        println!("weights {megabytes:.1} MB; what it costs: `hybrid perplexity`, or --perplexity");
        return Ok(());
    };
    let whole = output.with_file_name(format!("{}.whole", name(output)));
    pack(model, &whole, Bits::AsTheyAre, false)?;
    let score = || -> Result<_> {
        let whole = Bundle::open(&whole, Verify::AllButWeights)?;
        let score = |bundle| perplexity::score(bundle, text, Some(SCORED_TOKENS), 512, 0);
        Ok((size(&whole)? / 1e6, score(&whole)?, score(&smaller)?))
    };
    let scored = score();
    std::fs::remove_dir_all(&whole).with_context(|| whole.display().to_string())?;
    let (megabytes_before, before, after) = scored?;
    println!(
        "weights {megabytes:.1} MB instead of {megabytes_before:.1}, perplexity {:.4} instead of \
         {:.4} ({:+.2} %) over {} tokens",
        after.value(),
        before.value(),
        100.0 * (after.value() / before.value() - 1.0),
        after.tokens
    );
    Ok(())
}

fn pack(model: &Path, output: &Path, bits: Bits, replace: bool) -> Result<()> {
    let reading = Spinner::new("reading");
    let source = open(model, bits)?;
    drop(reading);
    let mut writer = Writer::create(output, replace)?;
    let manifest = source.write(&mut writer)?;
    Ok(writer.finish(manifest)?)
}

/// A model in somebody's format, read and found to be supported.
trait Source {
    /// Writes the bundle's files and says what goes into its manifest.
    fn write(self: Box<Self>, writer: &mut Writer) -> Result<Manifest>;
}

/// Finds out what `model` is.
fn open(model: &Path, bits: Bits) -> Result<Box<dyn Source>> {
    let kind = std::fs::metadata(model).context("it cannot be read")?;
    if kind.is_dir() {
        ensure!(bits == Bits::AsTheyAre, "--bits is for GGUF files, not for an ONNX export");
        return Ok(Box::new(onnx::OnnxSource::open(model)?));
    }
    let mut magic = [0; 4];
    let found = File::open(model).and_then(|mut file| file.read(&mut magic))?;
    match magic.get(..found) {
        Some(b"GGUF") => Ok(Box::new(from_gguf::GgufSource::open(model, bits)?)),
        _ => bail!("it is neither a GGUF file nor a directory with an ONNX export"),
    }
}

/// The SHA-256 of files, one after the other, with a progress bar.
fn hash(paths: &[&Path]) -> Result<String> {
    let (mut all, mut total): (Box<dyn Read>, u64) = (Box::new(std::io::empty()), 0);
    for path in paths {
        let file =
            File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
        total += file.metadata()?.len();
        all = Box::new(all.chain(file));
    }
    let bar = Bytes::new("hashing", total);
    Ok(sha256_reader(&mut all, &mut |n| bar.add(n))?)
}

/// The plain file name of a path.
fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Loads `tokenizer.json` as the runtime will, and has it say its fingerprint.
fn fingerprinted(json: &[u8], info: TokenInfo) -> Result<TokenInfo> {
    let fingerprint = Tokens::new(json, info.clone())?.fingerprint();
    Ok(TokenInfo { fingerprint, ..info })
}

#[cfg(test)]
mod tests;
