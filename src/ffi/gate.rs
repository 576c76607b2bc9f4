//! Gate
//!
//! When a candidate is too weak to keep: the mode, the score, and the threshold it is compared
//! with.

use super::boundary::enter;
use super::fault::{Result, bad};
use super::numbers::{Number, mirror, values};
use super::objects::hybrid_session;
use super::session::with;
use super::sized::{self, SizedStruct, end_of};
use super::status::hybrid_status;
use crate::policy::Mode;
use crate::reward::{Guarantee, ScoreKind, Threshold};
use crate::session::Gate;

/// Who may write.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum hybrid_mode {
    /// The SLM alone. No byte leaves the device.
    LocalOnly = 0,
    /// The SLM, and the cloud LLM in place of candidates that score under the threshold.
    Hybrid = 1,
    /// The cloud LLM wherever the library can ask it, and the SLM where it cannot.
    CloudFirst = 2,
}
mirror!(hybrid_mode = Mode { LocalOnly, Hybrid, CloudFirst });

/// What scores a candidate. Every score is 0 to 1, and higher means keep.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum hybrid_score {
    /// The bundle's reward head, or HYBRID_SCORE_MAX_PROBABILITY if it has none.
    Auto = 0,
    /// The bundle's reward head. HYBRID_ERR_UNSUPPORTED if it has none.
    Head = 1,
    /// The candidate's probability.
    MaxProbability = 2,
    /// The candidate's probability minus that of the best other token.
    Margin = 3,
    /// How far the SLM's distribution is from uniform.
    Entropy = 4,
    /// A seeded random number, as a baseline to compare others with.
    Random = 5,
}
values!(hybrid_score { Auto, Head, MaxProbability, Margin, Entropy, Random });

impl From<ScoreKind> for hybrid_score {
    fn from(score: ScoreKind) -> hybrid_score {
        match score {
            ScoreKind::Auto => hybrid_score::Auto,
            ScoreKind::Head => hybrid_score::Head,
            ScoreKind::MaxProbability => hybrid_score::MaxProbability,
            ScoreKind::Margin => hybrid_score::Margin,
            ScoreKind::Entropy => hybrid_score::Entropy,
            // The host tool's, for comparisons; no session of C has it.
            ScoreKind::Random | ScoreKind::Sampled => hybrid_score::Random,
        }
    }
}

impl From<hybrid_score> for ScoreKind {
    fn from(score: hybrid_score) -> ScoreKind {
        match score {
            hybrid_score::Auto => ScoreKind::Auto,
            hybrid_score::Head => ScoreKind::Head,
            hybrid_score::MaxProbability => ScoreKind::MaxProbability,
            hybrid_score::Margin => ScoreKind::Margin,
            hybrid_score::Entropy => ScoreKind::Entropy,
            hybrid_score::Random => ScoreKind::Random,
        }
    }
}

/// How the threshold is set.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum hybrid_threshold_by {
    /// The bundle's own threshold for its reward head; 0.5 for any other score.
    Default = 0,
    /// `threshold`.
    Value = 1,
    /// By `share`: the threshold under which this share of the bundle's calibration tokens scores.
    Share = 2,
    /// By `risk` and `confidence`: the lowest threshold with which, at this confidence, at most
    /// `risk` of the tokens differ from the cloud LLM's choice in the same place, as long as the
    /// cloud answers.
    Guarantee = 3,
    /// By `risk`: the same, but it holds on average over prompts, without a confidence.
    GuaranteeOnAverage = 4,
}
values!(hybrid_threshold_by { Default, Value, Share, Guarantee, GuaranteeOnAverage });

/// When the library consults the cloud: in the mode HYBRID_MODE_HYBRID, when score < threshold.
/// Fields that `threshold_by` does not name must keep their defaults.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct hybrid_gate {
    /// sizeof(hybrid_gate).
    pub struct_size: usize,
    /// Default: HYBRID_MODE_HYBRID. Without a cloud it acts as HYBRID_MODE_LOCAL_ONLY.
    pub mode: Number<hybrid_mode>,
    /// Computed in the mode HYBRID_MODE_HYBRID only. Default: HYBRID_SCORE_AUTO.
    pub score: Number<hybrid_score>,
    /// Default: HYBRID_THRESHOLD_BY_DEFAULT.
    pub threshold_by: Number<hybrid_threshold_by>,
    /// For HYBRID_THRESHOLD_BY_VALUE: 0 never consults, above 1 always does. Default: 0.
    pub threshold: f32,
    /// For HYBRID_THRESHOLD_BY_SHARE: the cloud's share of the tokens, over 0 to 1. Default: 0.
    pub share: f32,
    /// For the guarantees: between 0 and 1. HYBRID_ERR_INVALID_ARGUMENT, with the best possible
    /// value in the text, if the calibration is too small for it. Default: 0.
    pub risk: f32,
    /// For HYBRID_THRESHOLD_BY_GUARANTEE: between 0 and 1. Default: 0.95.
    pub confidence: f32,
    /// 0.
    pub reserved: i32,
}

const CONFIDENCE: f32 = 0.95;

// SAFETY: C layout, plain numbers.
unsafe impl SizedStruct for hybrid_gate {
    const NAME: &'static str = "hybrid_gate";
    const FIRST: usize = end_of!(Self, reserved);
    fn neutral() -> Self {
        Gate::default().into()
    }
}

/// Sets the defaults. `struct_size` is sizeof(hybrid_gate).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_gate_init(
    gate: *mut hybrid_gate,
    struct_size: usize,
) -> hybrid_status {
    // SAFETY: header rule *Structs that grow*.
    enter(|| unsafe { sized::init(gate, struct_size, "gate") })
}

/// Sets the session's gate from the next candidate on. HYBRID_ERR_UNSUPPORTED: the bundle has no
/// reward head, or no calibration for a share or a guarantee. HYBRID_ERR_INVALID_ARGUMENT: also for
/// a guarantee or a threshold of 0 while a budget is held, see hybrid_budget.hold.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_set_gate(
    session: *mut hybrid_session,
    gate: *const hybrid_gate,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Structs that grow*.
        let gate = unsafe { sized::read_required(gate, "gate") }?.parse()?;
        // SAFETY: header rule *Pointers*.
        unsafe { with(session, |c| c.session.set_gate(gate)) }
    })
}

/// Reads the session's gate as it was set. Set `out->struct_size` before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_get_gate(
    session: *mut hybrid_session,
    out: *mut hybrid_gate,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Structs that grow*.
        let out = unsafe { sized::out(out, "out") }?;
        // SAFETY: header rule *Pointers*.
        let gate = unsafe { with(session, |c| Ok(c.session.gate())) }?;
        out.set(gate.into());
        Ok(())
    })
}

impl hybrid_gate {
    /// The core checks the ranges.
    fn parse(&self) -> Result<Gate> {
        if self.reserved != 0 {
            return Err(bad("gate.reserved must be 0; call hybrid_gate_init first".into()));
        }
        let by = self.threshold_by.get("gate.threshold_by")?;
        let (uses_threshold, uses_share, uses_risk) = match by {
            hybrid_threshold_by::Default => (false, false, false),
            hybrid_threshold_by::Value => (true, false, false),
            hybrid_threshold_by::Share => (false, true, false),
            hybrid_threshold_by::Guarantee | hybrid_threshold_by::GuaranteeOnAverage => {
                (false, false, true)
            }
        };
        let uses_confidence = by == hybrid_threshold_by::Guarantee;
        for (value, default, used, name) in [
            (self.threshold, 0.0, uses_threshold, "threshold"),
            (self.share, 0.0, uses_share, "share"),
            (self.risk, 0.0, uses_risk, "risk"),
            (self.confidence, CONFIDENCE, uses_confidence, "confidence"),
        ] {
            if value.to_bits() != default.to_bits() && !used {
                return Err(bad(format!(
                    "gate.{name} is set, but gate.threshold_by does not name it; set the one \
                     that you mean"
                )));
            }
        }
        let (risk, confidence) = (self.risk, self.confidence);
        Ok(Gate {
            mode: self.mode.get("gate.mode")?,
            score: self.score.get("gate.score")?,
            threshold: match by {
                hybrid_threshold_by::Default => Threshold::Default,
                hybrid_threshold_by::Value => Threshold::Value(self.threshold),
                hybrid_threshold_by::Share => Threshold::Share(self.share),
                hybrid_threshold_by::Guarantee => {
                    Threshold::Guarantee(Guarantee::Confident { risk, confidence })
                }
                hybrid_threshold_by::GuaranteeOnAverage => {
                    Threshold::Guarantee(Guarantee::OnAverage { risk })
                }
            },
        })
    }
}

impl From<Gate> for hybrid_gate {
    fn from(gate: Gate) -> hybrid_gate {
        let mut out = hybrid_gate {
            struct_size: size_of::<hybrid_gate>(),
            mode: Number::of(gate.mode),
            score: Number::of(gate.score),
            threshold_by: Number::of(hybrid_threshold_by::Default),
            threshold: 0.0,
            share: 0.0,
            risk: 0.0,
            confidence: CONFIDENCE,
            reserved: 0,
        };
        let by = match gate.threshold {
            Threshold::Default => hybrid_threshold_by::Default,
            Threshold::Value(threshold) => {
                out.threshold = threshold;
                hybrid_threshold_by::Value
            }
            Threshold::Share(share) => {
                out.share = share;
                hybrid_threshold_by::Share
            }
            Threshold::Guarantee(Guarantee::Confident { risk, confidence }) => {
                (out.risk, out.confidence) = (risk, confidence);
                hybrid_threshold_by::Guarantee
            }
            Threshold::Guarantee(Guarantee::OnAverage { risk }) => {
                out.risk = risk;
                hybrid_threshold_by::GuaranteeOnAverage
            }
        };
        out.threshold_by = Number::of(by);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gate_survives_the_way_there_and_back() {
        let risk = 0.05;
        for threshold in [
            Threshold::Default,
            Threshold::Value(0.0),
            Threshold::Value(0.25),
            Threshold::Share(0.2),
            Threshold::Guarantee(Guarantee::Confident { risk, confidence: 0.5 }),
            Threshold::Guarantee(Guarantee::OnAverage { risk }),
        ] {
            let gate = Gate { mode: Mode::CloudFirst, score: ScoreKind::Margin, threshold };
            assert_eq!(hybrid_gate::from(gate).parse().unwrap(), gate);
        }
        assert_eq!(hybrid_gate::neutral().parse().unwrap(), Gate::default());
    }

    #[test]
    fn a_bad_field_is_named() {
        type Change = fn(&mut hybrid_gate);
        let rows: [(Change, &str); 8] = [
            (|g| g.mode = Number::raw(3), "gate.mode is 3"),
            (|g| g.score = Number::raw(-1), "gate.score is -1"),
            (|g| g.threshold_by = Number::raw(5), "gate.threshold_by is 5"),
            (|g| g.threshold = 0.5, "gate.threshold is set"),
            (
                |g| {
                    g.threshold_by = Number::of(hybrid_threshold_by::Share);
                    g.risk = 0.5;
                },
                "gate.risk is set",
            ),
            (|g| g.share = f32::NAN, "gate.share is set"),
            (|g| g.confidence = 0.9, "gate.confidence is set"),
            (|g| g.reserved = 1, "gate.reserved must be 0"),
        ];
        for (change, want) in rows {
            let mut gate = hybrid_gate::neutral();
            change(&mut gate);
            let text = gate.parse().unwrap_err().to_string();
            assert!(text.contains(want), "{text}");
        }
    }
}
