//! A bundle: a directory with everything one model needs, named and hashed by `bundle.json`.

use std::path::Path;

use crate::error::{Error, Result};

mod manifest;
pub use manifest::*;

/// An opened and verified bundle.
pub struct Bundle {
    manifest: Manifest,
}

/// How much of a bundle is hashed when it is opened. Sizes are always checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verify {
    /// Every file.
    #[default]
    All,
    /// Every file but the weights, for boards without SHA instructions.
    AllButWeights,
}

impl Bundle {
    pub fn open(_dir: &Path, _verify: Verify) -> Result<Bundle> {
        Err(Error::Unsupported("not built yet".into()))
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The bytes of a file the manifest names, read whole and checked.
    pub fn read(&self, _role: FileRole) -> Result<Vec<u8>> {
        Err(Error::Unsupported("not built yet".into()))
    }

    /// The weights, mapped read-only and shared by all clones.
    pub fn weights(&self) -> Result<std::sync::Arc<memmap2::Mmap>> {
        Err(Error::Unsupported("not built yet".into()))
    }

    pub fn dir(&self) -> &Path {
        Path::new("")
    }
}
