//! What every kind of model file is read as.

use std::any::Any;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use clap::ArgMatches;
use hybrid::bundle::{Manifest, Writer, sha256_reader};

use hybrid_common::interrupt::Interruptible;
use hybrid_common::progress::Bytes;

use super::requantise::Bits;

/// How a model is packed.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub bits: Bits,
    /// An existing bundle is replaced.
    pub replace: bool,
    /// The model's own goes along.
    pub chat_template: bool,
    /// Tokens of the context, if not the model's own.
    pub context: Option<usize>,
}

impl Options {
    /// As [`super::model_arguments`] were given.
    pub fn of(arguments: &ArgMatches) -> Options {
        Options {
            bits: if arguments.contains_id("bits") { Bits::Four } else { Bits::AsTheyAre },
            replace: arguments.get_flag("force"),
            chat_template: !arguments.get_flag("no-chat-template"),
            context: arguments.get_one("context").map(|context: &u32| *context as usize),
        }
    }

    /// Those of a command line without any.
    #[cfg(test)]
    pub fn new() -> Options {
        Options { bits: Bits::AsTheyAre, replace: false, chat_template: true, context: None }
    }
}

/// A model in somebody's format, read and found to be supported.
pub trait Source {
    /// What of the model is not in the bundle as the user may expect it, one line each.
    fn notes(&self) -> Vec<String>;

    /// Writes the bundle's files and says what goes into its manifest.
    fn write(self: Box<Self>, writer: &mut Writer) -> Result<Manifest>;

    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

/// The SHA-256 of files, one after the other, with a progress bar.
pub fn hash(paths: &[&Path]) -> Result<String> {
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
pub fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
