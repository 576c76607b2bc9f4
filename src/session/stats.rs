//! What a session has done.

use std::time::Duration;

use super::token::{Source, Step};
use crate::consult::Cost;
use crate::policy::{Reason, Spent};

/// What a session has written. Sums over its steps since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Tokens appended by prompts and chats.
    pub prompt_tokens: u64,
    /// Tokens generated: `local + cloud + fallback + corrections`.
    pub tokens: u64,
    /// The SLM's own.
    pub local: u64,
    /// The cloud LLM's, tokens of bursts included that were not handed back.
    pub cloud: u64,
    /// The SLM's, kept because the cloud could not be asked or did not answer.
    pub fallback: u64,
    /// Of answers that were remembered.
    pub corrections: u64,
    /// Part of `local`: alternatives taken instead of a consult.
    pub rescued: u64,
    /// Spent on prompts, not part of `local_time`.
    pub prompt_time: Duration,
    /// Spent in the SLM, the sampler and the reward head, but for `overlap_time`.
    pub local_time: Duration,
    /// Part of `local_time` spent in the reward head.
    pub score_time: Duration,
    /// Spent in the SLM while consults were under way, see [`super::ConsultOptions::overlap`].
    pub overlap_time: Duration,
}

/// What a session's consults have cost since it was made, cancelled ones included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Failed ones included.
    pub consults: u64,
    pub failures: u64,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    /// Prompt tokens that the server says it billed.
    pub billed_prompt_tokens: u64,
    /// Tokens of the cloud LLM's answers, handed out or not.
    pub answer_tokens: u64,
    pub cloud_time: Duration,
    /// Sent: two for a consult whose kept connection turned out to be closed, none for one without
    /// a connection.
    pub requests: u64,
}

impl Stats {
    pub(super) fn count(&mut self, step: &Step) {
        self.tokens += 1;
        match step.source {
            Source::Local => self.local += 1,
            Source::Cloud => self.cloud += 1,
            Source::Correction => self.corrections += 1,
            Source::Fallback => self.fallback += 1,
        }
        self.rescued += u64::from(step.reason == Reason::Rescued);
        self.local_time += step.local_time;
    }
}

impl Usage {
    /// `answer_tokens`: `None` where the consult failed.
    pub(super) fn count(&mut self, cost: &Cost, answer_tokens: Option<usize>) {
        self.consults += 1;
        self.failures += u64::from(answer_tokens.is_none());
        self.bytes_sent += cost.bytes_sent;
        self.bytes_received += cost.bytes_received;
        self.billed_prompt_tokens += cost.prompt_tokens;
        self.answer_tokens += answer_tokens.unwrap_or_default() as u64;
        self.cloud_time += cost.elapsed;
        self.requests += u64::from(cost.requests);
    }

    pub(super) fn spent(&self) -> Spent {
        let (consults, tokens) = (self.consults, self.answer_tokens);
        Spent { consults, tokens, bytes: self.bytes_sent + self.bytes_received }
    }
}
