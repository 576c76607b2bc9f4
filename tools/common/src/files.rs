//! Files that are written whole or not at all.

use std::path::Path;

use anyhow::{Context, Result};

/// Writes a file whole or not at all.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        let temporary = path.with_extension("new");
        std::fs::write(&temporary, bytes)?;
        std::fs::rename(&temporary, path)
    };
    write().with_context(|| path.display().to_string())
}
