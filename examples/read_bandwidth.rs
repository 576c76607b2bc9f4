//! How fast memory can be read on this machine: what no decoding of weights can exceed.
//!
//!     read_bandwidth THREADS [MEGABYTES]
//!
//! Prints GB (10^9 bytes) per second, the best of some passes over an array larger than any cache.
//! Every thread has a part of it and reads that as one stream, or as two, four or eight side by
//! side, whichever is fastest here.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Result, bail, ensure};

const PASSES: usize = 5;
/// Words that are added at once: several registers of any width.
const LINE: usize = 64;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (threads, megabytes): (usize, usize) = match arguments.as_slice() {
        [threads] => (threads.parse()?, 512),
        [threads, megabytes] => (threads.parse()?, megabytes.parse()?),
        _ => bail!("usage: read_bandwidth THREADS [MEGABYTES]"),
    };
    ensure!(threads > 0 && megabytes > 0, "both must be at least 1");
    // Written once, so that every page exists.
    let array: Vec<u32> = (0..megabytes * 250_000).map(|i| i as u32).collect();
    let mut best = f64::INFINITY;
    for streams in [1, 2, 4, 8] {
        for _ in 0..PASSES {
            let start = Instant::now();
            read(&array, threads, streams);
            best = best.min(start.elapsed().as_secs_f64());
        }
    }
    println!("{:.3}", megabytes as f64 / 1000.0 / best);
    Ok(())
}

fn read(array: &[u32], threads: usize, streams: usize) {
    std::thread::scope(|scope| {
        for part in array.chunks(array.len().div_ceil(threads)) {
            scope.spawn(move || black_box(sum(part, streams)));
        }
    });
}

/// The sum of all words, taken from `streams` places in turns.
fn sum(part: &[u32], streams: usize) -> u32 {
    let stream = part.len() / streams / LINE * LINE;
    let mut sums = [0u32; LINE];
    for at in (0..stream).step_by(LINE) {
        for place in 0..streams {
            let line = &part[place * stream + at..][..LINE];
            sums.iter_mut().zip(line).for_each(|(sum, word)| *sum = sum.wrapping_add(*word));
        }
    }
    sums.iter().fold(0, |all, sum| all.wrapping_add(*sum))
}
