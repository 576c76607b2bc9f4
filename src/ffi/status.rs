//! Status codes and the last error
//!
//! Every function that can fail returns a hybrid_status: HYBRID_OK (0) or one of the negative
//! codes. The text of the last failed call says what was wrong and what to do about it.

use std::ffi::c_char;

use super::boundary::{self, Fault, enter};
use super::pointers;
use crate::error::Error;

/// The outcome of a call: HYBRID_OK or a negative HYBRID_ERR_ code.
pub type hybrid_status = i32;

/// The call did what it says.
pub const HYBRID_OK: hybrid_status = 0;
/// A pointer that must not be NULL is; the text names it.
pub const HYBRID_ERR_NULL_ARGUMENT: hybrid_status = -1;
/// An option or argument is out of its documented range.
pub const HYBRID_ERR_INVALID_ARGUMENT: hybrid_status = -2;
/// Bytes that must be UTF-8 are not; the text gives the position of the first bad byte.
pub const HYBRID_ERR_INVALID_UTF8: hybrid_status = -3;
/// A file could not be read; the text gives its path.
pub const HYBRID_ERR_IO: hybrid_status = -4;
/// A bundle is damaged: a hash, a size or the content of one of its files is wrong.
pub const HYBRID_ERR_BUNDLE: hybrid_status = -5;
/// Valid, but not supported by this build; the text names it.
pub const HYBRID_ERR_UNSUPPORTED: hybrid_status = -6;
/// The model could not be loaded or run.
pub const HYBRID_ERR_MODEL: hybrid_status = -7;
/// The chat template refused the messages.
pub const HYBRID_ERR_TEMPLATE: hybrid_status = -8;
/// The tokens do not fit into the session's context; nothing was consumed.
pub const HYBRID_ERR_CONTEXT_FULL: hybrid_status = -9;
/// The session's hybrid_cancel was raised; the session is as it was before the call.
pub const HYBRID_ERR_CANCELLED: hybrid_status = -10;
/// The cloud client could not be set up (URL, certificates, token, clock). A consult that
/// fails while generating is never a status: see hybrid_step_result.failure.
pub const HYBRID_ERR_CLOUD: hybrid_status = -11;
/// The call does not fit the state of the object, for example a step before any prompt.
pub const HYBRID_ERR_STATE: hybrid_status = -12;
/// Another call is using this session right now.
pub const HYBRID_ERR_BUSY: hybrid_status = -13;
/// A defect of the library, caught. The session that was in use answers every later call with
/// this status too; free it. Other sessions go on.
pub const HYBRID_ERR_PANIC: hybrid_status = -14;
/// The caller's buffer is too small.
pub const HYBRID_ERR_BUFFER_TOO_SMALL: hybrid_status = -15;

pub(super) fn of(fault: &Fault) -> hybrid_status {
    match fault {
        Fault::Null(_) => HYBRID_ERR_NULL_ARGUMENT,
        Fault::Busy => HYBRID_ERR_BUSY,
        Fault::TooSmall { .. } => HYBRID_ERR_BUFFER_TOO_SMALL,
        Fault::Poisoned | Fault::Panic(_) => HYBRID_ERR_PANIC,
        Fault::Core(error) => of_error(error),
    }
}

fn of_error(error: &Error) -> hybrid_status {
    match error {
        Error::InvalidArgument(_) => HYBRID_ERR_INVALID_ARGUMENT,
        Error::InvalidUtf8 { .. } => HYBRID_ERR_INVALID_UTF8,
        Error::Io { .. } => HYBRID_ERR_IO,
        Error::Bundle(_) => HYBRID_ERR_BUNDLE,
        Error::Unsupported(_) => HYBRID_ERR_UNSUPPORTED,
        Error::Model(_) => HYBRID_ERR_MODEL,
        Error::Template(_) => HYBRID_ERR_TEMPLATE,
        Error::ContextFull { .. } => HYBRID_ERR_CONTEXT_FULL,
        Error::Cancelled => HYBRID_ERR_CANCELLED,
        Error::Cloud(_) => HYBRID_ERR_CLOUD,
        Error::State(_) => HYBRID_ERR_STATE,
    }
}

/// The name of a status, for example "HYBRID_ERR_BUSY". Static; never NULL, also for a number
/// that is no status.
#[unsafe(no_mangle)]
pub extern "C" fn hybrid_status_name(status: hybrid_status) -> *const c_char {
    let name = match status {
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
        _ => c"unknown status",
    };
    name.as_ptr()
}

/// Copies the text of this thread's last failed call into `buffer`, NUL-terminated UTF-8.
/// A call that succeeds leaves the text as it is; before the first failure it is empty.
///
/// `buffer` may be NULL if `capacity` is 0. `needed`, if not NULL, gets the bytes that the whole
/// text and its NUL take. HYBRID_ERR_BUFFER_TOO_SMALL: the text was cut at a whole character (256
/// bytes hold nearly every one). Reading the text leaves it as it is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_last_error(
    buffer: *mut c_char,
    capacity: usize,
    needed: *mut usize,
) -> hybrid_status {
    let mut too_small = false;
    let status = enter(|| {
        // SAFETY: header rule *Pointers*.
        let needed = unsafe { pointers::optional_out(needed, "needed", 0) }?;
        // SAFETY: header rule *Pointers*: `capacity` bytes are writable.
        let buffer = unsafe { pointers::buffer(buffer, capacity, "buffer") }?;
        boundary::with_last_error(|text| {
            if let Some(needed) = needed {
                *needed = text.len() + 1;
            }
            too_small = !copy_terminated(text, buffer);
        });
        Ok(())
    });
    if too_small { HYBRID_ERR_BUFFER_TOO_SMALL } else { status }
}

/// Copies what fits and a NUL; false when something was cut.
fn copy_terminated(text: &str, buffer: &mut [u8]) -> bool {
    let Some(room) = buffer.len().checked_sub(1) else { return false };
    let kept = &text[..text.floor_char_boundary(room)];
    buffer[..kept.len()].copy_from_slice(kept.as_bytes());
    buffer[kept.len()] = 0;
    kept.len() == text.len()
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;

    fn name(status: hybrid_status) -> String {
        // SAFETY: a static string.
        unsafe { CStr::from_ptr(hybrid_status_name(status)) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn every_status_has_its_own_name() {
        let names: Vec<String> = (HYBRID_ERR_BUFFER_TOO_SMALL..=HYBRID_OK).map(name).collect();
        for (i, one) in names.iter().enumerate() {
            assert!(one.starts_with("HYBRID_"), "status {i}: {one}");
            assert!(!names[..i].contains(one), "{one} twice");
        }
        assert_eq!(name(1), "unknown status");
        assert_eq!(name(HYBRID_ERR_BUFFER_TOO_SMALL - 1), "unknown status");
    }

    #[test]
    fn texts_are_cut_at_characters_and_terminated() {
        for (text, capacity, want, whole) in [
            ("abc", 4, "abc", true),
            ("abc", 3, "ab", false),
            ("aé", 4, "aé", true),
            ("aé", 3, "a", false),
            ("", 1, "", true),
            ("a", 1, "", false),
        ] {
            let mut buffer = vec![b'x'; capacity];
            assert_eq!(copy_terminated(text, &mut buffer), whole, "{text} {capacity}");
            assert_eq!(CStr::from_bytes_until_nul(&buffer).unwrap().to_str().unwrap(), want);
        }
        assert!(!copy_terminated("", &mut []));
    }
}
