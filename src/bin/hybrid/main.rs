//! `hybrid`: the host tool.

fn main() {}
