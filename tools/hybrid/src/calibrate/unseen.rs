//! What a calibration from one half of the prompts comes to on the other half.

use std::fmt;

use anyhow::Result;
use hybrid::bundle::RewardInfo;
use hybrid::reward::{ScoreKind, Threshold};

use super::scored::Scored;
use hybrid_common::answers::case::{Bench, Setting};
use hybrid_common::heads::metrics::calibration_error;
use hybrid_common::progress::Steps;
use hybrid_common::prompts::Prompt;

/// Shares of cloud tokens that are asked for.
const SHARES: [f32; 6] = [0.05, 0.1, 0.15, 0.2, 0.3, 0.4];

/// Both ways round.
pub struct Unseen {
    folds: [Fold; 2],
    /// Before and after scaling, mean of both ways.
    errors: [f64; 2],
    /// See [`Scored::distance`], at a fifth of the tokens.
    distance: f64,
}

/// Thresholds of one half, on the scale of the head as it is, and the shares that they bring on the
/// other.
struct Fold {
    thresholds: [f32; 6],
    along_answers: [f64; 6],
    in_sessions: Option<[f64; 6]>,
}

impl Unseen {
    /// `info`: the head that gave the scores.
    pub fn of(scored: &Scored, info: &RewardInfo) -> Result<Unseen> {
        let halves = [scored.half(false), scored.half(true)];
        let mut errors = [0.0; 2];
        let mut fold = |from: &Scored, on: &Scored| {
            let scaling = from.scaling()?;
            let table = from.calibrated(info, scaling);
            let mut thresholds = SHARES;
            for threshold in &mut thresholds {
                let scaled = Threshold::Share(*threshold).resolve(Some(&table))?;
                *threshold = scaling.invert(scaled.into()) as f32;
            }
            let error = |scores: &[f64]| calibration_error(scores, &on.labels.agrees) / 2.0;
            errors[0] += error(&on.scores);
            errors[1] += error(&on.scaled(scaling));
            let along_answers = thresholds.map(|threshold| on.share_under(threshold.into()));
            anyhow::Ok(Fold { thresholds, along_answers, in_sessions: None })
        };
        let folds = [fold(&halves[0], &halves[1])?, fold(&halves[1], &halves[0])?];
        Ok(Unseen { folds, errors, distance: scored.distance(0.2) })
    }

    /// Also runs the sessions. `prompts` are those of the scores, in their order.
    pub fn run_sessions(&mut self, bench: &Bench, prompts: &[Prompt]) -> Result<()> {
        let bar = Steps::new("sessions", prompts.len() as u64);
        for (fold, first) in self.folds.iter_mut().zip([1, 0]) {
            let (mut cloud, mut tokens) = ([0; 6], [0; 6]);
            for prompt in prompts.iter().skip(first).step_by(2) {
                let case = bench.case(prompt)?;
                for (at, &threshold) in fold.thresholds.iter().enumerate() {
                    let outcome = case.run(Setting::gated(ScoreKind::Head, threshold))?;
                    cloud[at] += outcome.cloud;
                    tokens[at] += outcome.tokens;
                }
                bar.add(1);
            }
            let share = |at: usize| cloud[at] as f64 / tokens[at].max(1) as f64;
            fold.in_sessions = Some(std::array::from_fn(share));
        }
        Ok(())
    }
}

impl fmt::Display for Unseen {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let [first, second] = &self.folds;
        writeln!(f, "share of cloud tokens on prompts held out, a half by the other's thresholds")?;
        write!(f, "{:>7}{:>12}{:>12}", "asked", "second half", "first half")?;
        let sessions = first.in_sessions.zip(second.in_sessions);
        writeln!(f, "{}", sessions.map_or("", |_| "     in sessions            "))?;
        for (at, share) in SHARES.iter().enumerate() {
            let percent = |share: f64| format!("{:10.1} %", 100.0 * share);
            let (a, b) = (first.along_answers[at], second.along_answers[at]);
            write!(f, "{:5.0} %{}{}", 100.0 * share, percent(a), percent(b))?;
            let sessions = sessions.map(|(a, b)| percent(a[at]) + &percent(b[at]));
            writeln!(f, "{}", sessions.unwrap_or_default())?;
        }
        writeln!(
            f,
            "asked for 20 %, as many prompts again obtain a share within {:.1} points, in 95 of \
             100 cases",
            100.0 * self.distance
        )?;
        let [before, after] = self.errors;
        writeln!(
            f,
            "calibration error on prompts held out: {before:.4} as it was, {after:.4} scaled"
        )
    }
}
