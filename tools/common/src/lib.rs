//! What the host tool and the laboratory share: prompts, records of answers, heads, and how a
//! command line talks. Nothing here knows a subcommand.

// `cli::print` does not panic where nobody reads the output.
#![warn(clippy::print_stdout)]

pub mod answers;
pub mod arguments;
pub mod cli;
pub mod cloud;
pub mod files;
pub mod heads;
pub mod interrupt;
pub mod progress;
pub mod prompts;
pub mod records;
