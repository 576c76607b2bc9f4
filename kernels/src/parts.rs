//! A slice that several threads write at once.

use std::marker::PhantomData;
use std::ops::Range;

/// A mutable slice, handed out in parts.
pub struct Parts<'a, T> {
    data: *mut T,
    len: usize,
    _borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: whoever takes parts on several threads promises that they are disjoint.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    pub fn new(slice: &'a mut [T]) -> Self {
        Parts { data: slice.as_mut_ptr(), len: slice.len(), _borrow: PhantomData }
    }

    /// # Safety
    /// Nothing else uses an element of `range` while the result lives.
    #[allow(clippy::mut_from_ref, reason = "that is what the promise is about")]
    #[inline(always)]
    pub unsafe fn get(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: within the slice, and the caller promises that nothing else uses it.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(range.start), range.len()) }
    }
}
