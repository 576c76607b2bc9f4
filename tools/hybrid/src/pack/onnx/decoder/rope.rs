//! Rotary embeddings out of their tables of cosines and sines: the tables have what counts,
//! whatever scaling they were made with.

use std::f64::consts::TAU;

use anyhow::{Context, Result, ensure};

use super::index::Index;
use super::layers::Rotary;
use super::values::matrix;

#[derive(Debug, PartialEq)]
pub struct Rope {
    tables: [String; 2],
    /// Values of a head that are turned.
    pub dim: Option<usize>,
    pub base: f32,
    /// Divisors of the base's frequencies.
    pub factors: Option<Vec<f32>>,
}

/// How far a frequency may be from the base's.
const TOLERANCE: f64 = 1e-3;

impl Rope {
    pub fn read(index: &Index, rotary: &Rotary) -> Result<Rope> {
        let table = |name: &str| -> Result<_> {
            let (tensor, _) = index.constant(name).with_context(|| {
                format!(
                    "the table {name} is computed; models with several RoPE tables, such as \
                         those with a long context, are not supported"
                )
            })?;
            Ok((matrix(tensor)?, index.values.floats(tensor)?))
        };
        let [cos, sin] = rotary.tables;
        let ((shape, cos), (other, sin)) = (table(cos)?, table(sin)?);
        let (positions, half) = shape;
        ensure!(shape == other && positions > 1, "RoPE tables of {shape:?} and {other:?}");
        let frequencies: Vec<f64> =
            (0..half).map(|at| frequency(&cos, &sin, half, at)).collect::<Result<_>>()?;
        let dim = 2 * half;
        ensure!(rotary.dim.is_none_or(|given| given == dim), "RoPE tables turn {dim} values");
        let base = base(&frequencies);
        let pure = |at: usize| base.powf(-2.0 * at as f64 / dim as f64);
        let factors: Vec<f64> =
            frequencies.iter().enumerate().map(|(at, f)| pure(at) / f).collect();
        let is_pure = factors.iter().all(|factor| (factor - 1.0).abs() < TOLERANCE);
        let factors = factors.iter().map(|factor| *factor as f32).collect();
        Ok(Rope {
            tables: rotary.tables.map(str::to_owned),
            dim: Some(dim),
            base: base as f32,
            factors: (!is_pure).then_some(factors),
        })
    }

    /// Whether it was read of the same tables.
    pub fn is_of(&self, rotary: &Rotary) -> bool {
        self.tables == rotary.tables
    }
}

/// The angle by which neighbouring positions differ: a first guess of position 1 says how many
/// whole turns position 2 has made, and so on, each time twice as exactly.
fn frequency(cos: &[f32], sin: &[f32], half: usize, at: usize) -> Result<f64> {
    let angle = |position: usize| {
        let of = |table: &[f32]| f64::from(table[position * half + at]);
        (of(sin).atan2(of(cos)), of(sin).hypot(of(cos)))
    };
    let (mut frequency, length) = angle(1);
    ensure!(
        (length - 1.0).abs() < 5e-3,
        "RoPE tables with values times {length} are not supported"
    );
    let mut position = 2;
    while (position + 1) * half <= cos.len() {
        let (found, _) = angle(position);
        let turns = ((frequency * position as f64 - found) / TAU).round();
        frequency = (found + turns * TAU) / position as f64;
        position *= 2;
    }
    ensure!(frequency > 0.0, "a RoPE table does not turn");
    Ok(frequency)
}

/// The number whose powers the frequencies are, as far as they are: scaling leaves the first ones.
fn base(frequencies: &[f64]) -> f64 {
    let half = frequencies.len() as f64;
    let of = |at: usize| frequencies[at].powf(-half / at as f64);
    let [_, second, ..] = frequencies else { return 10_000.0 };
    let last = of(frequencies.len() - 1);
    let is_all = ((1.0 / second).powf(half) / last - 1.0).abs() < half * TOLERANCE;
    let base = if is_all { last } else { second.powf(-half) };
    let whole = base.round();
    if (base / whole - 1.0).abs() < 1e-4 { whole } else { base }
}
