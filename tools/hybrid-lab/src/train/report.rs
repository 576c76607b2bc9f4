//! Figures of heads and built-in scores, as a table and as JSON.

use std::fmt;

use serde::Serialize;

use super::head::Head;
use hybrid_common::heads::dataset::Dataset;
use hybrid_common::heads::metrics;

/// Shares of cloud tokens at which recall is given.
const SHARES: [f64; 4] = [0.05, 0.1, 0.2, 0.3];
const SEED: u64 = 1;

/// One score on one set of rows.
#[derive(Debug, Serialize)]
pub struct Figures {
    pub score: String,
    pub auc: f64,
    /// Share of disagreements caught when 5, 10, 20 and 30 % of the tokens come from the cloud.
    pub recall: [f64; 4],
    /// Share of prompts with every disagreement caught at 20 %.
    pub whole_prompts: f64,
    /// `None` for scores that are no probabilities of agreement.
    pub calibration_error: Option<f64>,
}

impl Figures {
    pub fn of(name: &str, scores: &[f64], data: &Dataset, is_probability: bool) -> Figures {
        Figures {
            score: name.into(),
            auc: metrics::auc(scores, &data.agrees),
            recall: SHARES.map(|share| metrics::recall(scores, &data.agrees, share)),
            whole_prompts: metrics::whole_prompts(scores, data, 0.2),
            calibration_error: is_probability
                .then(|| metrics::calibration_error(scores, &data.agrees)),
        }
    }
}

/// The built-in scores. Their ranking is all that counts, so any rising function of them will do.
pub fn builtin(data: &Dataset) -> Vec<(&'static str, Vec<f64>)> {
    let falling = |values: Vec<f64>| values.into_iter().map(|v| -v).collect();
    vec![
        ("max-probability", data.statistic("p")),
        ("margin", data.statistic("margin")),
        ("entropy", falling(data.statistic("entropy"))),
    ]
}

/// 95 % intervals of what `scores` gain over `baseline`, by resampling prompts.
#[derive(Debug, Serialize)]
pub struct Gain {
    pub over: &'static str,
    pub auc: (f64, f64),
    pub recall_at_10: (f64, f64),
    pub recall_at_20: (f64, f64),
}

impl Gain {
    pub fn of(scores: &[f64], over: &'static str, baseline: &[f64], data: &Dataset) -> Gain {
        let interval = |figure: fn(&[f64], &[f64]) -> f64| {
            metrics::interval(data, SEED, |rows| {
                let pick = |values: &[f64]| rows.iter().map(|&r| values[r]).collect::<Vec<_>>();
                let agrees = pick(&data.agrees);
                figure(&pick(scores), &agrees) - figure(&pick(baseline), &agrees)
            })
        };
        Gain {
            over,
            auc: interval(metrics::auc),
            recall_at_10: interval(|scores, agrees| metrics::recall(scores, agrees, 0.1)),
            recall_at_20: interval(|scores, agrees| metrics::recall(scores, agrees, 0.2)),
        }
    }
}

/// Figures of heads by the tokens that they were fitted to, as a table.
pub fn curve(points: &[(usize, Figures)]) -> String {
    let mut text = "tokens fitted    AUC  at 5 %    10 %    20 %    30 %\n".to_owned();
    for (tokens, figures) in points {
        let recall = figures.recall.map(|recall| format!("{recall:8.3}")).concat();
        text += &format!("{tokens:13}{:7.3}{recall}\n", figures.auc);
    }
    text
}

/// A head beside the built-in scores.
#[derive(Debug, Serialize)]
pub struct Report {
    pub figures: Vec<Figures>,
    pub gain_95: Vec<Gain>,
}

impl Report {
    pub fn of(head: &Head, data: &Dataset) -> Report {
        let scores = head.probabilities(data);
        let mut figures = vec![Figures::of("head", &scores, data, true)];
        let builtin = builtin(data);
        figures.extend(builtin.iter().map(|(name, s)| Figures::of(name, s, data, false)));
        let gain_95 = builtin.iter().map(|(name, s)| Gain::of(&scores, name, s, data)).collect();
        Report { figures, gain_95 }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&table(&self.figures))?;
        for gain in &self.gain_95 {
            let [auc, at_10, at_20] = [gain.auc, gain.recall_at_10, gain.recall_at_20]
                .map(|(low, high)| format!("{low:+.3} to {high:+.3}"));
            writeln!(
                f,
                "95 % of resamples gain over {}: AUC {auc}, at 10 % {at_10}, at 20 % {at_20}",
                gain.over
            )?;
        }
        Ok(())
    }
}

/// A table for people.
pub fn table(figures: &[Figures]) -> String {
    let mut text = format!(
        "{:24}{:>7}{:>8}{:>8}{:>8}{:>8}{:>9}{:>13}\n",
        "score", "AUC", "at 5 %", "10 %", "20 %", "30 %", "whole", "calibration"
    );
    for row in figures {
        let recall = row.recall.map(|recall| format!("{recall:8.3}")).concat();
        let error = row.calibration_error.map_or("-".into(), |e| format!("{e:.4}"));
        text += &format!(
            "{:24}{:7.3}{recall}{:9.3}{error:>13}\n",
            row.score, row.auc, row.whole_prompts
        );
    }
    text
}
