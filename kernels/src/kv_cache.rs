//! Keys and values of the tokens consumed so far, as f16, written in place.

use super::lanes::{LANES, Lanes};
use super::mapped::Mapped;
use super::rope::Rope;
use crate::error::{Error, Result};

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

    /// Every key/value head with every position of `len`.
    fn rows(&self, len: usize) -> impl Iterator<Item = (usize, usize)> {
        (0..self.kv_heads).flat_map(move |head| (0..len).map(move |position| (head, position)))
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
/// Memory is reserved for the whole capacity, used as positions are filled, and given back.
#[derive(Debug)]
pub struct KvCache {
    shape: AttentionShape,
    len: usize,
    /// Tiles of 16 positions per head.
    tiles: usize,
    capacity: usize,
    keys: Mapped,
    values: Mapped,
}

impl KvCache {
    /// `capacity`: positions it can hold, at most [`Rope::POSITIONS`].
    pub fn new(shape: AttentionShape, capacity: usize) -> Result<KvCache> {
        let tiles = capacity.div_ceil(LANES);
        let elements = tiles
            .checked_mul(LANES * shape.kv_heads)
            .and_then(|n| n.checked_mul(shape.value_dim()))
            .filter(|n| *n < isize::MAX as usize / 8);
        match elements {
            Some(elements) if (1..=Rope::POSITIONS).contains(&capacity) => Ok(KvCache {
                shape,
                len: 0,
                tiles,
                capacity,
                keys: Mapped::zeroed(tiles * LANES * shape.kv_heads * shape.head_dim),
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

    /// Positions filled.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets all but the first `len` positions; does nothing when there are fewer.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Bytes that [`KvCache::write`] writes for `len` positions.
    pub fn bytes(shape: AttentionShape, len: usize) -> usize {
        2 * size_of::<u16>() * shape.kv_heads * shape.head_dim * len
    }

    /// The first `len` positions, which must be filled, as they can be kept outside: `[kv
    /// head][position]`, of each the key's and then the value's dimensions, f16 in little endian.
    pub fn write(&self, len: usize, out: &mut dyn FnMut(&[u8])) {
        let dim = self.shape.head_dim;
        let mut row = vec![0; 2 * size_of::<u16>() * dim];
        for (head, position) in self.shape.rows(len) {
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

    /// Takes `len` positions from the bytes of [`KvCache::write`] in place of what there is.
    ///
    /// Errors, with nothing changed: [`Error::Full`]; [`Error::InvalidArgument`] for another number
    /// of bytes.
    pub fn read(&mut self, len: usize, bytes: &[u8]) -> Result<()> {
        if len > self.capacity {
            return Err(Error::Full { used: 0, needed: len, limit: self.capacity });
        }
        if bytes.len() != KvCache::bytes(self.shape, len) {
            return Err(Error::InvalidArgument("a KV cache of another size".into()));
        }
        let dim = self.shape.head_dim;
        let mut rows = bytes.as_chunks().0.chunks(2 * dim);
        for (head, position) in self.shape.rows(len) {
            let (key, value) = rows.next().unwrap_or_default().split_at(dim);
            let (key_at, value_at) = (self.key_at(head, position), self.value_at(head, position));
            for (slot, half) in self.keys[key_at..].iter_mut().step_by(LANES).zip(key) {
                *slot = u16::from_le_bytes(*half);
            }
            for (slot, half) in self.values[value_at..].iter_mut().zip(value) {
                *slot = u16::from_le_bytes(*half);
            }
        }
        self.len = len;
        Ok(())
    }

    /// Where a position's key begins; its dimensions are [`LANES`] apart.
    #[inline(always)]
    fn key_at(&self, head: usize, position: usize) -> usize {
        (head * self.tiles + position / LANES) * self.shape.head_dim * LANES + position % LANES
    }

    /// Where a position's value begins.
    #[inline(always)]
    fn value_at(&self, head: usize, position: usize) -> usize {
        (head * self.tiles * LANES + position) * self.shape.value_dim()
    }

    /// Fails, with nothing changed, when `count` more positions do not fit.
    pub(super) fn check_room(&self, count: usize) -> Result<()> {
        match count <= self.capacity - self.len {
            true => Ok(()),
            false => Err(Error::Full { used: self.len, needed: count, limit: self.capacity }),
        }
    }

    /// Appends one position: keys already turned, both `[kv head][dimension]`. There must be room.
    #[inline(always)]
    pub(super) fn push<L: Lanes>(&mut self, keys: &[f32], values: &[f32]) {
        let (dim, padded) = (self.shape.head_dim, self.shape.value_dim());
        let lane = self.len % LANES;
        for head in 0..self.shape.kv_heads {
            let key = &keys[head * dim..(head + 1) * dim];
            let value = &values[head * dim..(head + 1) * dim];
            let (tile, row) = (self.key_at(head, self.len) - lane, self.value_at(head, self.len));
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
        self.len += 1;
    }

    /// A head's keys from the tile of position `start` on, a multiple of 16.
    #[inline(always)]
    pub(super) fn keys(&self, head: usize, start: usize) -> &[[u16; LANES]] {
        let dim = self.shape.head_dim;
        let head = &self.keys[head * self.tiles * dim * LANES..][..self.tiles * dim * LANES];
        head[start * dim..].as_chunks().0
    }

    /// A head's value rows from position `start` on, in vectors.
    #[inline(always)]
    pub(super) fn values(&self, head: usize, start: usize) -> &[[u16; LANES]] {
        let size = self.tiles * LANES * self.shape.value_dim();
        let head = &self.values[head * size..][..size];
        head[start * self.shape.value_dim()..].as_chunks().0
    }
}

impl Clone for KvCache {
    /// Copies what is filled, not the whole capacity.
    fn clone(&self) -> Self {
        let mut copy = KvCache {
            keys: Mapped::zeroed(self.keys.len()),
            values: Mapped::zeroed(self.values.len()),
            ..*self
        };
        let used = self.len.next_multiple_of(LANES);
        for head in 0..self.shape.kv_heads {
            let tables = [
                (&self.keys, &mut copy.keys, self.shape.head_dim),
                (&self.values, &mut copy.values, self.shape.value_dim()),
            ];
            for (from, to, dim) in tables {
                let start = head * self.tiles * LANES * dim;
                let range = start..start + used * dim;
                to[range.clone()].copy_from_slice(&from[range]);
            }
        }
        copy
    }
}
