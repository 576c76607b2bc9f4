//! External data: the values of tensors that lie in files beside the graph. A bundle has one such
//! file, so all are copied into it and the graph is made to say where they are now.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use hybrid::Error;
use hybrid::bundle::{FileRole, Writer};
use tract_onnx::pb::tensor_proto::DataLocation;
use tract_onnx::pb::{GraphProto, StringStringEntryProto, TensorProto};

use hybrid_common::interrupt::Interruptible;
use hybrid_common::progress::Bytes;

/// Data begin at multiples of this in the new file.
const ALIGNMENT: u64 = 64;

/// All pieces of external data.
#[derive(Debug)]
pub struct External {
    dir: PathBuf,
    /// By where they are now; a piece that several tensors share is there once.
    pieces: BTreeMap<Piece, u64>,
    files: Vec<PathBuf>,
}

/// Bytes of a file in the export's directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Piece {
    pub location: String,
    offset: u64,
    length: u64,
}

impl External {
    /// Finds all pieces, checks that they are there, and gives them their new places.
    pub fn find(graph: &GraphProto, dir: &Path) -> Result<External> {
        let mut external =
            External { dir: dir.to_owned(), pieces: BTreeMap::new(), files: Vec::new() };
        for tensor in tensors(graph).into_iter().filter(|tensor| is_external(tensor)) {
            external.add(tensor).with_context(|| format!("tensor {}", tensor.name))?;
        }
        let mut end = 0u64;
        for (piece, place) in &mut external.pieces {
            *place = end;
            end = end.saturating_add(piece.length).next_multiple_of(ALIGNMENT);
        }
        Ok(external)
    }

    pub fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.files.iter()
    }

    fn add(&mut self, tensor: &TensorProto) -> Result<()> {
        let piece = Piece::of(tensor, &self.dir)?;
        let path = self.dir.join(&piece.location);
        if !self.files.contains(&path) {
            self.files.push(path);
        }
        self.pieces.insert(piece, 0);
        Ok(())
    }

    /// Copies the data into the bundle and points `graph` to them.
    pub fn write(&self, graph: &mut GraphProto, writer: &mut Writer) -> Result<()> {
        if self.pieces.is_empty() {
            return Ok(());
        }
        let bar = Bytes::new("copying", self.pieces.keys().map(|piece| piece.length).sum());
        writer.add(FileRole::Weights, |out| {
            let mut end = 0;
            for (piece, place) in &self.pieces {
                let path = self.dir.join(&piece.location);
                let io = |source| Error::Io { path: path.clone(), source };
                let padding = usize::try_from(place - end).unwrap_or(0);
                out.write_all(&vec![0; padding]).map_err(io)?;
                let mut file = File::open(&path).map_err(io)?;
                file.seek(SeekFrom::Start(piece.offset)).map_err(io)?;
                let copied =
                    std::io::copy(&mut Interruptible(file.take(piece.length)), out).map_err(io)?;
                if copied != piece.length {
                    return Err(io(std::io::ErrorKind::UnexpectedEof.into()));
                }
                bar.add(piece.length);
                end = place + piece.length;
            }
            Ok(())
        })?;
        tensors_mut(graph)
            .into_iter()
            .filter(|tensor| is_external(tensor))
            .try_for_each(|tensor| self.point(tensor))
    }

    fn point(&self, tensor: &mut TensorProto) -> Result<()> {
        let piece = Piece::of(tensor, &self.dir)?;
        let place = self.pieces.get(&piece).context("external data changed meanwhile")?;
        let entry = |key: &str, value: String| StringStringEntryProto { key: key.into(), value };
        tensor.external_data = vec![
            entry("location", FileRole::Weights.file_name().to_owned()),
            entry("offset", place.to_string()),
            entry("length", piece.length.to_string()),
        ];
        Ok(())
    }
}

impl Piece {
    /// Where in the file.
    pub fn range(&self) -> Result<std::ops::Range<usize>> {
        let start = usize::try_from(self.offset)?;
        Ok(start..start.saturating_add(usize::try_from(self.length)?))
    }

    pub fn of(tensor: &TensorProto, dir: &Path) -> Result<Piece> {
        let entry = |key: &str| {
            let found = tensor.external_data.iter().find(|entry| entry.key == key);
            found.map(|entry| entry.value.as_str())
        };
        let location = entry("location").context("its external data have no location")?;
        let inside = Path::new(location).components().all(|c| matches!(c, Component::Normal(_)));
        ensure!(
            inside && !location.is_empty(),
            "external data {location:?} lie outside the export"
        );
        let size = std::fs::metadata(dir.join(location))
            .with_context(|| format!("external data {location} cannot be read"))?
            .len();
        let number = |key: &str| -> Result<Option<u64>> {
            let parse = |text: &str| text.parse().with_context(|| format!("{key} is {text:?}"));
            entry(key).map(parse).transpose()
        };
        let offset = number("offset")?.unwrap_or(0);
        let length = match number("length")? {
            Some(length) => length,
            None => size.saturating_sub(offset),
        };
        match offset.checked_add(length) {
            Some(end) if end <= size && length > 0 => {
                Ok(Piece { location: location.to_owned(), offset, length })
            }
            _ => bail!("{length} bytes at {offset} are not inside {location}, which has {size}"),
        }
    }
}

pub fn is_external(tensor: &TensorProto) -> bool {
    tensor.data_location == Some(DataLocation::External as i32)
}

/// Every tensor with values: initializers and constants, also inside loops and branches.
fn tensors(graph: &GraphProto) -> Vec<&TensorProto> {
    let mut found: Vec<_> = graph.initializer.iter().collect();
    for attribute in graph.node.iter().flat_map(|node| &node.attribute) {
        found.extend(attribute.t.iter().chain(&attribute.tensors));
        found.extend(attribute.g.iter().chain(&attribute.graphs).flat_map(tensors));
    }
    found
}

/// The same, to be changed.
fn tensors_mut(graph: &mut GraphProto) -> Vec<&mut TensorProto> {
    let mut found: Vec<_> = graph.initializer.iter_mut().collect();
    for attribute in graph.node.iter_mut().flat_map(|node| &mut node.attribute) {
        found.extend(attribute.t.iter_mut().chain(&mut attribute.tensors));
        let inner = attribute.g.iter_mut().chain(&mut attribute.graphs);
        found.extend(inner.flat_map(tensors_mut));
    }
    found
}
