//! Context and statistics
//!
//! The tokens a session holds, and what they have cost so far.

use super::boundary::enter;
use super::objects::hybrid_session;
use super::pointers;
use super::session::with;
use super::sized::{self, SizedStruct, end_of};
use super::status::hybrid_status;
use super::step::nanoseconds;
use crate::session::{Stats, Usage};

/// Sums over a session since it was made; hybrid_session_reset leaves them.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct hybrid_stats {
    pub struct_size: usize,
    /// 0.
    pub reserved: usize,
    /// Tokens of all prompts.
    pub prompt_tokens: u64,
    /// Tokens generated: the sum of the next three and `cached`.
    pub tokens: u64,
    pub local: u64,
    pub cloud: u64,
    /// The SLM's, kept because the cloud could not be asked or did not answer.
    pub fallback: u64,
    pub consults: u64,
    pub consult_failures: u64,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    /// Prompt tokens the server says it billed.
    pub cloud_prompt_tokens: u64,
    /// Nanoseconds reading prompts.
    pub prompt_ns: u64,
    /// Nanoseconds generating in the SLM, the sampler and the reward head.
    pub local_ns: u64,
    /// Nanoseconds waiting for the cloud.
    pub cloud_ns: u64,
    /// The part of `local_ns` in the reward head.
    pub score_ns: u64,
    /// Tokens of the cloud's answers, handed out or not; a budget of tokens counts these.
    pub cloud_answer_tokens: u64,
    /// The part of `local` that was taken in place of a weak candidate: HYBRID_REASON_RESCUED.
    pub rescued: u64,
    /// Tokens of answers to earlier consults, which cost nothing.
    pub cached: u64,
}

// SAFETY: C layout, plain numbers.
unsafe impl SizedStruct for hybrid_stats {
    const NAME: &'static str = "hybrid_stats";
    const FIRST: usize = end_of!(Self, score_ns);
    fn neutral() -> Self {
        hybrid_stats::of(Stats::default(), Usage::default())
    }
}

/// Tokens in the context.
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

/// Forgets the last `count` tokens of the context, those of prompts included. More than there are
/// is HYBRID_ERR_INVALID_ARGUMENT and forgets none. Text held back is dropped.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_rewind(
    session: *mut hybrid_session,
    count: usize,
) -> hybrid_status {
    // SAFETY: header rule *Pointers*.
    enter(|| unsafe { with(session, |c| c.session.rewind(count)) })
}

/// Forgets the whole context, for the next conversation with the same options.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_reset(session: *mut hybrid_session) -> hybrid_status {
    enter(|| {
        let reset = |c: &mut super::objects::Conversation| {
            c.session.reset();
            Ok(())
        };
        // SAFETY: header rule *Pointers*.
        unsafe { with(session, reset) }
    })
}

/// The sums so far. Set `out->struct_size` before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_stats(
    session: *mut hybrid_session,
    out: *mut hybrid_stats,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Structs that grow*.
        let out = unsafe { sized::out(out, "out") }?;
        // SAFETY: header rule *Pointers*.
        let sums = unsafe {
            with(session, |c| Ok(hybrid_stats::of(c.session.stats(), c.session.usage())))
        }?;
        out.set(sums);
        Ok(())
    })
}

impl hybrid_stats {
    fn of(stats: Stats, usage: Usage) -> hybrid_stats {
        hybrid_stats {
            struct_size: size_of::<hybrid_stats>(),
            reserved: 0,
            prompt_tokens: stats.prompt_tokens,
            tokens: stats.tokens,
            local: stats.local,
            cloud: stats.cloud,
            fallback: stats.fallback,
            consults: usage.consults,
            consult_failures: usage.failures,
            bytes_sent: usage.bytes_sent,
            bytes_received: usage.bytes_received,
            cloud_prompt_tokens: usage.prompt_tokens,
            prompt_ns: nanoseconds(stats.prompt_time),
            local_ns: nanoseconds(stats.local_time),
            cloud_ns: nanoseconds(usage.cloud_time),
            score_ns: nanoseconds(stats.score_time),
            cloud_answer_tokens: usage.answer_tokens,
            rescued: stats.rescued,
            cached: stats.corrections,
        }
    }
}
