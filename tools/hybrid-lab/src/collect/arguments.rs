//! The command line of `hybrid-lab collect`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Arg, ArgMatches, Command, builder::PossibleValuesParser, value_parser};
use hybrid::cloud::CloudOptions;
use hybrid::sampler::Sampling;

use hybrid_common::arguments::{path, text};
use hybrid_common::cloud::{Named, cache, cloud, cloud_arguments};
use hybrid_common::prompts::Split;

pub fn command() -> Command {
    Command::new("collect")
        .about(
            "Read answers with the SLM and record, for each token, what the SLM and the cloud LLM \
             choose",
        )
        .arg(
            Arg::new("BUNDLE")
                .help("Directory of the bundle")
                .required(true)
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(path("out", "DIR", "Folder for the records; existing records are kept").required(true))
        .arg(
            path("prompts", "FILE", "Prompts, one JSON object per line (docs/reward-head.md)")
                .required(true),
        )
        .args(cloud_arguments(Named::Always))
        .arg(path(
            "teacher",
            "BUNDLE",
            "Run this bundle as the cloud LLM on this machine; this records probabilities too",
        ))
        .arg(path(
            "cache",
            "DIR",
            "Folder for cached answers [default: libhybrid/train in the user's cache]",
        ))
        .arg(
            text(
                "path",
                "WHO",
                "Whose answers to read: the cloud LLM's, the SLM's, or those in the prompts",
            )
            .value_parser(PossibleValuesParser::new(["llm", "slm", "answer"]))
            .default_value("llm"),
        )
        .arg(
            text("temperature", "F", "Temperature of the SLM's answers, for --path slm; 0: greedy")
                .value_parser(value_parser!(f32))
                .default_value("0"),
        )
        .arg(
            text("seed", "N", "Seed of the SLM's answers, for --path slm")
                .value_parser(value_parser!(u64))
                .default_value("0"),
        )
        .arg(path(
            "branches",
            "FILE",
            "Write to this file how the cloud LLM goes on after the SLM's token, at one \
             disagreement per prompt",
        ))
        .arg(
            text("splits", "NAMES", "Use prompts of these splits, separated by commas")
                .value_parser(PossibleValuesParser::new(Split::NAMES))
                .value_delimiter(',')
                .default_value("train,validation"),
        )
        .arg(
            text("limit", "N", "Use at most N prompts").value_parser(value_parser!(u32).range(1..)),
        )
        .arg(hybrid_common::arguments::threads())
}

/// Who writes the paths.
#[derive(Debug, Clone, Copy)]
pub enum Writer {
    Llm,
    Slm(Sampling, u64),
    Answer,
}

impl Writer {
    /// As in a record's `path`.
    pub fn name(self) -> String {
        match self {
            Writer::Llm => "llm".into(),
            Writer::Slm(sampling, seed) => format!("slm {} {seed}", sampling.temperature),
            Writer::Answer => "answer".into(),
        }
    }
}

/// The checked command line.
pub struct Options {
    pub bundle: PathBuf,
    pub out: PathBuf,
    pub prompts: PathBuf,
    pub cloud: Option<CloudOptions>,
    pub cloud_model: String,
    pub teacher: Option<PathBuf>,
    pub cache: PathBuf,
    pub writer: Writer,
    pub branches: Option<PathBuf>,
    pub splits: Vec<Split>,
    pub limit: Option<usize>,
    pub threads: usize,
}

impl Options {
    pub fn parse(arguments: &ArgMatches) -> Result<Options> {
        let path = |name: &str| arguments.get_one::<PathBuf>(name).cloned();
        let text = |name: &str| arguments.get_one::<String>(name).cloned();
        let sampling = Sampling {
            temperature: *arguments.get_one("temperature").expect("has a default"),
            ..Sampling::default()
        };
        sampling.check()?;
        let seed = *arguments.get_one("seed").expect("has a default");
        let splits = arguments.get_many::<String>("splits").into_iter().flatten();
        Ok(Options {
            bundle: path("BUNDLE").expect("required by clap"),
            out: path("out").expect("required by clap"),
            prompts: path("prompts").expect("required by clap"),
            cloud: cloud(arguments)?,
            cloud_model: text("cloud-model").expect("required by clap"),
            teacher: path("teacher"),
            cache: cache(arguments)?,
            writer: match text("path").as_deref() {
                Some("slm") => Writer::Slm(sampling, seed),
                Some("answer") => Writer::Answer,
                _ => Writer::Llm,
            },
            branches: path("branches"),
            splits: splits.filter_map(|name| Split::of_name(name)).collect(),
            limit: arguments.get_one::<u32>("limit").map(|&limit| limit as usize),
            threads: *arguments.get_one("threads").expect("has a default"),
        })
    }
}
