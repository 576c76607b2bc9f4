//! A program of subcommands, from its arguments to its exit status.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{ArgMatches, Command};

use crate::interrupt;

/// A program whose output nobody reads any more ends as one that SIGPIPE has ended.
const PIPE_STATUS: u8 = 128 + 13;

/// How a subcommand describes itself and what it does.
pub struct Subcommand {
    pub command: fn() -> Command,
    pub run: fn(&ArgMatches) -> Result<()>,
}

/// What a program is called, and what it can do.
pub struct Program {
    pub name: &'static str,
    pub about: &'static str,
    pub subcommands: &'static [Subcommand],
}

impl Program {
    /// The whole of `main`. Exit status: 0 done, 1 failed (the reason is on stderr), 2 wrong usage,
    /// 130 and 143 stopped by Ctrl-C and SIGTERM, 141 nobody reads the output any more.
    pub fn main(&self) -> ExitCode {
        env_logger::Builder::from_default_env().init();
        let Err(error) = self.run(std::env::args_os().skip(1)) else { return ExitCode::SUCCESS };
        match error.downcast::<clap::Error>() {
            Ok(usage) => usage.exit(),
            Err(error) if is_broken_pipe(&error) => ExitCode::from(PIPE_STATUS),
            Err(error) => {
                let status = interrupt::status();
                let text = match status {
                    Some(_) => "interrupted".to_owned(),
                    None => format!("error: {}", printable(&reason(&error))),
                };
                // Nobody may be there to read it.
                let _ = writeln!(io::stderr(), "{text}");
                status.map_or(ExitCode::FAILURE, ExitCode::from)
            }
        }
    }

    /// Runs the subcommand that `arguments` begin with. Wrong usage, and a request for help, is a
    /// [`clap::Error`].
    pub fn run(&self, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Result<()> {
        let arguments = arguments.into_iter().map(Into::into);
        let all = [self.name.into()].into_iter().chain(arguments);
        let matches = self.command().try_get_matches_from(all)?;
        let (name, arguments) = matches.subcommand().context("clap requires a subcommand")?;
        let chosen = self.subcommands.iter().find(|s| (s.command)().get_name() == name);
        (chosen.context("clap knows the subcommands")?.run)(arguments)
    }

    /// Its command line.
    pub fn command(&self) -> Command {
        Command::new(self.name)
            .version(env!("CARGO_PKG_VERSION"))
            .about(self.about)
            .subcommand_required(true)
            .arg_required_else_help(true)
            .subcommands(self.subcommands.iter().map(|s| (s.command)()))
    }
}

/// Writes to stdout. Unlike `print!` it does not panic where nobody reads it.
pub fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.context("cannot write the output")
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    io.into_iter().any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// An error and its causes in one line. Some errors repeat their cause in their own text; it is
/// said once.
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
pub fn printable(text: &str) -> String {
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
}
