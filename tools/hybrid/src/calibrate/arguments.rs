//! The command line of `hybrid calibrate`.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Arg, ArgAction, ArgMatches, Command, builder::PossibleValuesParser, value_parser};

use hybrid_common::answers::llm::{LlmOptions, llm_arguments};
use hybrid_common::arguments::{path, text};
use hybrid_common::prompts::Split;

pub fn command() -> Command {
    let flag = |name, help| Arg::new(name).long(name).help(help).action(ArgAction::SetTrue);
    Command::new("calibrate")
        .about("Calibrate the reward head of a bundle on your own prompts")
        .after_help(
            "calibrate first holds out every second prompt. It sets thresholds on one half and \
             tries them on the other, and prints which share of cloud tokens each one gave. Then \
             it makes the new table of the bundle from all prompts. It leaves out prompts of the \
             split `train`: the head has seen them, and would look better than it is.",
        )
        .arg(
            Arg::new("BUNDLE")
                .help("Directory of the bundle, which must have a reward head")
                .required(true)
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(
            path("prompts", "FILE", "Prompts, one JSON object per line (docs/reward-head.md)")
                .required_unless_present("records"),
        )
        .arg(
            path(
                "records",
                "DIR",
                "Folder that `hybrid-lab collect` wrote, instead of --prompts; can be given \
                 several times",
            )
            .action(ArgAction::Append)
            .conflicts_with_all(["prompts", "sessions"]),
        )
        .arg(
            text("splits", "NAMES", "Use prompts of these splits, separated by commas")
                .value_delimiter(',')
                .value_parser(PossibleValuesParser::new(Split::NAMES))
                .default_value("validation,test"),
        )
        .arg(text("limit", "N", "Use at most N prompts").value_parser(value_parser!(usize)))
        .arg(
            text("share", "F", "Set the default threshold for this share of cloud tokens, 0 to 1")
                .value_parser(value_parser!(f64))
                .default_value("0.2"),
        )
        .arg(flag(
            "sessions",
            "Also run sessions on the prompts held out; this asks the cloud LLM more",
        ))
        .arg(flag("dry-run", "Print the figures and leave the bundle as it is"))
        .args(llm_arguments())
        .mut_arg("cloud-model", |model| model.required(false).required_unless_present("records"))
}

/// The checked command line.
pub struct Options {
    pub bundle: PathBuf,
    /// `None`: records are the source.
    pub prompts: Option<PathBuf>,
    pub records: Vec<PathBuf>,
    pub splits: Vec<Split>,
    pub limit: usize,
    pub share: f64,
    pub sessions: bool,
    pub dry_run: bool,
    pub llm: LlmOptions,
}

impl Options {
    pub fn parse(arguments: &ArgMatches) -> Result<Options> {
        let path = |name: &str| arguments.get_one::<PathBuf>(name).cloned();
        let share = *arguments.get_one::<f64>("share").expect("has a default");
        ensure!((0.0..=1.0).contains(&share), "--share must be in 0..=1, it is {share}");
        let splits = arguments.get_many::<String>("splits").into_iter().flatten();
        Ok(Options {
            bundle: path("BUNDLE").expect("required by clap"),
            prompts: path("prompts"),
            records: arguments.get_many("records").into_iter().flatten().cloned().collect(),
            splits: splits.filter_map(|name| Split::of_name(name)).collect(),
            limit: arguments.get_one("limit").copied().unwrap_or(usize::MAX),
            share,
            sessions: arguments.get_flag("sessions"),
            dry_run: arguments.get_flag("dry-run"),
            llm: LlmOptions::parse(arguments)?,
        })
    }
}
