//! Inputs that are kept: `fuzz/corpus/TARGET`, each a finding that is mended, and seeds.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::Target;

/// The kept inputs of a target.
pub fn kept(target: &Target) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name))
}

/// The files in `folder`, by name; none if there is no folder.
pub fn files(folder: &Path) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    paths.into_iter().map(|path| Ok((path.clone(), fs::read(path)?))).collect()
}

/// The seeds as files in `folder`, and the words as libFuzzer's dictionary `words` beside it.
pub fn write_seeds(target: &Target, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for (number, seed) in (target.seeds)().iter().enumerate() {
        fs::write(folder.join(format!("seed-{number}")), seed)?;
    }
    let escaped = |word: &str| word.bytes().map(|b| format!("\\x{b:02x}")).collect::<String>();
    let words: String =
        target.words.iter().map(|word| format!("\"{}\"\n", escaped(word))).collect();
    fs::write(folder.with_extension("words"), words)
}
