//! `hybrid reward`: puts a trained head into a bundle.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use hybrid::bundle::{Bundle, Verify};

use hybrid_common::cli::print;
use hybrid_common::heads::head_file::HeadFile;

use crate::sign::NO_LONGER_SIGNED;

pub fn command() -> Command {
    Command::new("reward")
        .about("Put a trained reward head into a bundle")
        .arg(
            Arg::new("BUNDLE")
                .help("Directory of the bundle")
                .required(true)
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(
            Arg::new("HEAD")
                .help("Directory with reward.onnx and reward.json")
                .required(true)
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(
            Arg::new("any-source")
                .help("Accept a bundle packed from another file than the head was trained for")
                .long("any-source")
                .action(ArgAction::SetTrue),
        )
}

pub fn run(arguments: &ArgMatches) -> Result<()> {
    let dir: &PathBuf = arguments.get_one("BUNDLE").expect("required by clap");
    let head: &PathBuf = arguments.get_one("HEAD").expect("required by clap");
    // The weights are not touched, and hashing them takes long.
    let bundle = Bundle::open(dir, Verify::AllButWeights)?;
    let head = HeadFile::read(head)?;
    head.install(&bundle, arguments.get_flag("any-source"))?;
    if bundle.is_signed() {
        eprintln!("{NO_LONGER_SIGNED}");
    }
    print(&format!("{}: {}\n", dir.display(), head.about.reward.provenance))
}
