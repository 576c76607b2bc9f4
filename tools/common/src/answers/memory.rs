//! What was found out about one prompt, kept on disk: a line of JSON for every fact, so that a run
//! that is interrupted loses nothing.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Facts by key.
pub struct Memory(Mutex<Inner>);

struct Inner {
    file: File,
    facts: HashMap<String, Value>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    key: String,
    value: Value,
}

impl Memory {
    /// Opens the file or begins one. Lines that cannot be read are left out: the last one may be
    /// cut.
    pub fn open(path: &Path) -> Result<Memory> {
        let open = || -> std::io::Result<Inner> {
            // Appending: two processes may add to one file.
            let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            let lines = bytes.split(|&b| b == b'\n');
            let facts = lines.filter_map(|line| serde_json::from_slice::<Line>(line).ok());
            let facts = facts.map(|line| (line.key, line.value)).collect();
            if bytes.last().is_some_and(|&b| b != b'\n') {
                file.write_all(b"\n")?;
            }
            Ok(Inner { file, facts })
        };
        let inner = open().with_context(|| path.display().to_string())?;
        Ok(Memory(Mutex::new(inner)))
    }

    /// `None` also for a fact of another form than `T`.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.facts.get(key).and_then(|value| T::deserialize(value).ok())
    }

    pub fn put<T: Serialize>(&self, key: String, value: &T) -> Result<()> {
        let line = Line { key, value: serde_json::to_value(value)? };
        let mut bytes = serde_json::to_vec(&line)?;
        bytes.push(b'\n');
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.file.write_all(&bytes)?;
        inner.facts.insert(line.key, line.value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_outlive_a_cut_line() {
        let dir = temp_dir::TempDir::new().unwrap();
        let path = dir.child("facts");
        let put = |key: &str, value: u32| {
            Memory::open(&path).unwrap().put(key.into(), &value).unwrap();
        };
        put("a", 1);
        put("b", 2);
        put("a", 3);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 4]).unwrap();
        put("c", 4);
        let memory = Memory::open(&path).unwrap();
        let get = |key| memory.get::<u32>(key);
        assert_eq!([get("a"), get("b"), get("c"), get("d")], [Some(1), Some(2), Some(4), None]);
        assert_eq!(memory.get::<String>("a"), None);
    }
}
