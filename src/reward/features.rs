//! What scores are computed from.

use crate::sampler::LogitStats;

/// What a score is computed from.
#[derive(Debug, Clone, Copy)]
pub struct Features<'a> {
    /// The SLM's last hidden state before the candidate (hidden size values).
    pub hidden: &'a [f32],
    /// The same after the SLM has consumed the candidate; given when
    /// [`super::Scorer::needs_after`].
    pub hidden_after: Option<&'a [f32]>,
    pub stats: &'a LogitStats,
    /// The row from which the candidate was taken; read by [`super::ScoreKind::Sampled`].
    pub logits: &'a [f32],
    pub candidate: u32,
}
