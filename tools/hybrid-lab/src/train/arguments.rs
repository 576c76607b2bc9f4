//! The command line of `hybrid-lab train`.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Arg, ArgAction, ArgMatches, Command, builder::PossibleValuesParser, value_parser};

use super::kinds::Kind;
use super::loss::Loss;
use super::select::{Choice, STACK};
use hybrid_common::arguments::{path, text};

pub fn command() -> Command {
    Command::new("train")
        .about("Train a reward head on the records of `hybrid-lab collect` and install it")
        .arg(
            Arg::new("BUNDLE")
                .help("Directory of the bundle")
                .required(true)
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(
            path("records", "DIR", "Folder that `collect` wrote; can be given several times")
                .required(true)
                .action(ArgAction::Append),
        )
        .arg(path("out", "DIR", "Also write the head and its description to this folder"))
        .arg(
            Arg::new("curve")
                .long("curve")
                .help("Also train on parts of the prompts, to show what more prompts would bring")
                .action(ArgAction::SetTrue),
        )
        .arg(
            text("heads", "NAMES", "Kinds of heads to try, separated by commas")
                .value_parser(PossibleValuesParser::new(
                    Kind::ALL.map(Kind::name).into_iter().chain([STACK]),
                ))
                .value_delimiter(',')
                .default_value("linear,sparse,mlp64,residual,stack"),
        )
        .arg(
            text("losses", "NAMES", "Losses to try, separated by commas")
                .value_parser(PossibleValuesParser::new(Loss::ALL.map(Loss::name)))
                .value_delimiter(',')
                .default_value("agree,soft,both"),
        )
        .arg(
            text("share", "F", "Set the default threshold for this share of cloud tokens, 0 to 1")
                .value_parser(value_parser!(f64))
                .default_value("0.2"),
        )
        .arg(
            text("after", "WHEN", "When the head may read the state after the candidate")
                .value_parser(PossibleValuesParser::new(["auto", "always", "never"]))
                .default_value("auto"),
        )
}

/// The checked command line.
pub struct Options {
    pub bundle: PathBuf,
    pub records: Vec<PathBuf>,
    pub out: Option<PathBuf>,
    pub share: f64,
    pub curve: bool,
    pub choice: Choice,
}

impl Options {
    pub fn parse(arguments: &ArgMatches) -> Result<Options> {
        let path = |name: &str| arguments.get_one::<PathBuf>(name).cloned();
        let share = *arguments.get_one::<f64>("share").expect("has a default");
        ensure!((0.0..=1.0).contains(&share), "--share must be in 0..=1, it is {share}");
        let after = match arguments.get_one::<String>("after").map(String::as_str) {
            Some("always") => Some(true),
            Some("never") => Some(false),
            _ => None,
        };
        let asked = |option: &str, name: &str| {
            arguments.get_many::<String>(option).into_iter().flatten().any(|asked| asked == name)
        };
        let kinds = Kind::ALL.into_iter().filter(|kind| asked("heads", kind.name())).collect();
        let losses = Loss::ALL.into_iter().filter(|loss| asked("losses", loss.name())).collect();
        Ok(Options {
            bundle: path("BUNDLE").expect("required by clap"),
            records: arguments.get_many("records").into_iter().flatten().cloned().collect(),
            out: path("out"),
            share,
            curve: arguments.get_flag("curve"),
            choice: Choice { kinds, losses, after, stack: asked("heads", STACK) },
        })
    }
}
