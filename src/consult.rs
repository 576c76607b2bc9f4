//! A consult: one request to the cloud LLM, as the session sees it. The client behind it lives in
//! `cloud`; tests put a script in its place.

use std::time::{Duration, Instant};

use crate::breaker::SharedBreaker;
use crate::cancel::Cancel;
pub use crate::failure::Failure;
use crate::tokens::Message;

/// A context that is a chat: what servers take that render the messages themselves.
#[derive(Debug, Clone, Copy)]
pub struct Chat<'a> {
    /// All messages before the answer.
    pub messages: &'a [Message],
    /// The assistant's answer so far, perhaps empty; without what the template puts in front of it.
    pub answer: &'a str,
}

/// What is asked.
#[derive(Debug)]
pub struct Request<'a> {
    /// Every token of the context so far: prompt and generated.
    pub ids: &'a [u32],
    /// What the ids belong to, see [`crate::bundle::TokenInfo::fingerprint`].
    pub vocabulary: &'a str,
    /// The same context as bytes, for a cloud LLM with another vocabulary.
    pub bytes: &'a [u8],
    /// The same context as messages, where all of it came from [`crate::session::Session::chat`].
    pub chat: Option<Chat<'a>>,
    /// Tokens wanted (the burst), at least 1.
    pub max_tokens: u32,
    /// The whole consult must end by then, connection and TLS included.
    pub deadline: Instant,
    pub cancel: &'a Cancel,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Continuation {
    /// Token ids of the shared vocabulary.
    Ids(Vec<u32>),
    /// Text of a cloud LLM with another vocabulary, exact bytes, not yet tokenised.
    Bytes(Vec<u8>),
}

/// A consult that succeeded.
#[derive(Debug, Clone)]
pub struct Answer {
    pub continuation: Continuation,
    /// The cloud LLM ended its text within this answer (after `continuation`, which may be empty).
    pub end: bool,
}

/// What a consult cost and what the server's answer said of it, also when it failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    pub bytes_sent: u64,
    pub bytes_received: u64,
    /// Prompt tokens the server says it billed (cached ones included), 0 when it does not say.
    pub prompt_tokens: u64,
    /// Of these, tokens the server took from its prefix cache.
    pub cached_tokens: u64,
    pub completion_tokens: u64,
    /// Requests sent: 2 where a kept connection turned out to be closed and the request went out
    /// again, 0 where there was no connection.
    pub requests: u32,
    /// The status of the server's answer, 0 where there was none.
    pub http_status: u16,
    /// For how long the server asks not to be asked again (`Retry-After`); 0: it does not say.
    pub quiet: Duration,
    pub elapsed: Duration,
}

/// Anything that can answer a consult. One consult at a time per call; shared between sessions.
pub trait Consult: Send + Sync {
    /// The cost is reported also for a failure (bytes were sent, time passed).
    fn consult(&self, request: &Request) -> (Result<Answer, Failure>, Cost);

    /// The cloud LLM was found to have the vocabulary with this fingerprint, so ids are exchanged.
    fn shares_vocabulary(&self, fingerprint: &str) -> bool;

    /// It can only continue a [`Chat`]: contexts of plain text are refused.
    fn needs_messages(&self) -> bool {
        false
    }

    /// What keeps sessions from asking after failures. Sessions ask it before a consult and tell it
    /// the outcome. `None`: nothing does.
    fn breaker(&self) -> Option<&SharedBreaker> {
        None
    }
}
