//! `hybrid`: the host tool.

use std::process::ExitCode;

fn main() -> ExitCode {
    hybrid_cli::PROGRAM.main()
}
