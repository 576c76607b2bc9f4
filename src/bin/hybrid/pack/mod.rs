//! `hybrid pack`: makes a bundle of a model file.

#[cfg(test)]
mod chat_tests;
mod family;
mod from_gguf;
mod gguf;
mod graph;
mod onnx;
mod plan;
#[cfg(test)]
mod testing;
mod tokenizer;
mod weights;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use hybrid::bundle::{Manifest, TokenInfo, Writer, sha256_reader};
use hybrid::tokens::Tokens;

use crate::progress::{Bytes, Spinner};

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
}

pub fn run(arguments: &ArgMatches) -> Result<()> {
    let model: &PathBuf = arguments.get_one("MODEL").expect("required by clap");
    let output: &PathBuf = arguments.get_one("output").expect("required by clap");
    pack(model, output, arguments.get_flag("force"))
        .with_context(|| format!("cannot pack {}", model.display()))
}

fn pack(model: &Path, output: &Path, replace: bool) -> Result<()> {
    let reading = Spinner::new("reading");
    let source = open(model)?;
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
fn open(model: &Path) -> Result<Box<dyn Source>> {
    let kind = std::fs::metadata(model).context("it cannot be read")?;
    if kind.is_dir() {
        return Ok(Box::new(onnx::OnnxSource::open(model)?));
    }
    let mut magic = [0; 4];
    let found = File::open(model).and_then(|mut file| file.read(&mut magic))?;
    match magic.get(..found) {
        Some(b"GGUF") => Ok(Box::new(from_gguf::GgufSource::open(model)?)),
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
