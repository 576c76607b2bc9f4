//! A model that is packed once and computes in microseconds.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::{Arc, LazyLock};

use hybrid::bundle::{Blob, FileRole, MANIFEST_NAME, Manifest, Verify, map, seal};
use hybrid::session::{Model, ModelOptions, Session, SessionOptions};
use hybrid::{Error, Result};
use serde_json::{Value, json};
use temp_dir::TempDir;

use crate::gguf;

/// A bundle in memory, whose files can be replaced under right hashes.
#[derive(Clone)]
pub struct Files {
    pub manifest: Value,
    content: BTreeMap<String, Blob>,
}

/// `Q4_0`, so that packing is quick.
const Q4_0: u32 = 2;

static FILES: LazyLock<Files> = LazyLock::new(|| {
    let temp = TempDir::new().unwrap();
    let source = gguf::Model { kind: Q4_0, ..gguf::Model::new("qwen2") };
    fs::write(temp.child("model.gguf"), source.file().bytes()).unwrap();
    pack(&temp.child("model.gguf"), &temp.child("bundle")).unwrap();
    Files::read(&temp.child("bundle"))
});

static MODEL: LazyLock<Arc<Model>> = LazyLock::new(|| Arc::new(Files::small().open().unwrap()));

/// As a person runs it.
pub fn pack(model: &Path, bundle: &Path) -> std::result::Result<(), String> {
    let arguments = ["pack".as_ref(), model.as_os_str(), "-o".as_ref(), bundle.as_os_str()];
    hybrid_cli::PROGRAM.run(arguments).map_err(|error| format!("{error:#}"))
}

pub fn model() -> Arc<Model> {
    MODEL.clone()
}

/// Of the small model.
pub fn session() -> Session {
    Session::new(model(), None, SessionOptions::default()).unwrap()
}

impl Files {
    pub fn small() -> Files {
        FILES.clone()
    }

    /// A bundle in a folder, which may go afterwards.
    pub fn read(folder: &Path) -> Files {
        let mut content = BTreeMap::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            // Aligned as the kernels want it.
            content.insert(name, Blob::new(map(&File::open(&path).unwrap()).unwrap()));
        }
        let json = content.remove(MANIFEST_NAME).unwrap();
        let mut manifest: Value = serde_json::from_slice(&json).unwrap();
        manifest.as_object_mut().unwrap().remove("manifest_blake3");
        Files { manifest, content }
    }

    pub fn file(&self, role: FileRole) -> &[u8] {
        &self.content[role.file_name()]
    }

    /// Replaces a file, under its right size and hash.
    pub fn with(mut self, role: FileRole, key: &str, bytes: &[u8]) -> Files {
        let name = role.file_name();
        self.manifest["files"][key] = json!({
            "name": name, "bytes": bytes.len(), "sha256": "0".repeat(64),
            "blake3": blake3::hash(bytes).to_hex().as_str(),
        });
        self.content.insert(name.to_owned(), Blob::new(bytes.to_vec()));
        self
    }

    /// What a program gives to the library.
    pub fn sealed(&self) -> Vec<(String, Blob)> {
        self.with_manifest(seal(&self.manifest.to_string()).unwrap().as_bytes())
    }

    /// The files with these bytes as `bundle.json`.
    pub fn with_manifest(&self, json: &[u8]) -> Vec<(String, Blob)> {
        let files = self.content.iter().map(|(name, blob)| (name.clone(), blob.clone()));
        files.chain([(MANIFEST_NAME.to_owned(), Blob::new(json.to_vec()))]).collect()
    }

    pub fn open(&self) -> Result<Model> {
        let options = ModelOptions { verify: Verify::AllButWeights, ..ModelOptions::default() };
        Model::open_memory(self.sealed(), options, &mut |_, _| true)
    }

    pub fn manifest(&self) -> Manifest {
        Manifest::parse(self.manifest.to_string().as_bytes()).unwrap()
    }
}

/// A model that opened must compute, or say why not.
pub fn try_out(model: Result<Model>) {
    let run = || -> Result<()> {
        let mut session = Session::new(Arc::new(model?), None, SessionOptions::default())?;
        session.prompt_tokens(&[1, 2])?;
        for _ in 0..2 {
            session.step()?;
        }
        Ok(())
    };
    // What the caller did here is right, so it must not be told that it was wrong.
    if let Err(error @ Error::InvalidArgument(_)) = run() {
        panic!("a damaged bundle is reported as {error}");
    }
}
