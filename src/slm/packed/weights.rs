//! The table of matrices in `weights.bin` and the checked views into the mapped file.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;

use crate::bundle::Blob;
use crate::error::{Error, Result};
use crate::slm::kernels::{Format, Matrix};

/// More entries than any model has; bounds what a damaged table can make us allocate.
const MAX_MATRICES: usize = 1 << 16;

/// One line of the graph's `weights` metadata.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    format: Format,
    rows: usize,
    cols: usize,
    offset: usize,
    bytes: usize,
}

/// All matrices of a bundle by name.
pub struct Weights {
    matrices: HashMap<String, MappedMatrix>,
}

/// A matrix inside the mapped weights, never copied. Checked when the table is read.
#[derive(Clone)]
pub struct MappedMatrix {
    name: Arc<str>,
    map: Blob,
    start: usize,
    end: usize,
    pub format: Format,
    pub rows: usize,
    pub cols: usize,
}

impl Weights {
    /// `table`: the JSON of the graph's `weights` metadata.
    pub fn new(table: &str, map: Blob) -> Result<Weights> {
        let entries: Vec<Entry> = serde_json::from_str(table)
            .map_err(|e| Error::Bundle(format!("the graph's table of weights: {e}")))?;
        if entries.len() > MAX_MATRICES {
            return Err(Error::Bundle(format!("{} matrices in one graph", entries.len())));
        }
        let mut matrices = HashMap::with_capacity(entries.len());
        for entry in entries {
            let matrix = MappedMatrix::new(&entry, &map)
                .map_err(|why| Error::Bundle(format!("matrix {:?}: {why}", entry.name)))?;
            if matrices.insert(entry.name.clone(), matrix).is_some() {
                return Err(Error::Bundle(format!("matrix {:?} is listed twice", entry.name)));
            }
        }
        Ok(Weights { matrices })
    }

    pub fn find(&self, name: &str) -> Result<MappedMatrix> {
        self.matrices
            .get(name)
            .cloned()
            .ok_or_else(|| Error::Bundle(format!("no matrix {name:?} in the table of weights")))
    }
}

impl MappedMatrix {
    fn new(entry: &Entry, map: &Blob) -> Result<MappedMatrix> {
        let end = entry.offset.checked_add(entry.bytes).filter(|end| *end <= map.len());
        let end = end.ok_or_else(|| {
            Error::Bundle(format!(
                "{} bytes at {} lie outside the weights file of {} bytes",
                entry.bytes,
                entry.offset,
                map.len()
            ))
        })?;
        let matrix = MappedMatrix {
            name: entry.name.as_str().into(),
            map: map.clone(),
            start: entry.offset,
            end,
            format: entry.format,
            rows: entry.rows,
            cols: entry.cols,
        };
        matrix.view()?;
        Ok(matrix)
    }

    /// The kernels' view of it.
    pub fn view(&self) -> Result<Matrix<'_>> {
        let bytes = self.map.get(self.start..self.end).unwrap_or_default();
        Ok(Matrix::new(self.format, self.rows, self.cols, bytes)?)
    }
}

impl std::fmt::Debug for MappedMatrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?} {}x{}", self.name, self.format, self.rows, self.cols)
    }
}

/// Names are unique within one map.
impl PartialEq for MappedMatrix {
    fn eq(&self, other: &Self) -> bool {
        self.map.is_same(&other.map) && self.name == other.name
    }
}

impl Eq for MappedMatrix {}
