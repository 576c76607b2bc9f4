//! Quantised matmul without special instructions: the reference for the others, and what runs where
//! there is nothing better.

use std::ops::Range;

use super::activations::{ActBlock, Activations, PANEL_ROWS, Panel};
use super::code::{Code, Line, Q4, Q4M, Q4T, Q5, Q5M, Q6, Q8};
use super::float;
use super::format::{Format, TABLE, TILE_ROWS};
use super::lanes::{Array, LANES, Lanes};
use super::matrix::Matrix;
use super::output::Output;

/// # Safety
/// As [`crate::table::Tiles`].
pub(super) unsafe fn tiles(matrix: &Matrix, acts: &Activations, tiles: Range<usize>, out: &Output) {
    // SAFETY: the caller's promise, passed on.
    unsafe {
        match matrix.format() {
            Format::F32 | Format::F16 => float::tiles::<Array>(matrix, acts, tiles, out),
            Format::Q4 => quantised::<Q4>(matrix, acts, tiles, out),
            Format::Q4M => quantised::<Q4M>(matrix, acts, tiles, out),
            Format::Q4T => quantised::<Q4T>(matrix, acts, tiles, out),
            Format::Q5 => quantised::<Q5>(matrix, acts, tiles, out),
            Format::Q5M => quantised::<Q5M>(matrix, acts, tiles, out),
            Format::Q6 => quantised::<Q6>(matrix, acts, tiles, out),
            Format::Q8 => quantised::<Q8>(matrix, acts, tiles, out),
        }
    }
}

unsafe fn quantised<C: Code>(
    matrix: &Matrix,
    acts: &Activations,
    tiles: Range<usize>,
    out: &Output,
) {
    for tile in tiles {
        let bias = Array::load(&out.bias(tile));
        for panel in acts.panels() {
            let mut sums = [bias; PANEL_ROWS];
            multiply::<C>(matrix.tile(tile).as_chunks().0, &panel, &mut sums);
            for (row, sums) in sums.iter().take(panel.rows).enumerate() {
                // SAFETY: the caller gave these tiles to this call alone.
                unsafe { out.store(panel.first + row, tile, &sums.to_array()) };
            }
        }
    }
}

/// Adds the products of one tile and a panel.
fn multiply<C: Code>(tile: &[Line], panel: &Panel, sums: &mut [Array; PANEL_ROWS]) {
    let mut acts = panel.blocks.chunks_exact(panel.rows);
    for group in tile.chunks_exact(C::LINES) {
        for (half, acts) in acts.by_ref().take(2).enumerate() {
            block::<C>(group, half, acts, sums);
        }
    }
}

/// Adds the products of block 0 or 1 of a group.
fn block<C: Code>(group: &[Line], index: usize, acts: &[ActBlock], sums: &mut [Array]) {
    let format = C::FORMAT;
    let codes = unpack::<C>(&group[format.codes_offset() / 64 + index * C::BLOCK_LINES..]);
    let parts = format.scales_per_block();
    let scales = [halves(group, parts * index), halves(group, parts * index + parts - 1)];
    let mins = halves(&group[format.scales_bytes() / 64..], index);
    for (act, sum) in acts.iter().zip(sums) {
        let scale = Array::splat(act.scale);
        if parts == 1 {
            let dots = dot::<C>(act.negated.into(), &codes, act, 0..8);
            *sum = dots.mul(scales[0]).mul_add(scale, *sum);
        } else {
            let low = dot::<C>(act.negated_low.into(), &codes, act, 0..4);
            let high = dot::<C>((act.negated - act.negated_low).into(), &codes, act, 4..8);
            *sum = high.mul_add(scales[1], low.mul(scales[0])).mul_add(scale, *sum);
        }
        if format.has_mins() {
            *sum = mins.mul_add(Array::splat(act.offset), *sum);
        }
    }
}

/// Sixteen rows' dot products over some quads, a multiple of `C::QUADS`; `negated` is the
/// activations' sum. Runs of quads are added up in 16 bits, which vectors have more of.
fn dot<C: Code>(negated: i32, codes: &[Line; 8], act: &ActBlock, quads: Range<usize>) -> Array {
    let acts = act.codes.as_chunks::<4>().0;
    let zero_point = if C::SIGNED { 0 } else { i32::from(C::FORMAT.zero_point()) };
    let mut sums = [zero_point * negated; TILE_ROWS];
    for run in 0..quads.len() / C::QUADS {
        let mut lanes = [[0i16; 8]; 8];
        for quad in (0..C::QUADS).map(|i| quads.start + run * C::QUADS + i) {
            let [a, b, c, d] = acts[quad].map(i16::from);
            let eight = [a, b, c, d, a, b, c, d];
            for (lanes, codes) in lanes.iter_mut().zip(codes[quad].as_chunks::<8>().0) {
                for i in 0..8 {
                    let code = codes[i];
                    let code = if C::SIGNED { i16::from(code as i8) } else { i16::from(code) };
                    lanes[i] += code * eight[i];
                }
            }
        }
        let rows = lanes.as_flattened().as_chunks::<4>().0;
        for (sum, [a, b, c, d]) in sums.iter_mut().zip(rows) {
            *sum += (i32::from(*a) + i32::from(*b)) + (i32::from(*c) + i32::from(*d));
        }
    }
    let mut dots = [0.0; LANES];
    for (dot, sum) in dots.iter_mut().zip(sums) {
        *dot = sum as f32;
    }
    Array::load(&dots)
}

/// The `index`th 16 f16 values.
fn halves(lines: &[Line], index: usize) -> Array {
    let bytes = lines[index / 2].as_chunks::<32>().0[index % 2].as_chunks::<2>().0;
    let mut halves = [0; LANES];
    for (half, bytes) in halves.iter_mut().zip(bytes) {
        *half = u16::from_le_bytes(*bytes);
    }
    Array::load_half(&halves)
}

/// A block's codes, one byte each.
fn unpack<C: Code>(block: &[Line]) -> [Line; 8] {
    let mut codes = [[0; 64]; 8];
    if C::FORMAT == Format::Q8 {
        for (codes, line) in codes.iter_mut().zip(block) {
            for i in 0..64 {
                codes[i] = line[i] ^ 0x80;
            }
        }
        return codes;
    }
    for quad in 0..4 {
        for i in 0..64 {
            codes[quad][i] = block[quad][i] & 15;
            codes[quad + 4][i] = block[quad][i] >> 4;
        }
    }
    for (quad, codes) in codes.iter_mut().enumerate() {
        match C::FORMAT {
            Format::Q4T => {
                for code in codes {
                    *code = TABLE[usize::from(*code)] ^ 0x80;
                }
            }
            Format::Q5 | Format::Q5M => {
                let mask = block[4].as_chunks::<8>().0[quad];
                for i in 0..64 {
                    codes[i] |= (mask[i / 8] >> (i % 8) & 1) << 4;
                }
            }
            Format::Q6 => {
                let (plane, shift) = (&block[4 + quad / 4], quad % 4 * 2);
                for i in 0..64 {
                    codes[i] |= (plane[i] >> shift & 3) << 4;
                }
            }
            _ => {}
        }
    }
    codes
}
