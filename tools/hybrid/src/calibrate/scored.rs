//! The head's scores along the cloud LLM's answers.

use anyhow::{Context, Result};
use hybrid::bundle::RewardInfo;
use hybrid::reward::{Head, ScoreKind, statistics};
use hybrid::session::Model;

use super::scaling::{Scaling, log_odds};
use hybrid_common::answers::case::Bench;
use hybrid_common::heads::calibration::{calibration, threshold};
use hybrid_common::heads::dataset::Dataset;
use hybrid_common::heads::platt::platt;
use hybrid_common::progress::Steps;
use hybrid_common::prompts::Prompt;
use hybrid_common::records::record::Record;

/// Scores with their labels. Prompts are numbered in an order that knows nothing of them.
#[derive(Default)]
pub struct Scored {
    pub scores: Vec<f64>,
    /// Without features.
    pub labels: Dataset,
}

impl Scored {
    pub fn of_prompts(bench: &Bench, prompts: &[Prompt]) -> Result<Scored> {
        let mut scored = Scored::default();
        let bar = Steps::new("answers", prompts.len() as u64);
        for prompt in prompts {
            let positions = bench.case(prompt)?.positions(ScoreKind::Head)?;
            scored.push(positions.iter().map(|at| (at.score.into(), at.agrees)));
            bar.add(1);
        }
        Ok(scored)
    }

    pub fn of_records(records: &[Record], head: &mut Head, model: &Model) -> Result<Scored> {
        let mut scored = Scored::default();
        for record in records {
            let mut data = Dataset::new(model.slm.hidden_size());
            data.push(record, |id| model.tokens.is_stop(id));
            let mut rows = Vec::new();
            for (row, &agrees) in data.agrees.iter().enumerate() {
                let (stats, hidden) = data
                    .row(row)
                    .split_first_chunk::<{ statistics::COUNT }>()
                    .context("a short row")?;
                let (before, after) = hidden.split_at(data.hidden_size);
                rows.push((head.run(before, Some(after), stats)?.into(), agrees == 1.0));
            }
            scored.push(rows.into_iter());
        }
        Ok(scored)
    }

    /// Appends one more prompt's.
    fn push(&mut self, rows: impl Iterator<Item = (f64, bool)>) {
        let prompt = self.labels.prompts.last().map_or(0, |last| last + 1);
        for (score, agrees) in rows {
            self.scores.push(score);
            self.labels.agrees.push(f64::from(u8::from(agrees)));
            self.labels.prompts.push(prompt);
        }
    }

    /// The prompts of even or of odd numbers.
    pub fn half(&self, odd: bool) -> Scored {
        let mut half = Scored::default();
        let rows: Vec<usize> = (0..self.scores.len()).collect();
        let of_prompt = rows.chunk_by(|&a, &b| self.labels.prompts[a] == self.labels.prompts[b]);
        for rows in of_prompt.skip(usize::from(odd)).step_by(2) {
            half.push(rows.iter().map(|&row| (self.scores[row], self.labels.agrees[row] == 1.0)));
        }
        half
    }

    /// The scaling with which the scores fit the labels best.
    pub fn scaling(&self) -> Result<Scaling> {
        let log_odds: Vec<f64> = self.scores.iter().map(|&score| log_odds(score)).collect();
        let (scale, shift) = platt(&log_odds, &self.labels.agrees)?;
        Ok(Scaling { scale, shift })
    }

    pub fn scaled(&self, scaling: Scaling) -> Vec<f64> {
        self.scores.iter().map(|&score| scaling.apply(score)).collect()
    }

    /// The head's description with a table of these scores, scaled, in the place of its own.
    pub fn calibrated(&self, head: &RewardInfo, scaling: Scaling) -> RewardInfo {
        let (calibration, measured) = calibration(&self.scaled(scaling), &self.labels);
        RewardInfo { calibration, measured: Some(measured), ..head.clone() }
    }

    /// Share of the scores under a threshold.
    pub fn share_under(&self, threshold: f64) -> f64 {
        let under = self.scores.iter().filter(|&&score| score < threshold).count();
        under as f64 / self.scores.len().max(1) as f64
    }

    /// How far a share that is asked for and the one obtained are apart, in 95 of 100 cases, when
    /// the threshold is from so many prompts and as many others are asked. Prompts are what is
    /// drawn.
    pub fn distance(&self, share: f64) -> f64 {
        let limit = f64::from(threshold(&self.scores, share));
        let share = self.share_under(limit);
        let rows: Vec<usize> = (0..self.scores.len()).collect();
        let of_prompt = rows.chunk_by(|&a, &b| self.labels.prompts[a] == self.labels.prompts[b]);
        let squares: f64 = of_prompt
            .map(|rows| {
                let under = rows.iter().filter(|&&row| self.scores[row] < limit).count();
                (under as f64 - share * rows.len() as f64).powi(2)
            })
            .sum();
        1.96 * (2.0 * squares).sqrt() / self.scores.len().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(prompts: usize, of_prompt: impl Fn(usize, usize) -> (f64, bool)) -> Scored {
        let mut scored = Scored::default();
        (0..prompts).for_each(|p| scored.push((0..10).map(|row| of_prompt(p, row))));
        scored
    }

    #[test]
    fn halves_have_every_second_prompt() {
        let all = scored(5, |p, row| (p as f64 + row as f64 / 10.0, row != 0));
        let (even, odd) = (all.half(false), all.half(true));
        assert_eq!((even.labels.prompt_count(), odd.labels.prompt_count()), (3, 2));
        assert_eq!((even.scores[10], odd.scores[10], odd.scores[19]), (2.0, 3.0, 3.9));
        assert_eq!((even.labels.disagreements(), odd.labels.agrees[10]), (3, 0.0));
    }

    #[test]
    fn scores_alike_within_a_prompt_are_further_apart() {
        // One score in five is low: two of every prompt, or all of every fifth.
        let alike = scored(100, |p, _| (if p % 5 == 0 { 0.1 } else { 0.9 }, true));
        let spread = scored(100, |_, row| (if row < 2 { 0.1 } else { 0.9 }, true));
        for all in [&alike, &spread] {
            assert!((all.share_under(0.5) - 0.2).abs() < 1e-12);
        }
        // The standard deviation of a mean of 100 times 0 or 1.
        let want = 1.96 * (2.0f64 * 0.2 * 0.8 / 100.0).sqrt();
        assert!((alike.distance(0.2) - want).abs() < 1e-9, "{}", alike.distance(0.2));
        assert_eq!(spread.distance(0.2), 0.0);
    }
}
