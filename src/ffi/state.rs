//! Saving a conversation
//!
//! A state is what a session holds, as bytes: to continue after a restart, or to read a long prompt
//! once and start every conversation from there. A restored session with the same settings writes
//! what the saved one would have written; only HYBRID_SCORE_RANDOM draws other scores.
//!
//! A state serves every session of the same bundle, on any machine. It has a checksum against
//! damage and none against forgery, and it holds the text in the clear.

use super::boundary::enter;
use super::objects::hybrid_session;
use super::pointers;
use super::session::{compute, with};
use super::status::hybrid_status;

/// Writes the context with the SLM's cache, the rest of a burst, text that was not handed out yet,
/// and the position of the random generator. Settings, statistics and spent budgets are not part of
/// it.
///
/// `needed`, if not NULL, gets the size in bytes: about 23 kB per token for a model of 135M
/// parameters. To ask for it, pass a `capacity` of 0; `buffer` may then be NULL.
/// HYBRID_ERR_BUFFER_TOO_SMALL: nothing of use was written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_save(
    session: *mut hybrid_session,
    buffer: *mut u8,
    capacity: usize,
    needed: *mut usize,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Pointers*.
        let out = unsafe { pointers::copied(buffer, capacity, needed, "bytes") }?;
        // SAFETY: header rule *Pointers*.
        unsafe {
            with(session, |c| {
                Ok(out.set_with(c.session.state_bytes(), |mut rest| {
                    c.session.save(&mut |piece| {
                        let (to, after) = std::mem::take(&mut rest).split_at_mut(piece.len());
                        to.copy_from_slice(piece);
                        rest = after;
                    });
                }))
            })
        }?
    })
}

/// Takes the conversation that hybrid_session_save wrote, in place of the session's own.
///
/// HYBRID_ERR_INVALID_ARGUMENT: the bytes are damaged, or from another bundle or another version of
/// the library. HYBRID_ERR_CONTEXT_FULL: the state has more tokens than this session may hold.
/// After an error the session is as before.
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
        unsafe { compute(session, |c| c.session.restore(state)) }
    })
}
