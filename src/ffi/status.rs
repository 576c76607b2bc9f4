//! Status codes
//!
//! Every function that can fail returns a hybrid_status: HYBRID_OK, which is 0, or a negative code.

use std::ffi::c_char;

use super::numbers::{Number, values};

/// The outcome of a call: HYBRID_OK or a negative HYBRID_ERR_ code.
/// cbindgen:rename-all=None
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum hybrid_status {
    /// The call did what it says.
    HYBRID_OK = 0,
    /// A required pointer is NULL. The text names it.
    HYBRID_ERR_NULL_ARGUMENT = -1,
    /// An option or argument is out of its documented range.
    HYBRID_ERR_INVALID_ARGUMENT = -2,
    /// Bytes are not UTF-8. The text gives the position of the first bad byte.
    HYBRID_ERR_INVALID_UTF8 = -3,
    /// A file could not be read. The text gives its path.
    HYBRID_ERR_IO = -4,
    /// A bundle is damaged: a hash, a size or the content of one of its files is wrong.
    HYBRID_ERR_BUNDLE = -5,
    /// Valid, but not supported by this build or this bundle. The text names it.
    HYBRID_ERR_UNSUPPORTED = -6,
    /// The model could not be loaded or run.
    HYBRID_ERR_MODEL = -7,
    /// The chat template refused the messages.
    HYBRID_ERR_TEMPLATE = -8,
    /// The tokens do not fit into the session's context. The context is unchanged.
    HYBRID_ERR_CONTEXT_FULL = -9,
    /// A hybrid_cancel was raised, or a progress callback said stop. The object is as it was before
    /// the call, but hybrid_step_run keeps the tokens that its callback has received.
    HYBRID_ERR_CANCELLED = -10,
    /// The cloud client could not be set up, or hybrid_cloud_probe failed. A consult that fails
    /// during a step is never a status: see hybrid_consult_result.failure.
    HYBRID_ERR_CLOUD = -11,
    /// The call does not fit the state of the object, for example a step before any prompt, or of
    /// its thread, which has too little stack.
    HYBRID_ERR_STATE = -12,
    /// Another call is using this session right now.
    HYBRID_ERR_BUSY = -13,
    /// A bug in the library, caught at the boundary. If the call was on a session, every later call
    /// on that session returns this status too: free it. Other objects keep working.
    HYBRID_ERR_PANIC = -14,
    /// The caller's buffer is too small. `needed` says how much it takes.
    HYBRID_ERR_BUFFER_TOO_SMALL = -15,
}
pub(super) use hybrid_status::*;

values!(hybrid_status {
    HYBRID_OK,
    HYBRID_ERR_NULL_ARGUMENT,
    HYBRID_ERR_INVALID_ARGUMENT,
    HYBRID_ERR_INVALID_UTF8,
    HYBRID_ERR_IO,
    HYBRID_ERR_BUNDLE,
    HYBRID_ERR_UNSUPPORTED,
    HYBRID_ERR_MODEL,
    HYBRID_ERR_TEMPLATE,
    HYBRID_ERR_CONTEXT_FULL,
    HYBRID_ERR_CANCELLED,
    HYBRID_ERR_CLOUD,
    HYBRID_ERR_STATE,
    HYBRID_ERR_BUSY,
    HYBRID_ERR_PANIC,
    HYBRID_ERR_BUFFER_TOO_SMALL,
});

/// The name of a status, for example "HYBRID_ERR_BUSY"; "unknown status" for any other number.
/// Static; never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn hybrid_status_name(status: Number<hybrid_status>) -> *const c_char {
    let name = status.known().map_or(c"unknown status", |status| match status {
        HYBRID_OK => c"HYBRID_OK",
        HYBRID_ERR_NULL_ARGUMENT => c"HYBRID_ERR_NULL_ARGUMENT",
        HYBRID_ERR_INVALID_ARGUMENT => c"HYBRID_ERR_INVALID_ARGUMENT",
        HYBRID_ERR_INVALID_UTF8 => c"HYBRID_ERR_INVALID_UTF8",
        HYBRID_ERR_IO => c"HYBRID_ERR_IO",
        HYBRID_ERR_BUNDLE => c"HYBRID_ERR_BUNDLE",
        HYBRID_ERR_UNSUPPORTED => c"HYBRID_ERR_UNSUPPORTED",
        HYBRID_ERR_MODEL => c"HYBRID_ERR_MODEL",
        HYBRID_ERR_TEMPLATE => c"HYBRID_ERR_TEMPLATE",
        HYBRID_ERR_CONTEXT_FULL => c"HYBRID_ERR_CONTEXT_FULL",
        HYBRID_ERR_CANCELLED => c"HYBRID_ERR_CANCELLED",
        HYBRID_ERR_CLOUD => c"HYBRID_ERR_CLOUD",
        HYBRID_ERR_STATE => c"HYBRID_ERR_STATE",
        HYBRID_ERR_BUSY => c"HYBRID_ERR_BUSY",
        HYBRID_ERR_PANIC => c"HYBRID_ERR_PANIC",
        HYBRID_ERR_BUFFER_TOO_SMALL => c"HYBRID_ERR_BUFFER_TOO_SMALL",
    });
    name.as_ptr()
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::super::numbers::Enum;
    use super::*;

    fn name(status: Number<hybrid_status>) -> String {
        // SAFETY: a static string.
        unsafe { CStr::from_ptr(hybrid_status_name(status)) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn every_status_has_its_own_name() {
        for &status in hybrid_status::ALL {
            assert_eq!(name(Number::of(status)), format!("{status:?}"));
        }
        assert_eq!(name(Number::raw(1)), "unknown status");
        assert_eq!(name(Number::raw(-16)), "unknown status");
    }
}
