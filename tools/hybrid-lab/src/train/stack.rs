//! A fitted head with the statistics beside it: logistic regression of its output and them, on the
//! validation prompts.

use anyhow::Result;
use hybrid::reward::statistics;
use ndarray::{Array2, Axis};

use super::head::Head;
use super::linear::{Examples, Path};
use super::loss::{Labels, Loss};
use super::standardised::Scaling;
use hybrid_common::heads::dataset::Dataset;
use hybrid_common::heads::platt::loss;

const COLUMNS: usize = statistics::COUNT + 1;
const L2: f64 = 1e-2;

/// What the output is multiplied by, what is added, and how much of each standardised statistic.
struct Stack {
    scale: f64,
    shift: f64,
    of_stats: [f64; statistics::COUNT],
}

/// The head with the statistics beside it, and its loss where every prompt is judged by what was
/// fitted to others.
pub fn fit(head: &Head, scaling: &Scaling, validation: &Dataset) -> Result<(Head, f64)> {
    let features = features(head, scaling, validation);
    let rows: Vec<usize> = (0..validation.rows()).collect();
    let half = |odd: u32| rows.iter().copied().filter(move |&r| validation.prompts[r] % 2 == odd);
    let (mut log_odds, mut agrees) = (Vec::new(), Vec::new());
    for odd in [0, 1] {
        let stack = Stack::fit(&features, &half(1 - odd).collect::<Vec<_>>(), validation)?;
        log_odds.extend(half(odd).map(|row| stack.log_odds(features.row(row).as_slice())));
        agrees.extend(half(odd).map(|row| validation.agrees[row]));
    }
    let Stack { scale, shift, of_stats } = Stack::fit(&features, &rows, validation)?;
    Ok((head.then(scale, shift).and(&of_stats, scaling), loss(&log_odds, &agrees)))
}

/// `[rows, 17]`: the head's log-odds and the standardised statistics.
fn features(head: &Head, scaling: &Scaling, data: &Dataset) -> Array2<f32> {
    let mut features = Array2::zeros((data.rows(), COLUMNS));
    for (row, z) in head.log_odds_of_rows(data).into_iter().enumerate() {
        features[[row, 0]] = z as f32;
        for (column, &x) in data.row(row)[..statistics::COUNT].iter().enumerate() {
            features[[row, column + 1]] = (x - scaling.centre[column]) * scaling.scale[column];
        }
    }
    features
}

impl Stack {
    fn fit(features: &Array2<f32>, rows: &[usize], data: &Dataset) -> Result<Stack> {
        let labels = Labels::of_agreement(rows.iter().map(|&row| data.agrees[row]).collect());
        let features = features.select(Axis(0), rows);
        let none = Array2::zeros((0, COLUMNS));
        let mut penalty = vec![L2; COLUMNS];
        // Finite also where the head is never wrong.
        penalty[0] = L2 / 10.0;
        let (rows, chosen) = (features.view(), none.view());
        let examples = Examples { rows, chosen, labels: &labels, loss: Loss::Agree };
        let mut path = Path::new(examples);
        let fitted = path.fit(penalty)?;
        let of_stats = std::array::from_fn(|i| fitted.weights[i + 1]);
        Ok(Stack { scale: fitted.weights[0], shift: fitted.bias, of_stats })
    }

    fn log_odds(&self, features: Option<&[f32]>) -> f64 {
        let features = features.unwrap_or_default();
        let stats = features.iter().skip(1).zip(&self.of_stats);
        self.shift
            + self.scale * f64::from(features[0])
            + stats.map(|(&x, w)| f64::from(x) * w).sum::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::standardised::Standardised;
    use hybrid_common::heads::linear::Linear;
    use hybrid_common::heads::platt::loss_when_scaled;
    use hybrid_common::heads::testing;

    #[test]
    fn statistics_that_a_head_left_out_are_added() {
        let data = testing::dataset(4000, 2, 1);
        let scaling = Standardised::new(&data).scaling;
        let truth = testing::truth(2);
        let mut weights = truth.weights.clone();
        weights[..8].fill(0.0);
        let centre = scaling.centre.clone();
        let without = Head::Linear(Linear { weights, centre, bias: 0.0 });
        let before = loss_when_scaled(&without.log_odds_of_rows(&data), &data.agrees);
        let (with, judged) = fit(&without, &scaling, &data).unwrap();
        let after = loss(&with.log_odds_of_rows(&data), &data.agrees);
        assert!(judged < before - 0.05, "{judged} {before}");
        assert!((after - judged).abs() < 0.03, "it is judged fairly: {after} {judged}");
        let Head::Linear(with) = with else { panic!("it stays a line") };
        for (found, want) in with.weights[..8].iter().zip(&truth.weights) {
            assert!((found - want).abs() < 0.3, "{found} {want}");
        }
    }
}
