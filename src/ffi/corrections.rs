//! Corrections
//!
//! A correction is an answer of the cloud that the session remembers. When the SLM proposes the
//! same candidate after the same tokens again, the session takes the answer it remembers: without
//! the network or a budget (HYBRID_SOURCE_CORRECTION). It does so for every candidate that the gate
//! would send to the cloud, also while a budget is spent or the breaker is open. It does not
//! without a cloud or in the mode HYBRID_MODE_LOCAL_ONLY.

use super::boundary::enter;
use super::objects::hybrid_session;
use super::pointers;
use super::session::with;
use super::sized::{self, SizedStruct, end_of};
use super::status::hybrid_status;
use crate::session::CorrectionOptions;

/// What a session remembers.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct hybrid_corrections {
    /// sizeof(hybrid_corrections).
    pub struct_size: usize,
    /// Answers to remember at most, 0 (off) to 16384. The one used longest ago is forgotten first.
    /// Default: 0.
    pub capacity: u32,
    /// Number of preceding ids that must match, 1 to 1024. What comes before them may differ, and
    /// the answer may then be wrong: a smaller number finds more answers, and more wrong ones.
    /// Default: 32.
    pub suffix: u32,
}

// SAFETY: C layout, plain numbers.
unsafe impl SizedStruct for hybrid_corrections {
    const NAME: &'static str = "hybrid_corrections";
    const FIRST: usize = end_of!(Self, suffix);
    fn neutral() -> Self {
        CorrectionOptions::default().into()
    }
}

/// Sets the defaults. `struct_size` is sizeof(hybrid_corrections).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_corrections_init(
    corrections: *mut hybrid_corrections,
    struct_size: usize,
) -> hybrid_status {
    // SAFETY: header rule *Structs that grow*.
    enter(|| unsafe { sized::init(corrections, struct_size, "corrections") })
}

/// Sets what the session remembers. A smaller capacity forgets those used longest ago; another
/// suffix forgets all.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_set_corrections(
    session: *mut hybrid_session,
    corrections: *const hybrid_corrections,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Structs that grow*.
        let corrections = unsafe { sized::read_required(corrections, "corrections") }?;
        // SAFETY: header rule *Pointers*.
        unsafe { with(session, |c| c.session.set_corrections(corrections.into())) }
    })
}

/// Reads what the session remembers. Set `out->struct_size` before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_get_corrections(
    session: *mut hybrid_session,
    out: *mut hybrid_corrections,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Structs that grow*.
        let out = unsafe { sized::out(out, "out") }?;
        // SAFETY: header rule *Pointers*.
        let corrections = unsafe { with(session, |c| Ok(c.session.corrections())) }?;
        out.set(corrections.into());
        Ok(())
    })
}

/// Writes the session's corrections, so that a later session need not ask again. `buffer`,
/// `capacity` and `needed` are as in hybrid_session_save.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_save_corrections(
    session: *mut hybrid_session,
    buffer: *mut u8,
    capacity: usize,
    needed: *mut usize,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Pointers*.
        let out = unsafe { pointers::copied(buffer, capacity, needed, "bytes") }?;
        // SAFETY: header rule *Pointers*.
        let bytes = unsafe { with(session, |c| Ok(c.session.save_corrections())) }?;
        out.set(&bytes)
    })
}

/// Takes the corrections that hybrid_session_save_corrections wrote, in place of the session's own.
/// If they are more than the session's capacity, it takes those used last.
///
/// HYBRID_ERR_INVALID_ARGUMENT: the bytes are damaged, or from another bundle, another version of
/// the library or another `suffix`. After an error the session is as before.
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

impl From<CorrectionOptions> for hybrid_corrections {
    fn from(options: CorrectionOptions) -> hybrid_corrections {
        hybrid_corrections {
            struct_size: size_of::<hybrid_corrections>(),
            capacity: options.capacity,
            suffix: options.suffix,
        }
    }
}

impl From<hybrid_corrections> for CorrectionOptions {
    fn from(corrections: hybrid_corrections) -> CorrectionOptions {
        CorrectionOptions { capacity: corrections.capacity, suffix: corrections.suffix }
    }
}
