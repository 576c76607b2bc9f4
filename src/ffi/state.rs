//! Saving a conversation
//!
//! What a session holds, as bytes: to go on after a restart, or to read a long prompt once and start
//! every conversation from there. With the same options the restored session writes what the saved
//! one would have written. A state serves every session of the same bundle, on any machine; it has
//! a checksum against damage, none against forgery, and holds the text in the clear.

use super::boundary::{Fault, enter};
use super::objects::hybrid_session;
use super::pointers;
use super::session::with;
use super::status::hybrid_status;

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
    enter(|| {
        // SAFETY: header rule *Pointers*.
        let needed = unsafe { pointers::optional_out(needed, "needed", 0) }?;
        // SAFETY: header rule *Pointers*: `capacity` bytes are writable.
        let mut buffer = unsafe { pointers::buffer(buffer.cast(), capacity, "buffer") }?;
        let save = |c: &mut super::objects::Conversation| {
            let size = c.session.state_bytes();
            if size <= buffer.len() {
                c.session.save(&mut |piece| {
                    let (to, rest) = std::mem::take(&mut buffer).split_at_mut(piece.len());
                    to.copy_from_slice(piece);
                    buffer = rest;
                });
            }
            Ok(size)
        };
        // SAFETY: header rule *Pointers*.
        let size = unsafe { with(session, save) }?;
        if let Some(needed) = needed {
            *needed = size;
        }
        if size > capacity { Err(Fault::TooSmall { needed: size }) } else { Ok(()) }
    })
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
    enter(|| {
        // SAFETY: header rule *Pointers*.
        let needed = unsafe { pointers::optional_out(needed, "needed", 0) }?;
        // SAFETY: header rule *Pointers*: `capacity` bytes are writable.
        let buffer = unsafe { pointers::buffer(buffer.cast(), capacity, "buffer") }?;
        // SAFETY: header rule *Pointers*.
        let bytes = unsafe { with(session, |c| Ok(c.session.save_corrections())) }?;
        if let Some(needed) = needed {
            *needed = bytes.len();
        }
        let fits = buffer.get_mut(..bytes.len()).map(|buffer| buffer.copy_from_slice(&bytes));
        fits.ok_or(Fault::TooSmall { needed: bytes.len() })
    })
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
