//! When the cloud is asked: gate, consult options and budget. They are checked together, as they
//! can contradict each other.

use std::time::Duration;

use super::settings::{ConsultOptions, Gate, ensure};
use crate::bundle::RewardInfo;
use crate::controller::{Controller, Hold};
use crate::error::{Error, Result};
use crate::policy::{Budget, Mode, Policy};
use crate::reward::{ScoreKind, Threshold};

/// The three settings as the caller gave them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Settings {
    pub gate: Gate,
    pub consult: ConsultOptions,
    pub budget: Budget,
}

/// Settings that agree with each other and with the score, and the threshold that comes of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    settings: Settings,
    score: ScoreKind,
    /// Where the threshold begins; without a held budget it stays there.
    start: f32,
    controller: Option<Controller>,
}

impl Rules {
    /// `score`: what the gate's score is with this bundle. `reward`: the bundle's calibration.
    ///
    /// Errors: [`Error::InvalidArgument`] for a number out of its range and for settings that
    /// contradict each other, [`Error::Unsupported`] for a rescue without a reward head, and those
    /// of [`Threshold::resolve`].
    pub fn new(settings: Settings, score: ScoreKind, reward: Option<&RewardInfo>) -> Result<Rules> {
        let Settings { gate, consult, budget } = settings;
        consult.check()?;
        if consult.rescue > 0 && score != ScoreKind::Head {
            return Err(Error::Unsupported(format!(
                "rescue with the score {score}: only a reward head can find another token better \
                 than the most likely one; set rescue to 0, or let the reward head score"
            )));
        }
        // A bundle is calibrated for its head; that means nothing for another score.
        let reward = reward.filter(|_| score == ScoreKind::Head);
        let start = first_threshold(gate.threshold, budget.hold, reward)?;
        let controller = budget.hold.map(|hold| Controller::new(hold, start));
        Ok(Rules { settings, score, start, controller })
    }

    /// The same with other settings. A held budget goes on where it is, unless another one is held,
    /// or from another threshold.
    ///
    /// Errors: as [`Rules::new`].
    pub fn with(
        &self,
        settings: Settings,
        score: ScoreKind,
        reward: Option<&RewardInfo>,
    ) -> Result<Rules> {
        let mut rules = Rules::new(settings, score, reward)?;
        let basis = |rules: &Rules| (rules.settings.budget.hold, rules.start, rules.score);
        if basis(&rules) == basis(self) {
            rules.controller = self.controller;
        }
        Ok(rules)
    }

    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// What the gate's score is with this bundle.
    pub fn score(&self) -> ScoreKind {
        self.score
    }

    /// The mode compares scores; elsewhere what needs them rests.
    pub fn compares_scores(&self) -> bool {
        self.settings.gate.mode == Mode::Hybrid
    }

    /// A candidate may turn out to be one that the cloud is asked about.
    pub fn may_consult(&self) -> bool {
        match self.settings.gate.mode {
            Mode::LocalOnly => false,
            Mode::Hybrid => self.threshold() > 0.0,
            Mode::CloudFirst => true,
        }
    }

    pub fn hands_back(&self) -> bool {
        self.compares_scores() && self.settings.consult.hand_back
    }

    /// Alternatives to try before a consult.
    pub fn rescue(&self) -> usize {
        if self.compares_scores() { self.settings.consult.rescue as usize } else { 0 }
    }

    pub fn threshold(&self) -> f32 {
        self.controller.map_or(self.start, |controller| controller.threshold())
    }

    pub fn policy(&self) -> Policy {
        Policy {
            mode: self.settings.gate.mode,
            threshold: self.threshold(),
            budget: self.settings.budget,
            burst: self.settings.consult.burst,
        }
    }

    /// What an hour may cost is spent.
    pub fn hour_spent(&self, now: Duration) -> bool {
        self.compares_scores() && self.controller.is_some_and(|c| c.is_spent(now))
    }

    /// Lets the controller, if there is one at work, move the threshold.
    pub fn control(&mut self, next: impl FnOnce(&Controller) -> Controller) {
        let compares_scores = self.compares_scores();
        if let Some(controller) = self.controller.as_mut().filter(|_| compares_scores) {
            *controller = next(controller);
        }
    }
}

fn first_threshold(
    threshold: Threshold,
    hold: Option<Hold>,
    reward: Option<&RewardInfo>,
) -> Result<f32> {
    let fixed = threshold.resolve(reward)?;
    let Some(hold) = hold else { return Ok(fixed) };
    hold.check()?;
    ensure(!matches!(threshold, Threshold::Guarantee(_)), || {
        "a guarantee fixes the threshold, a held budget moves it: set only one of the two".into()
    })?;
    ensure(fixed > 0.0, || {
        "with threshold 0 the library never asks the cloud, but a held budget would raise it: \
         set a threshold over 0 to begin with, or hold no budget"
            .into()
    })?;
    match (hold, threshold) {
        (Hold::Share(share), Threshold::Default) if reward.is_some() => {
            Threshold::Share(share as f32).resolve(reward)
        }
        _ => Ok(fixed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::Writer;
    use crate::reward::Guarantee;

    fn rules(change: impl FnOnce(&mut Settings)) -> Result<Rules> {
        let mut settings = Settings::default();
        change(&mut settings);
        Rules::new(settings, ScoreKind::Head, None)
    }

    #[test]
    fn what_contradicts_is_refused() {
        type Change = fn(&mut Settings);
        let bad: &[(&[&str], Change)] = &[
            (&["threshold is NaN"], |s| s.gate.threshold = Threshold::Value(f32::NAN)),
            (&["burst is 0"], |s| s.consult.burst = 0),
            (&["share to hold"], |s| s.budget.hold = Some(Hold::Share(1.0))),
            (&["threshold 0", "held budget"], |s| {
                s.gate.threshold = Threshold::Value(0.0);
                s.budget.hold = Some(Hold::Share(0.2));
            }),
            (&["threshold 0", "held budget"], |s| {
                s.gate.mode = Mode::LocalOnly;
                s.gate.threshold = Threshold::Value(-0.0);
                s.budget.hold = Some(Hold::Share(0.2));
            }),
        ];
        for (parts, change) in bad {
            let error = rules(change).unwrap_err().to_string();
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        }
        let mut settings = Settings::default();
        settings.consult.rescue = 1;
        let error = Rules::new(settings, ScoreKind::Margin, None).unwrap_err().to_string();
        assert!(error.contains("rescue with the score margin"), "{error}");
    }

    /// With a calibration: a guarantee and a bundle whose own threshold is 0.
    #[test]
    fn what_contradicts_a_calibration_is_refused() {
        let reward: RewardInfo = serde_json::from_str(
            r#"{"after":false,"cloud_model":"c","provenance":"p","default_threshold":0.0,
                "calibration":[{"threshold":0.4,"share":0.2,"recall":0.8,"risk":0.01}],
                "measured":{"prompts":1000,"tokens":100000,"disagreements":10,"design_effect":1}}"#,
        )
        .unwrap();
        let hold = Some(Hold::Share(0.35));
        let with = |threshold, hold| {
            let mut settings = Settings::default();
            (settings.gate.threshold, settings.budget.hold) = (threshold, hold);
            Rules::new(settings, ScoreKind::Head, Some(&reward)).map(|rules| rules.threshold())
        };
        let guarantee = Threshold::Guarantee(Guarantee::OnAverage { risk: 0.1 });
        assert!(with(guarantee, None).is_ok());
        for (threshold, part) in [(guarantee, "guarantee"), (Threshold::Default, "threshold 0")] {
            let error = with(threshold, hold).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("held budget"), "{error}");
        }
        assert_eq!(with(Threshold::Default, None).unwrap(), 0.0);
        assert_eq!(with(Threshold::Value(0.3), hold).unwrap(), 0.3);
    }

    #[test]
    fn a_held_budget_goes_on_while_it_is_the_same() {
        let held = |hold| move |s: &mut Settings| s.budget.hold = Some(Hold::Share(hold));
        let mut moved = rules(held(0.2)).unwrap();
        moved.control(|controller| controller.wrote(Duration::ZERO, Writer::Slm));
        let now = moved.threshold();
        assert!(now > 0.5);
        type Change = fn(&mut Settings);
        let rows: [(Change, f32); 6] = [
            (|s| s.budget.consults = Some(1), now),
            (|s| s.consult.burst = 4, now),
            (|s| s.gate.mode = Mode::LocalOnly, now),
            (|s| s.budget.hold = Some(Hold::Share(0.3)), 0.5),
            (|s| s.gate.threshold = Threshold::Value(0.7), 0.7),
            (|s| s.budget.hold = None, 0.5),
        ];
        for (row, (change, threshold)) in rows.into_iter().enumerate() {
            let mut settings = moved.settings();
            change(&mut settings);
            let changed = moved.with(settings, ScoreKind::Head, None).unwrap();
            assert!((changed.threshold() - threshold).abs() < 1e-6, "row {row}: {changed:?}");
        }
        let another = moved.with(moved.settings(), ScoreKind::Margin, None).unwrap();
        assert_eq!(another.threshold(), 0.5, "another score");
    }

    #[test]
    fn what_needs_scores_rests_in_other_modes() {
        for mode in [Mode::Hybrid, Mode::LocalOnly, Mode::CloudFirst] {
            let mut rules = rules(|s| {
                s.gate.mode = mode;
                (s.consult.hand_back, s.consult.rescue) = (true, 3);
                s.budget.hold = Some(Hold::Share(0.2));
            })
            .unwrap();
            let hybrid = mode == Mode::Hybrid;
            assert_eq!(rules.hands_back(), hybrid);
            assert_eq!(rules.rescue(), if hybrid { 3 } else { 0 });
            rules.control(|controller| controller.wrote(Duration::ZERO, Writer::Slm));
            assert_eq!(rules.threshold() > 0.5, hybrid);
        }
    }
}
