//! Chooses penalty and inputs of a head by its loss on the validation prompts.

use anyhow::Result;

use super::dataset::Dataset;
use super::fit::{self, Linear, Standardised};
use crate::progress::Steps;

/// Penalties tried, on features of variance 1.
const PENALTIES: [f64; 6] = [3.0, 1.0, 0.3, 0.1, 0.03, 0.01];

/// One fitted head.
pub struct Trial {
    pub after: bool,
    pub l2: f64,
    pub head: Linear,
    /// Mean negative log-likelihood on the validation prompts.
    pub loss: f64,
}

/// Fits every penalty, without and with the state after the candidate (`after`: only one of these).
pub fn trials(train: &Dataset, validation: &Dataset, after: Option<bool>) -> Result<Vec<Trial>> {
    let standardised = Standardised::new(train);
    let inputs: Vec<bool> = after.map_or(vec![false, true], |only| vec![only]);
    let bar = Steps::new("fitting", (inputs.len() * PENALTIES.len()) as u64);
    let mut trials = Vec::new();
    for &after in &inputs {
        for l2 in PENALTIES {
            let head = standardised.fit(after, l2)?;
            let loss = fit::loss(&head.log_odds_of_rows(validation), &validation.agrees);
            log::info!("after {after}, L2 {l2}: validation loss {loss:.5}");
            trials.push(Trial { after, l2, head, loss });
            bar.add(1);
        }
    }
    Ok(trials)
}

/// The lowest loss; of equal ones the first, which has fewer inputs and the stronger penalty.
pub fn best(trials: &[Trial]) -> Option<&Trial> {
    trials.iter().min_by(|a, b| a.loss.total_cmp(&b.loss))
}

/// The best of those with (or without) the state after the candidate.
pub fn best_of(trials: &[Trial], after: bool) -> Option<&Trial> {
    trials.iter().filter(|t| t.after == after).min_by(|a, b| a.loss.total_cmp(&b.loss))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::testing;

    #[test]
    fn validation_chooses_inputs_that_help() {
        let (train, validation) = (testing::dataset(2000, 3, 1), testing::dataset(1000, 3, 2));
        let trials = trials(&train, &validation, None).unwrap();
        let chosen = best(&trials).unwrap();
        assert!(chosen.after, "the labels depend on the state after");
        assert!(chosen.l2 < 1.0);
        assert!(chosen.loss <= best_of(&trials, false).unwrap().loss);
        let only = super::trials(&train, &validation, Some(false)).unwrap();
        assert!(only.iter().all(|t| !t.after));
    }
}
