//! `weights.bin`: the plan's matrices in the kernels' layout, each at a multiple of 64 bytes.

use anyhow::Result;
use hybrid::bundle::{FileRole, Writer};
use hybrid::slm::kernels::format::ALIGN;
use hybrid::slm::kernels::{Format, pack_matrix};
use serde::Serialize;

use super::plan::Plan;
use super::requantise::Bits;
use hybrid_common::progress::Bytes;

/// Where a matrix lies: one element of the graph's `weights` metadata.
#[derive(Debug, Serialize)]
pub struct Entry {
    name: String,
    format: Format,
    rows: usize,
    cols: usize,
    offset: u64,
    bytes: u64,
}

/// Lays the matrices out, one after the other.
pub fn layout(plan: &Plan, bits: Bits) -> Result<Vec<Entry>> {
    let mut offset = 0;
    let mut entries = Vec::new();
    for matrix in plan.matrices() {
        let (name, tensor, format) = (&matrix.name, &matrix.tensor, bits.format(matrix));
        let bytes = format.packed_bytes(tensor.rows, tensor.cols)? as u64;
        anyhow::ensure!(
            bytes.is_multiple_of(ALIGN as u64),
            "{name}: {bytes} bytes are not aligned"
        );
        let name = name.clone();
        entries.push(Entry { name, format, rows: tensor.rows, cols: tensor.cols, offset, bytes });
        offset += bytes;
    }
    Ok(entries)
}

/// Writes what [`layout`] laid out. `file` is the bytes of the source.
pub fn write(
    plan: &Plan,
    bits: Bits,
    entries: &[Entry],
    file: &[u8],
    writer: &mut Writer,
) -> Result<()> {
    let bar = Bytes::new("packing", entries.iter().map(|entry| entry.bytes).sum());
    writer.add(FileRole::Weights, |out| {
        for (matrix, entry) in plan.matrices().into_iter().zip(entries) {
            let row_bytes = entry.bytes / entry.rows.max(1) as u64;
            let mut row = |row, buffer: &mut _| {
                bar.add(row_bytes);
                bits.row(matrix, file, row, buffer)
                    .map_err(|e| hybrid::Error::Model(format!("{}: {e:#}", matrix.name)))
            };
            pack_matrix(entry.format, entry.rows, entry.cols, &mut row, out)?;
        }
        Ok(())
    })?;
    Ok(())
}
