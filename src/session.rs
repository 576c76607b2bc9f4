//! The step: compute, decide, act, record.

use std::sync::Arc;
use std::time::Duration;

use crate::bundle::{Bundle, Verify};
use crate::cancel::Cancel;
use crate::consult::{Consult, Failure};
use crate::error::{Error, Result};
use crate::policy::{Budget, Mode, Reason};
use crate::reward::ScoreKind;
use crate::sampler::SamplerOptions;
use crate::slm::Slm;
use crate::tokens::{ChatTemplate, Message, Tokens};

/// A bundle loaded for use: shared by sessions and threads.
pub struct Model {
    pub bundle: Bundle,
    pub slm: Slm,
    pub tokens: Tokens,
    pub chat_template: Option<ChatTemplate>,
}

impl Model {
    pub fn open(_dir: &std::path::Path, _verify: Verify) -> Result<Model> {
        Err(Error::Unsupported("not built yet".into()))
    }
}

/// How a session generates and when it asks the cloud.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    pub mode: Mode,
    /// `None`: the bundle's default threshold (0.5 where it has no head).
    pub threshold: Option<f32>,
    pub budget: Budget,
    /// Tokens taken from one consult at most.
    pub burst: u32,
    /// The whole consult, connection and TLS included.
    pub consult_deadline: Duration,
    pub score: ScoreKind,
    pub sampler: SamplerOptions,
    /// Tokens of context; 0: the model's limit.
    pub context: usize,
    /// Generation stops before the first of these strings would be complete.
    pub stop_strings: Vec<String>,
}

/// Where a token came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Source {
    Local = 0,
    Cloud = 1,
    /// A correction the session knew already (not used yet).
    Cached = 2,
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
    /// The token's exact bytes; empty for a stop token.
    pub bytes: Vec<u8>,
    /// What may be shown now: whole UTF-8 characters, held back while a stop string may be forming.
    pub text: String,
    pub source: Source,
    pub reason: Reason,
    /// Score of the SLM's candidate; NaN where none was computed.
    pub score: f32,
    /// The SLM's candidate, equal to `token` unless the cloud wrote it.
    pub candidate: u32,
    pub failure: Option<Failure>,
    /// A consult was made in this step.
    pub consulted: bool,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    pub prompt_tokens: u64,
    pub local_time: Duration,
    pub cloud_time: Duration,
    pub end: End,
}

/// What [`Session::peek`] says of the next step, without taking it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peek {
    pub candidate: u32,
    pub score: f32,
    pub would_consult: bool,
    pub reason: Reason,
}

/// Sums over a session since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stats {
    pub prompt_tokens: u64,
    pub tokens: u64,
    pub local: u64,
    pub cloud: u64,
    pub fallback: u64,
    pub consults: u64,
    pub consult_failures: u64,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    /// Prompt tokens the cloud billed.
    pub cloud_prompt_tokens: u64,
    pub prompt_time: Duration,
    pub local_time: Duration,
    pub cloud_time: Duration,
    /// Part of `local_time` spent in the reward head.
    pub score_time: Duration,
}

/// One conversation. Not shared: one thread at a time.
pub struct Session {}

impl Session {
    /// `cloud`: `None` for a session that never leaves the device.
    pub fn new(
        _model: Arc<Model>,
        _cloud: Option<Arc<dyn Consult>>,
        _options: SessionOptions,
    ) -> Result<Session> {
        Err(Error::Unsupported("not built yet".into()))
    }

    /// The flag that stops a running call of this session.
    pub fn set_cancel(&mut self, _cancel: Cancel) {}

    /// Appends text to the context. Raw: the caller has rendered any template; text of control
    /// tokens becomes control tokens. All or nothing.
    pub fn prompt(&mut self, _text: &str) -> Result<()> {
        Ok(())
    }

    /// Appends messages, rendered by the bundle's chat template.
    pub fn chat(&mut self, _messages: &[Message]) -> Result<()> {
        Ok(())
    }

    /// Generates one token.
    pub fn step(&mut self) -> Result<Step> {
        Err(Error::Unsupported("not built yet".into()))
    }

    /// Proposes, scores and decides, without acting; the next step reuses the work.
    pub fn peek(&mut self) -> Result<Peek> {
        Err(Error::Unsupported("not built yet".into()))
    }

    /// Steps until the end, `max_tokens`, or `on_step` returns false.
    pub fn run(
        &mut self,
        _max_tokens: usize,
        _on_step: &mut dyn FnMut(&Step) -> bool,
    ) -> Result<End> {
        Err(Error::Unsupported("not built yet".into()))
    }

    /// Text still held back (an unfinished character or stop string) after the last step.
    pub fn flush(&mut self) -> String {
        String::new()
    }

    /// Forgets the last `n` tokens of the context, prompt included.
    pub fn rewind(&mut self, _n: usize) -> Result<()> {
        Ok(())
    }

    /// Forgets the context; the statistics stay.
    pub fn reset(&mut self) {}

    /// Tokens in the context.
    pub fn len(&self) -> usize {
        0
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn stats(&self) -> Stats {
        Stats::default()
    }
}
