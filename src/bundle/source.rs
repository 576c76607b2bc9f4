//! Where the files of a bundle are: a directory, or memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;

use super::seal::unseal;
use super::signature::{PublicKey, SIGNATURE_LEN, SIGNATURE_NAME};
use super::{FileEntry, MANIFEST_NAME, Manifest, validate};
use crate::error::{Error, Result};

/// The bytes of a file, mapped or in memory, that never change. Clones share them.
#[derive(Clone)]
pub struct Blob(Arc<dyn AsRef<[u8]> + Send + Sync>);

impl Blob {
    /// `bytes` give the same slice with every call: a vector, a map, a static slice.
    pub fn new(bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Blob {
        Blob(Arc::new(bytes))
    }

    pub(crate) fn is_same(&self, other: &Blob) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Deref for Blob {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

#[derive(Debug)]
pub(super) enum Source {
    Dir(PathBuf),
    /// By name.
    Memory(BTreeMap<String, Blob>),
}

/// One file, of the size that the manifest says.
pub(super) enum Content {
    File(File, PathBuf),
    Memory(Blob),
}

impl Source {
    /// Errors: [`Error::InvalidArgument`] for a name that is given twice.
    pub fn memory(files: Vec<(String, Blob)>) -> Result<Source> {
        let mut by_name = BTreeMap::new();
        for (name, bytes) in files {
            if by_name.insert(name.clone(), bytes).is_some() {
                return Err(Error::InvalidArgument(format!("the file {name:?} is given twice")));
            }
        }
        Ok(Source::Memory(by_name))
    }

    /// Signed by `key`, if there is one.
    pub fn manifest(&self, key: Option<&PublicKey>) -> Result<Manifest> {
        let json = self.manifest_bytes()?;
        if let Some(key) = key {
            key.check(&json, self.signature()?.as_deref())?;
        }
        // The version goes first: it says what the rest may be.
        Manifest::check_version(&json)?;
        Manifest::parse(&unseal(&json)?)
    }

    pub fn manifest_bytes(&self) -> Result<Vec<u8>> {
        match self {
            Source::Dir(dir) => read_manifest(dir),
            Source::Memory(files) => {
                let json = files.get(MANIFEST_NAME).ok_or_else(|| {
                    Error::Bundle(format!("no {MANIFEST_NAME} is among the files in memory"))
                })?;
                check_manifest_size(json.len() as u64)?;
                Ok(json.to_vec())
            }
        }
    }

    pub fn is_signed(&self) -> bool {
        match self {
            Source::Dir(dir) => dir.join(SIGNATURE_NAME).exists(),
            Source::Memory(files) => files.contains_key(SIGNATURE_NAME),
        }
    }

    /// At most one byte more than a signature has. `None`: the bundle has none.
    fn signature(&self) -> Result<Option<Vec<u8>>> {
        const ENOUGH: usize = SIGNATURE_LEN + 1;
        match self {
            Source::Dir(dir) => {
                let path = dir.join(SIGNATURE_NAME);
                let mut bytes = Vec::new();
                match open_regular(&path)
                    .and_then(|file| file.take(ENOUGH as u64).read_to_end(&mut bytes))
                {
                    Ok(_) => Ok(Some(bytes)),
                    Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(e) => Err(Error::io(&path, e)),
                }
            }
            Source::Memory(files) => Ok(files
                .get(SIGNATURE_NAME)
                .map(|bytes| bytes.iter().take(ENOUGH).copied().collect())),
        }
    }

    /// A file that the manifest names, once its size is compared.
    pub fn open(&self, entry: &FileEntry) -> Result<Content> {
        let (content, place) = match self {
            Source::Dir(dir) => {
                let path = dir.join(&entry.name);
                let file = open_regular(&path).map_err(|e| match e.kind() {
                    io::ErrorKind::NotFound => missing(&path.display(), "copy the bundle again"),
                    _ => Error::io(&path, e),
                })?;
                (Content::File(file, path), self.place(&entry.name))
            }
            Source::Memory(files) => {
                let bytes = files
                    .get(&entry.name)
                    .ok_or_else(|| missing(&entry.name, "give it together with the other files"))?;
                (Content::Memory(bytes.clone()), self.place(&entry.name))
            }
        };
        compare_size(&place, content.len()?, entry.bytes)?;
        Ok(content)
    }

    /// The file as people know it.
    fn place(&self, name: &str) -> String {
        match self {
            Source::Dir(dir) => dir.join(name).display().to_string(),
            Source::Memory(_) => name.to_owned(),
        }
    }

    /// The bundle as people know it.
    pub fn name(&self) -> String {
        match self {
            Source::Dir(dir) => dir.display().to_string(),
            Source::Memory(_) => "the bundle in memory".to_owned(),
        }
    }
}

impl Content {
    fn len(&self) -> Result<u64> {
        match self {
            Content::File(file, path) => Ok(file.metadata().map_err(|e| Error::io(path, e))?.len()),
            Content::Memory(bytes) => Ok(bytes.len() as u64),
        }
    }

    /// Lets `read` have the bytes from the start.
    pub fn read_with<T>(&self, read: impl FnOnce(&mut dyn Read) -> io::Result<T>) -> Result<T> {
        match self {
            Content::File(file, path) => read(&mut &*file).map_err(|e| Error::io(path, e)),
            Content::Memory(bytes) => read(&mut &**bytes)
                .map_err(|e| Error::Bundle(format!("a file in memory cannot be read: {e}"))),
        }
    }

    /// All of it, mapped or as it lies in memory.
    pub fn into_blob(self) -> Result<Blob> {
        match self {
            Content::File(file, path) => map(&file).map(Blob::new).map_err(|e| Error::io(&path, e)),
            Content::Memory(bytes) => Ok(bytes),
        }
    }
}

fn read_manifest(dir: &Path) -> Result<Vec<u8>> {
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
    check_manifest_size(json.len() as u64)?;
    Ok(json)
}

fn check_manifest_size(bytes: u64) -> Result<()> {
    if bytes <= validate::MAX_MANIFEST_BYTES {
        return Ok(());
    }
    let limit = validate::MAX_MANIFEST_BYTES;
    Err(Error::Bundle(format!("{MANIFEST_NAME} has more than {limit} bytes")))
}

fn missing(place: &dyn std::fmt::Display, what_to_do: &str) -> Error {
    Error::Bundle(format!("{place} is missing; {what_to_do}"))
}

fn compare_size(place: &str, found: u64, expected: u64) -> Result<()> {
    match found.cmp(&expected) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Less => Err(Error::Bundle(format!(
            "{place} is truncated: {found} of {expected} bytes; copy the bundle again"
        ))),
        std::cmp::Ordering::Greater => Err(Error::Bundle(format!(
            "{place} has {found} bytes where {MANIFEST_NAME} says {expected}; copy the bundle again"
        ))),
    }
}

/// Refuses what is not a regular file before opening it: opening a pipe would wait for its other
/// end.
fn open_regular(path: &Path) -> io::Result<File> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(other("not a regular file"));
    }
    File::open(path)
}

fn other(text: &str) -> io::Error {
    io::Error::other(text.to_owned())
}

/// Maps a whole file read-only. Files of a bundle in place are never written to: [`super::Writer`]
/// and [`super::set_reward`] rename new ones over them, which leaves a map alone. Whoever
/// overwrites a mapped model by other means changes what is computed, and whoever truncates it ends
/// the process with SIGBUS.
#[allow(unsafe_code)]
pub fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the map is private to this process and never written through; all its readers take
    // any byte pattern. That nobody else writes to the file is the contract above.
    unsafe { Mmap::map(file) }
}
