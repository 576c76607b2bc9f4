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
        .about("Set what the scores of a bundle's head mean by your own prompts")
        .after_help(
            "Every second prompt is held out at first: thresholds from one half are tried on the \
             other, so that you see what a share asked for comes to. Then all prompts make the \
             bundle's new table. Prompts that the head was trained on would flatter it: they are \
             left out.",
        )
        .arg(
            Arg::new("BUNDLE")
                .help("The bundle's directory; it must have a head")
                .required(true)
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(
            path("prompts", "FILE", "Prompts, one JSON object a line (docs/reward-head.md)")
                .required_unless_present("records"),
        )
        .arg(
            path(
                "records",
                "DIR",
                "A folder that `hybrid-lab collect` wrote, in the place of prompts; may be \
                 repeated",
            )
            .action(ArgAction::Append)
            .conflicts_with_all(["prompts", "sessions"]),
        )
        .arg(
            text("splits", "NAMES", "Use the prompts of these splits, separated by commas")
                .value_delimiter(',')
                .value_parser(PossibleValuesParser::new(Split::NAMES))
                .default_value("validation,test"),
        )
        .arg(text("limit", "N", "At most so many prompts").value_parser(value_parser!(usize)))
        .arg(
            text("share", "F", "Share of cloud tokens that the default threshold is for")
                .value_parser(value_parser!(f64))
                .default_value("0.2"),
        )
        .arg(flag(
            "sessions",
            "Also run the sessions of the prompts held out, which asks the cloud for more",
        ))
        .arg(flag("dry-run", "Leave the bundle as it is"))
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
