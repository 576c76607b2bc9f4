//! What a head can be fitted to: the slope of each loss by the scores.

use hybrid_common::heads::dataset::Dataset;
use hybrid_common::heads::platt::{sigmoid, softplus};

/// Log-probabilities under this are equally hopeless.
const FLOOR: f64 = -8.0;

/// What scores should be like. All of them are log-odds or rank like them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Cross-entropy with whether the candidate is the cloud LLM's choice.
    Agree,
    /// Cross-entropy with the probability that the cloud LLM gives it.
    Soft,
    /// The cloud LLM's token above the candidate in the same place (Bradley-Terry). Every prompt's
    /// pairs weigh the same together, so that long answers say no more than short ones.
    Pairs,
    /// `Agree` and `Pairs`, as much of each.
    Both,
    /// Squared distance from the log-probability that the cloud LLM gives the candidate.
    LogP,
}

impl Loss {
    pub const ALL: [Loss; 5] = [Loss::Agree, Loss::Soft, Loss::Pairs, Loss::Both, Loss::LogP];

    pub fn name(self) -> &'static str {
        match self {
            Loss::Agree => "agree",
            Loss::Soft => "soft",
            Loss::Pairs => "pairs",
            Loss::Both => "both",
            Loss::LogP => "log-p",
        }
    }

    /// The records hold what it needs.
    pub fn is_possible(self, data: &Dataset) -> bool {
        let odds = || data.llm_log_p.iter().all(|log_p| !log_p.is_nan());
        // Bytes may disagree where the path's token is the candidate: a few have no pair.
        let pairs = || data.pairs.rows.len() * 10 >= data.disagreements() * 9;
        match self {
            Loss::Agree => true,
            Loss::Soft | Loss::LogP => odds(),
            Loss::Pairs | Loss::Both => pairs(),
        }
    }

    fn has_pairs(self) -> bool {
        matches!(self, Loss::Pairs | Loss::Both)
    }

    /// The score that is best for all rows alike.
    pub fn start(self, labels: &Labels) -> f64 {
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
        let odds = |p: f64| (p / (1.0 - p)).ln().clamp(-5.0, 5.0);
        match self {
            Loss::Agree | Loss::Both => odds(mean(&labels.agrees)),
            Loss::Soft => odds(mean(&labels.p)),
            Loss::LogP => mean(&labels.log_p),
            Loss::Pairs => 0.0,
        }
    }
}

/// What the losses ask of a dataset.
pub struct Labels {
    pub agrees: Vec<f64>,
    pub p: Vec<f64>,
    log_p: Vec<f64>,
    /// By row: its pair.
    pair: Vec<Option<u32>>,
    /// By pair; they add up to the number of rows.
    weights: Vec<f64>,
}

impl Labels {
    pub fn of(data: &Dataset) -> Labels {
        let log_p: Vec<f64> = data.llm_log_p.iter().map(|&l| f64::from(l).max(FLOOR)).collect();
        let mut pair = vec![None; data.rows()];
        for (index, &row) in (0..).zip(&data.pairs.rows) {
            pair[row as usize] = Some(index);
        }
        Labels {
            agrees: data.agrees.clone(),
            p: log_p.iter().map(|l| l.exp()).collect(),
            log_p,
            pair,
            weights: weights(data),
        }
    }

    /// Of rows of which nothing else is known.
    pub fn of_agreement(agrees: Vec<f64>) -> Labels {
        let n = agrees.len();
        Labels {
            agrees,
            p: Vec::new(),
            log_p: Vec::new(),
            pair: vec![None; n],
            weights: Vec::new(),
        }
    }

    /// The pairs of these rows: place among the rows, and number.
    pub fn pairs(&self, loss: Loss, rows: &[usize]) -> Vec<(usize, usize)> {
        if !loss.has_pairs() {
            return Vec::new();
        }
        let pairs = rows.iter().enumerate();
        pairs.filter_map(|(place, &row)| Some((place, self.pair[row]? as usize))).collect()
    }
}

/// Every prompt's pairs weigh the same together, and all as much as the rows.
fn weights(data: &Dataset) -> Vec<f64> {
    let prompt = |row: &u32| data.prompts[*row as usize];
    let by_prompt = || data.pairs.rows.chunk_by(|a, b| prompt(a) == prompt(b));
    let of_each = data.rows() as f64 / by_prompt().count().max(1) as f64;
    by_prompt().flat_map(|pairs| vec![of_each / pairs.len() as f64; pairs.len()]).collect()
}

/// The loss of some rows, summed, and how it rises with each score.
pub struct Slopes {
    pub cost: f64,
    pub rows: Vec<f64>,
    /// By the scores of the cloud LLM's tokens.
    pub chosen: Vec<f64>,
}

/// `pairs` are [`Labels::pairs`] of `rows`; `scores` and `chosen` are the scores of both.
pub fn slopes(
    loss: Loss,
    labels: &Labels,
    rows: &[usize],
    scores: &[f64],
    pairs: &[(usize, usize)],
    chosen: &[f64],
) -> Slopes {
    let mut slopes =
        Slopes { cost: 0.0, rows: vec![0.0; rows.len()], chosen: vec![0.0; pairs.len()] };
    for ((slope, &row), &z) in slopes.rows.iter_mut().zip(rows).zip(scores) {
        let cross_entropy = |y: f64| (softplus(z) - y * z, sigmoid(z) - y);
        let (cost, rise) = match loss {
            Loss::Agree | Loss::Both => cross_entropy(labels.agrees[row]),
            Loss::Soft => cross_entropy(labels.p[row]),
            Loss::LogP => {
                let error = z - labels.log_p[row];
                (0.5 * error * error, error)
            }
            Loss::Pairs => (0.0, 0.0),
        };
        slopes.cost += cost;
        *slope = rise;
    }
    for ((slope, &(place, pair)), &z) in slopes.chosen.iter_mut().zip(pairs).zip(chosen) {
        let (ahead, weight) = (z - scores[place], labels.weights[pair]);
        slopes.cost += weight * softplus(-ahead);
        *slope = -weight * sigmoid(-ahead);
        slopes.rows[place] -= *slope;
    }
    slopes
}

#[cfg(test)]
mod tests {
    use super::*;
    use hybrid_common::heads::testing;

    #[test]
    fn slopes_are_how_the_cost_rises() {
        let data = testing::dataset(60, 1, 1);
        let labels = Labels::of(&data);
        let rows: Vec<usize> = (5..50).rev().collect();
        let numbers = |n: usize, by: f64| (0..n).map(|i| (i as f64 * by).sin() * 2.0).collect();
        for loss in Loss::ALL {
            let pairs = labels.pairs(loss, &rows);
            assert_eq!(pairs.is_empty(), !loss.has_pairs());
            let scores: Vec<f64> = numbers(rows.len(), 0.7);
            let chosen: Vec<f64> = numbers(pairs.len(), 1.3);
            let of = |scores: &[f64], chosen: &[f64]| {
                slopes(loss, &labels, &rows, scores, &pairs, chosen)
            };
            let found = of(&scores, &chosen);
            let moved = |values: &[f64], at: usize, by: f64| {
                let mut values = values.to_vec();
                values[at] += by;
                values
            };
            let check = |rise: f64, up: Slopes, down: Slopes| {
                assert!((rise - (up.cost - down.cost) / 2e-5).abs() < 1e-4, "{loss:?} {rise}");
            };
            for (at, &rise) in found.rows.iter().enumerate() {
                let at = |by| of(&moved(&scores, at, by), &chosen);
                check(rise, at(1e-5), at(-1e-5));
            }
            for (at, &rise) in found.chosen.iter().enumerate() {
                let at = |by| of(&scores, &moved(&chosen, at, by));
                check(rise, at(1e-5), at(-1e-5));
            }
        }
    }

    #[test]
    fn long_answers_say_no_more_than_short_ones() {
        let mut data = testing::dataset(100, 1, 1);
        // One prompt of 90 tokens and one of 10.
        data.prompts = (0..100).map(|row| u32::from(row >= 90)).collect();
        let weights = weights(&data);
        let long: Vec<f64> = weights
            .iter()
            .zip(&data.pairs.rows)
            .filter(|(_, r)| **r < 90)
            .map(|(w, _)| *w)
            .collect();
        assert!(long.len() > 1 && long.len() < weights.len());
        assert!((long.iter().sum::<f64>() - 50.0).abs() < 1e-9);
        assert!((weights.iter().sum::<f64>() - 100.0).abs() < 1e-9);
    }

    #[test]
    fn losses_need_what_they_read() {
        let whole = testing::dataset(40, 1, 1);
        let mut no_odds = whole.clone();
        no_odds.llm_log_p[7] = f32::NAN;
        let mut no_pairs = whole.clone();
        no_pairs.pairs.rows.clear();
        let possible = |data: &Dataset| Loss::ALL.map(|loss| loss.is_possible(data));
        assert_eq!(possible(&whole), [true; 5]);
        assert_eq!(possible(&no_odds), [true, false, true, true, false]);
        assert_eq!(possible(&no_pairs), [true, true, false, false, true]);
    }
}
