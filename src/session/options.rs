//! How a session is set up.

use std::time::Duration;

use crate::bundle::RewardInfo;
use crate::controller::Hold;
use crate::error::{Error, Result};
use crate::policy::{Budget, Mode, Policy};
use crate::reward::{ScoreKind, Threshold};
use crate::sampler::SamplerOptions;
use crate::slm::kernels::logits::TOP;

const MAX_BURST: u32 = 1024;
const MAX_RESCUE: u32 = TOP as u32 - 1;
/// Searched one by one for every candidate, which reads a megabyte at most.
const MAX_CORRECTIONS: u32 = 1 << 14;
const MAX_CORRECTION_SUFFIX: u32 = 1024;
const MAX_DEADLINE: Duration = Duration::from_secs(600);
/// With the token before them they are as many as one pass over the weights pays for.
const MAX_DRAFT: u32 = 7;
const MAX_STOP_STRINGS: usize = 64;
const MAX_STOP_STRING_BYTES: usize = 1024;

/// How a session generates and when it asks the cloud.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    pub mode: Mode,
    /// Candidates that score under it are weak. A share or a guarantee is for hybrid mode only.
    pub threshold: Threshold,
    /// Moves the threshold while the session goes on, so that this is held; in hybrid mode, without a
    /// guarantee. `threshold` is where it begins: by default where the calibration expects the share.
    pub hold: Option<Hold>,
    /// Once spent, candidates are kept, marked as fallback. A consult that has begun may overshoot it.
    pub budget: Budget,
    /// Tokens taken from one consult at most, 1 to 1024.
    pub burst: u32,
    /// Compares bursts with what the SLM proposes: a token of a burst that is the SLM's candidate, and
    /// scores at the threshold or over, counts as the SLM's own. Greedily, no text changes by it. In hybrid
    /// mode.
    pub hand_back: bool,
    /// Before a consult, so many of the most likely tokens but the candidate are scored, 0 (off) to 7, and
    /// the best one is taken if it reaches the threshold (after Q*, arXiv:2406.14283). In hybrid mode, with a
    /// reward head.
    pub rescue: u32,
    /// Answers of consults that are remembered, 0 (off) to 16384; those used longest ago are forgotten. A
    /// consult in a place where one was answered before is answered by that, without the cloud, a
    /// budget or the network. A place is the candidate and the ids before it.
    pub correction_cache: u32,
    /// So many ids before the candidate must be the same, 1 to 1024. What comes before them may differ, and
    /// the answer may then be wrong: fewer ids find more answers, and more wrong ones.
    pub correction_suffix: u32,
    /// The whole consult, connection and TLS included: over 0, at most ten minutes.
    pub consult_deadline: Duration,
    /// Computed in hybrid mode only.
    pub score: ScoreKind,
    pub sampler: SamplerOptions,
    /// Tokens to draft ahead at most, 0 (off) to 7; not with plain exports. A draft is what followed
    /// the last tokens where the context had them before, prompt included; the SLM consumes it in one
    /// batch with the token it begins after, and what does not come true is rewound. Tokens, scores
    /// and decisions are the same to the last bit. Text that repeats the context is faster; rows of
    /// logits take 7 × vocabulary × 4 bytes more.
    pub draft: u32,
    /// Tokens of context; 0: the model's limit.
    pub context: usize,
    /// Generation stops before the first of these strings would be complete. At most 64 strings of
    /// 1 to 1024 bytes.
    pub stop_strings: Vec<String>,
}

impl Default for SessionOptions {
    fn default() -> Self {
        SessionOptions {
            mode: Mode::default(),
            threshold: Threshold::Default,
            hold: None,
            budget: Budget::default(),
            burst: 1,
            hand_back: false,
            rescue: 0,
            correction_cache: 0,
            correction_suffix: 32,
            consult_deadline: Duration::from_secs(2),
            score: ScoreKind::default(),
            sampler: SamplerOptions::default(),
            draft: 0,
            context: 0,
            stop_strings: Vec::new(),
        }
    }
}

impl SessionOptions {
    /// The policy, once every option is in its range; `Err(InvalidArgument)` names the one that is not.
    /// `reward`: the calibration of the score in use. Other errors: those of [`Threshold::resolve`].
    pub(super) fn policy(&self, reward: Option<&RewardInfo>) -> Result<Policy> {
        let compares_scores = self.hold.is_some()
            || self.hand_back
            || self.rescue > 0
            || matches!(self.threshold, Threshold::Share(_) | Threshold::Guarantee(_));
        ensure(self.mode == Mode::Hybrid || !compares_scores, || {
            "a share, a guarantee, a held budget, handing back and rescue are for the mode hybrid; no \
             other mode compares scores"
                .into()
        })?;
        let threshold = self.first_threshold(reward)?;
        ensure((1..=MAX_BURST).contains(&self.burst), || {
            format!("burst is {}, but must be 1 to {MAX_BURST}", self.burst)
        })?;
        ensure(self.rescue <= MAX_RESCUE, || {
            format!("rescue is {}, but must be 0 to {MAX_RESCUE}", self.rescue)
        })?;
        ensure(self.correction_cache <= MAX_CORRECTIONS, || {
            format!(
                "correction_cache is {}, but must be 0 to {MAX_CORRECTIONS}",
                self.correction_cache
            )
        })?;
        ensure((1..=MAX_CORRECTION_SUFFIX).contains(&self.correction_suffix), || {
            format!(
                "correction_suffix is {}, but must be 1 to {MAX_CORRECTION_SUFFIX}",
                self.correction_suffix
            )
        })?;
        let deadline = self.consult_deadline;
        ensure(!deadline.is_zero() && deadline <= MAX_DEADLINE, || {
            format!("consult_deadline is {deadline:?}, but must be over 0 and at most 10 minutes")
        })?;
        ensure(self.draft <= MAX_DRAFT, || {
            format!("draft is {}, but must be 0 to {MAX_DRAFT}", self.draft)
        })?;
        ensure(self.stop_strings.len() <= MAX_STOP_STRINGS, || {
            format!("{} stop strings; {MAX_STOP_STRINGS} at most", self.stop_strings.len())
        })?;
        for stop in &self.stop_strings {
            ensure((1..=MAX_STOP_STRING_BYTES).contains(&stop.len()), || {
                format!("a stop string has {} bytes; 1 to {MAX_STOP_STRING_BYTES}", stop.len())
            })?;
        }
        Ok(Policy { mode: self.mode, threshold, budget: self.budget, burst: self.burst })
    }

    fn first_threshold(&self, reward: Option<&RewardInfo>) -> Result<f32> {
        if let Some(hold) = self.hold {
            hold.check()?;
            ensure(!matches!(self.threshold, Threshold::Guarantee(_)), || {
                "a guarantee fixes the threshold, a held budget moves it: ask for one of them"
                    .into()
            })?;
        }
        match (self.hold, self.threshold) {
            (Some(Hold::Share(share)), Threshold::Default) if reward.is_some() => {
                Threshold::Share(share).resolve(reward)
            }
            _ => self.threshold.resolve(reward),
        }
    }
}

fn ensure(ok: bool, text: impl FnOnce() -> String) -> Result<()> {
    if ok { Ok(()) } else { Err(Error::InvalidArgument(text())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reward::Guarantee;

    #[test]
    fn ranges() {
        type Change = fn(&mut SessionOptions);
        let with = |change: Change| {
            let mut options = SessionOptions::default();
            change(&mut options);
            options.policy(None).map_err(|e| e.to_string())
        };
        let bad: &[(&str, Change)] = &[
            ("threshold", |o| o.threshold = Threshold::At(f32::NAN)),
            ("mode hybrid", |o| {
                (o.mode, o.threshold) = (Mode::LocalOnly, Threshold::Share(0.2));
            }),
            ("mode hybrid", |o| (o.mode, o.hold) = (Mode::CloudFirst, Some(Hold::Share(0.2)))),
            ("mode hybrid", |o| (o.mode, o.hand_back) = (Mode::CloudFirst, true)),
            ("share to hold", |o| o.hold = Some(Hold::Share(1.0))),
            ("one of them", |o| {
                o.hold = Some(Hold::Share(0.2));
                o.threshold = Threshold::Guarantee(Guarantee::OnAverage { risk: 0.1 });
            }),
            ("burst", |o| o.burst = 0),
            ("burst", |o| o.burst = 1025),
            ("rescue", |o| o.rescue = 8),
            ("correction_cache", |o| o.correction_cache = 16385),
            ("correction_suffix", |o| o.correction_suffix = 0),
            ("correction_suffix", |o| o.correction_suffix = 1025),
            ("mode hybrid", |o| (o.mode, o.rescue) = (Mode::LocalOnly, 1)),
            ("consult_deadline", |o| o.consult_deadline = Duration::ZERO),
            ("consult_deadline", |o| o.consult_deadline = Duration::MAX),
            ("draft", |o| o.draft = 8),
            ("stop strings", |o| o.stop_strings = vec!["x".into(); 65]),
            ("stop string", |o| o.stop_strings = vec!["x".into(), String::new()]),
            ("stop string", |o| o.stop_strings = vec!["x".repeat(1025)]),
        ];
        for (name, change) in bad {
            let error = with(*change).unwrap_err();
            assert!(error.contains(name), "{error}");
        }
        assert_eq!(with(|_| ()).unwrap().threshold, 0.5);
        assert_eq!(with(|o| o.threshold = Threshold::At(1.5)).unwrap().threshold, 1.5);
    }
}
