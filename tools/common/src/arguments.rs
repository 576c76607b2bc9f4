//! How options are written, for all subcommands.

use std::path::PathBuf;

use clap::{Arg, value_parser};
use hybrid::reward::ScoreKind;

pub fn text(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

pub fn path(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    text(name, value, help).value_parser(value_parser!(PathBuf))
}

/// The option of every subcommand that computes on more than one thread.
pub fn threads() -> Arg {
    Arg::new("threads")
        .long("threads")
        .value_name("N")
        .help("Threads to compute on, 0 to 64; 0 and 1: one thread")
        .default_value("0")
        .value_parser(value_parser!(usize))
}

/// Scores by their names.
pub const SCORES: &[(&str, ScoreKind)] = &[
    ("auto", ScoreKind::Auto),
    ("head", ScoreKind::Head),
    ("max-probability", ScoreKind::MaxProbability),
    ("margin", ScoreKind::Margin),
    ("entropy", ScoreKind::Entropy),
    ("random", ScoreKind::Random),
    ("u-hlm", ScoreKind::Sampled),
];
