//! Zeroed buffers that begin on a cache line.

use super::format::ALIGN;

/// A fixed run of zero-initialised elements whose first one is 64-byte aligned.
///
/// Built over a plain zeroed `Vec`, so that pages of a large buffer cost memory only once written.
pub struct Aligned<T> {
    storage: Vec<T>,
    start: usize,
    len: usize,
}

impl<T: Copy + Default> Aligned<T> {
    pub fn zeroed(len: usize) -> Self {
        let slack = ALIGN / size_of::<T>();
        let storage = vec![T::default(); len + slack];
        let start = storage.as_ptr().align_offset(ALIGN).min(slack);
        Aligned { storage, start, len }
    }

    pub fn from_slice(items: &[T]) -> Self {
        let mut buffer = Self::zeroed(items.len());
        buffer.copy_from_slice(items);
        buffer
    }
}

impl<T> std::ops::Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.storage[self.start..self.start + self.len]
    }
}

impl<T> std::ops::DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.storage[self.start..self.start + self.len]
    }
}

impl<T: Copy + Default> Clone for Aligned<T> {
    fn clone(&self) -> Self {
        Self::from_slice(self)
    }
}

impl<T> std::fmt::Debug for Aligned<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Aligned({} elements)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_on_a_cache_line() {
        for len in [0, 1, 63, 64, 1000] {
            let buffer = Aligned::<u16>::zeroed(len);
            assert_eq!((buffer.as_ptr() as usize % ALIGN, buffer.len()), (0, len));
            assert!(Aligned::from_slice(&vec![7u8; len]).iter().all(|&x| x == 7));
        }
    }
}
