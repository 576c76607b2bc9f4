//! What a step gives.

use std::time::Duration;

use crate::consult::Failure;
use crate::policy::Reason;

/// Where a token came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Source {
    Local = 0,
    Cloud = 1,
    /// The cloud, in an earlier consult in the same place: see [`super::CorrectionOptions`].
    Correction = 2,
    /// The SLM's candidate, kept because the cloud could not be asked or did not answer.
    Fallback = 3,
}

/// Why generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum End {
    /// It goes on.
    None = 0,
    StopToken = 1,
    StopString = 2,
}

/// One step.
#[derive(Debug, Clone)]
pub struct Step {
    pub token: u32,
    /// The token's exact bytes; empty for control and stop tokens.
    pub bytes: Vec<u8>,
    /// What may be shown now: whole UTF-8 characters, held back while a stop string may be forming.
    /// A stop token releases all that was held back.
    pub text: String,
    pub source: Source,
    pub reason: Reason,
    /// Score of the SLM's candidate; NaN where none was computed.
    pub score: f32,
    /// The SLM's candidate (the alternative, where one was taken): equal to `token` unless the
    /// cloud LLM wrote it, now or in an earlier answer. A further token of a burst has a candidate
    /// of its own only with hand-back; otherwise this is `token`.
    pub candidate: u32,
    /// Why the consult of this step brought nothing.
    pub failure: Option<Failure>,
    /// A consult was made in this step.
    pub consulted: bool,
    /// The status of the server's answer, 0 where there was none.
    pub http_status: u16,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    /// Prompt tokens that the server says it billed.
    pub billed_prompt_tokens: u64,
    /// Tokens of the consult's answer: this one and the rest of the burst.
    pub answer_tokens: u64,
    /// The SLM's and the reward head's work for this step, without what the SLM did while a consult
    /// was under way.
    pub local_time: Duration,
    pub cloud_time: Duration,
    pub end: End,
    /// Natural log-probabilities by the SLM, at temperature 1 and before any bias or filter: of
    /// `token`, then of the most likely ones, falling. See [`super::Session::set_top_logprobs`].
    /// Empty where that is off, and for further tokens of a burst without hand-back: the SLM looked
    /// at none.
    pub logprobs: Vec<(u32, f32)>,
}
