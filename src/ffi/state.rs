//! Saving a conversation
//!
//! What a session holds, as bytes: to go on after a restart, or to read a long prompt once and start
//! every conversation from there. With the same options the restored session writes what the saved
//! one would have written; only HYBRID_SCORE_RANDOM draws other scores. A state serves every session of the same bundle, on any machine; it has
//! a checksum against damage, none against forgery, and holds the text in the clear.

use super::boundary::{Fault, enter};
use super::objects::hybrid_session;
use super::pointers;
use super::session::with;
use super::status::hybrid_status;
use crate::session::Session;

/// Writes the context with the SLM's cache, what of a burst and of the text was not handed out, and
/// where the sampler is. Not the options, the statistics or the budgets: those are the session's.
///
/// `needed`, if not NULL, gets the size: some 23 kB a token for a model of 135M parameters. `buffer` may be NULL
/// if `capacity` is 0, to ask for it. HYBRID_ERR_BUFFER_TOO_SMALL: nothing of use was written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_save(
    session: *mut hybrid_session,
    buffer: *mut u8,
    capacity: usize,
    needed: *mut usize,
) -> hybrid_status {
    let save = |session: &Session, buffer: &mut [u8]| {
        let size = session.state_bytes();
        if let Some(mut rest) = buffer.get_mut(..size) {
            session.save(&mut |piece| {
                let (to, after) = std::mem::take(&mut rest).split_at_mut(piece.len());
                to.copy_from_slice(piece);
                rest = after;
            });
        }
        size
    };
    // SAFETY: header rule *Pointers*.
    unsafe { give(session, buffer, capacity, needed, save) }
}

/// Takes the conversation that hybrid_session_save wrote, in place of the session's own.
///
/// HYBRID_ERR_INVALID_ARGUMENT: the bytes are damaged, or of another bundle or version of the
/// library. HYBRID_ERR_CONTEXT_FULL: it has more tokens than this session may hold. After an error
/// the session is as before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_restore(
    session: *mut hybrid_session,
    state: *const u8,
    size: usize,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Pointers*: `size` bytes are readable.
        let state = unsafe { pointers::slice(state, size, "state") }?;
        // SAFETY: header rule *Pointers*.
        unsafe { with(session, |c| c.session.restore(state)) }
    })
}

/// Writes the session's correction cache, the answers of its consults by the ids before them, so that a later
/// session need not ask again. `needed` and `buffer` as in hybrid_session_save.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_save_corrections(
    session: *mut hybrid_session,
    buffer: *mut u8,
    capacity: usize,
    needed: *mut usize,
) -> hybrid_status {
    let save = |session: &Session, buffer: &mut [u8]| {
        let bytes = session.save_corrections();
        if let Some(buffer) = buffer.get_mut(..bytes.len()) {
            buffer.copy_from_slice(&bytes);
        }
        bytes.len()
    };
    // SAFETY: header rule *Pointers*.
    unsafe { give(session, buffer, capacity, needed, save) }
}

/// Takes the corrections that hybrid_session_save_corrections wrote, in place of the session's own; of
/// more than its `correction_cache`, those used last.
///
/// HYBRID_ERR_INVALID_ARGUMENT: the bytes are damaged, or of another bundle, version of the library or
/// `correction_suffix`. After an error the session is as before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_restore_corrections(
    session: *mut hybrid_session,
    corrections: *const u8,
    size: usize,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Pointers*: `size` bytes are readable.
        let corrections = unsafe { pointers::slice(corrections, size, "corrections") }?;
        // SAFETY: header rule *Pointers*.
        unsafe { with(session, |c| c.session.restore_corrections(corrections)) }
    })
}

/// Lets `save` write to the caller's buffer, if that is large enough for what it says it needs.
///
/// # Safety
/// Header rule *Pointers*: `session` is NULL or live, `needed` NULL or writable, `capacity` bytes of `buffer` are
/// writable.
unsafe fn give(
    session: *mut hybrid_session,
    buffer: *mut u8,
    capacity: usize,
    needed: *mut usize,
    save: impl FnOnce(&Session, &mut [u8]) -> usize,
) -> hybrid_status {
    enter(|| {
        // SAFETY: the caller's rule *Pointers*.
        let needed = unsafe { pointers::optional_out(needed, "needed", 0) }?;
        // SAFETY: the caller's rule *Pointers*.
        let buffer = unsafe { pointers::buffer(buffer.cast(), capacity, "buffer") }?;
        // SAFETY: the caller's rule *Pointers*.
        let size = unsafe { with(session, |c| Ok(save(&c.session, buffer))) }?;
        if let Some(needed) = needed {
            *needed = size;
        }
        if size > capacity { Err(Fault::TooSmall { needed: size }) } else { Ok(()) }
    })
}
