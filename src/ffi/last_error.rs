//! The last error
//!
//! The text of the last failed call says what was wrong and what to do about it.

use std::ffi::c_char;

use super::boundary::{self, enter};
use super::pointers;
use super::status::{HYBRID_ERR_BUFFER_TOO_SMALL, hybrid_status};

/// Copies the text of this thread's last failed call into `buffer`, NUL-terminated UTF-8. Before
/// the first failure the text is empty. A call that succeeds leaves it as it is, and so does this
/// one.
///
/// `capacity` is the size of `buffer` in bytes; `buffer` may be NULL if `capacity` is 0. `needed`,
/// if not NULL, gets the bytes that the whole text takes with its NUL. HYBRID_ERR_BUFFER_TOO_SMALL:
/// the text was cut at a whole character. 256 bytes hold nearly every text.
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
        let buffer = unsafe { pointers::buffer(buffer.cast::<u8>(), capacity, "buffer") }?;
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
