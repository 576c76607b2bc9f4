//! From what a session is asked for to its threshold, by the calibration that a bundle carries.

use crate::bundle::{CalibrationPoint, Measured, RewardInfo};
use crate::error::{Error, Result};

/// The threshold where a bundle has none for the score in use.
const WITHOUT_HEAD: f32 = 0.5;

/// Above every score: always consult.
const ALWAYS: f32 = 1.0 + f32::EPSILON;

/// What the threshold of a session is chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Threshold {
    /// The default of the bundle's reward head; 0.5 for another score.
    #[default]
    Default,
    /// This one, 0 or more; see [`crate::policy::Policy::threshold`].
    Value(f32),
    /// Under it lies this share of the candidates of the calibration data, over 0 and at most 1.
    Share(f32),
    /// See [`Guarantee`].
    Guarantee(Guarantee),
}

/// The lowest threshold, so the cheapest, with which few enough tokens differ from what the cloud
/// LLM would have written in the same place. What holds and what it takes is in `docs/deciding.md`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Guarantee {
    /// At most the share `risk` of all tokens, with this `confidence`; both between 0 and 1.
    Confident { risk: f32, confidence: f32 },
    /// On average at most the share `risk` of a prompt's tokens, between 0 and 1.
    OnAverage { risk: f32 },
}

impl Threshold {
    /// The threshold by `reward`, the calibration of the score in use.
    ///
    /// Errors: [`Error::InvalidArgument`] for a number out of its range and a guarantee that the
    /// calibration cannot give, [`Error::Unsupported`] where there is no calibration for it.
    pub fn resolve(self, reward: Option<&RewardInfo>) -> Result<f32> {
        match self {
            Threshold::Default => {
                Ok(reward.map_or(WITHOUT_HEAD, |reward| reward.default_threshold))
            }
            // Also false for NaN.
            Threshold::Value(threshold) if threshold >= 0.0 => Ok(threshold),
            Threshold::Value(threshold) => {
                Err(invalid(format!("threshold is {threshold}, but must be 0 or more")))
            }
            Threshold::Share(share) if share > 0.0 && share <= 1.0 => {
                Ok(at_share(&table(reward)?.calibration, share))
            }
            Threshold::Share(share) => Err(invalid(format!(
                "the share of cloud tokens is {share}, but must be over 0 and at most 1"
            ))),
            Threshold::Guarantee(guarantee) => guarantee.threshold(table(reward)?),
        }
    }
}

fn table(reward: Option<&RewardInfo>) -> Result<&RewardInfo> {
    reward.filter(|reward| !reward.calibration.is_empty()).ok_or_else(|| {
        Error::Unsupported(
            "a share or a guarantee needs the calibration of the reward head: there is none for \
             this score; give a threshold, or a bundle with a head and the score `head`"
                .into(),
        )
    })
}

/// Linear between the points of the table.
fn at_share(points: &[CalibrationPoint], share: f32) -> f32 {
    let mut below = (0.0, 0.0);
    for above in points.iter().map(|point| (point.share, point.threshold)).chain([(1.0, ALWAYS)]) {
        if share <= above.0 {
            let part = (share - below.0) / (above.0 - below.0).max(f32::MIN_POSITIVE);
            return below.1 + part * (above.1 - below.1);
        }
        below = above;
    }
    ALWAYS
}

impl Guarantee {
    /// The points are tried from the highest threshold, which leaves the fewest errors, down to the
    /// first that fails (fixed-sequence testing). Errors only grow on the way, so a threshold that
    /// is too low is reached only if the lowest one that is right, the same for all data, was
    /// passed by mistake: the chance of that is the chance of one test, however many are tried.
    fn threshold(self, reward: &RewardInfo) -> Result<f32> {
        self.check()?;
        let measured = reward.measured.as_ref().ok_or_else(|| {
            Error::Unsupported(
                "a guarantee needs the counts of the calibration, which this bundle's table lacks; \
                 `hybrid-lab train` writes them"
                    .into(),
            )
        })?;
        let passed = reward.calibration.iter().rev().take_while(|p| self.holds(measured, p));
        match (passed.last(), reward.calibration.last()) {
            (Some(point), _) => Ok(point.threshold),
            (None, strictest) => {
                let best = strictest.map_or(1.0, |point| self.lowest_risk(measured, point));
                Err(self.unreachable(measured, best))
            }
        }
    }

    fn check(self) -> Result<()> {
        let (risk, confidence) = match self {
            Guarantee::Confident { risk, confidence } => (risk, confidence),
            Guarantee::OnAverage { risk } => (risk, 0.5),
        };
        for (name, value) in [("risk", risk), ("confidence", confidence)] {
            if !(value > 0.0 && value < 1.0) {
                let text = format!("a guarantee's {name} is {value}, but must be between 0 and 1");
                return Err(invalid(text));
            }
        }
        Ok(())
    }

    /// The point keeps the guarantee.
    fn holds(self, measured: &Measured, point: &CalibrationPoint) -> bool {
        match self {
            // The upper bound of Clopper and Pearson is the p for which this probability is 1 −
            // confidence, and the probability falls with p: the bound itself is not needed.
            Guarantee::Confident { risk, confidence } => {
                let (errors, trials) = independent(measured, point);
                ln_at_most(errors, trials, risk.into()) <= (-f64::from(confidence)).ln_1p()
            }
            Guarantee::OnAverage { risk } => on_average(measured, point) <= risk.into(),
        }
    }

    /// The lowest risk with which the point keeps the guarantee.
    fn lowest_risk(self, measured: &Measured, point: &CalibrationPoint) -> f64 {
        let Guarantee::Confident { confidence, .. } = self else {
            return on_average(measured, point);
        };
        let (errors, trials) = independent(measured, point);
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..50 {
            let middle = (low + high) / 2.0;
            if ln_at_most(errors, trials, middle) <= (-f64::from(confidence)).ln_1p() {
                high = middle;
            } else {
                low = middle;
            }
        }
        high
    }

    fn unreachable(self, measured: &Measured, best: f64) -> Error {
        let (Guarantee::Confident { risk, .. } | Guarantee::OnAverage { risk }) = self;
        invalid(format!(
            "no threshold guarantees a risk of {risk}: the calibration, {} tokens of {} prompts, \
             gives {best:.5} at best; ask for less, or train with more validation prompts",
            measured.tokens, measured.prompts
        ))
    }
}

/// Kept tokens that are not the cloud LLM's, and tokens in all, as so many independent ones.
fn independent(measured: &Measured, point: &CalibrationPoint) -> (u32, u32) {
    let effect = f64::from(measured.design_effect);
    // An integer again: `recall` was a quotient of integers that f32 can hold.
    let kept = (f64::from(measured.disagreements) * (1.0 - f64::from(point.recall))).round();
    ((kept / effect).ceil() as u32, (f64::from(measured.tokens) / effect) as u32)
}

/// The bound of conformal risk control for a loss of at most 1. Prompts are what is exchangeable.
fn on_average(measured: &Measured, point: &CalibrationPoint) -> f64 {
    let prompts = f64::from(measured.prompts);
    (prompts * f64::from(point.risk.unwrap_or(1.0)) + 1.0) / (prompts + 1.0)
}

/// ln P[X ≤ k] for a binomial X of `n` trials with probability `p`, between 0 and 1.
fn ln_at_most(k: u32, n: u32, p: f64) -> f64 {
    let (k, n) = (f64::from(k), f64::from(n));
    if k >= n {
        return 0.0;
    }
    let ln_odds = p.ln() - (-p).ln_1p();
    let mut term = n * (-p).ln_1p();
    let (mut sum, mut i) = (term, 0.0);
    while i < k {
        term += ((n - i) / (i + 1.0)).ln() + ln_odds;
        sum = sum.max(term) + (-(sum - term).abs()).exp().ln_1p();
        i += 1.0;
    }
    sum
}

fn invalid(text: String) -> Error {
    Error::InvalidArgument(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reward::builtin::Uniform;
    use Threshold::{Default, Share, Value};

    /// 1000 tokens, 100 disagreements; errors left: 100, 40, 10, 1.
    fn reward(design_effect: f32) -> RewardInfo {
        let point = |threshold, share, recall, risk| CalibrationPoint {
            threshold,
            share,
            recall,
            risk: Some(risk),
        };
        RewardInfo {
            after: false,
            cloud_model: String::new(),
            provenance: String::new(),
            default_threshold: 0.25,
            calibration: vec![
                point(0.1, 0.05, 0.0, 0.1),
                point(0.3, 0.1, 0.6, 0.04),
                point(0.5, 0.2, 0.9, 0.01),
                point(0.9, 0.6, 0.99, 0.001),
            ],
            measured: Some(Measured {
                prompts: 50,
                tokens: 1000,
                disagreements: 100,
                design_effect,
            }),
        }
    }

    fn confident(risk: f32, confidence: f32) -> Threshold {
        Threshold::Guarantee(Guarantee::Confident { risk, confidence })
    }

    fn on_average(risk: f32) -> Threshold {
        Threshold::Guarantee(Guarantee::OnAverage { risk })
    }

    #[test]
    fn thresholds_by_what_is_asked() {
        let reward = reward(1.0);
        let rows = [
            (Default, 0.25),
            (Value(0.0), 0.0),
            (Value(1.5), 1.5),
            (Share(0.025), 0.05),
            (Share(0.05), 0.1),
            (Share(0.075), 0.2),
            (Share(0.1), 0.3),
            (Share(0.4), 0.7),
            (Share(0.8), 0.95),
            (Share(1.0), ALWAYS),
            // The upper bounds, from the tail summed with log-gamma functions: .116992, .051753,
            // .016903, .004735
            (confident(0.1171, 0.95), 0.1),
            (confident(0.1169, 0.95), 0.3),
            (confident(0.0518, 0.95), 0.3),
            (confident(0.0517, 0.95), 0.5),
            (confident(0.0170, 0.95), 0.5),
            (confident(0.0169, 0.95), 0.9),
            (confident(0.0048, 0.95), 0.9),
            // (50 risk + 1) / 51: .117647, .058824, .029412, .020588
            (on_average(0.118), 0.1),
            (on_average(0.117), 0.3),
            (on_average(0.059), 0.3),
            (on_average(0.0584), 0.5),
            (on_average(0.0294), 0.9),
            (on_average(0.0206), 0.9),
        ];
        for (asked, want) in rows {
            let got = asked.resolve(Some(&reward)).unwrap();
            assert!((got - want).abs() < 1e-6, "{asked:?}: {got} is not {want}");
        }
        assert_eq!(Default.resolve(None).unwrap(), 0.5);
        assert_eq!(Value(0.7).resolve(None).unwrap(), 0.7);
    }

    /// Errors that come together make fewer trials: 5 errors of 500 instead of 10 of 1000.
    #[test]
    fn dependence_widens_the_bound() {
        // The upper bound for 5 of 500 is .020910.
        for (risk, want) in [(0.0210, 0.5), (0.0208, 0.9)] {
            assert_eq!(confident(risk, 0.95).resolve(Some(&reward(2.0))).unwrap(), want, "{risk}");
        }
    }

    #[test]
    fn what_cannot_be_had_says_why() {
        let (full, mut bare) = (reward(1.0), reward(1.0));
        bare.measured = None;
        let empty = RewardInfo { calibration: Vec::new(), ..reward(1.0) };
        let rows = [
            (Value(-0.01), Some(&full), "threshold is -0.01"),
            (Value(f32::NAN), Some(&full), "threshold is NaN"),
            (Share(0.0), Some(&full), "share of cloud tokens is 0"),
            (Share(1.01), Some(&full), "share of cloud tokens is 1.01"),
            (Share(f32::NAN), Some(&full), "share of cloud tokens is NaN"),
            (Share(0.2), None, "needs the calibration"),
            (Share(0.2), Some(&empty), "needs the calibration"),
            (confident(0.1, 0.9), None, "needs the calibration"),
            (confident(0.1, 0.9), Some(&bare), "lacks"),
            (confident(0.0, 0.9), Some(&full), "risk is 0"),
            (confident(0.1, 1.0), Some(&full), "confidence is 1"),
            (confident(0.1, f32::NAN), Some(&full), "confidence is NaN"),
            (on_average(1.0), Some(&full), "risk is 1"),
            (confident(0.004, 0.95), Some(&full), "gives 0.00473 at best"),
            (on_average(0.02), Some(&full), "gives 0.02059 at best"),
        ];
        for (asked, reward, want) in rows {
            let text = asked.resolve(reward).unwrap_err().to_string();
            assert!(text.contains(want), "{want:?} not in {text:?}");
        }
    }

    #[test]
    fn binomial_tails() {
        let rows = [
            (0, 10, 0.5, 10.0 * 0.5f64.ln()),
            (2, 10, 0.5, (56.0f64 / 1024.0).ln()),
            (9, 10, 0.5, (1023.0f64 / 1024.0).ln()),
            (10, 10, 0.5, 0.0),
            (0, 0, 0.5, 0.0),
        ];
        for (k, n, p, want) in rows {
            let got = ln_at_most(k, n, p);
            assert!((got - want).abs() < 1e-9, "{k} of {n} at {p}: {got} is not {want}");
        }
        // Far in the tail nothing underflows: ln P is about -n·KL(k/n ‖ p).
        let far = ln_at_most(10, 4_000_000, 0.5);
        assert!(far.is_finite() && far < -2.7e6, "{far}");
    }

    /// A guarantee breaks for at most the promised share of calibration sets, though the table
    /// is cut at thresholds that depend on the set.
    #[test]
    fn the_level_is_kept() {
        let (risk, confidence) = (0.05, 0.9);
        let mut uniform = Uniform::new(3);
        let (mut broken, mut chosen) = (0, 0);
        for _ in 0..400 {
            // A score s means a right token with probability s; scores are uniform.
            let mut draw = || uniform.draw();
            let row = |_| {
                let score = draw();
                (score, draw() < score)
            };
            let mut rows: Vec<(f32, bool)> = (0..500).map(row).collect();
            rows.sort_by(|a, b| a.0.total_cmp(&b.0));
            let info = calibrated(&rows);
            if let Ok(threshold) = confident(risk, confidence).resolve(Some(&info)) {
                chosen += 1;
                // Of all tokens, those kept and wrong: the integral of 1 - s from the threshold on.
                let left = (1.0 - threshold).powi(2) / 2.0;
                broken += usize::from(left > risk);
            }
        }
        assert!(chosen > 390, "{chosen}");
        // The expected number is under 40; its standard deviation is 6.
        assert!(broken <= 58, "{broken} of {chosen}");
        assert!(broken > 5, "the bound is too wide: {broken} of {chosen}");
    }

    /// A table at every tenth row of sorted scores with their agreement.
    fn calibrated(rows: &[(f32, bool)]) -> RewardInfo {
        let wrong = |rows: &[(f32, bool)]| rows.iter().filter(|row| !row.1).count();
        let all = wrong(rows);
        let calibration = (10..rows.len()).step_by(10).map(|at| CalibrationPoint {
            threshold: rows[at].0,
            share: at as f32 / rows.len() as f32,
            recall: wrong(&rows[..at]) as f32 / all as f32,
            risk: Some(wrong(&rows[at..]) as f32 / rows.len() as f32),
        });
        let measured = Measured {
            prompts: 50,
            tokens: rows.len() as u32,
            disagreements: all as u32,
            design_effect: 1.0,
        };
        RewardInfo { calibration: calibration.collect(), measured: Some(measured), ..reward(1.0) }
    }
}
