//! The command line of `hybrid train`.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Arg, ArgGroup, ArgMatches, Command, builder::PossibleValuesParser, value_parser};
use hybrid::cloud::CloudOptions;

use crate::cloud::{cache, cloud, cloud_arguments};

pub fn command() -> Command {
    Command::new("train")
        .about("Train a reward head with a cloud LLM's answers and put it into the bundle")
        .arg(
            Arg::new("BUNDLE")
                .help("The bundle's directory")
                .required(true)
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(path("prompts", "FILE", "Prompts, one JSON object a line (docs/reward-head.md)"))
        .arg(path("data", "FILE", "MBPP's mbpp.jsonl, made into prompts"))
        .group(ArgGroup::new("source").args(["prompts", "data"]).multiple(true).required(true))
        .args(cloud_arguments())
        .arg(path(
            "cache",
            "DIR",
            "Folder of answers and features [default: libhybrid/train in the user's cache]",
        ))
        .arg(path("out", "DIR", "Also write the head with its description here"))
        .arg(
            text("limit", "N", "Use at most this many prompts")
                .value_parser(value_parser!(u32).range(2..)),
        )
        .arg(
            text("share", "F", "Share of cloud tokens that the default threshold is for")
                .value_parser(value_parser!(f64))
                .default_value("0.2"),
        )
        .arg(
            text("after", "WHEN", "Whether the head reads the state after the candidate")
                .value_parser(PossibleValuesParser::new(["auto", "always", "never"]))
                .default_value("auto"),
        )
}

fn text(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

fn path(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    text(name, value, help).value_parser(value_parser!(PathBuf))
}

/// The checked command line.
pub struct Options {
    pub bundle: PathBuf,
    pub prompts: Option<PathBuf>,
    pub data: Option<PathBuf>,
    pub cloud: Option<CloudOptions>,
    pub cloud_model: String,
    pub cache: PathBuf,
    pub out: Option<PathBuf>,
    pub limit: Option<usize>,
    pub share: f64,
    /// `None`: as validation says.
    pub after: Option<bool>,
}

impl Options {
    pub fn parse(arguments: &ArgMatches) -> Result<Options> {
        let path = |name: &str| arguments.get_one::<PathBuf>(name).cloned();
        let text = |name: &str| arguments.get_one::<String>(name).cloned();
        let share = *arguments.get_one::<f64>("share").expect("has a default");
        ensure!((0.0..=1.0).contains(&share), "--share must be in 0..=1, it is {share}");
        Ok(Options {
            bundle: path("BUNDLE").expect("required by clap"),
            prompts: path("prompts"),
            data: path("data"),
            cloud: cloud(arguments)?,
            cloud_model: text("cloud-model").expect("required by clap"),
            cache: cache(arguments)?,
            out: path("out"),
            limit: arguments.get_one::<u32>("limit").map(|&limit| limit as usize),
            share,
            after: match text("after").as_deref() {
                Some("always") => Some(true),
                Some("never") => Some(false),
                _ => None,
            },
        })
    }

    /// What the head was trained on, for its description.
    pub fn sources(&self) -> Result<Vec<serde_json::Value>> {
        [&self.data, &self.prompts].into_iter().flatten().map(|path| super::source(path)).collect()
    }
}
