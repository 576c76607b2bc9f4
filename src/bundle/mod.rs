//! A bundle: a directory with everything one model needs, named and hashed by `bundle.json`.
//!
//! [`Bundle::open`] checks sizes and hashes before anybody parses a file. Bundles are made and changed by
//! [`Writer`] and [`set_reward`] only, which never write into a file that a bundle in place names.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;

use crate::error::{Error, Result};
use crate::sealed::Fingerprint;

mod hash;
mod manifest;
mod temporary;
mod validate;
mod write;

use hash::{blake3_of, blake3_reader};
pub use hash::{fingerprint, sha256, sha256_reader};
pub use manifest::*;
pub use write::{Complete, Writer, set_reward};

/// The manifest's file name.
pub const MANIFEST_NAME: &str = "bundle.json";

/// An opened and verified bundle. Clones of its weights outlive it.
#[derive(Debug)]
pub struct Bundle {
    dir: PathBuf,
    manifest: Manifest,
    weights: Option<Arc<Mmap>>,
}

/// How much of a bundle is hashed when it is opened. Sizes are always checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verify {
    /// Every file.
    #[default]
    All,
    /// Every file but the weights, for storage that is verified otherwise.
    AllButWeights,
}

impl Bundle {
    /// Opens the bundle in `dir`, checks the size of every file and the hashes `verify` asks for.
    ///
    /// Errors: [`Error::Io`] when `dir` or a file cannot be read, [`Error::Unsupported`] for another format
    /// version, [`Error::Bundle`] for a wrong manifest, size or hash.
    pub fn open(dir: &Path, verify: Verify) -> Result<Bundle> {
        Bundle::open_with_progress(dir, verify, &mut |_, _| {})
    }

    /// As [`Bundle::open`]; `progress` is given the bytes hashed so far and those to hash in all.
    pub fn open_with_progress(
        dir: &Path,
        verify: Verify,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Bundle> {
        let manifest = read_manifest(dir)?;
        let hashed = |role| role != FileRole::Weights || verify == Verify::All;
        let total =
            manifest.files.iter().filter(|(role, _)| hashed(**role)).map(|(_, f)| f.bytes).sum();
        let (mut done, mut weights) = (0, None);
        for (role, entry) in &manifest.files {
            let mut file = open_file(dir, entry)?;
            if hashed(*role) {
                check_hash(dir, entry, &mut file, &mut |n| {
                    done += n;
                    progress(done, total);
                })?;
            }
            if *role == FileRole::Weights {
                let map = map(&file).map_err(|e| Error::io(&dir.join(&entry.name), e))?;
                weights = Some(Arc::new(map));
            }
        }
        Ok(Bundle { dir: dir.to_owned(), manifest, weights })
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Identifies what a session's state depends on: graph, weights and vocabulary.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut hasher = blake3::Hasher::new();
        for role in [FileRole::Graph, FileRole::Weights] {
            let file = self.manifest.files.get(&role);
            hasher.update(file.map_or("", |file| &file.blake3).as_bytes());
        }
        hasher.update(self.manifest.tokens.fingerprint.as_bytes());
        hasher.finalize().into()
    }

    /// The bytes of a file the manifest names, read whole and hashed again: what is returned is what the
    /// manifest promises, whatever happened since the bundle was opened. Not for weights: they are mapped.
    ///
    /// Errors: [`Error::Bundle`] when the bundle has no such file or it changed, [`Error::Io`].
    pub fn read(&self, role: FileRole) -> Result<Vec<u8>> {
        if role == FileRole::Weights {
            return Err(Error::InvalidArgument("weights are mapped, not read".into()));
        }
        let entry = self.manifest.files.get(&role).ok_or_else(|| {
            Error::Bundle(format!("{} has no {}", self.dir.display(), role.file_name()))
        })?;
        let path = self.dir.join(&entry.name);
        let file = open_file(&self.dir, entry)?;
        let mut bytes = Vec::new();
        file.take(entry.bytes).read_to_end(&mut bytes).map_err(|e| Error::io(&path, e))?;
        compare_hash(entry, &blake3_of(&bytes))?;
        Ok(bytes)
    }

    /// The weights, mapped read-only and shared by all clones.
    ///
    /// Errors: [`Error::Bundle`] for a plain export that keeps its weights in the graph.
    pub fn weights(&self) -> Result<Arc<Mmap>> {
        self.weights.clone().ok_or_else(|| {
            Error::Bundle(format!(
                "{} has no {}",
                self.dir.display(),
                FileRole::Weights.file_name()
            ))
        })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

fn read_manifest(dir: &Path) -> Result<Manifest> {
    match std::fs::metadata(dir) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => {
            let text = "a bundle is a directory, this is a file; `hybrid pack MODEL -o BUNDLE` \
                        makes a bundle of a model file";
            return Err(Error::io(dir, other(text)));
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let text = "no such directory; `hybrid pack MODEL -o BUNDLE` makes a bundle";
            return Err(Error::io(dir, io::Error::new(e.kind(), text)));
        }
        Err(e) => return Err(Error::io(dir, e)),
    }
    let path = dir.join(MANIFEST_NAME);
    let file = open_regular(&path).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => Error::Bundle(format!(
            "{} has no {MANIFEST_NAME}; copy the bundle again, or make one with `hybrid pack`",
            dir.display()
        )),
        _ => Error::io(&path, e),
    })?;
    let mut json = Vec::new();
    file.take(validate::MAX_MANIFEST_BYTES + 1)
        .read_to_end(&mut json)
        .map_err(|e| Error::io(&path, e))?;
    if json.len() as u64 > validate::MAX_MANIFEST_BYTES {
        return Err(Error::Bundle(format!(
            "{MANIFEST_NAME} has more than {} bytes",
            validate::MAX_MANIFEST_BYTES
        )));
    }
    Manifest::parse(&json)
}

/// Opens a file the manifest names and compares its size.
fn open_file(dir: &Path, entry: &FileEntry) -> Result<File> {
    let path = dir.join(&entry.name);
    let file = open_regular(&path).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => {
            Error::Bundle(format!("{} is missing; copy the bundle again", path.display()))
        }
        _ => Error::io(&path, e),
    })?;
    let found = file.metadata().map_err(|e| Error::io(&path, e))?.len();
    let (name, expected) = (path.display(), entry.bytes);
    match found.cmp(&expected) {
        std::cmp::Ordering::Equal => Ok(file),
        std::cmp::Ordering::Less => Err(Error::Bundle(format!(
            "{name} is truncated: {found} of {expected} bytes; copy the bundle again"
        ))),
        std::cmp::Ordering::Greater => Err(Error::Bundle(format!(
            "{name} has {found} bytes where {MANIFEST_NAME} says {expected}; copy the bundle again"
        ))),
    }
}

/// Refuses what is not a regular file before opening it: opening a pipe would wait for its other end.
fn open_regular(path: &Path) -> io::Result<File> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(other("not a regular file"));
    }
    File::open(path)
}

fn other(text: &str) -> io::Error {
    io::Error::other(text.to_owned())
}

fn check_hash(
    dir: &Path,
    entry: &FileEntry,
    file: &mut File,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    // One byte more than expected, so that a file that grows meanwhile cannot pass or go on for ever.
    let mut bounded = file.take(entry.bytes + 1);
    let found =
        blake3_reader(&mut bounded, progress).map_err(|e| Error::io(&dir.join(&entry.name), e))?;
    compare_hash(entry, &found)
}

fn compare_hash(entry: &FileEntry, found: &str) -> Result<()> {
    if found == entry.blake3 {
        return Ok(());
    }
    Err(Error::Bundle(format!(
        "{} has BLAKE3 {found} where {MANIFEST_NAME} says {}; copy the bundle again",
        entry.name, entry.blake3
    )))
}

/// Maps a whole file read-only. Files of a bundle in place are never written to: [`Writer`] and
/// [`set_reward`] rename new ones over them, which leaves a map alone. Whoever overwrites a mapped model by
/// other means changes what is computed, and whoever truncates it ends the process with SIGBUS.
#[allow(unsafe_code)]
pub fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the map is private to this process and never written through; all its readers take any byte
    // pattern. That nobody else writes to the file is the contract above.
    unsafe { Mmap::map(file) }
}

#[cfg(test)]
mod example;
#[cfg(test)]
mod tests;
