//! Quantised matmul without special instructions: the reference for the others, and what runs where
//! there is nothing better.

use std::ops::Range;

use half::f16;

use super::activations::{Activations, PANEL_ROWS, Panel};
use super::float;
use super::format::{BLOCK, Format, TILE_ROWS};
use super::lanes::Array;
use super::matrix::Matrix;
use super::output::Output;

/// Quads of four columns in a block.
const QUADS: usize = BLOCK / 4;

/// # Safety
/// As [`super::Tiles`].
pub(super) unsafe fn tiles(matrix: &Matrix, acts: &Activations, tiles: Range<usize>, out: &Output) {
    if !matrix.format().is_quantised() {
        // SAFETY: the caller's promise.
        return unsafe { float::tiles::<Array>(matrix, acts, tiles, out) };
    }
    for tile in tiles {
        let bias = out.bias(tile);
        for panel in acts.panels() {
            let mut sums = [bias; PANEL_ROWS];
            for (g, group) in matrix.groups_of(tile).enumerate() {
                for half in 0..2 {
                    block(matrix.format(), group, half, &panel, 2 * g + half, &mut sums);
                }
            }
            for (row, sums) in sums.iter().take(panel.rows).enumerate() {
                // SAFETY: the caller gave these tiles to this call alone.
                unsafe { out.store(panel.first + row, tile, sums) };
            }
        }
    }
}

/// Adds one block's products with all rows of a panel.
fn block(
    format: Format,
    group: &[u8],
    half: usize,
    panel: &Panel,
    index: usize,
    sums: &mut [[f32; TILE_ROWS]],
) {
    let codes = unpack(format, group, half);
    let parts = format.scales_per_block();
    let zero = i32::from(format.zero_point());
    let mins = format.has_mins().then(|| halves(&group[format.scales_bytes()..], half));
    let acts = &panel.blocks[index * panel.rows..][..panel.rows];
    for (acts, sums) in acts.iter().zip(sums) {
        for part in 0..parts {
            let quads = part * QUADS / parts..(part + 1) * QUADS / parts;
            let negated = match (parts, part) {
                (1, _) => acts.negated,
                (_, 0) => acts.negated_low,
                _ => acts.negated - acts.negated_low,
            };
            let dots = dot(&codes[quads.clone()], &acts.codes, quads.start, zero * negated);
            let scales = halves(group, half * parts + part);
            for i in 0..TILE_ROWS {
                sums[i] += dots[i] as f32 * scales[i] * acts.scale;
            }
        }
        if let Some(mins) = &mins {
            for i in 0..TILE_ROWS {
                sums[i] += mins[i] * acts.offset;
            }
        }
    }
}

/// Sixteen rows' dot products over some quads.
fn dot(codes: &[[u8; 64]], acts: &[i8; BLOCK], first: usize, start: i32) -> [i32; TILE_ROWS] {
    let mut sums = [start; TILE_ROWS];
    for (quad, codes) in codes.iter().enumerate() {
        let acts = &acts[(first + quad) * 4..][..4];
        for (sum, codes) in sums.iter_mut().zip(codes.as_chunks::<4>().0) {
            for k in 0..4 {
                *sum += i32::from(codes[k]) * i32::from(acts[k]);
            }
        }
    }
    sums
}

/// The `index`th 16 f16 values.
fn halves(bytes: &[u8], index: usize) -> [f32; TILE_ROWS] {
    let bytes = &bytes[index * 2 * TILE_ROWS..][..2 * TILE_ROWS];
    let halves = bytes.as_chunks::<2>().0;
    std::array::from_fn(|i| f16::from_le_bytes(halves[i]).to_f32())
}

/// The codes of one block, one byte each.
fn unpack(format: Format, group: &[u8], half: usize) -> [[u8; 64]; QUADS] {
    let bytes =
        &group[format.codes_offset() + half * format.block_bytes()..][..format.block_bytes()];
    let vectors = bytes.as_chunks::<64>().0;
    let mut codes = [[0; 64]; QUADS];
    if format == Format::Q8 {
        codes.copy_from_slice(vectors);
        return codes;
    }
    for (quad, codes) in codes.iter_mut().enumerate() {
        let (nibbles, shift) = (&vectors[quad % 4], quad / 4 * 4);
        for (lane, code) in codes.iter_mut().enumerate() {
            let high = match format {
                Format::Q5 => (vectors[4][quad * 8 + lane / 8] >> (lane % 8)) & 1,
                Format::Q6 => (vectors[4 + quad / 4][lane] >> (quad % 4 * 2)) & 3,
                _ => 0,
            };
            *code = (nibbles[lane] >> shift) & 15 | high << 4;
        }
    }
    codes
}
