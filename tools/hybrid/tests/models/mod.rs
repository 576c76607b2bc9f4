//! Bundles of real models, packed by the tool that is tested. `scripts/models` fetches what is
//! missing.

#![allow(dead_code)] // Each test binary uses a part of it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::SystemTime;

use hybrid::bundle::{MANIFEST_NAME, Verify};
use hybrid::session::{Model, ModelOptions, Session, SessionOptions, Step};

pub const HYBRID: &str = env!("CARGO_BIN_EXE_hybrid");

/// The bundle of a model that `scripts/models` knows by `name`. Packed again when the tool is
/// newer.
pub fn bundle(name: &str) -> PathBuf {
    let bundles = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bundles");
    fs::create_dir_all(&bundles).unwrap();
    // Tests run in processes of their own, at once.
    let lock = File::create(bundles.join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    let dir = bundles.join(name);
    if !is_newer(&dir.join(MANIFEST_NAME), HYBRID.as_ref()) {
        let gguf = gguf(name);
        let pack = ["pack".as_ref(), gguf.as_os_str(), "-o".as_ref(), dir.as_os_str()];
        output(HYBRID, pack.into_iter().chain([OsStr::new("--force")]));
    }
    dir
}

/// The GGUF file of such a model.
pub fn gguf(name: &str) -> PathBuf {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/models");
    output("python3", [scripts.as_os_str(), name.as_ref()]).trim().into()
}

fn is_newer(file: &Path, than: &Path) -> bool {
    let changed = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
    changed(file).unwrap_or(SystemTime::UNIX_EPOCH) > changed(than).expect("the tool is there")
}

fn output(program: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> String {
    let output = Command::new(program).args(arguments).output().expect(program);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {}\n{stderr}", output.status);
    String::from_utf8(output.stdout).expect("UTF-8")
}

pub fn open(name: &str) -> Arc<Model> {
    open_with_threads(name, 0)
}

pub fn open_with_threads(name: &str, threads: usize) -> Arc<Model> {
    let options =
        ModelOptions { verify: Verify::AllButWeights, threads, ..ModelOptions::default() };
    Arc::new(Model::open(&bundle(name), options).unwrap())
}

/// A session without a cloud.
pub fn local(model: &Arc<Model>, options: SessionOptions) -> Session {
    Session::new(model.clone(), None, options).unwrap()
}

/// Steps until the end or `max`.
pub fn steps(session: &mut Session, max: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    session
        .run(max, &mut |step| {
            steps.push(step.clone());
            true
        })
        .unwrap();
    steps
}

pub fn ids(steps: &[Step]) -> Vec<u32> {
    steps.iter().map(|step| step.token).collect()
}

pub fn text(steps: &[Step]) -> String {
    steps.iter().map(|step| step.text.as_str()).collect()
}
