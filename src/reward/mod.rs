//! Scores of a candidate: the reward head on tract, or a built-in score.
//!
//! A score says how far the candidate can be trusted; [`crate::policy::decide`] compares it with
//! the threshold. The head's score is a calibrated probability that the cloud LLM would have chosen
//! the same token; the built-in scores are cheap and need no training. `docs/reward-head.md` is the
//! contract of a head.

use std::fmt;

use crate::bundle::{Bundle, FileRole};
use crate::error::{Error, Result};

pub mod builtin;
mod calibration;
mod contract;
mod features;
mod head;
pub mod statistics;

pub use calibration::{Guarantee, Threshold};
pub use contract::{HIDDEN, HIDDEN_AFTER, MAX_BYTES, OUTPUT, STATS};
pub use features::Features;
pub use head::{Head, HeadPlan};

/// Which score gates the cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(i32)]
pub enum ScoreKind {
    /// The bundle's reward head; max-probability where it has none.
    #[default]
    Auto = 0,
    /// The bundle's reward head.
    Head = 1,
    /// The probability of the candidate, the largest of all when decoding greedily.
    MaxProbability = 2,
    /// The candidate's lead over the best other token.
    Margin = 3,
    /// One over the perplexity of the distribution.
    Entropy = 4,
    /// A seeded uniform number: what any score must beat.
    Random = 5,
    /// The share of 20 tokens, drawn from the same logits at temperatures from 0 to 2, that are the
    /// candidate (the uncertainty of U-HLM, arXiv:2412.12687, from 1 down). For comparison: it
    /// costs a part of a step.
    Sampled = 6,
}

/// As the host tool and the documents name it.
impl fmt::Display for ScoreKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ScoreKind::Auto => "auto",
            ScoreKind::Head => "head",
            ScoreKind::MaxProbability => "max-probability",
            ScoreKind::Margin => "margin",
            ScoreKind::Entropy => "entropy",
            ScoreKind::Random => "random",
            ScoreKind::Sampled => "u-hlm",
        })
    }
}

impl ScoreKind {
    /// The score that this is with `bundle`; never [`ScoreKind::Auto`]. Opens nothing.
    ///
    /// Errors: [`Error::Unsupported`] when [`ScoreKind::Head`] is asked of a bundle without a head.
    pub fn of(self, bundle: &Bundle) -> Result<ScoreKind> {
        match (self, &bundle.manifest().reward) {
            (ScoreKind::Auto, Some(_)) => Ok(ScoreKind::Head),
            (ScoreKind::Auto, None) => Ok(ScoreKind::MaxProbability),
            (ScoreKind::Head, None) => Err(no_head()),
            (kind, _) => Ok(kind),
        }
    }
}

/// A loaded score, one per session. Every score is in 0..=1 and higher means keep.
pub struct Scorer {
    source: Source,
}

enum Source {
    Head(Box<Head>),
    MaxProbability,
    Margin,
    Entropy,
    Random(builtin::Uniform),
    Sampled(builtin::Uniform),
}

impl Scorer {
    /// A score that begins now. `head`: the bundle's, of [`load_head`]. `seed` is used by
    /// [`ScoreKind::Random`] and [`ScoreKind::Sampled`].
    ///
    /// Errors: [`Error::Unsupported`] when [`ScoreKind::Head`] is asked of a bundle without a head;
    /// those of [`HeadPlan::spawn`].
    pub fn new(kind: ScoreKind, head: Option<&HeadPlan>, seed: u64) -> Result<Scorer> {
        let source = match (kind, head) {
            (ScoreKind::Auto | ScoreKind::Head, Some(head)) => {
                Source::Head(Box::new(head.spawn()?))
            }
            (ScoreKind::Head, None) => return Err(no_head()),
            (ScoreKind::Auto, None) | (ScoreKind::MaxProbability, _) => Source::MaxProbability,
            (ScoreKind::Margin, _) => Source::Margin,
            (ScoreKind::Entropy, _) => Source::Entropy,
            (ScoreKind::Random, _) => Source::Random(builtin::Uniform::new(seed)),
            (ScoreKind::Sampled, _) => Source::Sampled(builtin::Uniform::new(seed)),
        };
        Ok(Scorer { source })
    }

    /// Uses a head that is in no bundle.
    pub fn from_head(head: Head) -> Scorer {
        Scorer { source: Source::Head(Box::new(head)) }
    }

    /// What is in use; never [`ScoreKind::Auto`].
    pub fn kind(&self) -> ScoreKind {
        match self.source {
            Source::Head(_) => ScoreKind::Head,
            Source::MaxProbability => ScoreKind::MaxProbability,
            Source::Margin => ScoreKind::Margin,
            Source::Entropy => ScoreKind::Entropy,
            Source::Random(_) => ScoreKind::Random,
            Source::Sampled(_) => ScoreKind::Sampled,
        }
    }

    /// How far the generator of a score that is drawn is; 0 for others.
    pub fn position(&self) -> u64 {
        match &self.source {
            Source::Random(uniform) | Source::Sampled(uniform) => uniform.position(),
            _ => 0,
        }
    }

    /// Goes on where another score of the same kind was.
    pub fn set_position(&mut self, position: u64) {
        if let Source::Random(uniform) | Source::Sampled(uniform) = &mut self.source {
            uniform.set_position(position);
        }
    }

    /// The score reads [`Features::hidden_after`].
    pub fn needs_after(&self) -> bool {
        matches!(&self.source, Source::Head(head) if head.reads_after())
    }

    /// The score of one candidate, in 0..=1; 0 where the logits gave no statistics (NaN).
    ///
    /// Errors: [`Error::InvalidArgument`] for features of a wrong length, a missing `hidden_after`
    /// or a state that is not finite; [`Error::Model`] when the head fails or answers something
    /// that is no probability.
    pub fn score(&mut self, features: &Features) -> Result<f32> {
        let stats = features.stats;
        if stats.log_p.is_nan() || stats.entropy.is_nan() || stats.top.iter().any(|t| t.is_nan()) {
            return Ok(0.0);
        }
        match &mut self.source {
            Source::Head(head) => head.score(features),
            Source::MaxProbability => Ok(builtin::max_probability(stats)),
            Source::Margin => Ok(builtin::margin(stats)),
            Source::Entropy => Ok(builtin::entropy(stats)),
            Source::Random(uniform) => Ok(uniform.draw()),
            Source::Sampled(uniform) => {
                Ok(builtin::sampled(features.logits, features.candidate, uniform))
            }
        }
    }
}

/// The bundle's head, checked against what its manifest says of it; `None` where it has none.
///
/// Errors: [`Error::Bundle`] when the head breaks its contract, and those of [`Bundle::read`].
pub fn load_head(bundle: &Bundle) -> Result<Option<HeadPlan>> {
    let manifest = bundle.manifest();
    let Some(info) = &manifest.reward else { return Ok(None) };
    let head = HeadPlan::load(&bundle.read(FileRole::Reward)?, manifest.model.hidden_size)?;
    if head.reads_after() != info.after {
        return Err(Error::Bundle(format!(
            "bundle.json says reward.after = {}, but reward.onnx {} the input `{HIDDEN_AFTER}`",
            info.after,
            if info.after { "lacks" } else { "has" },
        )));
    }
    Ok(Some(head))
}

fn no_head() -> Error {
    Error::Unsupported(
        "this bundle has no reward head; train one with `hybrid-lab train`, install one with \
         `hybrid reward`, or choose a built-in score"
            .into(),
    )
}
