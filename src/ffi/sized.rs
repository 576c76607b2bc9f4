//! Structs that may grow: `struct_size` comes first and says how much of one the caller's header
//! knows.
//!
//! The rule, as the header's chapter *Structs that grow* states it. Later releases only append
//! fields, and no struct ends in padding. A field is naturally aligned, so a size that is a
//! multiple of the struct's alignment never cuts one. Which of these sizes a release had is not
//! known here: all of them from the first release's on are accepted. Options: fields that the
//! caller does not know take their defaults, and fields that this library does not know must be
//! zero. Results: the library writes what the caller knows, and zeroes what it does not know
//! itself.

use super::fault::{Fault, Result, bad};

/// No struct comes near this; a larger size is an uninitialised field.
const LARGEST: usize = 4096;

/// A struct that starts with `struct_size`.
///
/// # Safety
/// `repr(C)`, starts with `struct_size: usize`, and holds integers, floats and raw pointers only,
/// so that any bytes are a valid value.
pub(super) unsafe trait SizedStruct: Copy {
    /// The name in the header.
    const NAME: &'static str;
    /// Its size in the first release; smaller ones are mistakes. See [`end_of`].
    const FIRST: usize;
    /// Options: the defaults. Results: the neutral value. `struct_size` is the whole struct's.
    fn neutral() -> Self;
}

/// Where a field ends: `FIRST` is the end of the first release's last field, so that it stays when
/// fields are appended.
macro_rules! end_of {
    ($type:ty, $field:ident) => {{
        const fn size<T, F>(_field: fn(&T) -> &F) -> usize {
            size_of::<F>()
        }
        std::mem::offset_of!($type, $field) + size(|all: &$type| &all.$field)
    }};
}
pub(super) use end_of;

/// Reads options. NULL means all defaults.
///
/// # Safety
/// Header rule *Structs that grow*: `pointer` is NULL or valid for reads of `struct_size` bytes.
pub(super) unsafe fn read<T: SizedStruct>(pointer: *const T, name: &'static str) -> Result<T> {
    let mut value = T::neutral();
    if pointer.is_null() {
        return Ok(value);
    }
    // SAFETY: the caller's rule *Structs that grow*.
    let size = unsafe { size_of_caller(pointer, name) }?;
    let known = size.min(size_of::<T>());
    // SAFETY: `size` bytes are readable by that rule.
    let tail = unsafe { tail(pointer, known, size) };
    if tail.iter().any(|&byte| byte != 0) {
        return Err(bad(format!(
            "{name} sets fields of a newer {} than this library has ({size} > {} bytes); leave \
             them zero or update the library",
            T::NAME,
            size_of::<T>()
        )));
    }
    // SAFETY: both sides hold `known` bytes, and any bytes are valid (trait contract).
    unsafe { copy(pointer, &mut value, known) };
    Ok(value)
}

/// Reads options that must be given.
///
/// # Safety
/// As [`read`].
pub(super) unsafe fn read_required<T: SizedStruct>(
    pointer: *const T,
    name: &'static str,
) -> Result<T> {
    check_pointer(pointer, name)?;
    // SAFETY: the caller's rule.
    unsafe { read(pointer, name) }
}

/// Reads an array of options, each as long as the first.
///
/// # Safety
/// As [`read`], for each of `count` elements, which lie `struct_size` bytes apart.
pub(super) unsafe fn read_array<T: SizedStruct>(
    pointer: *const T,
    count: usize,
    name: &'static str,
) -> Result<Vec<T>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    // SAFETY: the caller's rule.
    let size = unsafe { size_of_caller(pointer, name) }?;
    if count > isize::MAX as usize / size {
        return Err(bad(format!("the length {count} of {name} is impossible")));
    }
    let element = |index: usize| {
        let element = pointer.wrapping_byte_add(index * size);
        // SAFETY: the caller's rule.
        if unsafe { size_of_caller(element, name) }? != size {
            return Err(bad(format!("struct_size differs within {name}; use one sizeof for all")));
        }
        // SAFETY: the caller's rule.
        unsafe { read(element, name) }
    };
    (0..count).map(element).collect()
}

/// Writes a struct of `size` bytes: [`SizedStruct::neutral`] and zeros behind it. Also how options
/// are initialised.
///
/// # Safety
/// Header rule *Structs that grow*: `pointer` is NULL or valid for writes of `size` bytes.
pub(super) unsafe fn init<T: SizedStruct>(
    pointer: *mut T,
    size: usize,
    name: &'static str,
) -> Result<()> {
    // SAFETY: the caller's rule.
    unsafe { Out::new(pointer, size, name) }.map(drop)
}

/// A result struct of the caller, neutral until [`Out::set`].
pub(super) struct Out<T> {
    pointer: *mut T,
    size: usize,
}

/// A required result struct; the caller has set its `struct_size`.
///
/// # Safety
/// Header rule *Structs that grow*: `pointer` is NULL or valid for writes of `struct_size` bytes,
/// and nothing else reads or writes them during the call.
pub(super) unsafe fn out<T: SizedStruct>(pointer: *mut T, name: &'static str) -> Result<Out<T>> {
    // SAFETY: the caller's rule.
    let size = unsafe { size_of_caller(pointer, name) }?;
    // SAFETY: the caller's rule.
    unsafe { Out::new(pointer, size, name) }
}

/// A result struct that the caller may not want: NULL is none.
///
/// # Safety
/// As [`out`].
pub(super) unsafe fn optional_out<T: SizedStruct>(
    pointer: *mut T,
    name: &'static str,
) -> Result<Option<Out<T>>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's rule.
    unsafe { out(pointer, name) }.map(Some)
}

impl<T: SizedStruct> Out<T> {
    /// # Safety
    /// As [`init`].
    unsafe fn new(pointer: *mut T, size: usize, name: &'static str) -> Result<Out<T>> {
        check_pointer(pointer, name)?;
        check_size::<T>(size, name)?;
        let out = Out { pointer, size };
        let known = size.min(size_of::<T>());
        // SAFETY: `size` bytes are writable by the caller's rule.
        unsafe { pointer.cast::<u8>().add(known).write_bytes(0, size - known) };
        out.set(T::neutral());
        Ok(out)
    }

    /// Writes as much of `value` as the caller knows; `struct_size` stays the caller's.
    pub(super) fn set(&self, value: T) {
        let known = self.size.min(size_of::<T>());
        // SAFETY: `size` bytes are writable (contract of `new`), and `value` holds `known`.
        unsafe { copy(&value, self.pointer, known) };
        // SAFETY: the trait's contract: `struct_size` comes first.
        unsafe { self.pointer.cast::<usize>().write(self.size) };
    }
}

/// # Safety
/// `from` and `to` hold `bytes` bytes each and do not overlap.
unsafe fn copy<T>(from: *const T, to: *mut T, bytes: usize) {
    // SAFETY: the caller's contract.
    unsafe { std::ptr::copy_nonoverlapping(from.cast::<u8>(), to.cast::<u8>(), bytes) };
}

/// The bytes from `known` to `size`.
///
/// # Safety
/// `pointer` is valid for reads of `size` bytes and `known <= size`.
unsafe fn tail<'a, T>(pointer: *const T, known: usize, size: usize) -> &'a [u8] {
    // SAFETY: the caller's contract.
    unsafe { std::slice::from_raw_parts(pointer.cast::<u8>().add(known), size - known) }
}

fn check_pointer<T>(pointer: *const T, name: &'static str) -> Result<()> {
    if pointer.is_null() {
        return Err(Fault::Null(name));
    }
    if !pointer.is_aligned() {
        return Err(bad(format!("{name} is not aligned for its type")));
    }
    Ok(())
}

/// # Safety
/// `pointer` is NULL or valid for reads of one `usize`.
unsafe fn size_of_caller<T: SizedStruct>(pointer: *const T, name: &'static str) -> Result<usize> {
    check_pointer(pointer, name)?;
    // SAFETY: the caller's contract; `struct_size` comes first.
    let size = unsafe { pointer.cast::<usize>().read() };
    check_size::<T>(size, name)?;
    Ok(size)
}

fn check_size<T: SizedStruct>(size: usize, name: &'static str) -> Result<()> {
    // A field appended to a struct that ends in padding would not change its size.
    const { assert!(T::FIRST.is_multiple_of(align_of::<T>()), "the struct ends in padding") };
    if (T::FIRST..=LARGEST).contains(&size) && size.is_multiple_of(align_of::<T>()) {
        return Ok(());
    }
    Err(bad(format!("struct_size of {name} is {size}; set it to sizeof({})", T::NAME)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a caller of the first release knows.
    #[repr(C)]
    #[derive(Debug, Clone, Copy, PartialEq)]
    struct First {
        struct_size: usize,
        a: u32,
        b: f32,
    }

    /// The same struct in this library.
    #[repr(C)]
    #[derive(Debug, Clone, Copy, PartialEq)]
    struct Now {
        struct_size: usize,
        a: u32,
        b: f32,
        c: u64,
    }

    /// And in a later one.
    #[repr(C)]
    #[derive(Debug, Clone, Copy, PartialEq)]
    struct Later {
        now: Now,
        d: u64,
    }

    // SAFETY: C layout, plain numbers.
    unsafe impl SizedStruct for Now {
        const NAME: &'static str = "hybrid_now";
        const FIRST: usize = end_of!(Now, b);
        fn neutral() -> Now {
            Now { struct_size: size_of::<Now>(), a: 1, b: 2.0, c: 3 }
        }
    }

    fn later(d: u64) -> Later {
        Later { now: Now { struct_size: size_of::<Later>(), a: 10, b: 20.0, c: 30 }, d }
    }

    #[test]
    fn older_callers_get_defaults_for_what_they_do_not_know() {
        let old = First { struct_size: size_of::<First>(), a: 10, b: 20.0 };
        // SAFETY: `struct_size` bytes are there.
        let got = unsafe { read::<Now>((&raw const old).cast(), "options") }.unwrap();
        assert_eq!((got.a, got.b, got.c), (10, 20.0, 3));
    }

    #[test]
    fn newer_callers_must_leave_the_rest_zero() {
        // SAFETY: `struct_size` bytes are there.
        let read = |l: &Later| unsafe { read::<Now>((&raw const *l).cast(), "options") };
        assert_eq!(read(&later(0)).unwrap().c, 30);
        let text = read(&later(1)).unwrap_err().to_string();
        assert!(text.contains("newer hybrid_now"), "{text}");
    }

    #[test]
    fn an_array_is_read_in_steps_of_its_own_size() {
        let read = |first: *const Now, count| {
            // SAFETY: `count` elements of `struct_size` bytes are there.
            unsafe { read_array(first, count, "list") }
                .map(|all| all.iter().map(|now| (now.a, now.c)).collect::<Vec<_>>())
                .map_err(|fault| fault.to_string())
        };
        let old = [10, 11].map(|a| First { struct_size: size_of::<First>(), a, b: 0.0 });
        assert_eq!(read(old.as_ptr().cast(), 2).unwrap(), [(10, 3), (11, 3)]);
        let mut new = [later(0), later(0)];
        (new[1].now.a, new[1].now.c) = (11, 31);
        assert_eq!(read(new.as_ptr().cast(), 2).unwrap(), [(10, 30), (11, 31)]);
        assert_eq!(read(std::ptr::null(), 0).unwrap(), []);

        new[1].d = 1;
        assert!(read(new.as_ptr().cast(), 2).unwrap_err().contains("newer hybrid_now"));
        new[1].now.struct_size = size_of::<Now>();
        assert!(read(new.as_ptr().cast(), 2).unwrap_err().contains("differs within list"));
        let many = read(new.as_ptr().cast(), usize::MAX).unwrap_err();
        assert!(many.contains("impossible"), "{many}");
        assert_eq!(read(std::ptr::null(), 1).unwrap_err(), "list is NULL");
    }

    #[test]
    fn impossible_sizes_are_refused() {
        for size in [0, 4, 8, size_of::<First>() - 8, size_of::<Now>() - 1, 4104, usize::MAX] {
            let now = Now { struct_size: size, a: 0, b: 0.0, c: 0 };
            // SAFETY: refused before anything behind `struct_size` is read.
            let text = unsafe { read(&now, "options") }.unwrap_err().to_string();
            assert!(text.contains("sizeof(hybrid_now)"), "{text}");
        }
    }

    #[test]
    fn results_are_written_as_far_as_the_caller_knows() {
        let mut pair = [First { struct_size: size_of::<First>(), a: 77, b: 77.0 }; 2];
        // SAFETY: `struct_size` bytes are there.
        let old = unsafe { out::<Now>(pair.as_mut_ptr().cast(), "result") }.unwrap();
        assert_eq!(pair[0], First { struct_size: size_of::<First>(), a: 1, b: 2.0 });
        old.set(Now { struct_size: 0, a: 5, b: 6.0, c: 7 });
        assert_eq!(pair[0], First { struct_size: size_of::<First>(), a: 5, b: 6.0 });
        assert_eq!(pair[1].a, 77, "written past the caller's struct");

        let mut new = later(9);
        // SAFETY: `struct_size` bytes are there.
        let out = unsafe { out::<Now>((&raw mut new).cast(), "result") }.unwrap();
        assert_eq!((new.now.struct_size, new.now.c, new.d), (size_of::<Later>(), 3, 0));
        out.set(Now { struct_size: 0, a: 5, b: 6.0, c: 7 });
        assert_eq!((new.now.struct_size, new.now.c), (size_of::<Later>(), 7));
    }

    #[test]
    fn init_sets_defaults_and_the_size() {
        let mut now = Now { struct_size: 0, a: 0, b: 0.0, c: 0 };
        // SAFETY: a live local of that size.
        unsafe { init(&mut now, size_of::<Now>(), "options") }.unwrap();
        assert_eq!(now, Now::neutral());
        // SAFETY: refused.
        assert!(unsafe { init(&mut now, 3, "options") }.is_err());
    }

    #[test]
    fn misaligned_pointers_are_refused_before_anything_is_written() {
        let mut bytes = [7u64; 8];
        let odd = bytes.as_mut_ptr().cast::<u8>().wrapping_add(4).cast::<Now>();
        let size = size_of::<Now>();
        // SAFETY: refused.
        let results = unsafe {
            [
                init(odd, size, "options"),
                out(odd, "options").map(drop),
                read(odd, "options").map(drop),
                read_required(odd, "options").map(drop),
            ]
        };
        for result in results {
            assert!(result.unwrap_err().to_string().contains("options is not aligned"));
        }
        assert_eq!(bytes, [7; 8]);
    }
}
