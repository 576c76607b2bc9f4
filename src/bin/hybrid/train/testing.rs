//! Synthetic positions with a known answer.

use hybrid::reward::builtin::Uniform;
use hybrid::reward::statistics;

use super::dataset::Dataset;
use super::fit::{Linear, sigmoid};

/// The log-odds by which [`dataset`] draws its labels.
pub fn truth(hidden_size: usize) -> Linear {
    let width = statistics::COUNT + 2 * hidden_size;
    Linear {
        bias: 1.5,
        centre: vec![0.0; width],
        weights: (0..width).map(|i| (i as f64 * 1.3 + 0.4).sin()).collect(),
    }
}

/// `rows` positions, ten per prompt.
pub fn dataset(rows: usize, hidden_size: usize, seed: u64) -> Dataset {
    let mut uniform = Uniform::new(seed);
    let truth = truth(hidden_size);
    let mut data = Dataset::new(hidden_size);
    for row in 0..rows {
        let mut draw = |n| (0..n).map(|_| uniform.draw() * 4.0 - 2.0).collect::<Vec<f32>>();
        let parts = [draw(statistics::COUNT), draw(hidden_size), draw(hidden_size)];
        let probability = sigmoid(truth.log_odds(&parts.concat()));
        data.agrees.push(if f64::from(uniform.draw()) < probability { 1.0 } else { 0.0 });
        data.columns.extend(parts.concat());
        data.prompts.push(row as u32 / 10);
    }
    data
}
