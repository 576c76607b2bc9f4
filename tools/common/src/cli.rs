//! A program of subcommands, from its arguments to its exit status.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{ArgMatches, Command};

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
    /// The whole of `main`. Exit status: 0 done, 1 failed (the reason is on stderr), 2 wrong usage.
    pub fn main(&self) -> ExitCode {
        env_logger::Builder::from_default_env().init();
        let Err(error) = self.run(std::env::args_os().skip(1)) else { return ExitCode::SUCCESS };
        match error.downcast::<clap::Error>() {
            Ok(usage) => usage.exit(),
            Err(error) => {
                eprintln!("error: {}", printable(&format!("{error:#}")));
                ExitCode::FAILURE
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

/// Names and texts out of model files may hold escape sequences, which a terminal would obey.
pub fn printable(text: &str) -> String {
    let harmless = |c: char| if c.is_control() && c != '\n' { '\u{fffd}' } else { c };
    text.chars().map(harmless).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn escape_sequences_are_not_printed() {
        assert_eq!(super::printable("a\u{1b}[2Jb\r\nc\u{9b}"), "a\u{fffd}[2Jb\u{fffd}\nc\u{fffd}");
    }
}
