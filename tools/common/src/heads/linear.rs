//! Heads that are a weighted sum of features.

use super::dataset::Dataset;
use super::onnx::{Graph, inputs};

/// `bias + Σ weight · (feature - centre)`, the log-odds of agreement. The centres keep the sum
/// small, so that f32 is enough where the head runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    pub bias: f64,
    pub centre: Vec<f32>,
    /// Statistics, hidden state before, and by option hidden state after.
    pub weights: Vec<f64>,
}

impl Linear {
    pub fn log_odds(&self, features: &[f32]) -> f64 {
        let terms = self.weights.iter().zip(&self.centre).zip(features);
        self.bias + terms.map(|((w, &c), &x)| w * f64::from(x - c)).sum::<f64>()
    }

    pub fn log_odds_of_rows(&self, data: &Dataset) -> Vec<f64> {
        (0..data.rows()).map(|row| self.log_odds(data.row(row))).collect()
    }

    /// The same with the log-odds scaled and moved.
    pub fn then(&self, scale: f64, shift: f64) -> Linear {
        Linear {
            bias: self.bias * scale + shift,
            centre: self.centre.clone(),
            weights: self.weights.iter().map(|w| w * scale).collect(),
        }
    }

    /// `sigmoid(Σ (input - centre) · weight + bias)`. Only inputs, and of sparse heads only
    /// columns, that have a weight are read.
    pub fn write(&self, hidden_size: usize) -> Vec<u8> {
        let mut graph = Graph::default();
        let mut sum = graph.constant("bias", [1, 1], [self.bias as f32]);
        for (input, columns) in inputs(hidden_size, self.weights.len()) {
            let first = columns.start;
            let all: Vec<usize> = columns.collect();
            let used: Vec<usize> =
                all.iter().copied().filter(|&column| self.weights[column] != 0.0).collect();
            if used.is_empty() {
                continue;
            }
            let mut x = graph.input(input, all.len());
            // An index, a centre and a weight each, instead of centre and weight of all.
            let columns = if used.len() * 3 < all.len() * 2 {
                let indices =
                    graph.indices(&format!("{input}.used"), used.iter().map(|c| c - first));
                x = graph.with("Gather", &[&x, &indices], &format!("{input}.few"), ("axis", 1));
                used
            } else {
                all
            };
            let name = |part: &str| format!("{input}.{part}");
            let (centres, weights) = (
                columns.iter().map(|&c| self.centre[c]),
                columns.iter().map(|&c| self.weights[c] as f32),
            );
            let centre = graph.constant(&name("centre"), [1, columns.len()], centres);
            let weight = graph.constant(&name("weight"), [columns.len(), 1], weights);
            let centred = graph.node("Sub", &[&x, &centre], &name("centred"));
            let product = graph.node("MatMul", &[&centred, &weight], &name("product"));
            sum = graph.node("Add", &[&product, &sum], &name("sum"));
        }
        graph.finish(&sum)
    }
}

#[cfg(test)]
mod tests {
    use hybrid::reward::{Head, statistics};

    use super::super::testing;

    const D: usize = 48;

    #[test]
    fn what_has_no_weight_is_not_read() {
        let mut head = testing::truth(D);
        let before = statistics::COUNT + D;
        head.weights[before..].fill(0.0);
        let dense = head.write(D);
        assert!(!Head::load(&dense, D).unwrap().reads_after());
        head.weights[statistics::COUNT + 3..].fill(0.0);
        let sparse = head.write(D);
        assert!(sparse.len() + 250 < dense.len(), "{} of {}", sparse.len(), dense.len());
    }
}
