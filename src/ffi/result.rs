//! Results of a step
//!
//! What hybrid_step, hybrid_step_run and hybrid_step_peek hand out.

use std::ffi::c_char;

use super::numbers::{Number, nanoseconds};
use super::outcome::*;
use super::sized::{SizedStruct, end_of};
use crate::session::{Peek, Step};

/// A token and its log-probability. Its fields are final.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct hybrid_logprob {
    /// The token's id.
    pub token: u32,
    /// Natural logarithm of its probability, 0 or less.
    pub logprob: f32,
}

/// What a step says beyond its text and its decision. Borrowed like the step's text.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct hybrid_step_details {
    /// The size of the library's struct. A field that ends beyond it does not exist: do not read
    /// it.
    pub struct_size: usize,
    /// The token's own bytes, perhaps part of a character. None for control tokens and stop tokens.
    pub bytes: *const u8,
    /// Elements of `bytes`.
    pub bytes_size: usize,
    /// With hybrid_session_set_top_logprobs: the kept token first, then the likeliest tokens, the
    /// likeliest first. They are those of the SLM's own distribution: temperature 1, nothing cut
    /// off. Empty where the SLM computed nothing: for further tokens of an answer
    /// without hand-back.
    pub logprobs: *const hybrid_logprob,
    /// Elements of `logprobs`.
    pub logprob_count: usize,
    /// Time in the SLM, the sampler and the reward head, in nanoseconds.
    pub local_ns: u64,
}

/// The consult of a step: what it cost, and what went wrong in it. All 0 in a step without one.
/// Borrowed like the step's text.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct hybrid_consult_result {
    /// The size of the library's struct. A field that ends beyond it does not exist: do not read
    /// it.
    pub struct_size: usize,
    /// 1: the library consulted the cloud in this step. 0: it did not.
    pub consulted: i32,
    /// Why the consult gave no token.
    pub failure: Number<hybrid_failure>,
    /// The HTTP status of the server's answer, also of a good one. 0: there was no answer.
    pub http_status: u32,
    /// 0.
    pub reserved: u32,
    /// Bytes sent, TLS included.
    pub bytes_sent: u64,
    /// Bytes received, TLS included.
    pub bytes_received: u64,
    /// Prompt tokens that the server says it billed. 0: none, or it does not say.
    pub billed_prompt_tokens: u64,
    /// Tokens of the answer; later steps may hand out some of them.
    pub answer_tokens: u64,
    /// Time waiting for the cloud, in nanoseconds.
    pub cloud_ns: u64,
}

/// One token, and how it came about. `text`, `details` and `consult` are borrowed until the next
/// call on the session (in a callback: until it returns), and never NULL.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct hybrid_step_result {
    /// sizeof(hybrid_step_result). In a callback: its size in the library; fields behind it are not
    /// there.
    pub struct_size: usize,
    /// What may be shown now, NUL-terminated: whole UTF-8 characters. It is held back while a
    /// character or a stop string is unfinished, so it may be empty or belong to several tokens. A
    /// stop token brings all that was held back.
    pub text: *const c_char,
    /// Bytes of `text` without its NUL. A generated NUL character may be among them.
    pub text_size: usize,
    /// The id of the token that was kept.
    pub token: u32,
    /// The id of the SLM's candidate. It differs from `token` only if the token is the cloud LLM's,
    /// new or remembered. Further tokens of an answer have no candidate of their own unless
    /// hybrid_consult.hand_back is 1; there it is `token`.
    pub candidate: u32,
    /// Score of the candidate, 0 to 1. NaN if none was computed.
    pub score: f32,
    /// Where the token came from.
    pub source: Number<hybrid_source>,
    /// Why it is this token.
    pub reason: Number<hybrid_reason>,
    /// If not HYBRID_END_NONE, this is the last token.
    pub end: Number<hybrid_end>,
    /// The token's bytes, log-probabilities and time.
    pub details: *const hybrid_step_details,
    /// What the step's consult cost, and what went wrong in it.
    pub consult: *const hybrid_consult_result,
}

/// The details of a step that was not taken.
static NO_DETAILS: hybrid_step_details = hybrid_step_details {
    struct_size: size_of::<hybrid_step_details>(),
    bytes: c"".as_ptr().cast(),
    bytes_size: 0,
    logprobs: &NO_LOGPROB,
    logprob_count: 0,
    local_ns: 0,
};

/// Not NULL, though there are none.
static NO_LOGPROB: hybrid_logprob = hybrid_logprob { token: 0, logprob: 0.0 };

static NO_CONSULT: hybrid_consult_result = hybrid_consult_result {
    struct_size: size_of::<hybrid_consult_result>(),
    consulted: 0,
    failure: Number::raw(hybrid_failure::None as i32),
    http_status: 0,
    reserved: 0,
    bytes_sent: 0,
    bytes_received: 0,
    billed_prompt_tokens: 0,
    answer_tokens: 0,
    cloud_ns: 0,
};

// SAFETY: only ever read; what its pointers name is static.
unsafe impl Sync for hybrid_step_details {}

// SAFETY: C layout, plain numbers and pointers.
unsafe impl SizedStruct for hybrid_step_result {
    const NAME: &'static str = "hybrid_step_result";
    const FIRST: usize = end_of!(Self, consult);
    fn neutral() -> Self {
        hybrid_step_result {
            struct_size: size_of::<Self>(),
            text: c"".as_ptr(),
            text_size: 0,
            token: 0,
            candidate: 0,
            score: f32::NAN,
            source: Number::of(hybrid_source::Local),
            reason: Number::of(hybrid_reason::Confident),
            end: Number::of(hybrid_end::None),
            details: &NO_DETAILS,
            consult: &NO_CONSULT,
        }
    }
}

/// What the next step would do.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct hybrid_peek {
    /// sizeof(hybrid_peek).
    pub struct_size: usize,
    /// The id of the token that the SLM proposes.
    pub candidate: u32,
    /// Its score, 0 to 1. NaN if none is computed.
    pub score: f32,
    /// 1: the next step would consult the cloud. 0: it would not.
    pub would_consult: i32,
    /// Why.
    pub reason: Number<hybrid_reason>,
}

// SAFETY: C layout, plain numbers.
unsafe impl SizedStruct for hybrid_peek {
    const NAME: &'static str = "hybrid_peek";
    const FIRST: usize = end_of!(Self, reason);
    fn neutral() -> Self {
        hybrid_peek {
            struct_size: size_of::<Self>(),
            candidate: 0,
            score: f32::NAN,
            would_consult: 0,
            reason: Number::of(hybrid_reason::Confident),
        }
    }
}

/// What a session lends to its caller until the next call.
pub(super) struct Lent {
    text: Vec<u8>,
    bytes: Vec<u8>,
    logprobs: Vec<hybrid_logprob>,
    details: hybrid_step_details,
    consult: hybrid_consult_result,
}

// SAFETY: the pointers in `details` name nothing but the vectors beside it, or what is static.
unsafe impl Send for Lent {}

impl Lent {
    /// A pointer to `text` with a NUL behind it, and its size without.
    pub(super) fn text(&mut self, text: &str) -> (*const c_char, usize) {
        self.text.clear();
        self.text.extend_from_slice(text.as_bytes());
        self.text.push(0);
        (self.text.as_ptr().cast(), text.len())
    }

    /// The step for C, with pointers into this.
    pub(super) fn step(&mut self, step: &Step) -> hybrid_step_result {
        let (text, text_size) = self.text(&step.text);
        self.bytes.clear();
        self.bytes.extend_from_slice(&step.bytes);
        self.logprobs.clear();
        let logprobs = step.logprobs.iter();
        self.logprobs.extend(logprobs.map(|&(token, logprob)| hybrid_logprob { token, logprob }));
        self.details = hybrid_step_details {
            struct_size: size_of::<hybrid_step_details>(),
            bytes: self.bytes.as_ptr(),
            bytes_size: self.bytes.len(),
            logprobs: self.logprobs.as_ptr(),
            logprob_count: self.logprobs.len(),
            local_ns: nanoseconds(step.local_time),
        };
        self.consult = hybrid_consult_result {
            consulted: step.consulted.into(),
            failure: Number::of(step.failure),
            http_status: step.http_status.into(),
            bytes_sent: step.bytes_sent,
            bytes_received: step.bytes_received,
            billed_prompt_tokens: step.billed_prompt_tokens,
            answer_tokens: step.answer_tokens,
            cloud_ns: nanoseconds(step.cloud_time),
            ..NO_CONSULT
        };
        hybrid_step_result {
            struct_size: size_of::<hybrid_step_result>(),
            text,
            text_size,
            token: step.token,
            candidate: step.candidate,
            score: step.score,
            source: Number::of(step.source),
            reason: Number::of(step.reason),
            end: Number::of(step.end),
            details: &self.details,
            consult: &self.consult,
        }
    }
}

impl Default for Lent {
    fn default() -> Lent {
        let (details, consult) = (NO_DETAILS, NO_CONSULT);
        Lent { text: vec![], bytes: vec![], logprobs: vec![], details, consult }
    }
}

impl From<Peek> for hybrid_peek {
    fn from(peek: Peek) -> hybrid_peek {
        hybrid_peek {
            struct_size: size_of::<hybrid_peek>(),
            candidate: peek.candidate,
            score: peek.score,
            would_consult: peek.would_consult.into(),
            reason: Number::of(peek.reason),
        }
    }
}
