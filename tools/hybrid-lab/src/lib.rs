//! The laboratory `hybrid-lab`, as a library for its own tests and those of the host tool:
//! `collect` notes what SLM and cloud LLM say, `train` fits a reward head to it, `eval` measures
//! one.

// `hybrid_common::cli::print` does not panic where nobody reads the output.
#![warn(clippy::print_stdout)]

use hybrid_common::cli::{Program, Subcommand};

mod collect;
mod eval;
mod train;

pub const PROGRAM: Program = Program {
    name: "hybrid-lab",
    about: "Collects what models say, trains reward heads on it and measures them",
    subcommands: &[
        Subcommand { command: collect::command, run: collect::run },
        Subcommand { command: train::command, run: train::run },
        Subcommand { command: eval::command, run: eval::run },
    ],
};

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        super::PROGRAM.command().debug_assert();
    }
}
