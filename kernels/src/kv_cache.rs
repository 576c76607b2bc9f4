//! Keys and values of the tokens consumed so far, as f16, written in place.
//!
//! A layer that sees a window keeps the last positions only, in a ring: the window, and some more
//! so that the last tokens can be forgotten again.

use std::ops::Range;

use super::lanes::{LANES, Lanes};
use super::mapped::Mapped;
use super::ring::{Cache, Ring};
use super::rope::Rope;
use crate::error::{Error, Result};

/// From each multiple of it on, as many positions lie one after the other: what attention reads at
/// once. A multiple of [`LANES`].
pub(super) const CHUNK: usize = 128;

/// The sizes of one attention layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionShape {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
}

impl AttentionShape {
    /// Fails unless every key/value head serves the same number, at least one, of heads.
    pub fn new(heads: usize, kv_heads: usize, head_dim: usize) -> Result<Self> {
        let range = 1..=65_536;
        let sensible = [heads, kv_heads, head_dim].iter().all(|n| range.contains(n));
        if !sensible || !heads.is_multiple_of(kv_heads) {
            return Err(Error::Model(format!(
                "attention with {heads} heads, {kv_heads} key/value heads of {head_dim}"
            )));
        }
        Ok(AttentionShape { heads, kv_heads, head_dim })
    }

    pub fn heads(&self) -> usize {
        self.heads
    }

    pub fn kv_heads(&self) -> usize {
        self.kv_heads
    }

    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Values per token of the fused projection: queries, keys, values.
    pub fn qkv_width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    /// Values per token of the output.
    pub fn out_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Every key/value head with every one of these positions.
    fn rows(&self, positions: Range<usize>) -> impl Iterator<Item = (usize, usize)> {
        let all = move |head| positions.clone().map(move |position| (head, position));
        (0..self.kv_heads).flat_map(all)
    }

    /// Length of a stored value row: the head padded to whole vectors.
    pub(super) fn value_dim(&self) -> usize {
        self.head_dim.next_multiple_of(LANES)
    }
}

/// The cache of one layer.
///
/// Keys lie in tiles of 16 positions, `[kv head][tile][dimension][position]`, so that 16 scores
/// come out of one register without a horizontal sum. Values are `[kv head][position][dimension]`.
/// Memory is reserved for all slots, used as positions are filled, and given back.
#[derive(Debug)]
pub struct KvCache {
    shape: AttentionShape,
    ring: Ring,
    keys: Mapped,
    values: Mapped,
}

impl KvCache {
    /// A cache of a window can forget so many of the last positions and go on; as many can be fed
    /// at once.
    pub const SLACK: usize = 2 * CHUNK;

    /// `capacity`: positions it can hold, at most [`Rope::POSITIONS`].
    pub fn new(shape: AttentionShape, capacity: usize) -> Result<KvCache> {
        KvCache::with_need(shape, capacity, usize::MAX)
    }

    /// For a layer that sees `window` positions, its own included: it takes no more memory than
    /// they and [`KvCache::SLACK`] need, whatever the capacity.
    pub fn with_window(shape: AttentionShape, capacity: usize, window: usize) -> Result<KvCache> {
        KvCache::with_need(shape, capacity, window.saturating_sub(1))
    }

    fn with_need(shape: AttentionShape, capacity: usize, need: usize) -> Result<KvCache> {
        let kept = need.saturating_add(KvCache::SLACK).div_ceil(CHUNK).saturating_mul(CHUNK);
        let slots = kept.min(capacity.div_ceil(LANES).saturating_mul(LANES));
        let elements = slots
            .checked_mul(shape.kv_heads)
            .and_then(|n| n.checked_mul(shape.value_dim()))
            .filter(|n| *n < isize::MAX as usize / 8);
        match elements {
            Some(elements) if (1..=Rope::POSITIONS).contains(&capacity) => Ok(KvCache {
                shape,
                ring: Ring::new(capacity, need, slots),
                keys: Mapped::zeroed(slots * shape.kv_heads * shape.head_dim),
                values: Mapped::zeroed(elements),
            }),
            _ => Err(Error::InvalidArgument(format!(
                "a context of {capacity} tokens; it must be 1 to {}",
                Rope::POSITIONS
            ))),
        }
    }

    pub fn shape(&self) -> AttentionShape {
        self.shape
    }

    /// Positions filled, also those that a window does not see any more.
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// Where a position's key begins; its dimensions are [`LANES`] apart.
    #[inline(always)]
    fn key_at(&self, head: usize, position: usize) -> usize {
        let slot = self.ring.slot(position);
        let tile = head * self.ring.slots() / LANES + slot / LANES;
        tile * self.shape.head_dim * LANES + slot % LANES
    }

    /// Where a position's value begins.
    #[inline(always)]
    fn value_at(&self, head: usize, position: usize) -> usize {
        (head * self.ring.slots() + self.ring.slot(position)) * self.shape.value_dim()
    }

    /// Fails, with nothing changed, when `count` more positions cannot be fed at once.
    pub(super) fn check_room(&self, count: usize) -> Result<()> {
        let most = self.ring.most_at_once();
        if count > most {
            return Err(Error::InvalidArgument(format!(
                "{count} tokens at once for a cache of a window, which takes {most}"
            )));
        }
        self.ring.check_room(count)
    }

    /// Appends one position: keys already turned, both `[kv head][dimension]`. There must be room.
    #[inline(always)]
    pub(super) fn push<L: Lanes>(&mut self, keys: &[f32], values: &[f32]) {
        let (dim, padded) = (self.shape.head_dim, self.shape.value_dim());
        let position = self.ring.len();
        let lane = self.ring.slot(position) % LANES;
        for head in 0..self.shape.kv_heads {
            let key = &keys[head * dim..(head + 1) * dim];
            let value = &values[head * dim..(head + 1) * dim];
            let (tile, row) = (self.key_at(head, position) - lane, self.value_at(head, position));
            let column = &mut self.keys[tile..][..dim * LANES];
            let row = &mut self.values[row..][..padded];
            for (part, column) in key.chunks(LANES).zip(column.chunks_mut(LANES * LANES)) {
                let halves = L::load_part(part, 0.0).to_half_saturated();
                for (slots, half) in column.as_chunks_mut::<LANES>().0.iter_mut().zip(halves) {
                    slots[lane] = half;
                }
            }
            for (part, row) in value.chunks(LANES).zip(row.as_chunks_mut::<LANES>().0) {
                *row = L::load_part(part, 0.0).to_half_saturated();
            }
        }
        self.ring.push();
    }

    /// A head's keys from position `start` on, a multiple of [`CHUNK`], up to the next one at
    /// least: tiles of 16 positions.
    #[inline(always)]
    pub(super) fn keys(&self, head: usize, start: usize) -> &[[u16; LANES]] {
        let (dim, slots) = (self.shape.head_dim, self.ring.slots());
        let head = &self.keys[head * slots * dim..][..slots * dim];
        head[self.ring.slot(start) * dim..].as_chunks().0
    }

    /// A head's value rows from position `start` on, as [`KvCache::keys`], in vectors.
    #[inline(always)]
    pub(super) fn values(&self, head: usize, start: usize) -> &[[u16; LANES]] {
        let size = self.ring.slots() * self.shape.value_dim();
        let head = &self.values[head * size..][..size];
        head[self.ring.slot(start) * self.shape.value_dim()..].as_chunks().0
    }
}

impl Cache for KvCache {
    fn ring(&self) -> &Ring {
        &self.ring
    }

    fn ring_mut(&mut self) -> &mut Ring {
        &mut self.ring
    }

    fn bytes(&self, len: usize) -> usize {
        2 * size_of::<u16>()
            * self.shape.kv_heads
            * self.shape.head_dim
            * self.ring.needed(len).len()
    }

    /// `[kv head][position]`, of each the key's and then the value's dimensions, f16 in little
    /// endian.
    fn write(&self, len: usize, out: &mut dyn FnMut(&[u8])) {
        let dim = self.shape.head_dim;
        let mut row = vec![0; 2 * size_of::<u16>() * dim];
        for (head, position) in self.shape.rows(self.ring.needed(len)) {
            let (keys, values) = row.split_at_mut(size_of::<u16>() * dim);
            let column = self.keys[self.key_at(head, position)..].iter().step_by(LANES);
            let value = &self.values[self.value_at(head, position)..];
            for (bytes, half) in keys.as_chunks_mut().0.iter_mut().zip(column) {
                *bytes = half.to_le_bytes();
            }
            for (bytes, half) in values.as_chunks_mut().0.iter_mut().zip(value) {
                *bytes = half.to_le_bytes();
            }
            out(&row);
        }
    }

    fn read(&mut self, len: usize, bytes: &[u8]) -> Result<()> {
        self.ring.check_capacity(len)?;
        if bytes.len() != self.bytes(len) {
            return Err(Error::InvalidArgument("a KV cache of another size".into()));
        }
        let dim = self.shape.head_dim;
        let mut rows = bytes.as_chunks().0.chunks(2 * dim);
        for (head, position) in self.shape.rows(self.ring.needed(len)) {
            let (key, value) = rows.next().unwrap_or_default().split_at(dim);
            let (key_at, value_at) = (self.key_at(head, position), self.value_at(head, position));
            for (slot, half) in self.keys[key_at..].iter_mut().step_by(LANES).zip(key) {
                *slot = u16::from_le_bytes(*half);
            }
            for (slot, half) in self.values[value_at..].iter_mut().zip(value) {
                *slot = u16::from_le_bytes(*half);
            }
        }
        self.ring.restart(len);
        Ok(())
    }
}

impl Clone for KvCache {
    /// Copies what is filled, not all slots.
    fn clone(&self) -> Self {
        let mut copy = KvCache {
            shape: self.shape,
            ring: self.ring.clone(),
            keys: Mapped::zeroed(self.keys.len()),
            values: Mapped::zeroed(self.values.len()),
        };
        let slots = self.ring.slots();
        let used = self.ring.len().next_multiple_of(LANES).min(slots);
        for head in 0..self.shape.kv_heads {
            let tables = [
                (&self.keys, &mut copy.keys, self.shape.head_dim),
                (&self.values, &mut copy.values, self.shape.value_dim()),
            ];
            for (from, to, dim) in tables {
                let start = head * slots * dim;
                let range = start..start + used * dim;
                to[range.clone()].copy_from_slice(&from[range]);
            }
        }
        copy
    }
}
