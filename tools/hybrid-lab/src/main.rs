//! `hybrid-lab`: the laboratory.

use std::process::ExitCode;

fn main() -> ExitCode {
    hybrid_lab::PROGRAM.main()
}
