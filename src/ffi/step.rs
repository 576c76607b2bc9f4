//! Step
//!
//! hybrid_step_run generates until the end; hybrid_step is one token of it; hybrid_step_peek only
//! says what the next step would do.

use std::ffi::{c_char, c_void};

use super::boundary::enter;
use super::fault::Fault;
use super::numbers::Number;
use super::objects::hybrid_session;
use super::outcome::hybrid_end;
use super::pointers;
use super::result::{Lent, hybrid_peek, hybrid_step_result};
use super::session::{compute, with};
use super::sized;
use super::status::hybrid_status;
use crate::session::Step;

/// Gets each token of hybrid_step_run. Return 0 to continue, anything else to stop after this
/// token. See the chapter *Callbacks*.
pub type hybrid_step_callback =
    Option<unsafe extern "C" fn(step: *const hybrid_step_result, user: *mut c_void) -> i32>;

/// Generates up to `max_tokens` tokens and hands each to `callback`, with `user` passed through. It
/// stops at the end of the text, after `max_tokens`, or when the callback says so. `end` (may be
/// NULL) says why: HYBRID_END_NONE for the last two. Then hybrid_session_flush may still have text.
///
/// After an error, HYBRID_ERR_CANCELLED included, the context keeps the tokens that the callback
/// has received, and the next call continues after them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_step_run(
    session: *mut hybrid_session,
    max_tokens: usize,
    callback: hybrid_step_callback,
    user: *mut c_void,
    end: *mut Number<hybrid_end>,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Pointers*.
        let out = unsafe { pointers::optional_out(end, "end", Number::of(hybrid_end::None)) }?;
        let callback = callback.ok_or(Fault::Null("callback"))?;
        let mut lent = Lent::default();
        let mut on_step = |step: &Step| {
            let result = lent.step(step);
            // SAFETY: header rule *Callbacks*; the result outlives the call.
            unsafe { callback(&result, user) == 0 }
        };
        // SAFETY: header rule *Pointers*.
        let end = unsafe { compute(session, |c| c.session.run(max_tokens, &mut on_step)) }?;
        if let Some(out) = out {
            *out = Number::of(end);
        }
        Ok(())
    })
}

/// Generates one token. Set `out->struct_size` before. A consult that fails is not an error: the
/// step keeps the SLM's token, and `source`, `reason` and `consult->failure` say so.
///
/// After an error the session is as before, and you can take the step again. HYBRID_ERR_STATE:
/// there was no prompt yet, or the generation has ended: prompt, rewind or reset.
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
            compute(session, |c| {
                let step = c.session.step()?;
                Ok(c.lent.step(&step))
            })
        }?;
        out.set(result);
        Ok(())
    })
}

/// Proposes and scores the next token and decides, but does not take it and does not use the
/// network. The next step reuses the work. Peeking never changes the text. Set `out->struct_size`
/// before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_step_peek(
    session: *mut hybrid_session,
    out: *mut hybrid_peek,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Structs that grow*.
        let out = unsafe { sized::out(out, "out") }?;
        // SAFETY: header rule *Pointers*.
        let peek = unsafe { compute(session, |c| c.session.peek()) }?;
        out.set(peek.into());
        Ok(())
    })
}

/// Hands out the text that is still held back after the last step, NUL-terminated. An unfinished
/// character becomes U+FFFD. `text`: borrowed until the next call on the session; "" if there is
/// none. `size` (may be NULL) gets its bytes without the NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_flush(
    session: *mut hybrid_session,
    text: *mut *const c_char,
    size: *mut usize,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Pointers*.
        let size = unsafe { pointers::optional_out(size, "size", 0) };
        // SAFETY: header rule *Pointers*.
        let text = unsafe { pointers::out(text, "text", c"".as_ptr()) }?;
        let size = size?;
        // SAFETY: header rule *Pointers*.
        let (pointer, bytes) = unsafe {
            with(session, |c| {
                let held = c.session.flush();
                Ok(c.lent.text(&held))
            })
        }?;
        *text = pointer;
        if let Some(size) = size {
            *size = bytes;
        }
        Ok(())
    })
}
