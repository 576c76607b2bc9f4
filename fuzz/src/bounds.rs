//! What one input may take.

use std::time::Duration;

use cpu_time::ProcessTime;
use peak_alloc::PeakAlloc;

/// CPU time of all threads, so that other programs do not matter.
pub const TIME: Duration = Duration::from_secs(1);
/// Over what was allocated before.
pub const BYTES: usize = 64 << 20;

/// What an input took, and whether that was too much.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    pub time: Duration,
    pub bytes: usize,
}

impl Taken {
    /// By `call`, in a process whose allocator is `heap` and that does nothing else.
    pub fn by(heap: &PeakAlloc, call: impl FnOnce()) -> Taken {
        let (before, begun) = (heap.current_usage(), ProcessTime::now());
        heap.reset_peak_usage();
        call();
        Taken { time: begun.elapsed(), bytes: heap.peak_usage().saturating_sub(before) }
    }

    pub fn is_too_much(&self) -> bool {
        self.time > TIME || self.bytes > BYTES
    }
}
