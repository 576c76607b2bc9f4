//! Chores of the repository that need crates which the library does not.

use anyhow::{Result, bail};

mod header;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["header"] => header::write(),
        ["header", "--check"] => header::check(),
        _ => bail!("usage: cargo xtask header [--check]   (writes or checks include/hybrid.h)"),
    }
}
