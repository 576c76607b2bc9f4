//! `hybrid pack`: makes a bundle of a model file.

#[cfg(test)]
mod chat_tests;
mod family;
#[cfg(test)]
mod family_tests;
mod from_gguf;
mod gguf;
mod graph;
mod hint;
#[cfg(test)]
mod odd_tests;
mod onnx;
mod plan;
mod proto;
mod reader;
mod requantise;
mod rotary;
mod tensors;
#[cfg(test)]
mod testing;
mod tokenizer;
mod weights;

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use hybrid::bundle::{Bundle, Complete, Manifest, TokenInfo, Verify, Writer, sha256_reader};
use hybrid::tokens::Tokens;

use hybrid_common::cli::{print, printable};
use hybrid_common::interrupt::{self, Interruptible};
use hybrid_common::progress::{Bytes, Spinner};

use crate::perplexity;
use crate::sign::SecretKey;
use crate::try_out::try_out_dir;
use requantise::Bits;

/// How a model is packed.
#[derive(Debug, Clone, Copy)]
struct Options {
    bits: Bits,
    /// An existing bundle is replaced.
    replace: bool,
    /// The model's own goes along.
    chat_template: bool,
    /// Tokens of the context, if not the model's own.
    context: Option<usize>,
}

#[cfg(test)]
impl Options {
    /// Those of a command line without any.
    fn new() -> Options {
        Options { bits: Bits::AsTheyAre, replace: false, chat_template: true, context: None }
    }
}

/// What `--perplexity` scores at most, in windows of 512.
const SCORED_TOKENS: usize = 8704;

pub fn command() -> Command {
    Command::new("pack")
        .about("Make a bundle from a GGUF file or an ONNX export")
        .arg(
            Arg::new("MODEL")
                .help(
                    "A .gguf file, an ONNX export's directory with tokenizer.json and config.json, \
                     or one of its .onnx files",
                )
                .required(true)
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(
            Arg::new("output")
                .help("Directory of the new bundle")
                .short('o')
                .long("output")
                .value_name("BUNDLE")
                .required(true)
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(
            Arg::new("force")
                .help("Replace an existing bundle")
                .long("force")
                .action(ArgAction::SetTrue),
        )
        .arg(
            Arg::new("no-chat-template")
                .help("Leave out the model's chat template; `hybrid run --chat` will not work")
                .long("no-chat-template")
                .action(ArgAction::SetTrue),
        )
        .arg(
            Arg::new("context")
                .help("Tokens of the context, at most the model's; chooses LongRoPE's factors too")
                .long("context")
                .value_name("N")
                .value_parser(value_parser!(u32).range(1..)),
        )
        .arg(
            Arg::new("sign")
                .help("Sign the bundle by this key, as `hybrid sign` does")
                .long("sign")
                .value_name("KEYFILE")
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(
            Arg::new("bits")
                .help("Round weights to 4 bits: smaller and faster, but less exact")
                .long("bits")
                .value_name("N")
                .value_parser(["4"]),
        )
        .arg(
            Arg::new("perplexity")
                .help("With --bits: measure what rounding costs on this text (UTF-8)")
                .long("perplexity")
                .value_name("FILE")
                .requires("bits")
                .value_parser(value_parser!(PathBuf)),
        )
}

pub fn run(arguments: &ArgMatches) -> Result<()> {
    let model: &PathBuf = arguments.get_one("MODEL").expect("required by clap");
    let output: &PathBuf = arguments.get_one("output").expect("required by clap");
    let options = Options {
        bits: if arguments.contains_id("bits") { Bits::Four } else { Bits::AsTheyAre },
        replace: arguments.get_flag("force"),
        chat_template: !arguments.get_flag("no-chat-template"),
        context: arguments.get_one("context").map(|context: &u32| *context as usize),
    };
    let text: Option<&PathBuf> = arguments.get_one("perplexity");
    if let Some(text) = text {
        // Packing takes long: what is wrong with the text shall be said before it.
        File::open(text).with_context(|| format!("cannot read {}", text.display()))?;
    }
    let key = arguments.get_one("sign").map(|file: &PathBuf| SecretKey::read(file)).transpose()?;
    interrupt::catch()?;
    pack_signed(model, output, options, key.as_ref())
        .with_context(|| format!("cannot pack {}", model.display()))?;
    if options.bits == Bits::Four {
        compare(model, output, options, text.map(PathBuf::as_path))
            .with_context(|| format!("{} is packed, but not compared", output.display()))?;
    }
    if std::io::stderr().is_terminal() {
        let output = output.display();
        eprintln!("{output} is ready; try it with `hybrid run {output} --prompt \"Hello\"`");
    }
    Ok(())
}

/// Says what fewer bits have brought and cost.
fn compare(model: &Path, output: &Path, options: Options, text: Option<&Path>) -> Result<()> {
    let size = |bundle: &Bundle| Ok::<_, anyhow::Error>(bundle.weights()?.len() as f64);
    let smaller = Bundle::open(output, Verify::AllButWeights)?;
    let megabytes = size(&smaller)? / 1e6;
    let Some(text) = text else {
        return print(&format!(
            "weights {megabytes:.1} MB; --perplexity FILE measures what rounding costs\n"
        ));
    };
    let whole = output.with_file_name(format!(".{}.whole", name(output)));
    let as_it_is =
        Options { bits: Bits::AsTheyAre, replace: true, chat_template: false, ..options };
    assemble(model, &whole, as_it_is)?.put_into_place()?;
    let score = || -> Result<_> {
        let whole = Bundle::open(&whole, Verify::AllButWeights)?;
        let score = |bundle| perplexity::score(bundle, text, Some(SCORED_TOKENS), 512, 0);
        Ok((size(&whole)? / 1e6, score(&whole)?, score(&smaller)?))
    };
    let scored = score();
    std::fs::remove_dir_all(&whole).with_context(|| whole.display().to_string())?;
    let (megabytes_before, before, after) = scored?;
    print(&format!(
        "weights {megabytes:.1} MB instead of {megabytes_before:.1}, perplexity {:.4} instead of \
         {:.4} ({:+.2} %) over {} tokens\n",
        after.value(),
        before.value(),
        100.0 * (after.value() / before.value() - 1.0),
        after.tokens
    ))
}

#[cfg(test)]
fn pack(model: &Path, output: &Path, options: Options) -> Result<()> {
    pack_signed(model, output, options, None)
}

/// Makes the bundle and puts it into place once it has run, signed by `key` if there is one.
fn pack_signed(
    model: &Path,
    output: &Path,
    options: Options,
    key: Option<&SecretKey>,
) -> Result<()> {
    let bundle = assemble(model, output, options)?;
    let trying = Spinner::new("trying out");
    let notes = try_out_dir(bundle.dir()).map_err(|error| {
        let without = "pack with --no-chat-template to leave it out";
        match error.downcast_ref() {
            Some(hybrid::Error::Template(_)) => error.context(without),
            _ => error,
        }
    })?;
    drop(trying);
    print_notes(&notes);
    key.map_or(Ok(()), |key| key.sign(bundle.dir()))?;
    Ok(bundle.put_into_place()?)
}

/// Makes the bundle, which is not in its place yet.
fn assemble(model: &Path, output: &Path, options: Options) -> Result<Complete> {
    let reading = Spinner::new("reading");
    let source = open(model, options)?;
    drop(reading);
    print_notes(&source.notes());
    let mut writer = Writer::create(output, options.replace)?;
    let mut manifest = source.write(&mut writer)?;
    if let Some(context) = options.context {
        let whole = manifest.model.context;
        ensure!(context <= whole, "a context of {context} tokens; the model was made for {whole}");
        manifest.model.context = context;
    }
    manifest.chat_template = manifest.chat_template.filter(|_| options.chat_template);
    Ok(writer.complete(manifest)?)
}

fn print_notes(notes: &[String]) {
    for note in notes {
        eprintln!("note: {}", printable(note));
    }
}

/// A model in somebody's format, read and found to be supported.
trait Source {
    /// What of the model is not in the bundle as the user may expect it, one line each.
    fn notes(&self) -> Vec<String>;

    /// Writes the bundle's files and says what goes into its manifest.
    fn write(self: Box<Self>, writer: &mut Writer) -> Result<Manifest>;
}

/// Finds out what `model` is.
fn open(model: &Path, options: Options) -> Result<Box<dyn Source>> {
    let kind = std::fs::metadata(model)?;
    if kind.is_dir() {
        return onnx::open(model, options);
    }
    let mut magic = [0; 4];
    let found = File::open(model).and_then(|mut file| file.read(&mut magic))?;
    match magic.get(..found) {
        Some(b"GGUF") => Ok(Box::new(from_gguf::PackedSource::open(model, options)?)),
        _ if model.extension().is_some_and(|extension| extension == "onnx") => {
            onnx::open(model, options)
        }
        _ => bail!(hint::of_file(model)),
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
    Ok(sha256_reader(&mut Interruptible(all), &mut |n| bar.add(n))?)
}

/// The plain file name of a path.
fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Says which tokens a bundle does not have.
fn left_out(tokens: &[String]) -> Option<String> {
    let first = tokens.first()?;
    let more = match tokens.len() {
        1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    Some(format!("left out token {first:?}{more}: the model's output has no row for it"))
}

/// Why a vocabulary that is longer than the model's output cannot be cut.
fn ordinary_without_row(token: &str, id: usize, rows: usize) -> anyhow::Error {
    anyhow!(
        "token {id} ({token:?}) is part of ordinary text, but the model's output has only {rows} \
         rows: tokenizer and weights are not from the same model"
    )
}

/// Loads `tokenizer.json` as the runtime will, and has it say its fingerprint.
fn fingerprinted(json: &[u8], info: TokenInfo) -> Result<TokenInfo> {
    let fingerprint = Tokens::new(json, info.clone())?.fingerprint();
    Ok(TokenInfo { fingerprint, ..info })
}

#[cfg(test)]
mod tests;
