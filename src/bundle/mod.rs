//! A bundle: everything one model needs, in files that `bundle.json` names and hashes.
//!
//! Sizes and hashes are checked before anybody parses a file. A bundle is a directory
//! ([`Bundle::open`]) or lies in memory ([`Bundle::from_memory`]). Directories are made and changed
//! by [`Writer`], [`set_reward`] and [`set_signature`] only, which never write into a file that a
//! bundle in place names.

use std::io::Read;
use std::path::Path;

use crate::error::{Error, Result};
use crate::sealed::Fingerprint;

mod hash;
mod manifest;
mod seal;
mod signature;
mod source;
mod temporary;
mod validate;
mod write;

use hash::{blake3_of, blake3_reader};
pub use hash::{fingerprint, sha256, sha256_reader};
pub use manifest::*;
pub use seal::seal;
pub use signature::{PublicKey, SIGNATURE_NAME};
pub use source::{Blob, map};
use source::{Content, Source};
pub use write::{Complete, Writer, set_reward, set_signature};

/// What the kernels want of the address of weights.
const WEIGHTS_ALIGNMENT: usize = 64;

/// An opened and verified bundle. Clones of its weights outlive it.
#[derive(Debug)]
pub struct Bundle {
    source: Source,
    manifest: Manifest,
    weights: Option<Blob>,
    signed: bool,
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

/// What is checked when a bundle is opened. A [`Verify`] alone asks for no signature.
#[derive(Debug, Clone, Copy, Default)]
pub struct Checks {
    pub verify: Verify,
    /// A bundle is refused that is not signed by this key, before anything of it is parsed.
    pub public_key: Option<PublicKey>,
}

impl From<Verify> for Checks {
    fn from(verify: Verify) -> Checks {
        Checks { verify, public_key: None }
    }
}

/// Is told the bytes hashed so far and those to hash in all; `false` stops, with
/// [`Error::Cancelled`].
pub type Progress<'a> = dyn FnMut(u64, u64) -> bool + 'a;

impl Bundle {
    /// Opens the bundle in `dir`, checks the size of every file, and what `checks` asks for.
    ///
    /// Errors: [`Error::Io`] when `dir` or a file cannot be read, [`Error::Unsupported`] for
    /// another format version, [`Error::Bundle`] for a wrong manifest, size, hash or signature.
    pub fn open(dir: &Path, checks: impl Into<Checks>) -> Result<Bundle> {
        Bundle::open_with_progress(dir, checks, &mut |_, _| true)
    }

    /// As [`Bundle::open`], and [`Error::Cancelled`].
    pub fn open_with_progress(
        dir: &Path,
        checks: impl Into<Checks>,
        progress: &mut Progress,
    ) -> Result<Bundle> {
        Bundle::from_source(Source::Dir(dir.to_owned()), checks.into(), progress)
    }

    /// As [`Bundle::open_with_progress`], with the files of a bundle's directory by name. The
    /// weights are used where they lie, at an address that is a multiple of 64.
    ///
    /// Errors: [`Error::InvalidArgument`] for a name given twice and weights that are not aligned,
    /// [`Error::Unsupported`] and [`Error::Bundle`] as [`Bundle::open`], [`Error::Cancelled`].
    pub fn from_memory(
        files: Vec<(String, Blob)>,
        checks: impl Into<Checks>,
        progress: &mut Progress,
    ) -> Result<Bundle> {
        let bundle = Bundle::from_source(Source::memory(files)?, checks.into(), progress)?;
        match &bundle.weights {
            Some(weights) if !(weights.as_ptr() as usize).is_multiple_of(WEIGHTS_ALIGNMENT) => {
                Err(Error::InvalidArgument(format!(
                    "the weights in memory begin at an address that is no multiple of \
                     {WEIGHTS_ALIGNMENT}; align them, as they are used where they lie"
                )))
            }
            _ => Ok(bundle),
        }
    }

    fn from_source(source: Source, checks: Checks, progress: &mut Progress) -> Result<Bundle> {
        let manifest = source.manifest(checks.public_key.as_ref())?;
        let signed = source.is_signed();
        let hashed = |role| role != FileRole::Weights || checks.verify == Verify::All;
        let total =
            manifest.files.iter().filter(|(role, _)| hashed(**role)).map(|(_, f)| f.bytes).sum();
        let (mut done, mut weights) = (0, None);
        for (role, entry) in &manifest.files {
            let content = source.open(entry)?;
            if hashed(*role) {
                check_hash(&content, entry, &mut |n| {
                    done += n;
                    progress(done, total)
                })?;
            }
            if *role == FileRole::Weights {
                weights = Some(content.into_blob()?);
            }
        }
        Ok(Bundle { source, manifest, weights, signed })
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Whether there was a signature, right or wrong, when the bundle was opened.
    pub fn is_signed(&self) -> bool {
        self.signed
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

    /// The bytes of a file the manifest names, read whole and hashed again: what is returned is
    /// what the manifest promises, whatever happened since the bundle was opened. Not for weights:
    /// they are mapped.
    ///
    /// Errors: [`Error::Bundle`] when the bundle has no such file or it changed, [`Error::Io`].
    pub fn read(&self, role: FileRole) -> Result<Vec<u8>> {
        if role == FileRole::Weights {
            return Err(Error::InvalidArgument("weights are mapped, not read".into()));
        }
        let entry = self.manifest.files.get(&role).ok_or_else(|| self.has_no(role))?;
        let content = self.source.open(entry)?;
        let mut bytes = Vec::new();
        content.read_with(|file| file.take(entry.bytes).read_to_end(&mut bytes))?;
        compare_hash(entry, &blake3_of(&bytes))?;
        Ok(bytes)
    }

    /// The weights, mapped read-only or where they lie in memory, and shared by all clones.
    ///
    /// Errors: [`Error::Bundle`] for a plain export that keeps its weights in the graph.
    pub fn weights(&self) -> Result<Blob> {
        self.weights.clone().ok_or_else(|| self.has_no(FileRole::Weights))
    }

    /// `None` for a bundle in memory.
    pub fn dir(&self) -> Option<&Path> {
        match &self.source {
            Source::Dir(dir) => Some(dir),
            Source::Memory(_) => None,
        }
    }

    fn has_no(&self, role: FileRole) -> Error {
        Error::Bundle(format!("{} has no {}", self.source.name(), role.file_name()))
    }
}

fn check_hash(
    content: &Content,
    entry: &FileEntry,
    progress: &mut dyn FnMut(u64) -> bool,
) -> Result<()> {
    // One byte more than expected, so that a file that grows meanwhile cannot pass or go on for
    // ever.
    let found =
        content.read_with(|file| blake3_reader(&mut file.take(entry.bytes + 1), progress))?;
    compare_hash(entry, &found.ok_or(Error::Cancelled)?)
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

#[cfg(test)]
mod example;
#[cfg(test)]
mod tests;
