//! Cancelling a running call
//!
//! A hybrid_cancel is a flag that any thread, and any signal handler, raises to stop the running
//! call of every session it was given to: also in the middle of a long prompt or a consult. That
//! call returns HYBRID_ERR_CANCELLED and leaves its session as it was before; so does every later
//! call until the flag is lowered.

use super::boundary::{enter, enter_void};
use super::objects::{self, hybrid_cancel};
use super::pointers;
use super::status::hybrid_status;
use crate::cancel::Cancel;

/// Makes a lowered flag. `out`: owned, free it with hybrid_cancel_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_cancel_new(out: *mut *mut hybrid_cancel) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Pointers*.
        let out = unsafe { pointers::out(out, "out", std::ptr::null_mut()) }?;
        *out = objects::give(hybrid_cancel { flag: Cancel::new() });
        Ok(())
    })
}

/// Raises the flag. Only stores to an atomic, so a signal handler may call it; NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_cancel_raise(cancel: *const hybrid_cancel) {
    // No boundary here: it uses thread-local storage, which a signal handler must not touch.
    // SAFETY: header rule *Pointers*: NULL or a live flag.
    if let Some(cancel) = unsafe { cancel.as_ref() } {
        cancel.flag.cancel();
    }
}

/// Lowers the flag, so that calls run again. As safe as hybrid_cancel_raise; NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_cancel_lower(cancel: *const hybrid_cancel) {
    // SAFETY: header rule *Pointers*: NULL or a live flag.
    if let Some(cancel) = unsafe { cancel.as_ref() } {
        cancel.flag.reset();
    }
}

/// Frees the flag; sessions that use it keep their own share. NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_cancel_free(cancel: *mut hybrid_cancel) {
    // SAFETY: header rule *Ownership*.
    enter_void(|| unsafe { objects::free(cancel) });
}
