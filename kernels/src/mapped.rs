//! Zeroed numbers in memory of their own: pages cost memory once they are written, and go back to
//! the system when they are freed.
//!
//! The C library's heap does neither for large blocks that come and go. It keeps what was freed,
//! and clears a block that it hands out again, which makes every page of it cost memory.

use memmap2::MmapMut;

use super::aligned::Aligned;

/// A fixed run of zero-initialised numbers whose first one is 64-byte aligned.
#[derive(Debug)]
pub enum Mapped {
    /// With the number of numbers.
    Pages(MmapMut, usize),
    /// Where the system maps no memory.
    Heap(Aligned<u16>),
}

impl Mapped {
    pub fn zeroed(len: usize) -> Mapped {
        match MmapMut::map_anon(len.saturating_mul(size_of::<u16>())) {
            Ok(pages) => Mapped::Pages(pages, len),
            Err(_) => Mapped::Heap(Aligned::zeroed(len)),
        }
    }
}

impl std::ops::Deref for Mapped {
    type Target = [u16];

    #[inline(always)]
    fn deref(&self) -> &[u16] {
        match self {
            // SAFETY: the map begins a page, has `len` numbers of two bytes, of which any will do,
            // and is borrowed as long as the slice.
            Mapped::Pages(pages, len) => unsafe {
                std::slice::from_raw_parts(pages.as_ptr().cast(), *len)
            },
            Mapped::Heap(numbers) => numbers,
        }
    }
}

impl std::ops::DerefMut for Mapped {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u16] {
        match self {
            // SAFETY: as above, and borrowed by nobody else.
            Mapped::Pages(pages, len) => unsafe {
                std::slice::from_raw_parts_mut(pages.as_mut_ptr().cast(), *len)
            },
            Mapped::Heap(numbers) => numbers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for len in [0, 1, 2047, 2048, 2049, 1 << 20] {
            for mut mapped in [Mapped::zeroed(len), Mapped::Heap(Aligned::zeroed(len))] {
                assert_eq!((mapped.len(), mapped.as_ptr() as usize % 64), (len, 0));
                assert!(mapped.iter().all(|&number| number == 0));
                mapped.fill(0xABCD);
                assert!(mapped.iter().all(|&number| number == 0xABCD));
            }
        }
    }
}
