//! Session options
//!
//! How a session writes, and when it asks the cloud.

use std::ffi::c_char;
use std::time::Duration;

use super::boundary::{Result, enter};
use super::pointers::{self, bad};
use super::sized::{self, SizedStruct, end_of};
use super::status::hybrid_status;
use crate::controller::{Hold, Unit};
use crate::policy::{Budget, Mode};
use crate::reward::{Guarantee, ScoreKind, Threshold};
use crate::sampler::Sampling;
use crate::session::{ConsultOptions, CorrectionOptions, Gate, Session, SessionOptions};

/// Who may write.
pub type hybrid_mode = i32;

/// The SLM alone; no byte leaves the device.
pub const HYBRID_MODE_LOCAL_ONLY: hybrid_mode = 0;
/// The SLM, and the cloud LLM in place of candidates that score under the threshold.
pub const HYBRID_MODE_HYBRID: hybrid_mode = 1;
/// The cloud LLM for every token it can be asked for, the SLM for the others.
pub const HYBRID_MODE_CLOUD_FIRST: hybrid_mode = 2;

/// Which score the threshold is compared with. Every score is in 0..1; higher means keep.
pub type hybrid_score = i32;

/// The bundle's reward head, or HYBRID_SCORE_MAX_PROBABILITY where it has none.
pub const HYBRID_SCORE_AUTO: hybrid_score = 0;
/// The bundle's reward head; HYBRID_ERR_UNSUPPORTED where it has none.
pub const HYBRID_SCORE_HEAD: hybrid_score = 1;
/// The candidate's probability.
pub const HYBRID_SCORE_MAX_PROBABILITY: hybrid_score = 2;
/// The candidate's lead over the best other token.
pub const HYBRID_SCORE_MARGIN: hybrid_score = 3;
/// How far the SLM's distribution is from uniform.
pub const HYBRID_SCORE_ENTROPY: hybrid_score = 4;
/// A seeded random number, to compare the others with.
pub const HYBRID_SCORE_RANDOM: hybrid_score = 5;

/// What a session holds by moving its threshold after every token; see `hold_limit`. The first hour
/// begins with the session.
pub type hybrid_hold = i32;

/// Nothing: the threshold stays.
pub const HYBRID_HOLD_NONE: hybrid_hold = 0;
/// The cloud's share of the tokens, between 0 and 1.
pub const HYBRID_HOLD_SHARE: hybrid_hold = 1;
/// Consults an hour.
pub const HYBRID_HOLD_CALLS_PER_HOUR: hybrid_hold = 2;
/// Bytes sent and received an hour.
pub const HYBRID_HOLD_BYTES_PER_HOUR: hybrid_hold = 3;
/// The cost of an hour, by the prices of tokens.
pub const HYBRID_HOLD_MONEY_PER_HOUR: hybrid_hold = 4;

/// No limit.
pub const HYBRID_UNLIMITED: u64 = 0xffff_ffff_ffff_ffff;

/// The model's own threshold.
pub const HYBRID_THRESHOLD_DEFAULT: f32 = -1.0;

/// How a session generates. Everything is copied by hybrid_session_new.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct hybrid_session_options {
    pub struct_size: usize,
    /// Generation stops before one of these would be complete; its text is not handed out.
    /// At most 64 strings of 1 to 1024 bytes. Default: NULL.
    pub stop_strings: *const *const c_char,
    pub stop_string_count: usize,
    /// Tokens of context; 0: the model's limit. Default: 0.
    pub context: usize,
    /// Default: HYBRID_MODE_HYBRID (local only where the session has no cloud).
    pub mode: hybrid_mode,
    /// Computed in the mode HYBRID_MODE_HYBRID only. Default: HYBRID_SCORE_AUTO.
    pub score: hybrid_score,
    /// The cloud is consulted when score < threshold: 0 never, above 1 always.
    /// Default: HYBRID_THRESHOLD_DEFAULT.
    pub threshold: f32,
    /// Tokens taken from one consult at most, 1 to 1024. Default: 1.
    pub burst: u32,
    /// The whole consult must end within this time, connection and TLS included; then the SLM's
    /// token is kept. Milliseconds, 1 to 600000. Default: 2000.
    pub consult_deadline_ms: u32,
    /// 0 is greedy. Default: 0.
    pub temperature: f32,
    /// Consults of the session at most. Default: HYBRID_UNLIMITED.
    pub budget_calls: u64,
    /// Tokens taken from the cloud at most. Default: HYBRID_UNLIMITED.
    pub budget_tokens: u64,
    /// Bytes sent and received at most. Default: HYBRID_UNLIMITED.
    pub budget_bytes: u64,
    /// Draws with equal seeds are equal. Default: 0.
    pub seed: u64,
    /// Keep the k most likely tokens; 0 keeps all. Default: 0.
    pub top_k: u32,
    /// Keep the smallest set of tokens with this much probability; 1 keeps all. Default: 1.
    pub top_p: f32,
    /// Keep tokens with at least this share of the likeliest one's probability. Default: 0.
    pub min_p: f32,
    /// Makes recent tokens less likely; 1 is off. Default: 1.
    pub repetition_penalty: f32,
    /// How many recent tokens the penalty looks at. Default: 64.
    pub repetition_window: u32,
    /// Tokens to draft ahead at most, 0 (off) to 7: what followed the last tokens where the context had
    /// them before, prompt included, is computed in one batch with the next token. Tokens, scores and
    /// decisions stay the same to the last bit; text that repeats the context comes faster.
    /// HYBRID_ERR_UNSUPPORTED with a plain export. Default: 0.
    pub draft: u32,
    /// In place of `threshold`: the one under which this share of the tokens of the bundle's
    /// calibration scores, over 0 to 1. HYBRID_ERR_UNSUPPORTED where the score in use has no
    /// calibration. 0: not asked for. Default: 0.
    pub target_share: f32,
    /// In place of `threshold`: the lowest one with which at most this share of the tokens is another
    /// than the cloud LLM's in the same place, as far as every consult is answered. Between 0 and 1;
    /// HYBRID_ERR_INVALID_ARGUMENT, with the best that can be had, where the calibration is too
    /// small for it; HYBRID_ERR_UNSUPPORTED where there is none. 0: not asked for. Default: 0.
    pub guaranteed_risk: f32,
    /// Of the guarantee, between 0 and 1; 0: it holds on average over prompts. Default: 0.95.
    pub confidence: f32,
    /// Lets the threshold move so that `hold_limit` is held; `threshold` or `target_share` is then
    /// where it begins. In the mode HYBRID_MODE_HYBRID, without a guarantee. Default:
    /// HYBRID_HOLD_NONE.
    pub hold: hybrid_hold,
    /// The share, or how much an hour may cost, over 0. An hour's limit is exceeded by a part of one
    /// consult at most: once it is spent, candidates are kept as fallbacks. Default: 0.
    pub hold_limit: f64,
    /// For HYBRID_HOLD_MONEY_PER_HOUR, in the unit of `hold_limit`: one token of the prompt, as the
    /// server bills it. Default: 0.
    pub price_prompt_token: f64,
    /// The same for one token of the answer. Default: 0.
    pub price_token: f64,
    /// 1: the SLM reads bursts as they come, and a token of which it is sure by itself counts as its
    /// own. Greedily, no text changes by it. In the mode HYBRID_MODE_HYBRID. Default: 0.
    pub hand_back: i32,
    /// Before a consult, so many other tokens are scored, the most likely ones, 0 (off) to 7; the best is
    /// taken if it reaches the threshold. Each takes the SLM's time for a token. In the mode
    /// HYBRID_MODE_HYBRID; HYBRID_ERR_UNSUPPORTED for another score than a reward head's. Default: 0.
    pub rescue: u32,
    /// Answers of consults that are remembered, 0 (off) to 16384. What would be asked again, the same
    /// candidate after the same ids, is answered by them: HYBRID_SOURCE_CACHED. See
    /// hybrid_session_save_corrections. Default: 0.
    pub correction_cache: u32,
    /// So many ids before the candidate must be the same, 1 to 1024. What comes before them may differ, and
    /// the answer may then be wrong: fewer ids find more answers, and more wrong ones. Default: 32.
    pub correction_suffix: u32,
}

// SAFETY: C layout, plain numbers and pointers.
unsafe impl SizedStruct for hybrid_session_options {
    const NAME: &'static str = "hybrid_session_options";
    const FIRST: usize = end_of!(Self, draft);
    fn neutral() -> Self {
        hybrid_session_options {
            struct_size: size_of::<Self>(),
            stop_strings: std::ptr::null(),
            stop_string_count: 0,
            context: 0,
            mode: HYBRID_MODE_HYBRID,
            score: HYBRID_SCORE_AUTO,
            threshold: HYBRID_THRESHOLD_DEFAULT,
            burst: 1,
            consult_deadline_ms: 2000,
            temperature: 0.0,
            budget_calls: HYBRID_UNLIMITED,
            budget_tokens: HYBRID_UNLIMITED,
            budget_bytes: HYBRID_UNLIMITED,
            seed: 0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            repetition_window: 64,
            draft: 0,
            target_share: 0.0,
            guaranteed_risk: 0.0,
            confidence: 0.95,
            hold: HYBRID_HOLD_NONE,
            hold_limit: 0.0,
            price_prompt_token: 0.0,
            price_token: 0.0,
            hand_back: 0,
            rescue: 0,
            correction_cache: 0,
            correction_suffix: 32,
        }
    }
}

/// Sets the defaults. `struct_size` is `sizeof(hybrid_session_options)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_options_init(
    options: *mut hybrid_session_options,
    struct_size: usize,
) -> hybrid_status {
    // SAFETY: header rule *Structs that grow*.
    enter(|| unsafe { sized::init(options, struct_size, "options") })
}

impl hybrid_session_options {
    /// The checked form of the core, which checks the ranges.
    ///
    /// # Safety
    /// Header rules *Pointers* and *Strings*, for `stop_strings`.
    pub(super) unsafe fn parse(&self) -> Result<Parsed> {
        let (strings, count) = (self.stop_strings, self.stop_string_count);
        // SAFETY: header rule *Pointers*.
        let strings = unsafe { pointers::slice(strings, count, "options.stop_strings") }?;
        Ok(Parsed {
            birth: SessionOptions {
                context: self.context,
                stop_strings: strings
                    .iter()
                    // SAFETY: header rule *Strings*.
                    .map(|&string| unsafe { pointers::string(string, "a stop string") })
                    .map(|string| string.map(str::to_owned))
                    .collect::<Result<_>>()?,
                seed: self.seed,
                draft: self.draft,
            },
            sampling: Sampling {
                temperature: self.temperature,
                top_k: self.top_k,
                top_p: self.top_p,
                min_p: self.min_p,
                repetition_penalty: self.repetition_penalty,
                repetition_window: self.repetition_window,
            },
            gate: Gate {
                mode: mode(self.mode)?,
                score: score(self.score)?,
                threshold: self.chosen_threshold()?,
            },
            consult: ConsultOptions {
                burst: self.burst,
                deadline: Duration::from_millis(self.consult_deadline_ms.into()),
                hand_back: pointers::flag(self.hand_back, "options.hand_back")?,
                rescue: self.rescue,
            },
            budget: Budget {
                calls: limit(self.budget_calls),
                tokens: limit(self.budget_tokens),
                bytes: limit(self.budget_bytes),
                hold: self.chosen_hold()?,
            },
            corrections: CorrectionOptions {
                capacity: self.correction_cache,
                suffix: self.correction_suffix,
            },
        })
    }

    fn chosen_hold(&self) -> Result<Option<Hold>> {
        let limit = self.hold_limit;
        let per_hour = |unit| Ok(Some(Hold::PerHour { limit, unit }));
        match self.hold {
            HYBRID_HOLD_NONE => Ok(None),
            HYBRID_HOLD_SHARE => Ok(Some(Hold::Share(limit as f32))),
            HYBRID_HOLD_CALLS_PER_HOUR => per_hour(Unit::Calls),
            HYBRID_HOLD_BYTES_PER_HOUR => per_hour(Unit::Bytes),
            HYBRID_HOLD_MONEY_PER_HOUR => per_hour(Unit::Money {
                prompt_token: self.price_prompt_token,
                token: self.price_token,
            }),
            other => Err(bad(format!("options.hold is {other}; it is one of HYBRID_HOLD_"))),
        }
    }

    /// The core checks the ranges.
    fn chosen_threshold(&self) -> Result<Threshold> {
        let (share, risk) = (self.target_share, self.guaranteed_risk);
        match (self.threshold != HYBRID_THRESHOLD_DEFAULT, share != 0.0, risk != 0.0) {
            (false, false, false) => Ok(Threshold::Default),
            (true, false, false) => Ok(Threshold::At(self.threshold)),
            (false, true, false) => Ok(Threshold::Share(share)),
            (false, false, true) => Ok(Threshold::Guarantee(match self.confidence {
                0.0 => Guarantee::OnAverage { risk },
                confidence => Guarantee::Confident { risk, confidence },
            })),
            _ => Err(bad(
                "only one of options.threshold, target_share and guaranteed_risk may be set".into(),
            )),
        }
    }
}

/// What the options say to the core.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub birth: SessionOptions,
    sampling: Sampling,
    gate: Gate,
    consult: ConsultOptions,
    budget: Budget,
    corrections: CorrectionOptions,
}

impl Parsed {
    pub(super) fn set(&self, session: &mut Session) -> crate::Result<()> {
        session.set_sampling(self.sampling)?;
        session.set_gate(self.gate)?;
        session.set_consult(self.consult)?;
        session.set_budget(self.budget)?;
        session.set_corrections(self.corrections)
    }
}

fn mode(value: hybrid_mode) -> Result<Mode> {
    match value {
        HYBRID_MODE_LOCAL_ONLY => Ok(Mode::LocalOnly),
        HYBRID_MODE_HYBRID => Ok(Mode::Hybrid),
        HYBRID_MODE_CLOUD_FIRST => Ok(Mode::CloudFirst),
        other => Err(bad(format!("options.mode is {other}; it is one of HYBRID_MODE_"))),
    }
}

fn score(value: hybrid_score) -> Result<ScoreKind> {
    match value {
        HYBRID_SCORE_AUTO => Ok(ScoreKind::Auto),
        HYBRID_SCORE_HEAD => Ok(ScoreKind::Head),
        HYBRID_SCORE_MAX_PROBABILITY => Ok(ScoreKind::MaxProbability),
        HYBRID_SCORE_MARGIN => Ok(ScoreKind::Margin),
        HYBRID_SCORE_ENTROPY => Ok(ScoreKind::Entropy),
        HYBRID_SCORE_RANDOM => Ok(ScoreKind::Random),
        other => Err(bad(format!("options.score is {other}; it is one of HYBRID_SCORE_"))),
    }
}

fn limit(value: u64) -> Option<u64> {
    (value != HYBRID_UNLIMITED).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(change: impl FnOnce(&mut hybrid_session_options)) -> Result<Parsed> {
        let mut options = hybrid_session_options::neutral();
        change(&mut options);
        // SAFETY: the tests' strings are static.
        unsafe { options.parse() }
    }

    #[test]
    fn the_defaults_are_the_cores() {
        let got = parse(|_| ()).unwrap();
        assert_eq!(format!("{got:?}"), format!("{:?}", Parsed::default()));
    }

    #[test]
    fn every_field_arrives() {
        let stops = [c"END".as_ptr(), c"\n".as_ptr()];
        let got = parse(|o| {
            o.stop_strings = stops.as_ptr();
            o.stop_string_count = 2;
            o.mode = HYBRID_MODE_CLOUD_FIRST;
            o.score = HYBRID_SCORE_MARGIN;
            o.threshold = 0.25;
            o.budget_calls = 3;
            o.consult_deadline_ms = 1500;
            o.top_p = 0.5;
            (o.hand_back, o.rescue) = (1, 3);
            o.draft = 7;
            (o.correction_cache, o.correction_suffix) = (5, 6);
        })
        .unwrap();
        assert_eq!(got.birth.stop_strings, ["END", "\n"]);
        assert_eq!((got.gate.mode, got.gate.score), (Mode::CloudFirst, ScoreKind::Margin));
        assert_eq!(got.gate.threshold, Threshold::At(0.25));
        assert_eq!(got.budget, Budget { calls: Some(3), ..Budget::default() });
        assert_eq!((got.consult.deadline, got.birth.draft), (Duration::from_millis(1500), 7));
        assert_eq!(got.sampling, Sampling { top_p: 0.5, ..Default::default() });
        assert_eq!((got.consult.hand_back, got.consult.rescue), (true, 3));
        assert_eq!((got.corrections.capacity, got.corrections.suffix), (5, 6));
    }

    #[test]
    fn one_way_to_a_threshold() {
        type Change = fn(&mut hybrid_session_options);
        let risk = 0.05;
        let guarantee = Threshold::Guarantee;
        let rows: [(Change, Threshold); 5] = [
            (|o| o.threshold = 0.0, Threshold::At(0.0)),
            (|o| o.target_share = 0.2, Threshold::Share(0.2)),
            (
                |o| o.guaranteed_risk = 0.05,
                guarantee(Guarantee::Confident { risk, confidence: 0.95 }),
            ),
            (
                |o| (o.guaranteed_risk, o.confidence) = (0.05, 0.0),
                guarantee(Guarantee::OnAverage { risk }),
            ),
            (|o| o.confidence = 0.5, Threshold::Default),
        ];
        for (change, want) in rows {
            assert_eq!(parse(change).unwrap().gate.threshold, want);
        }
        let two: [Change; 3] = [
            |o| (o.threshold, o.target_share) = (0.0, 0.2),
            |o| (o.threshold, o.guaranteed_risk) = (0.5, 0.2),
            |o| (o.target_share, o.guaranteed_risk) = (0.1, 0.2),
        ];
        for change in two {
            let text = parse(change).unwrap_err().to_string();
            assert!(text.contains("only one of"), "{text}");
        }
    }

    #[test]
    fn what_is_held() {
        let hold = |hold| {
            let change = |o: &mut hybrid_session_options| {
                (o.hold, o.hold_limit, o.price_prompt_token, o.price_token) = (hold, 0.5, 1.0, 2.0);
            };
            parse(change).unwrap().budget.hold
        };
        let per_hour = |unit| Some(Hold::PerHour { limit: 0.5, unit });
        let money = Unit::Money { prompt_token: 1.0, token: 2.0 };
        assert_eq!(hold(HYBRID_HOLD_NONE), None);
        assert_eq!(hold(HYBRID_HOLD_SHARE), Some(Hold::Share(0.5)));
        assert_eq!(hold(HYBRID_HOLD_CALLS_PER_HOUR), per_hour(Unit::Calls));
        assert_eq!(hold(HYBRID_HOLD_BYTES_PER_HOUR), per_hour(Unit::Bytes));
        assert_eq!(hold(HYBRID_HOLD_MONEY_PER_HOUR), per_hour(money));
    }

    #[test]
    fn a_bad_field_is_named() {
        type Change = fn(&mut hybrid_session_options);
        let rows: [(Change, &str); 6] = [
            (|o| o.hand_back = 2, "options.hand_back is 2"),
            (|o| o.hold = 5, "options.hold is 5"),
            (|o| o.mode = 7, "options.mode is 7"),
            (|o| o.score = -1, "options.score is -1"),
            (|o| o.stop_string_count = 1, "options.stop_strings is NULL"),
            (
                |o| {
                    const NONE: &[usize] = &[0];
                    o.stop_strings = NONE.as_ptr().cast();
                    o.stop_string_count = 1;
                },
                "a stop string is NULL",
            ),
        ];
        for (change, want) in rows {
            let text = parse(change).unwrap_err().to_string();
            assert!(text.contains(want), "{text}");
        }
    }
}
