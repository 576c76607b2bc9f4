//! Pointers to references: the only place where a C pointer is looked through.

use std::ffi::{CStr, c_char};
use std::path::PathBuf;

use super::fault::{Fault, Result, bad};
use super::inject;
use crate::error::Error;

/// An input the caller owns and keeps valid for the call.
///
/// # Safety
/// Header rule *Pointers*: `pointer` is NULL or valid for reads for the whole of `'a`.
pub(super) unsafe fn reference<'a, T>(pointer: *const T, name: &'static str) -> Result<&'a T> {
    check(pointer, name)?;
    inject::point();
    // SAFETY: not NULL and aligned (checked); valid by the caller's rule *Pointers*.
    Ok(unsafe { &*pointer })
}

/// An input that may be NULL.
///
/// # Safety
/// As [`reference()`].
pub(super) unsafe fn optional_reference<'a, T>(
    pointer: *const T,
    name: &'static str,
) -> Result<Option<&'a T>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's rule *Pointers*.
    unsafe { reference(pointer, name) }.map(Some)
}

/// A required out-value, set to `neutral` at once so that it is defined on every path.
///
/// # Safety
/// Header rule *Pointers*: `pointer` is NULL or valid for writes for the whole of `'a`, and
/// nothing else reads or writes it meanwhile.
pub(super) unsafe fn out<'a, T>(
    pointer: *mut T,
    name: &'static str,
    neutral: T,
) -> Result<&'a mut T> {
    check(pointer, name)?;
    // SAFETY: not NULL and aligned (checked); writable by the caller's rule *Pointers*.
    unsafe { pointer.write(neutral) };
    // SAFETY: as above, and initialised by the line before.
    Ok(unsafe { &mut *pointer })
}

/// An out-value that may be NULL when the caller does not want it.
///
/// # Safety
/// As [`out`].
pub(super) unsafe fn optional_out<'a, T>(
    pointer: *mut T,
    name: &'static str,
    neutral: T,
) -> Result<Option<&'a mut T>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's rule *Pointers*.
    unsafe { out(pointer, name, neutral) }.map(Some)
}

/// `count` elements. NULL is allowed for none.
///
/// # Safety
/// Header rule *Pointers*: `pointer` is NULL or valid for reads of `count` elements during `'a`.
pub(super) unsafe fn slice<'a, T>(
    pointer: *const T,
    count: usize,
    name: &'static str,
) -> Result<&'a [T]> {
    if count == 0 {
        return Ok(&[]);
    }
    check(pointer, name)?;
    if count > isize::MAX as usize / size_of::<T>().max(1) {
        return Err(bad(format!("the length {count} of {name} is impossible")));
    }
    // SAFETY: not NULL, aligned and of a possible size (checked); valid by rule *Pointers*.
    Ok(unsafe { std::slice::from_raw_parts(pointer, count) })
}

/// A buffer of the caller that is written to. NULL is allowed for none.
///
/// # Safety
/// Header rule *Pointers*: `pointer` is NULL or valid for writes of `capacity` elements during
/// `'a`, and nothing else reads or writes them meanwhile. `T` is an integer.
pub(super) unsafe fn buffer<'a, T>(
    pointer: *mut T,
    capacity: usize,
    name: &'static str,
) -> Result<&'a mut [T]> {
    if capacity == 0 {
        return Ok(&mut []);
    }
    check(pointer, name)?;
    let capacity = capacity.min(isize::MAX as usize / size_of::<T>().max(1));
    // SAFETY: initialises what the caller may not have, writable by rule *Pointers*.
    unsafe { pointer.write_bytes(0, capacity) };
    // SAFETY: not NULL and aligned (checked), initialised by the line before.
    Ok(unsafe { std::slice::from_raw_parts_mut(pointer, capacity) })
}

/// A buffer of the caller, and where to say how much it must hold.
pub(super) struct Copied<'a, T> {
    buffer: &'a mut [T],
    needed: Option<&'a mut usize>,
    unit: &'static str,
}

/// `needed` is 0 until [`Copied::set`].
///
/// # Safety
/// As [`buffer()`], and [`optional_out`] for `needed`.
pub(super) unsafe fn copied<'a, T: Copy>(
    pointer: *mut T,
    capacity: usize,
    needed: *mut usize,
    unit: &'static str,
) -> Result<Copied<'a, T>> {
    // SAFETY: the caller's rule *Pointers*.
    let needed = unsafe { optional_out(needed, "needed", 0) }?;
    // SAFETY: the caller's rule *Pointers*.
    let buffer = unsafe { buffer(pointer, capacity, "buffer") }?;
    Ok(Copied { buffer, needed, unit })
}

impl<T: Copy> Copied<'_, T> {
    /// Says that `needed` elements are needed, and lets `write` fill as many if there is room.
    pub(super) fn set_with(self, needed: usize, write: impl FnOnce(&mut [T])) -> Result<()> {
        if let Some(out) = self.needed {
            *out = needed;
        }
        let capacity = self.buffer.len();
        let room = self.buffer.get_mut(..needed).ok_or(Fault::TooSmall {
            capacity,
            needed,
            unit: self.unit,
        })?;
        write(room);
        Ok(())
    }

    pub(super) fn set(self, values: &[T]) -> Result<()> {
        self.set_with(values.len(), |room| room.copy_from_slice(values))
    }
}

impl Copied<'_, u8> {
    /// Text with a NUL behind it, which `needed` counts too.
    pub(super) fn set_text(self, text: &str) -> Result<()> {
        self.set_with(text.len() + 1, |room| {
            for (to, from) in room.iter_mut().zip(text.bytes().chain([0])) {
                *to = from;
            }
        })
    }
}

/// Bytes with a length that must be UTF-8.
///
/// # Safety
/// As [`slice()`].
pub(super) unsafe fn utf8<'a>(
    pointer: *const c_char,
    len: usize,
    name: &'static str,
) -> Result<&'a str> {
    check(pointer, name)?;
    // SAFETY: the caller's rule *Pointers*.
    let bytes = unsafe { slice(pointer.cast::<u8>(), len, name) }?;
    as_utf8(bytes, name)
}

/// A NUL-terminated string that must be UTF-8.
///
/// # Safety
/// Header rule *Strings*: `pointer` is NULL or a NUL-terminated string that is valid during `'a`.
pub(super) unsafe fn string<'a>(pointer: *const c_char, name: &'static str) -> Result<&'a str> {
    check(pointer, name)?;
    // SAFETY: not NULL (checked); terminated by the caller's rule *Strings*.
    let text = unsafe { CStr::from_ptr(pointer) };
    as_utf8(text.to_bytes(), name)
}

/// A NUL-terminated string of an option that is off when NULL.
///
/// # Safety
/// As [`string`].
pub(super) unsafe fn optional_string<'a>(
    pointer: *const c_char,
    name: &'static str,
) -> Result<Option<&'a str>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's rule *Strings*.
    unsafe { string(pointer, name) }.map(Some)
}

/// A path: NUL-terminated UTF-8, not empty.
///
/// # Safety
/// As [`string`].
pub(super) unsafe fn path(pointer: *const c_char, name: &'static str) -> Result<PathBuf> {
    // SAFETY: the caller's rule *Strings*.
    match unsafe { string(pointer, name) }? {
        "" => Err(bad(format!("{name} is an empty path"))),
        text => Ok(PathBuf::from(text)),
    }
}

/// A yes or no of C.
pub(super) fn flag(value: i32, name: &'static str) -> Result<bool> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(bad(format!("{name} is {other}; it is 0 or 1"))),
    }
}

fn check<T>(pointer: *const T, name: &'static str) -> Result<()> {
    if pointer.is_null() {
        return Err(Fault::Null(name));
    }
    if !pointer.is_aligned() {
        return Err(bad(format!("{name} is not aligned for its type")));
    }
    Ok(())
}

fn as_utf8<'a>(bytes: &'a [u8], what: &'static str) -> Result<&'a str> {
    std::str::from_utf8(bytes)
        .map_err(|e| Fault::Core(Error::InvalidUtf8 { what, at: e.valid_up_to() }))
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use super::*;

    fn text<T>(result: Result<T>) -> String {
        result.map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn null_is_named() {
        // SAFETY: NULL only.
        unsafe {
            assert_eq!(text(reference(ptr::null::<u32>(), "model")), "model is NULL");
            assert_eq!(text(out(ptr::null_mut::<u32>(), "length", 0)), "length is NULL");
            assert_eq!(text(string(ptr::null(), "path")), "path is NULL");
            assert_eq!(text(utf8(ptr::null(), 0, "text")), "text is NULL");
            assert_eq!(text(slice(ptr::null::<u8>(), 1, "messages")), "messages is NULL");
            assert!(slice(ptr::null::<u8>(), 0, "messages").unwrap().is_empty());
            assert!(optional_string(ptr::null(), "token").unwrap().is_none());
            assert!(optional_out(ptr::null_mut::<u32>(), "end", 0).unwrap().is_none());
        }
    }

    #[test]
    fn out_values_start_neutral() {
        let mut value = 7u32;
        // SAFETY: a live local.
        assert_eq!(*unsafe { out(&mut value, "length", 0) }.unwrap(), 0);
        assert_eq!(value, 0);
    }

    #[test]
    fn a_copy_says_what_it_needs() {
        for (capacity, fits) in [(0, false), (2, false), (3, true), (4, true)] {
            let (mut ids, mut needed) = ([7u32; 4], 9usize);
            // SAFETY: live locals.
            let out = unsafe { copied(ids.as_mut_ptr(), capacity, &mut needed, "ids") }.unwrap();
            assert_eq!(out.set(&[1, 2, 3]).is_ok(), fits);
            assert_eq!(needed, 3);
            assert_eq!(ids[3], if capacity == 4 { 0 } else { 7 }, "past the capacity");
            assert_eq!(ids[..3] == [1, 2, 3], fits);
        }
        let mut bytes = [7u8; 3];
        // SAFETY: a live local; NULL is allowed.
        let out = unsafe { copied(bytes.as_mut_ptr(), 3, ptr::null_mut(), "bytes") }.unwrap();
        out.set_text("ab").unwrap();
        assert_eq!(bytes, *b"ab\0");
        // SAFETY: as above.
        let out = unsafe { copied(bytes.as_mut_ptr(), 2, ptr::null_mut(), "bytes") }.unwrap();
        assert!(text(out.set_text("ab")).contains("holds 2 bytes, and 3 are needed"));
    }

    #[test]
    fn misaligned_and_impossible_are_refused() {
        let words = [0u32; 2];
        let odd = words.as_ptr().cast::<u8>().wrapping_add(1).cast::<u32>();
        // SAFETY: refused before it is read.
        unsafe {
            assert!(text(reference(odd, "x")).contains("not aligned"));
            assert!(text(buffer(odd.cast_mut(), 1, "x")).contains("not aligned"));
            assert!(text(slice(words.as_ptr(), usize::MAX, "x")).contains("impossible"));
        }
    }

    #[test]
    fn invalid_utf8_names_the_byte() {
        let bytes = b"ab\xff\xfe\0";
        // SAFETY: a live, terminated array.
        unsafe {
            assert_eq!(
                text(utf8(bytes.as_ptr().cast(), 4, "text")),
                "invalid UTF-8 in text at byte 2"
            );
            assert_eq!(
                text(string(bytes.as_ptr().cast(), "url")),
                "invalid UTF-8 in url at byte 2"
            );
            assert_eq!(utf8(bytes.as_ptr().cast(), 2, "text").unwrap(), "ab");
            assert!(text(path(c"".as_ptr(), "path")).contains("empty"));
        }
    }
}
