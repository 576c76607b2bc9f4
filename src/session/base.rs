//! What a session is made on.

use std::sync::Arc;

use super::clock::Clock;
use super::model::Model;
use super::proposer::Score;
use crate::bundle::{GraphKind, RewardInfo};
use crate::error::Result;
use crate::reward::{ScoreKind, Scorer};
use crate::sealed::Fingerprint;
use crate::tokens::{ChatTemplate, Tokens};

/// A [`Model`] as a session needs it; tests put scripts in its place. Shared by sessions.
pub(super) trait Base: Send + Sync {
    /// See [`crate::bundle::Bundle::fingerprint`].
    fn fingerprint(&self) -> Fingerprint;
    fn tokens(&self) -> &Arc<Tokens>;
    fn chat_template(&self) -> Option<&ChatTemplate>;
    /// The calibration of the reward head, where there is one.
    fn reward(&self) -> Option<&RewardInfo>;
    /// See [`ScoreKind::of`].
    fn score_kind(&self, kind: ScoreKind) -> Result<ScoreKind>;
    /// See [`Scorer::new`].
    fn open_score(&self, kind: ScoreKind, seed: u64) -> Result<Box<dyn Score>>;
    /// The SLM's rows are the same in a batch and alone, to the last bit.
    fn rows_are_exact(&self) -> bool;
    /// One that begins now.
    fn clock(&self) -> Clock;
}

impl Base for Model {
    fn fingerprint(&self) -> Fingerprint {
        self.bundle.fingerprint()
    }

    fn tokens(&self) -> &Arc<Tokens> {
        &self.tokens
    }

    fn chat_template(&self) -> Option<&ChatTemplate> {
        self.chat_template.as_deref()
    }

    fn reward(&self) -> Option<&RewardInfo> {
        self.bundle.manifest().reward.as_ref()
    }

    fn score_kind(&self, kind: ScoreKind) -> Result<ScoreKind> {
        kind.of(&self.bundle)
    }

    fn open_score(&self, kind: ScoreKind, seed: u64) -> Result<Box<dyn Score>> {
        Ok(Box::new(Scorer::new(kind, self.head.as_ref(), seed)?))
    }

    fn rows_are_exact(&self) -> bool {
        self.bundle.manifest().model.graph == GraphKind::Packed
    }

    fn clock(&self) -> Clock {
        Clock::real()
    }
}
