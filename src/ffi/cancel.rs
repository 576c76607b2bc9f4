//! Cancelling a running call
//!
//! A hybrid_cancel is a flag. Any thread and any signal handler may raise it to stop the running
//! call of every session that uses it, also in the middle of a long prompt or a consult. The
//! stopped call returns HYBRID_ERR_CANCELLED, and so does every later one until the flag is
//! lowered.
//!
//! A cancelled call leaves its session as it was before. Two things remain: the tokens that the
//! callback of hybrid_step_run has already received stay in the context, and what a consult has
//! cost is counted in hybrid_usage.

use super::boundary::{enter, enter_void};
use super::objects::{self, Conversation, hybrid_cancel, hybrid_session};
use super::pointers;
use super::session::with;
use super::status::hybrid_status;
use crate::cancel::Cancel;

/// Makes a lowered flag. `out`: owned; free it with hybrid_cancel_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_cancel_new(out: *mut *mut hybrid_cancel) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Pointers*.
        let out = unsafe { pointers::out(out, "out", std::ptr::null_mut()) }?;
        *out = objects::give(hybrid_cancel { flag: Cancel::new() });
        Ok(())
    })
}

/// Lets `cancel` stop the calls of this session, in place of the flag before; NULL takes it away.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_set_cancel(
    session: *mut hybrid_session,
    cancel: *const hybrid_cancel,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Pointers*.
        let cancel = unsafe { pointers::optional_reference(cancel, "cancel") }?;
        let flag = cancel.map_or_else(Cancel::new, |cancel| cancel.flag.clone());
        let set = |c: &mut Conversation| {
            c.session.set_cancel(flag);
            Ok(())
        };
        // SAFETY: header rule *Pointers*.
        unsafe { with(session, set) }
    })
}

/// Raises the flag. It only stores to an atomic, so a signal handler may call it. NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_cancel_raise(cancel: *mut hybrid_cancel) {
    // No boundary here: it uses thread-local storage, which a signal handler must not touch.
    // SAFETY: header rule *Pointers*: NULL or a live flag.
    if let Some(cancel) = unsafe { cancel.as_ref() } {
        cancel.flag.raise();
    }
}

/// Lowers the flag, so that calls run again. A signal handler may call it. NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_cancel_lower(cancel: *mut hybrid_cancel) {
    // SAFETY: header rule *Pointers*: NULL or a live flag.
    if let Some(cancel) = unsafe { cancel.as_ref() } {
        cancel.flag.lower();
    }
}

/// Frees the flag. Sessions that use it keep their own share. NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_cancel_free(cancel: *mut hybrid_cancel) {
    // SAFETY: header rule *Ownership*.
    enter_void(|| unsafe { objects::free(cancel) });
}
