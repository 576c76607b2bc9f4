//! Making and changing bundles so that a reader sees the old one or the new one, never a mixture.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::hash::{HashingWriter, blake3_of};
use super::seal::seal;
use super::signature::SIGNATURE_LEN;
use super::temporary::{TemporaryDir, lock, parent_of, sibling};
use super::{
    FileEntry, FileRole, MANIFEST_NAME, Manifest, RewardInfo, SIGNATURE_NAME, source::Source,
};
use crate::error::{Error, Result};

/// Writes a new bundle next to its destination and renames it into place at the end. Dropped before
/// [`Writer::finish`], it leaves nothing behind.
pub struct Writer {
    target: PathBuf,
    /// Where the files are written until they are complete; the same file system as `target`.
    temporary: TemporaryDir,
    files: BTreeMap<FileRole, FileEntry>,
}

impl Writer {
    /// Starts a bundle that will be at `target`. `replace`: a bundle already there is replaced at
    /// the end. What a killed process left of an earlier try is removed.
    ///
    /// Errors: [`Error::InvalidArgument`] when `target` exists and may not be replaced (anything
    /// that is not a bundle never is), [`Error::Io`].
    pub fn create(target: &Path, replace: bool) -> Result<Writer> {
        check_target(target, replace)?;
        let parent = parent_of(target);
        fs::create_dir_all(parent).map_err(|e| Error::io(parent, e))?;
        let temporary = TemporaryDir::beside(target)?;
        Ok(Writer { target: target.to_owned(), temporary, files: BTreeMap::new() })
    }

    /// Writes the file for `role`; hashed and counted on the way.
    pub fn add(
        &mut self,
        role: FileRole,
        write: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<()> {
        let name = role.file_name();
        let entry = write_file(&self.temporary.path().join(name), name, write)?;
        self.files.insert(role, entry);
        Ok(())
    }

    /// As [`Writer::add`], for a file that is in memory already.
    pub fn add_bytes(&mut self, role: FileRole, bytes: &[u8]) -> Result<()> {
        let path = self.temporary.path().join(role.file_name());
        self.add(role, |out| out.write_all(bytes).map_err(|e| Error::io(&path, e)))
    }

    /// Writes `manifest`, whose `files` are filled in, and puts the bundle into place.
    ///
    /// Errors: [`Error::Bundle`] when the manifest is not valid, [`Error::Io`].
    pub fn finish(self, manifest: Manifest) -> Result<()> {
        self.complete(manifest)?.put_into_place()
    }

    /// As [`Writer::finish`], but the bundle is not in its place yet, so that it can be tried out.
    pub fn complete(mut self, mut manifest: Manifest) -> Result<Complete> {
        manifest.files = std::mem::take(&mut self.files);
        write_manifest(self.temporary.path(), &manifest)?;
        sync_directory(self.temporary.path())?;
        Ok(Complete { target: self.target, temporary: self.temporary })
    }
}

/// A bundle with all its files, not in its place yet. Dropped, it leaves nothing behind.
pub struct Complete {
    target: PathBuf,
    temporary: TemporaryDir,
}

impl Complete {
    /// Where it is for now.
    pub fn dir(&self) -> &Path {
        self.temporary.path()
    }

    /// Renames it to its place.
    pub fn put_into_place(self) -> Result<()> {
        let old = sibling(&self.target, "old")?;
        let _lock = lock(&self.target);
        let replaced = match fs::rename(&self.target, &old) {
            Ok(()) => true,
            Err(e) if e.kind() == io::ErrorKind::NotFound => false,
            Err(e) => return Err(Error::io(&self.target, e)),
        };
        if let Err(e) = fs::rename(self.temporary.path(), &self.target) {
            if replaced {
                // Best effort: the first error is the one to report.
                let _ = fs::rename(&old, &self.target);
            }
            return Err(Error::io(&self.target, e));
        }
        if replaced {
            fs::remove_dir_all(&old).map_err(|e| Error::io(&old, e))?;
        }
        sync_directory(parent_of(&self.target))
    }
}

/// Puts the signature of the bundle in `dir` into it, in place of the one it has. `sign` is given
/// every byte of `bundle.json`.
///
/// Errors: as [`super::Bundle::open`], and what `sign` returns.
pub fn set_signature<E: From<Error>>(
    dir: &Path,
    sign: impl FnOnce(&[u8]) -> std::result::Result<[u8; SIGNATURE_LEN], E>,
) -> std::result::Result<(), E> {
    // Nothing is signed that would not open.
    let source = super::Bundle::open(dir, super::Verify::All)?.source;
    let signature = sign(&source.manifest_bytes()?)?;
    write_in_place(dir, SIGNATURE_NAME, &signature)?;
    Ok(sync_directory(dir)?)
}

/// Puts a reward head into the bundle in `dir`, or replaces the one it has. The bundle is not
/// signed any more: its signature was of another manifest.
///
/// Errors: as [`super::Bundle::open`], and [`Error::Bundle`] when `info` is not valid; the bundle
/// is then unchanged.
pub fn set_reward(dir: &Path, onnx: &[u8], info: RewardInfo) -> Result<()> {
    let mut manifest = Source::Dir(dir.to_owned()).manifest(None)?;
    let old = manifest.files.get(&FileRole::Reward).map(|entry| entry.name.clone());
    // A second head gets another name: until the manifest is replaced, the first one must stay
    // whole.
    let standard = FileRole::Reward.file_name();
    let name = match &old {
        None => standard.to_owned(),
        Some(_) => format!("reward-{}.onnx", blake3_of(onnx).get(..12).unwrap_or_default()),
    };
    let temporary = sibling(&dir.join(&name), "new")?;
    let entry = write_file(&temporary, &name, |out| {
        out.write_all(onnx).map_err(|e| Error::io(&temporary, e))
    })?;
    manifest.files.insert(FileRole::Reward, entry);
    manifest.reward = Some(info);
    let done = manifest
        .validate()
        .and_then(|()| rename(&temporary, &dir.join(&name)))
        .and_then(|()| write_manifest(dir, &manifest))
        .and_then(|()| remove(&dir.join(SIGNATURE_NAME)))
        .and_then(|()| sync_directory(dir));
    if done.is_err() {
        let _ = fs::remove_file(&temporary);
        return done;
    }
    match old {
        Some(old) if old != name => remove(&dir.join(&old)),
        _ => Ok(()),
    }
}

fn check_target(target: &Path, replace: bool) -> Result<()> {
    let refuse = |text: &str| Err(Error::InvalidArgument(format!("{} {text}", target.display())));
    let empty = || fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_none());
    match fs::symlink_metadata(target) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::io(target, e)),
        Ok(found) if !found.is_dir() => refuse("exists and is not a bundle; choose another output"),
        Ok(_) if target.join(MANIFEST_NAME).is_file() => match replace {
            true => Ok(()),
            false => refuse("exists already; replace it with --force or choose another output"),
        },
        Ok(_) if empty() => Ok(()),
        Ok(_) => refuse("exists and is not a bundle; choose another output"),
    }
}

fn write_manifest(dir: &Path, manifest: &Manifest) -> Result<()> {
    manifest.validate()?;
    let json = serde_json::to_string_pretty(manifest)
        .map_err(|e| Error::Bundle(format!("{MANIFEST_NAME}: {e}")))?;
    write_in_place(dir, MANIFEST_NAME, seal(&json)?.as_bytes())
}

/// A reader of the file `name` in `dir` sees what was there or `bytes`.
fn write_in_place(dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = dir.join(name);
    let temporary = sibling(&path, "new")?;
    write_file(&temporary, name, |out| out.write_all(bytes).map_err(|e| Error::io(&temporary, e)))?;
    rename(&temporary, &path)
}

/// Writes, hashes and syncs one file.
fn write_file(
    path: &Path,
    name: &str,
    write: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<FileEntry> {
    let io = |e| Error::io(path, e);
    let file = File::create(path).map_err(io)?;
    let mut out = HashingWriter::new(BufWriter::with_capacity(1 << 20, file));
    write(&mut out)?;
    let (buffered, entry) = out.finish(name);
    let file = buffered.into_inner().map_err(|e| io(e.into_error()))?;
    file.sync_all().map_err(io)?;
    Ok(entry)
}

/// Removes a file if it is there.
fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io(path, e)),
        _ => Ok(()),
    }
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|e| Error::io(to, e))
}

fn sync_directory(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(|e| Error::io(dir, e))
}
