//! What a session has done.

use std::time::Duration;

use super::{Source, Step};
use crate::consult::Cost;
use crate::policy::{Reason, Spent};

/// Sums over a session since it was made. They are the sums over its steps; only a consult that was
/// cancelled counts without a step.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stats {
    /// Tokens appended by prompts and chats.
    pub prompt_tokens: u64,
    /// Tokens generated: `local + cloud + cached + fallback`.
    pub tokens: u64,
    pub local: u64,
    /// Part of `local`: alternatives taken instead of a consult.
    pub rescued: u64,
    /// Tokens of bursts included that were not handed back.
    pub cloud: u64,
    /// Of answers to earlier consults.
    pub cached: u64,
    pub fallback: u64,
    /// Failed ones included.
    pub consults: u64,
    pub consult_failures: u64,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    /// Prompt tokens the cloud billed.
    pub cloud_prompt_tokens: u64,
    /// Tokens of the cloud's answers, handed out or not: what a budget of tokens counts.
    pub answer_tokens: u64,
    /// Spent on prompts, not part of `local_time`.
    pub prompt_time: Duration,
    pub local_time: Duration,
    pub cloud_time: Duration,
    /// Part of `local_time` spent in the reward head.
    pub score_time: Duration,
}

impl Stats {
    pub(super) fn count_step(&mut self, step: &Step) {
        self.tokens += 1;
        match step.source {
            Source::Local => self.local += 1,
            Source::Cloud => self.cloud += 1,
            Source::Cached => self.cached += 1,
            Source::Fallback => self.fallback += 1,
        }
        self.rescued += u64::from(step.reason == Reason::Rescued);
        self.local_time += step.local_time;
    }

    pub(super) fn count_consult(&mut self, cost: &Cost, failed: bool) {
        self.consults += 1;
        self.consult_failures += u64::from(failed);
        self.bytes_sent += cost.bytes_sent;
        self.bytes_received += cost.bytes_received;
        self.cloud_prompt_tokens += cost.prompt_tokens;
        self.cloud_time += cost.elapsed;
    }

    pub(super) fn spent(&self) -> Spent {
        let (calls, tokens) = (self.consults, self.answer_tokens);
        Spent { calls, tokens, bytes: self.bytes_sent + self.bytes_received }
    }
}
