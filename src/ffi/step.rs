//! Step
//!
//! hybrid_step_run generates until the end; hybrid_step is one token of it; hybrid_step_peek only
//! says what the next step would do.

use std::ffi::{c_char, c_void};
use std::time::Duration;

use super::boundary::{Fault, enter};
use super::objects::hybrid_session;
use super::outcome::*;
use super::pointers;
use super::session::with;
use super::sized::{self, SizedStruct, end_of};
use super::status::hybrid_status;
use crate::consult::Failure;
use crate::session::{Peek, Step};

/// One token, and how it came about. `text` and `bytes` are borrowed until the next call on the
/// session (in a callback: until it returns), and never NULL.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct hybrid_step_result {
    pub struct_size: usize,
    /// What may be shown now, NUL-terminated: whole UTF-8 characters, held back while a character
    /// or a stop string is unfinished, so it may be empty or belong to several tokens. A stop
    /// token brings all that was held back.
    pub text: *const c_char,
    /// Bytes of `text` without its NUL; a generated NUL character may be among them.
    pub text_size: usize,
    /// The token's own bytes, perhaps part of a character; none for control and stop tokens.
    pub bytes: *const u8,
    pub bytes_size: usize,
    pub token: u32,
    /// The SLM's candidate, or the alternative taken for it: equal to `token` unless the cloud wrote it.
    /// Further tokens of a burst have none without `hand_back`; there it is `token`.
    pub candidate: u32,
    /// Score of the candidate, 0..1; NaN where none was computed.
    pub score: f32,
    pub source: hybrid_source,
    pub reason: hybrid_reason,
    /// Why the consult of this step gave no token.
    pub failure: hybrid_failure,
    /// 1: the cloud was consulted in this step.
    pub consulted: i32,
    /// Not HYBRID_END_NONE: this is the last token.
    pub end: hybrid_end,
    /// Bytes over the network in this step, TLS included.
    pub bytes_sent: u64,
    pub bytes_received: u64,
    /// Prompt tokens the server says it billed for this step; 0 when it does not say.
    pub cloud_prompt_tokens: u64,
    /// Nanoseconds in the SLM, the sampler and the reward head.
    pub local_ns: u64,
    /// Nanoseconds waiting for the cloud.
    pub cloud_ns: u64,
}

// SAFETY: C layout, plain numbers and pointers.
unsafe impl SizedStruct for hybrid_step_result {
    const NAME: &'static str = "hybrid_step_result";
    const FIRST: usize = end_of!(Self, cloud_ns);
    fn neutral() -> Self {
        hybrid_step_result {
            struct_size: size_of::<Self>(),
            text: c"".as_ptr(),
            text_size: 0,
            bytes: c"".as_ptr().cast(),
            bytes_size: 0,
            token: 0,
            candidate: 0,
            score: f32::NAN,
            source: HYBRID_SOURCE_LOCAL,
            reason: HYBRID_REASON_CONFIDENT,
            failure: HYBRID_FAILURE_NONE,
            consulted: 0,
            end: HYBRID_END_NONE,
            bytes_sent: 0,
            bytes_received: 0,
            cloud_prompt_tokens: 0,
            local_ns: 0,
            cloud_ns: 0,
        }
    }
}

/// What the next step would do.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct hybrid_peek {
    pub struct_size: usize,
    /// The token the SLM proposes.
    pub candidate: u32,
    /// Its score, 0..1; NaN where none is computed.
    pub score: f32,
    /// 1: the next step would consult the cloud.
    pub would_consult: i32,
    pub reason: hybrid_reason,
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
            reason: HYBRID_REASON_CONFIDENT,
        }
    }
}

/// Gets each token of hybrid_step_run. Return 0 to go on, anything else to stop after this token.
/// See the chapter on callbacks.
pub type hybrid_step_callback =
    Option<unsafe extern "C" fn(step: *const hybrid_step_result, user: *mut c_void) -> i32>;

/// Generates up to `max_tokens` tokens and hands each to `callback`, with `user` passed through,
/// until the end, the limit, or the callback's no. `end` (may be NULL) says which: HYBRID_END_NONE
/// for the last two; then hybrid_session_flush may still have text.
///
/// After an error, HYBRID_ERR_CANCELLED included, the tokens handed out so far remain in the
/// context, and the next call goes on behind them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_step_run(
    session: *mut hybrid_session,
    max_tokens: usize,
    callback: hybrid_step_callback,
    user: *mut c_void,
    end: *mut hybrid_end,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Pointers*.
        let out = unsafe { pointers::optional_out(end, "end", HYBRID_END_NONE) }?;
        let callback = callback.ok_or(Fault::Null("callback"))?;
        let mut shown = Shown::default();
        let mut on_step = |step: &Step| {
            let result = shown.result(step);
            // SAFETY: header rule *Callbacks*; the result outlives the call.
            unsafe { callback(&result, user) == 0 }
        };
        // SAFETY: header rule *Pointers*.
        let end = unsafe { with(session, |c| c.session.run(max_tokens, &mut on_step)) }?;
        if let Some(out) = out {
            *out = end as hybrid_end;
        }
        Ok(())
    })
}

/// Generates one token. Set `out->struct_size` before. A consult that fails is not an error: the
/// SLM's token is kept, and `source`, `reason` and `failure` say so.
///
/// After an error the session is as before, and the step can be taken again. HYBRID_ERR_STATE: there
/// was no prompt yet, or the generation has ended; prompt, rewind or reset.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_step(
    session: *mut hybrid_session,
    out: *mut hybrid_step_result,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Structs that grow*.
        let out = unsafe { sized::out(out, "out") }?;
        // SAFETY: header rule *Pointers*.
        let result = unsafe {
            with(session, |c| {
                let step = c.session.step()?;
                Ok(c.shown.result(&step))
            })
        }?;
        out.set(result);
        Ok(())
    })
}

/// Proposes and scores the next token and decides, without taking it and without the network; the
/// next step reuses the work. Set `out->struct_size` before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_step_peek(
    session: *mut hybrid_session,
    out: *mut hybrid_peek,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Structs that grow*.
        let out = unsafe { sized::out(out, "out") }?;
        // SAFETY: header rule *Pointers*.
        let peek = unsafe { with(session, |c| c.session.peek()) }?;
        out.set(peek.into());
        Ok(())
    })
}

/// Hands out the text that is still held back after the last step, NUL-terminated, as `size` bytes:
/// an unfinished character becomes U+FFFD. `text`: borrowed until the next call on the session; ""
/// if there is none. `size` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_flush(
    session: *mut hybrid_session,
    text: *mut *const c_char,
    size: *mut usize,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Pointers*.
        let text = unsafe { pointers::out(text, "text", c"".as_ptr()) }?;
        // SAFETY: header rule *Pointers*.
        let size = unsafe { pointers::optional_out(size, "size", 0) }?;
        // SAFETY: header rule *Pointers*.
        let (pointer, bytes) = unsafe {
            with(session, |c| {
                let held = c.session.flush();
                Ok(c.shown.text(&held))
            })
        }?;
        *text = pointer;
        if let Some(size) = size {
            *size = bytes;
        }
        Ok(())
    })
}

/// What a session lends to its caller until the next call.
#[derive(Default)]
pub(super) struct Shown {
    text: Vec<u8>,
    bytes: Vec<u8>,
}

impl Shown {
    /// A pointer to `text` with a NUL behind it, and its size without.
    fn text(&mut self, text: &str) -> (*const c_char, usize) {
        self.text.clear();
        self.text.extend_from_slice(text.as_bytes());
        self.text.push(0);
        (self.text.as_ptr().cast(), text.len())
    }

    fn result(&mut self, step: &Step) -> hybrid_step_result {
        let (text, text_size) = self.text(&step.text);
        self.bytes.clear();
        self.bytes.extend_from_slice(&step.bytes);
        hybrid_step_result {
            struct_size: size_of::<hybrid_step_result>(),
            text,
            text_size,
            bytes: self.bytes.as_ptr(),
            bytes_size: self.bytes.len(),
            token: step.token,
            candidate: step.candidate,
            score: step.score,
            source: step.source as hybrid_source,
            reason: step.reason as hybrid_reason,
            failure: step.failure.map_or(HYBRID_FAILURE_NONE, |f: Failure| f as hybrid_failure),
            consulted: step.consulted.into(),
            end: step.end as hybrid_end,
            bytes_sent: step.bytes_sent,
            bytes_received: step.bytes_received,
            cloud_prompt_tokens: step.prompt_tokens,
            local_ns: nanoseconds(step.local_time),
            cloud_ns: nanoseconds(step.cloud_time),
        }
    }
}

impl From<Peek> for hybrid_peek {
    fn from(peek: Peek) -> hybrid_peek {
        hybrid_peek {
            struct_size: size_of::<hybrid_peek>(),
            candidate: peek.candidate,
            score: peek.score,
            would_consult: peek.would_consult.into(),
            reason: peek.reason as hybrid_reason,
        }
    }
}

/// 64 bits of nanoseconds are 584 years.
pub(super) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
