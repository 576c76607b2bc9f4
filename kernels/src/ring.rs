//! Which positions a cache still has, and where they lie.

use std::ops::Range;

use crate::error::{Error, Result};

/// The positions of a cache: `len` were pushed, and the last `slots` of them are there. Each new
/// one overwrites the oldest once all slots are taken.
#[derive(Debug, Clone)]
pub struct Ring {
    len: usize,
    /// The first position that is there; 0: none was lost.
    oldest: usize,
    slots: usize,
    capacity: usize,
    /// Positions before the next one that it needs.
    need: usize,
}

impl Ring {
    /// `capacity`: positions that can be pushed; `slots`: at least one.
    pub(super) fn new(capacity: usize, need: usize, slots: usize) -> Ring {
        Ring { len: 0, oldest: 0, slots, capacity, need }
    }

    /// Positions pushed.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Whether it can go back to every length it had.
    pub fn has_all(&self) -> bool {
        self.need >= self.capacity
    }

    /// The shortest length besides 0 that [`Ring::truncate`] can go back to once `more` positions
    /// are pushed. 0: to any.
    pub fn reach(&self, more: usize) -> usize {
        match self.oldest.max((self.len + more).saturating_sub(self.slots)) {
            0 => 0,
            oldest => oldest.saturating_add(self.need),
        }
    }

    /// Forgets all but the first `len` positions; does nothing when there are fewer. `len` is 0 or
    /// within [`Ring::reach`].
    pub fn truncate(&mut self, len: usize) {
        debug_assert!(len == 0 || len >= self.reach(0).min(self.len));
        self.len = self.len.min(len);
        if len == 0 {
            self.oldest = 0;
        }
    }

    /// The positions that the one at `len` needs: what must be kept to go on from there.
    pub(super) fn needed(&self, len: usize) -> Range<usize> {
        len.saturating_sub(self.need)..len
    }

    /// Holds what [`Ring::needed`] says, and nothing else.
    pub(super) fn restart(&mut self, len: usize) {
        self.len = len;
        self.oldest = self.needed(len).start;
    }

    /// Fails when `len` positions do not fit in all.
    pub(super) fn check_capacity(&self, len: usize) -> Result<()> {
        match len <= self.capacity {
            true => Ok(()),
            false => Err(Error::Full { used: 0, needed: len, limit: self.capacity }),
        }
    }

    /// Fails when `count` more positions do not fit.
    pub(super) fn check_room(&self, count: usize) -> Result<()> {
        match count <= self.capacity - self.len {
            true => Ok(()),
            false => Err(Error::Full { used: self.len, needed: count, limit: self.capacity }),
        }
    }

    /// How many positions can be pushed before one is read without losing what that one needs.
    pub(super) fn most_at_once(&self) -> usize {
        match self.slots < self.capacity {
            true => self.slots.saturating_sub(self.need),
            false => usize::MAX,
        }
    }

    #[inline(always)]
    pub(super) fn push(&mut self) {
        self.len += 1;
        self.oldest = self.oldest.max(self.len.saturating_sub(self.slots));
    }

    #[inline(always)]
    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    /// Where a position lies.
    #[inline(always)]
    pub(super) fn slot(&self, position: usize) -> usize {
        position % self.slots
    }
}

/// What a layer remembers of the tokens before.
pub trait Cache {
    fn ring(&self) -> &Ring;

    fn ring_mut(&mut self) -> &mut Ring;

    /// Bytes that [`Cache::write`] writes for `len` positions.
    fn bytes(&self, len: usize) -> usize;

    /// What a position after the first `len` needs, as it can be kept outside. `len` is 0, or
    /// within the ring's reach and no more than its length.
    fn write(&self, len: usize, out: &mut dyn FnMut(&[u8]));

    /// Takes the bytes that [`Cache::write`] wrote for `len` positions in place of what there is.
    ///
    /// Errors, with nothing changed: [`Error::Full`]; [`Error::InvalidArgument`] for another number
    /// of bytes.
    fn read(&mut self, len: usize, bytes: &[u8]) -> Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_overwritten_is_out_of_reach() {
        // Three positions needed, five kept.
        let mut ring = Ring::new(100, 3, 5);
        assert_eq!(ring.most_at_once(), 2);
        (0..5).for_each(|_| ring.push());
        assert_eq!((ring.reach(0), ring.reach(1), ring.reach(4)), (0, 4, 7));
        ring.push();
        ring.push();
        // 2 to 6 are there: 5 and 6 need the three before.
        assert_eq!((ring.len(), ring.reach(0), ring.slot(6)), (7, 5, 1));
        ring.truncate(5);
        assert_eq!((ring.len(), ring.reach(0), ring.reach(2), ring.reach(3)), (5, 5, 5, 6));
        ring.push();
        ring.push();
        assert_eq!(ring.reach(0), 5);
        ring.restart(50);
        assert_eq!((ring.len(), ring.needed(50), ring.reach(0)), (50, 47..50, 50));
        ring.restart(2);
        assert_eq!((ring.needed(2), ring.reach(0)), (0..2, 0));
        ring.truncate(0);
        assert_eq!((ring.len(), ring.reach(0), ring.reach(6)), (0, 0, 4));
    }

    #[test]
    fn what_needs_everything_keeps_everything() {
        let mut ring = Ring::new(10, usize::MAX, 16);
        assert!(ring.has_all() && ring.most_at_once() == usize::MAX);
        (0..10).for_each(|_| ring.push());
        assert_eq!((ring.reach(0), ring.needed(7), ring.slot(9)), (0, 0..7, 9));
        assert!(matches!(ring.check_room(1), Err(Error::Full { used: 10, needed: 1, limit: 10 })));
        assert!(ring.check_capacity(11).is_err() && ring.check_capacity(10).is_ok());
    }
}
