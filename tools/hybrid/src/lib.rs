//! The host tool `hybrid`, as a library for its own tests and those of the laboratory. One file or
//! folder per subcommand; this one only lists them.

// `hybrid_common::cli::print` does not panic where nobody reads the output.
#![warn(clippy::print_stdout)]

use hybrid_common::cli::{Program, Subcommand};

mod bench;
mod calibrate;
mod check;
mod pack;
mod perplexity;
mod prune;
mod reward;
mod run;
mod sign;
mod try_out;

pub const PROGRAM: Program = Program {
    name: "hybrid",
    about: "Packs, checks and runs model bundles for libhybrid",
    subcommands: &[
        Subcommand { command: pack::command, run: pack::run },
        Subcommand { command: prune::command, run: prune::run },
        Subcommand { command: check::command, run: check::run },
        Subcommand { command: sign::command, run: sign::run },
        Subcommand { command: perplexity::command, run: perplexity::run },
        Subcommand { command: run::command, run: run::run },
        Subcommand { command: bench::command, run: bench::run },
        Subcommand { command: reward::command, run: reward::run },
        Subcommand { command: calibrate::command, run: calibrate::run },
    ],
};

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        super::PROGRAM.command().debug_assert();
    }
}
