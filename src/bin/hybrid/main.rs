//! `hybrid`: the host tool. One file per subcommand; this one only chooses between them.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};

mod arguments;
mod bench;
mod calibrate;
mod check;
mod cloud;
mod collect;
mod eval;
mod pack;
mod perplexity;
mod progress;
mod reward;
mod run;
mod train;
mod try_out;

/// How a subcommand describes itself and what it does.
struct Subcommand {
    command: fn() -> Command,
    run: fn(&ArgMatches) -> anyhow::Result<()>,
}

const SUBCOMMANDS: &[Subcommand] = &[
    Subcommand { command: pack::command, run: pack::run },
    Subcommand { command: check::command, run: check::run },
    Subcommand { command: perplexity::command, run: perplexity::run },
    Subcommand { command: run::command, run: run::run },
    Subcommand { command: bench::command, run: bench::run },
    Subcommand { command: reward::command, run: reward::run },
    Subcommand { command: collect::command, run: collect::run },
    Subcommand { command: train::command, run: train::run },
    Subcommand { command: calibrate::command, run: calibrate::run },
    Subcommand { command: eval::command, run: eval::run },
];

/// Exit status: 0 done, 1 failed (the reason is on stderr), 2 wrong usage.
fn main() -> ExitCode {
    env_logger::Builder::from_default_env().init();
    let matches = cli().get_matches();
    let chosen = matches.subcommand().and_then(|(name, arguments)| {
        let subcommand = SUBCOMMANDS.iter().find(|s| (s.command)().get_name() == name)?;
        Some((subcommand.run)(arguments))
    });
    match chosen {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(error)) => {
            eprintln!("error: {}", printable(&reason(&error)));
            ExitCode::FAILURE
        }
        // clap has shown the usage already when no subcommand is given.
        None => ExitCode::from(2),
    }
}

fn cli() -> Command {
    Command::new("hybrid")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Packs, checks and runs model bundles for libhybrid")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(SUBCOMMANDS.iter().map(|s| (s.command)()))
}

/// The option of every subcommand that computes on more than one thread.
fn threads() -> Arg {
    Arg::new("threads")
        .long("threads")
        .value_name("N")
        .help("Threads that compute, 0 to 64; 0 and 1: one")
        .default_value("0")
        .value_parser(value_parser!(usize))
}

/// An error and its causes in one line. Some errors repeat their cause in their own text; it is said once.
fn reason(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Names and texts out of model files may hold escape sequences, which a terminal would obey.
fn printable(text: &str) -> String {
    let harmless = |c: char| if c.is_control() && c != '\n' { '\u{fffd}' } else { c };
    text.chars().map(harmless).collect()
}

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::anyhow;

    #[test]
    fn a_cause_is_said_once() {
        let io = || io::Error::new(io::ErrorKind::NotFound, "no such file");
        let library = hybrid::Error::io("dir/bundle".as_ref(), io());
        let rows = [
            (anyhow!(library), "dir/bundle: no such file"),
            (anyhow!(io()).context("reading dir"), "reading dir: no such file"),
            (anyhow!("plain"), "plain"),
            (anyhow!("a").context("b").context("c"), "c: b: a"),
        ];
        for (error, want) in rows {
            assert_eq!(super::reason(&error), want);
        }
    }

    #[test]
    fn escape_sequences_are_not_printed() {
        assert_eq!(super::printable("a\u{1b}[2Jb\r\nc\u{9b}"), "a\u{fffd}[2Jb\u{fffd}\nc\u{fffd}");
    }

    #[test]
    fn the_command_line_is_consistent() {
        super::cli().debug_assert();
    }
}
