//! Rotary embeddings out of their tables of cosines and sines: the tables have what counts,
//! whatever scaling they were made with.

use std::f64::consts::TAU;

use anyhow::{Context, Result, ensure};
use tract_onnx::pb::TensorProto;

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
    /// What is turned becomes longer by this factor.
    pub length: f32,
    pub long: Option<Long>,
}

/// Other tables for a long context.
#[derive(Debug, PartialEq)]
pub struct Long {
    pub factors: Vec<f32>,
    /// The longest context that does without.
    pub original: usize,
}

/// How far a frequency may be from the base's.
const TOLERANCE: f64 = 1e-3;

impl Rope {
    pub fn read(index: &Index, rotary: &Rotary) -> Result<Rope> {
        let [cos, sin] = rotary.tables;
        let constant = |name| index.constant(name).map(|(tensor, _)| tensor);
        let (own, more) = match (constant(cos), constant(sin)) {
            (Some(cos), Some(sin)) => (Tables::read(index, cos, sin)?, None),
            _ => {
                let choice = |name: &str| {
                    index.choice(name).with_context(|| format!("the RoPE table {name} is computed"))
                };
                let (cos, sin) = (choice(cos)?, choice(sin)?);
                ensure!(cos.limit == sin.limit, "RoPE tables for {} and {}", cos.limit, sin.limit);
                let more = Tables::read(index, cos.more, sin.more)?;
                (Tables::read(index, cos.few, sin.few)?, Some((more, cos.limit)))
            }
        };
        let (half, length) = (own.frequencies.len(), own.length);
        let dim = 2 * half;
        ensure!(rotary.dim.is_none_or(|given| given == dim), "RoPE tables turn {dim} values");
        let base = base(&own.frequencies);
        let factors = |tables: &Tables| -> Vec<f64> {
            let pure = |at: usize| base.powf(-2.0 * at as f64 / dim as f64);
            tables.frequencies.iter().enumerate().map(|(at, f)| pure(at) / f).collect()
        };
        let single = |factors: Vec<f64>| factors.iter().map(|factor| *factor as f32).collect();
        let own_factors = factors(&own);
        let is_pure = own_factors.iter().all(|factor| (factor - 1.0).abs() < TOLERANCE);
        let is_pure = is_pure && more.is_none();
        let long = more.map(|(more, original)| {
            let fits = more.frequencies.len() == half && (more.length - length).abs() < 5e-3;
            ensure!(fits, "RoPE tables for a short and a long context that do not fit together");
            Ok(Long { factors: single(factors(&more)), original })
        });
        Ok(Rope {
            tables: rotary.tables.map(str::to_owned),
            dim: Some(dim),
            base: base as f32,
            factors: (!is_pure).then_some(single(own_factors)),
            length: if (length - 1.0).abs() < 5e-3 { 1.0 } else { length as f32 },
            long: long.transpose()?,
        })
    }

    /// Whether it was read of the same tables.
    pub fn is_of(&self, rotary: &Rotary) -> bool {
        self.tables == rotary.tables
    }
}

/// What the numbers of two tables are made of.
struct Tables {
    /// One for each pair of values.
    frequencies: Vec<f64>,
    /// What all are multiplied with.
    length: f64,
}

impl Tables {
    fn read(index: &Index, cos: &TensorProto, sin: &TensorProto) -> Result<Tables> {
        let ((positions, half), other) = (matrix(cos)?, matrix(sin)?);
        let shape = (positions, half);
        ensure!(shape == other && positions > 1, "RoPE tables of {shape:?} and {other:?}");
        let (cos, sin) = (index.values.floats(cos)?, index.values.floats(sin)?);
        let first = cos.first().copied().unwrap_or_default();
        let length = f64::from(first);
        ensure!(length > 0.0, "a RoPE table begins with {first}, expected a cosine of 0");
        let frequencies = (0..half).map(|at| frequency(&cos, &sin, half, at, length));
        Ok(Tables { frequencies: frequencies.collect::<Result<_>>()?, length })
    }
}

/// The angle by which neighbouring positions differ: a first guess of position 1 says how many
/// whole turns position 2 has made, and so on, each time twice as exactly.
fn frequency(cos: &[f32], sin: &[f32], half: usize, at: usize, length: f64) -> Result<f64> {
    let angle = |position: usize| {
        let of = |table: &[f32]| f64::from(table[position * half + at]);
        (of(sin).atan2(of(cos)), of(sin).hypot(of(cos)))
    };
    let (mut frequency, found) = angle(1);
    ensure!(
        (found / length - 1.0).abs() < 5e-3,
        "RoPE tables with values times {length} and times {found} are not supported"
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
