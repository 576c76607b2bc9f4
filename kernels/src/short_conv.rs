//! Gated short convolutions: what stands in the place of attention in most layers of LFM2.

use std::ops::Range;

use super::ring::{Cache, Ring};
use super::rope::Rope;
use crate::error::{Error, Result};

/// The last columns that one layer's convolution has seen, as f32.
#[derive(Debug, Clone)]
pub struct ConvCache {
    width: usize,
    ring: Ring,
    /// `[slot][channel]`
    columns: Vec<f32>,
}

impl ConvCache {
    /// So many of the last positions can be forgotten: what is read ahead of a text, 64 and a
    /// draft, and as many of the text.
    pub const SLACK: usize = 144;
    /// The longest convolution.
    pub const MAX_TAPS: usize = 64;

    /// `width`: channels; `taps`: positions that each output sees, its own included; `capacity`:
    /// positions it can be fed, at most [`Rope::POSITIONS`].
    pub fn new(width: usize, taps: usize, capacity: usize) -> Result<ConvCache> {
        if !(1..=1 << 20).contains(&width) || !(1..=ConvCache::MAX_TAPS).contains(&taps) {
            return Err(Error::Model(format!(
                "a convolution of {taps} taps over {width} channels"
            )));
        }
        if !(1..=Rope::POSITIONS).contains(&capacity) {
            return Err(Error::InvalidArgument(format!(
                "a context of {capacity} tokens; it must be 1 to {}",
                Rope::POSITIONS
            )));
        }
        let need = taps - 1;
        let slots = (need + ConvCache::SLACK).min(capacity);
        Ok(ConvCache {
            width,
            ring: Ring::new(capacity, need, slots),
            columns: vec![0.0; slots * width],
        })
    }

    /// Where a position's column lies.
    fn at(&self, position: usize) -> Range<usize> {
        let start = self.ring.slot(position) * self.width;
        start..start + self.width
    }

    /// The columns of these positions.
    fn columns(&self, positions: Range<usize>) -> impl Iterator<Item = &[f32]> {
        positions.map(|position| &self.columns[self.at(position)])
    }
}

impl Cache for ConvCache {
    fn ring(&self) -> &Ring {
        &self.ring
    }

    fn ring_mut(&mut self) -> &mut Ring {
        &mut self.ring
    }

    fn bytes(&self, len: usize) -> usize {
        size_of::<f32>() * self.width * self.ring.needed(len).len()
    }

    /// `[position][channel]`, f32 in little endian.
    fn write(&self, len: usize, out: &mut dyn FnMut(&[u8])) {
        for column in self.columns(self.ring.needed(len)) {
            let bytes: Vec<u8> = column.iter().flat_map(|value| value.to_le_bytes()).collect();
            out(&bytes);
        }
    }

    fn read(&mut self, len: usize, bytes: &[u8]) -> Result<()> {
        self.ring.check_capacity(len)?;
        if bytes.len() != self.bytes(len) {
            return Err(Error::InvalidArgument("a convolution's cache of another size".into()));
        }
        let columns = bytes.as_chunks().0.chunks(self.width);
        for (position, column) in self.ring.needed(len).zip(columns) {
            let at = self.at(position);
            for (value, bytes) in self.columns[at].iter_mut().zip(column) {
                *value = f32::from_le_bytes(*bytes);
            }
        }
        self.ring.restart(len);
        Ok(())
    }
}

/// For each new token `out = c · Σ kernel[tap] · (b · x)[position − taps + 1 + tap]`, where
/// positions before the first count as zeros.
///
/// `bcx` is `[tokens][b | c | x]`, `kernel` `[tap][channel]`, `out` `[tokens][channel]`. Fails,
/// with the cache unchanged, when sizes do not fit or the cache has no room.
pub fn short_conv(
    kernel: &[f32],
    bcx: &[f32],
    cache: &mut ConvCache,
    out: &mut [f32],
) -> Result<()> {
    let width = cache.width;
    let (taps, rows) = (kernel.len() / width, out.len() / width);
    let need = cache.ring.needed(usize::MAX).len();
    if kernel.len() != (need + 1) * width || out.len() != rows * width || bcx.len() != 3 * out.len()
    {
        return Err(Error::InvalidArgument(format!(
            "a convolution of {taps} taps from {} to {} values over {width} channels",
            bcx.len(),
            out.len()
        )));
    }
    cache.ring.check_room(rows)?;
    for (bcx, out) in bcx.chunks_exact(3 * width).zip(out.chunks_exact_mut(width)) {
        let (b, cx) = bcx.split_at(width);
        let (c, x) = cx.split_at(width);
        let position = cache.ring.len();
        let at = cache.at(position);
        for ((slot, b), x) in cache.columns[at].iter_mut().zip(b).zip(x) {
            *slot = b * x;
        }
        cache.ring.push();
        out.fill(0.0);
        let seen = cache.ring.needed(position).start..position + 1;
        let kernel = kernel.chunks_exact(width).skip(taps - seen.len());
        for (weights, column) in kernel.zip(cache.columns(seen)) {
            for ((out, weight), value) in out.iter_mut().zip(weights).zip(column) {
                *out += weight * value;
            }
        }
        out.iter_mut().zip(c).for_each(|(out, c)| *out *= c);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    const WIDTH: usize = 5;

    fn values(count: usize, seed: u64) -> Vec<f32> {
        let mut random = Random(seed);
        (0..count).map(|_| random.signed()).collect()
    }

    /// Position by position, without a cache.
    fn expected(kernel: &[f32], bcx: &[f32]) -> Vec<f64> {
        let taps = kernel.len() / WIDTH;
        let column = |t: usize, d: usize| {
            let row = &bcx[3 * WIDTH * t..];
            f64::from(row[d]) * f64::from(row[2 * WIDTH + d])
        };
        let value = |t: usize, d: usize| {
            let seen = (0..taps).filter(|tap| t + 1 + tap >= taps);
            let sum: f64 = seen
                .map(|tap| f64::from(kernel[tap * WIDTH + d]) * column(t + 1 + tap - taps, d))
                .sum();
            sum * f64::from(bcx[3 * WIDTH * t + WIDTH + d])
        };
        (0..bcx.len() / 3).map(|i| value(i / WIDTH, i % WIDTH)).collect()
    }

    fn run(kernel: &[f32], bcx: &[f32], cache: &mut ConvCache, pieces: &[usize]) -> Vec<f32> {
        let mut all = Vec::new();
        let (mut pieces, mut rest) = (pieces.iter().cycle(), bcx);
        while !rest.is_empty() {
            let rows = (rest.len() / WIDTH / 3).min(*pieces.next().unwrap());
            let (piece, later) = rest.split_at(rows * 3 * WIDTH);
            let mut out = vec![f32::NAN; rows * WIDTH];
            short_conv(kernel, piece, cache, &mut out).unwrap();
            all.extend(out);
            rest = later;
        }
        all
    }

    #[test]
    fn equals_f64_in_pieces_of_any_size() {
        let bcx = values(200 * 3 * WIDTH, 1);
        for taps in [1, 2, 3, 4, 9] {
            let kernel = values(taps * WIDTH, 2);
            let want = expected(&kernel, &bcx);
            let run = |pieces: &[usize]| {
                run(&kernel, &bcx, &mut ConvCache::new(WIDTH, taps, 200).unwrap(), pieces)
            };
            let whole = run(&[200]);
            for (got, want) in whole.iter().zip(&want) {
                assert!((f64::from(*got) - want).abs() < 1e-5, "{taps} taps: {got} {want}");
            }
            assert_eq!(whole, run(&[1]));
            assert_eq!(whole, run(&[3, 1, 90]));
        }
    }

    #[test]
    fn a_rewound_a_copied_and_a_kept_cache_continue_alike() {
        let (kernel, bcx) = (values(3 * WIDTH, 1), values(300 * 3 * WIDTH, 2));
        let mut cache = ConvCache::new(WIDTH, 3, 300).unwrap();
        let whole = run(&kernel, &bcx, &mut cache, &[130]);
        let len = 300 - ConvCache::SLACK;
        assert_eq!(cache.ring().reach(0), len);
        cache.ring_mut().truncate(len);
        let mut copy = cache.clone();
        let mut bytes = Vec::new();
        cache.write(len, &mut |part| bytes.extend_from_slice(part));
        assert_eq!(bytes.len(), 4 * 2 * WIDTH);
        let mut kept_outside = ConvCache::new(WIDTH, 3, 1000).unwrap();
        kept_outside.read(len, &bytes).unwrap();
        for cache in [&mut cache, &mut copy, &mut kept_outside] {
            assert_eq!(cache.ring().len(), len);
            let again = run(&kernel, &bcx[len * 3 * WIDTH..], cache, &[7, 1]);
            assert_eq!(again, whole[len * WIDTH..]);
        }
        cache.ring_mut().truncate(0);
        assert_eq!(run(&kernel, &bcx, &mut cache, &[300]), whole);
    }

    #[test]
    fn wrong_sizes_change_nothing() {
        let mut cache = ConvCache::new(WIDTH, 3, 10).unwrap();
        let (kernel, bcx) = (vec![1.0; 3 * WIDTH], vec![1.0; 11 * 3 * WIDTH]);
        let mut out = vec![0.0; 11 * WIDTH];
        assert!(matches!(
            short_conv(&kernel, &bcx, &mut cache, &mut out),
            Err(Error::Full { used: 0, needed: 11, limit: 10 })
        ));
        assert!(short_conv(&kernel[1..], &bcx[..15], &mut cache, &mut out[..5]).is_err());
        assert!(short_conv(&kernel, &bcx[..14], &mut cache, &mut out[..5]).is_err());
        assert!(short_conv(&kernel, &bcx[..15], &mut cache, &mut out[..4]).is_err());
        assert!(matches!(cache.read(11, &[]), Err(Error::Full { needed: 11, .. })));
        assert!(cache.read(2, &[0; 3]).is_err());
        assert!(cache.ring().is_empty());
        for (width, taps, capacity) in [(0, 3, 9), (5, 0, 9), (5, 65, 9), (5, 3, 0)] {
            assert!(ConvCache::new(width, taps, capacity).is_err(), "{width} {taps} {capacity}");
        }
    }
}
