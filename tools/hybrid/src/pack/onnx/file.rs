//! Files of an export, read whole.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Protobuf ends at 2 GiB.
pub const MAX_GRAPH_BYTES: u64 = 2 << 30;
pub const MAX_TEXT_BYTES: u64 = 128 << 20;

/// Refuses a file of more than `limit` bytes.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let context = || format!("{} cannot be read", path.display());
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(context)?;
    file.take(limit + 1).read_to_end(&mut bytes).with_context(context)?;
    ensure!(bytes.len() as u64 <= limit, "{} has more than {limit} bytes", path.display());
    Ok(bytes)
}
