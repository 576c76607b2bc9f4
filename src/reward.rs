//! Scores of a candidate: the reward head on tract, or a built-in score.

use crate::bundle::Bundle;
use crate::error::{Error, Result};
use crate::sampler::LogitStats;

/// What a score is computed from.
#[derive(Debug, Clone, Copy)]
pub struct Features<'a> {
    /// The SLM's last hidden state before the candidate (hidden size values).
    pub hidden: &'a [f32],
    /// The same after the SLM has consumed the candidate; given when [`Scorer::needs_after`].
    pub hidden_after: Option<&'a [f32]>,
    pub stats: &'a LogitStats,
    pub candidate: u32,
}

/// Which score gates the cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ScoreKind {
    /// The bundle's reward head; max-probability where it has none.
    #[default]
    Auto,
    Head,
    MaxProbability,
    Margin,
    Entropy,
    Random,
}

/// A loaded score, one per session. Every score is in 0..=1 and higher means keep.
pub struct Scorer {}

impl Scorer {
    /// `seed` is used by [`ScoreKind::Random`] only.
    pub fn open(_bundle: &Bundle, _kind: ScoreKind, _seed: u64) -> Result<Scorer> {
        Err(Error::Unsupported("not built yet".into()))
    }

    /// What [`ScoreKind::Auto`] became.
    pub fn kind(&self) -> ScoreKind {
        ScoreKind::Auto
    }

    pub fn needs_after(&self) -> bool {
        false
    }

    pub fn score(&mut self, _features: &Features) -> Result<f32> {
        Err(Error::Unsupported("not built yet".into()))
    }
}
