//! `hybrid pack`: makes a bundle of a model file.

#[cfg(test)]
mod chat_tests;
mod family;
#[cfg(test)]
mod family_tests;
pub(crate) mod from_gguf;
pub(crate) mod gguf;
mod graph;
mod hint;
#[cfg(test)]
mod odd_tests;
mod onnx;
pub(crate) mod plan;
pub(crate) mod proto;
mod reader;
pub(crate) mod requantise;
mod rotary;
mod source;
mod tensors;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod tokenizer;
pub(crate) mod vocabulary;
mod weights;

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use hybrid::bundle::{Bundle, Complete, Verify, Writer};

use hybrid_common::arguments::{path, text};
use hybrid_common::cli::{print, printable};
use hybrid_common::interrupt;
use hybrid_common::progress::Spinner;

use crate::perplexity;
use crate::sign::SecretKey;
use crate::try_out::try_out_dir;
use from_gguf::PackedSource;
use requantise::Bits;
pub(crate) use source::{Options, Source, name};

/// What `--perplexity` scores at most, in windows of 512.
const SCORED_TOKENS: usize = 8704;

pub fn command() -> Command {
    Command::new("pack")
        .about("Make a bundle from a GGUF file or an ONNX export")
        .args(model_arguments())
        .arg(
            path("perplexity", "FILE", "With --bits: measure what rounding costs on this text")
                .requires("bits"),
        )
        .arg(path("sign", "KEYFILE", "Sign the bundle by this key, as `hybrid sign` does"))
}

/// What every subcommand takes that makes a bundle of a model file.
pub(crate) fn model_arguments() -> Vec<Arg> {
    vec![
        Arg::new("MODEL")
            .help(
                "A .gguf file, an ONNX export's directory with tokenizer.json and config.json, \
                 or one of its .onnx files",
            )
            .required(true)
            .value_parser(value_parser!(PathBuf)),
        path("output", "BUNDLE", "Directory of the new bundle").short('o').required(true),
        flag("force", "Replace an existing bundle"),
        flag(
            "no-chat-template",
            "Leave out the model's chat template; `hybrid run --chat` will not work",
        ),
        text(
            "context",
            "N",
            "Tokens of the context, at most the model's; chooses LongRoPE's factors too",
        )
        .value_parser(value_parser!(u32).range(1..)),
        text("bits", "N", "Round weights to 4 bits: smaller and faster, but less exact")
            .value_parser(["4"]),
    ]
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).action(ArgAction::SetTrue)
}

pub fn run(arguments: &ArgMatches) -> Result<()> {
    let model: &PathBuf = arguments.get_one("MODEL").expect("required by clap");
    let output: &PathBuf = arguments.get_one("output").expect("required by clap");
    let options = Options::of(arguments);
    let text: Option<&PathBuf> = arguments.get_one("perplexity");
    if let Some(text) = text {
        // Packing takes long: what is wrong with the text shall be said before it.
        File::open(text).with_context(|| format!("cannot read {}", text.display()))?;
    }
    let key = arguments.get_one("sign").map(|file: &PathBuf| SecretKey::read(file)).transpose()?;
    interrupt::catch()?;
    assemble(model, output, options)
        .and_then(|bundle| finish(bundle, key.as_ref()))
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
    finish(assemble(model, output, options)?, None)
}

/// Puts a bundle into place once it has run, signed by `key` if there is one.
pub(crate) fn finish(bundle: Complete, key: Option<&SecretKey>) -> Result<()> {
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
    write(source, output, options)
}

/// As [`assemble`], of what is read already.
pub(crate) fn write(source: Box<dyn Source>, output: &Path, options: Options) -> Result<Complete> {
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

pub(crate) fn print_notes(notes: &[String]) {
    for note in notes {
        eprintln!("note: {}", printable(note));
    }
}

/// Finds out what `model` is.
pub(crate) fn open(model: &Path, options: Options) -> Result<Box<dyn Source>> {
    let kind = std::fs::metadata(model)?;
    if kind.is_dir() {
        return onnx::open(model, options);
    }
    let mut magic = [0; 4];
    let found = File::open(model).and_then(|mut file| file.read(&mut magic))?;
    match magic.get(..found) {
        Some(b"GGUF") => Ok(Box::new(PackedSource::open(model, options)?)),
        _ if model.extension().is_some_and(|extension| extension == "onnx") => {
            onnx::open(model, options)
        }
        _ => bail!(hint::of_file(model)),
    }
}

/// The plan and the weights of a packed model.
///
/// Errors: as [`open`]; a plain export has none.
pub(crate) fn open_packed(model: &Path, options: Options) -> Result<Box<PackedSource>> {
    let source = open(model, options)?.into_any().downcast();
    source.map_err(|_| anyhow!("this is a plain ONNX export; take the GGUF file of the model"))
}

#[cfg(test)]
mod tests;
