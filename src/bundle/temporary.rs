//! Hidden names beside a bundle: what is being written, and what killed processes left there.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A new directory beside `target`, removed with all it holds when dropped. It is locked while this
/// lives, so that other processes can tell it from what a killed one left.
pub(super) struct TemporaryDir {
    path: PathBuf,
    _lock: Option<File>,
}

impl TemporaryDir {
    /// Removes what killed processes left of earlier tries, too.
    pub fn beside(target: &Path) -> Result<TemporaryDir> {
        remove_leftovers(target);
        let path = sibling(target, "new")?;
        // The user knows the target, not the hidden name.
        fs::create_dir(&path).map_err(|e| Error::io(target, e))?;
        let lock = lock(&path);
        Ok(TemporaryDir { path, _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TemporaryDir {
    fn drop(&mut self) {
        // Gone already where it was renamed to its target.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A hidden name next to `path` that nothing has yet. The number keeps apart what an earlier
/// process with the same id left behind when it was killed, as happens in containers.
pub(super) fn sibling(path: &Path, what: &str) -> Result<PathBuf> {
    let prefix = prefix(path, what)?;
    let process = std::process::id();
    let candidate = |number| parent_of(path).join(format!("{prefix}{process}-{number}"));
    let is_free = |path: &PathBuf| {
        fs::symlink_metadata(path).is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
    };
    (0..100).map(candidate).find(is_free).ok_or_else(|| {
        Error::io(&candidate(0), io::Error::other("there are 100 of these; remove them"))
    })
}

pub(super) fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn prefix(path: &Path, what: &str) -> Result<String> {
    let name = path.file_name().ok_or_else(|| {
        Error::InvalidArgument(format!("{} does not end in a name", path.display()))
    })?;
    Ok(format!(".{}.{what}-", name.to_string_lossy()))
}

/// Says that a directory is in use until the lock is dropped. `None` on a file system without
/// locks, where nothing is ever taken for a leftover.
pub(super) fn lock(dir: &Path) -> Option<File> {
    let dir = File::open(dir).ok()?;
    dir.lock().ok()?;
    Some(dir)
}

/// Best effort: what cannot be removed is in nobody's way. An old bundle is only a leftover where
/// there is a new one.
fn remove_leftovers(target: &Path) {
    let what = if target.exists() { &["new", "old"][..] } else { &["new"] };
    let prefixes: Vec<_> = what.iter().filter_map(|what| prefix(target, what).ok()).collect();
    for entry in fs::read_dir(parent_of(target)).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if prefixes.iter().any(|prefix| is_temporary(&name.to_string_lossy(), prefix)) {
            let path = entry.path();
            // Held until it is removed, so that of two processes one does it.
            let lock = File::open(&path);
            if lock.as_ref().is_ok_and(|dir| dir.try_lock().is_ok()) {
                let _ = fs::remove_dir_all(&path);
            }
        }
    }
}

/// `prefix`, a process and a number, as [`sibling`] writes them.
fn is_temporary(name: &str, prefix: &str) -> bool {
    let numbers = name.strip_prefix(prefix).and_then(|rest| rest.split_once('-'));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    numbers.is_some_and(|(process, number)| is_number(process) && is_number(number))
}
