//! Context and statistics
//!
//! The tokens that a session holds, and what they have cost so far.

use std::ffi::c_char;

use super::boundary::enter;
use super::numbers::nanoseconds;
use super::objects::{Conversation, hybrid_session};
use super::pointers;
use super::session::with;
use super::sized::{self, SizedStruct, end_of};
use super::status::hybrid_status;
use crate::session::{Stats, Usage};

/// What a session wrote since it was made, or the one that it is a fork of. hybrid_session_reset
/// does not change it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct hybrid_stats {
    /// sizeof(hybrid_stats).
    pub struct_size: usize,
    /// Tokens of all prompts.
    pub prompt_tokens: u64,
    /// Tokens generated: `local` + `cloud` + `fallback` + `corrections`.
    pub tokens: u64,
    /// Written by the SLM: HYBRID_SOURCE_LOCAL.
    pub local: u64,
    /// Written by the cloud LLM: HYBRID_SOURCE_CLOUD.
    pub cloud: u64,
    /// Weak candidates kept because the cloud did not help: HYBRID_SOURCE_FALLBACK.
    pub fallback: u64,
    /// From remembered answers: HYBRID_SOURCE_CORRECTION.
    pub corrections: u64,
    /// The part of `local` that replaced a weak candidate: HYBRID_REASON_RESCUED.
    pub rescued: u64,
    /// Time reading prompts, in nanoseconds.
    pub prompt_ns: u64,
    /// Time generating in the SLM, the sampler and the reward head, in nanoseconds, without
    /// `overlap_ns`.
    pub local_ns: u64,
    /// The part of `local_ns` in the reward head.
    pub score_ns: u64,
    /// Time of the SLM while the cloud was asked, in nanoseconds: hybrid_consult.overlap.
    pub overlap_ns: u64,
}

// SAFETY: C layout, plain numbers.
unsafe impl SizedStruct for hybrid_stats {
    const NAME: &'static str = "hybrid_stats";
    const FIRST: usize = end_of!(Self, score_ns);
    fn neutral() -> Self {
        Stats::default().into()
    }
}

/// What a session spent on the cloud since it was made, or the one that it is a fork of. Budgets
/// count these. hybrid_session_reset does not change it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct hybrid_usage {
    /// sizeof(hybrid_usage).
    pub struct_size: usize,
    /// Consults, failed ones included.
    pub consults: u64,
    /// Consults that gave no token.
    pub failures: u64,
    /// Bytes sent, TLS included.
    pub bytes_sent: u64,
    /// Bytes received, TLS included.
    pub bytes_received: u64,
    /// Prompt tokens that the server says it billed.
    pub billed_prompt_tokens: u64,
    /// Tokens of the answers, handed out or not.
    pub answer_tokens: u64,
    /// Time waiting for the cloud, in nanoseconds.
    pub cloud_ns: u64,
    /// Requests sent: more than `consults` where a server had closed a kept connection and the
    /// request went out again, fewer where there was no connection.
    pub requests: u64,
}

// SAFETY: C layout, plain numbers.
unsafe impl SizedStruct for hybrid_usage {
    const NAME: &'static str = "hybrid_usage";
    const FIRST: usize = end_of!(Self, requests);
    fn neutral() -> Self {
        Usage::default().into()
    }
}

/// Counts the tokens of the context, prompts included.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_length(
    session: *mut hybrid_session,
    out: *mut usize,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Pointers*.
        let out = unsafe { pointers::out(out, "out", 0) }?;
        // SAFETY: header rule *Pointers*.
        *out = unsafe { with(session, |c| Ok(c.session.len())) }?;
        Ok(())
    })
}

/// Forgets the last `count` tokens of the context, prompts included, and text that was held back.
/// Generation can continue from there, also after its end. HYBRID_ERR_INVALID_ARGUMENT: the context
/// has fewer tokens; then none is forgotten.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_rewind(
    session: *mut hybrid_session,
    count: usize,
) -> hybrid_status {
    // SAFETY: header rule *Pointers*.
    enter(|| unsafe { with(session, |c| c.session.rewind(count)) })
}

/// Forgets the whole context, for the next conversation with the same settings. Statistics, spent
/// budgets and corrections stay.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_reset(session: *mut hybrid_session) -> hybrid_status {
    enter(|| {
        let reset = |c: &mut Conversation| {
            c.session.reset();
            Ok(())
        };
        // SAFETY: header rule *Pointers*.
        unsafe { with(session, reset) }
    })
}

/// Copies the ids of the whole context, prompts and generated tokens. `needed`, if not NULL, gets
/// their number. `capacity` counts ids; `buffer` may be NULL if it is 0.
/// HYBRID_ERR_BUFFER_TOO_SMALL: nothing of use was written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_tokens(
    session: *mut hybrid_session,
    buffer: *mut u32,
    capacity: usize,
    needed: *mut usize,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Pointers*.
        let out = unsafe { pointers::copied(buffer, capacity, needed, "ids") }?;
        // SAFETY: header rule *Pointers*.
        unsafe { with(session, |c| Ok(out.set(c.session.tokens()))) }?
    })
}

/// Copies the text of the whole context, prompts and generated tokens, NUL-terminated. Control
/// tokens have their names, and what is no whole character becomes U+FFFD. `needed`, if not NULL,
/// gets the bytes with the NUL. `buffer` may be NULL if `capacity` is 0.
/// HYBRID_ERR_BUFFER_TOO_SMALL: nothing of use was written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_text(
    session: *mut hybrid_session,
    buffer: *mut c_char,
    capacity: usize,
    needed: *mut usize,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Pointers*.
        let out = unsafe { pointers::copied(buffer.cast::<u8>(), capacity, needed, "bytes") }?;
        // SAFETY: header rule *Pointers*.
        let text = unsafe { with(session, |c| Ok(c.session.text())) }?;
        out.set_text(&text)
    })
}

/// Reads what the session wrote. Set `out->struct_size` before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_stats(
    session: *mut hybrid_session,
    out: *mut hybrid_stats,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Structs that grow*.
        let out = unsafe { sized::out(out, "out") }?;
        // SAFETY: header rule *Pointers*.
        let stats = unsafe { with(session, |c| Ok(c.session.stats())) }?;
        out.set(stats.into());
        Ok(())
    })
}

/// Reads what the session spent on the cloud. Set `out->struct_size` before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_usage(
    session: *mut hybrid_session,
    out: *mut hybrid_usage,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Structs that grow*.
        let out = unsafe { sized::out(out, "out") }?;
        // SAFETY: header rule *Pointers*.
        let usage = unsafe { with(session, |c| Ok(c.session.usage())) }?;
        out.set(usage.into());
        Ok(())
    })
}

impl From<Stats> for hybrid_stats {
    fn from(stats: Stats) -> hybrid_stats {
        hybrid_stats {
            struct_size: size_of::<hybrid_stats>(),
            prompt_tokens: stats.prompt_tokens,
            tokens: stats.tokens,
            local: stats.local,
            cloud: stats.cloud,
            fallback: stats.fallback,
            corrections: stats.corrections,
            rescued: stats.rescued,
            prompt_ns: nanoseconds(stats.prompt_time),
            local_ns: nanoseconds(stats.local_time),
            score_ns: nanoseconds(stats.score_time),
            overlap_ns: nanoseconds(stats.overlap_time),
        }
    }
}

impl From<Usage> for hybrid_usage {
    fn from(usage: Usage) -> hybrid_usage {
        hybrid_usage {
            struct_size: size_of::<hybrid_usage>(),
            consults: usage.consults,
            failures: usage.failures,
            bytes_sent: usage.bytes_sent,
            bytes_received: usage.bytes_received,
            billed_prompt_tokens: usage.billed_prompt_tokens,
            answer_tokens: usage.answer_tokens,
            cloud_ns: nanoseconds(usage.cloud_time),
            requests: usage.requests,
        }
    }
}
