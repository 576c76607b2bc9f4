//! Threads that help the calling thread with one kernel at a time.
//!
//! [`Pool::run`] publishes a job, takes part in it and returns when all of it is done. Every thread
//! has a share of its own, which it takes part by part, so that it reads on in order, and then
//! takes from the ends of the others' shares: one that the system holds up does less, and the
//! caller waits only for workers that are in the middle of a part. The next kernel follows within
//! microseconds, so workers spin for a moment before they sleep. When other programs want the
//! cores, waiting for workers and waking them costs more than they do; the caller measures that,
//! and then works alone for a multiple of the time it lost.

use std::any::Any;
use std::cell::UnsafeCell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::threads;
use crate::error::{Error, Result};

/// How often a thread looks before it sleeps: for about 100 microseconds, longer than the gaps
/// between the kernels of a token. Counted and not timed, since on a busy machine most of the time
/// is others'.
const SPINS: usize = 2500;
/// What waking workers and waiting for them costs on a quiet machine at most, also on slow cores.
const USUAL_LOSS: Duration = Duration::from_micros(100);
/// A busy machine costs about this fraction at most, compared with one thread.
const TOLERATED: u32 = 8;
/// A part is this fraction of what is left of a share, but not less than a grain.
const PARTS_PER_SHARE: usize = 4;
/// Ample for the kernels, and small for firmware that locks all its memory.
const STACK_BYTES: usize = 256 << 10;

/// The caller's thread and the workers, which live as long as the pool.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Locked by the caller that has the workers.
    turn: Mutex<Turn>,
}

struct Turn {
    alone_until: Instant,
}

impl Pool {
    /// Threads of a pool at most.
    pub const MAX_THREADS: usize = 64;

    /// Fails for more than [`Pool::MAX_THREADS`].
    pub fn check(threads: usize) -> Result<()> {
        let most = Self::MAX_THREADS;
        match threads <= most {
            true => Ok(()),
            false => Err(Error::InvalidArgument(format!(
                "threads is {threads}, but must be 0 to {most}"
            ))),
        }
    }

    /// `threads`: how many compute, the caller's included; 0 and 1 start none.
    ///
    /// Errors: those of [`Pool::check`]; [`Error::Thread`] when the system refuses a thread.
    pub fn new(threads: usize) -> Result<Pool> {
        Self::check(threads)?;
        let mut pool = Pool::with_shares(threads.max(1));
        for number in 1..threads {
            let shared = pool.shared.clone();
            let name = format!("hybrid-slm-{number}");
            let started = threads::spawn(name, STACK_BYTES, move || shared.work(number));
            pool.workers.push(started.map_err(|error| {
                Error::Thread(format!("thread {number} of {threads} cannot be started: {error}"))
            })?);
        }
        Ok(pool)
    }

    /// Threads that compute, the caller's included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `work` with ranges that make up `0..items`, on several threads at once: each of
    /// `grain` items or more, but for the last. The first argument is the thread's number, below
    /// [`Pool::threads`] and never the same in two calls at once.
    ///
    /// What is too small to share, or comes while the workers are busy for another caller, stays on
    /// the caller's thread. A panic in `work` goes on in the caller, once no thread uses `work` any
    /// more.
    pub fn run<F: Fn(usize, Range<usize>) + Sync>(&self, items: usize, grain: usize, work: &F) {
        let sharable = !self.workers.is_empty() && items > grain && items <= Share::MOST;
        let Some(mut turn) = sharable.then(|| self.turn()).flatten() else {
            return work(0, 0..items);
        };
        let start = Instant::now();
        if start < turn.alone_until {
            return work(0, 0..items);
        }
        let data = std::ptr::from_ref(work).cast();
        let job = Job { data, call: call::<F>, items, grain: grain.max(1) };
        let published = Published::new(&self.shared, job);
        let began = Instant::now();
        job.take_parts(0, &self.shared.shares);
        let worked = began.elapsed();
        let panic = published.finish();
        let end = Instant::now();
        let lost = (end - start).saturating_sub(worked);
        if lost > USUAL_LOSS.max(worked / TOLERATED) {
            turn.alone_until = end + lost * TOLERATED;
        }
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// Without workers yet.
    fn with_shares(threads: usize) -> Pool {
        let shares = (0..threads).map(|_| Apart::default()).collect();
        let shared = Arc::new(Shared { shares, ..Shared::default() });
        let turn = Mutex::new(Turn { alone_until: Instant::now() });
        Pool { shared, workers: Vec::new(), turn }
    }

    /// The right to use the workers; none while somebody else has it.
    fn turn(&self) -> Option<MutexGuard<'_, Turn>> {
        match self.turn.try_lock() {
            Ok(turn) => Some(turn),
            // A job panicked; that is over.
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl Default for Pool {
    /// The caller's thread alone.
    fn default() -> Self {
        Pool::with_shares(1)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.state.0.store(STOP, SeqCst);
        self.shared.wake_sleepers();
        for worker in self.workers.drain(..) {
            // A worker hands on every panic, so there is nothing to learn from it here.
            let _ = worker.join();
        }
    }
}

/// A call of [`Pool::run`], its closure without type and lifetime.
#[derive(Clone, Copy)]
struct Job {
    data: *const (),
    call: unsafe fn(*const (), usize, Range<usize>),
    items: usize,
    grain: usize,
}

/// # Safety
/// `data` points to a live `F`.
unsafe fn call<F: Fn(usize, Range<usize>)>(data: *const (), thread: usize, items: Range<usize>) {
    // SAFETY: the caller's promise.
    let work = unsafe { &*data.cast::<F>() };
    work(thread, items);
}

impl Job {
    /// Works until nothing is left. Only for the caller and for workers that have joined: the
    /// closure lives as long as they are at it.
    fn take_parts(&self, thread: usize, shares: &[Apart<Share>]) {
        let (before, from_own) = shares.split_at(thread);
        for (ix, share) in from_own.iter().chain(before).enumerate() {
            let end = if ix == 0 { End::Front } else { End::Back };
            while let Some(part) = share.0.take(end, self.grain) {
                // SAFETY: see above; the closure is `Sync`.
                unsafe { (self.call)(self.data, thread, part) };
            }
        }
    }

    /// Gives every thread its share, and the last ones nothing where it would be less than a grain.
    fn deal(&self, shares: &[Apart<Share>]) {
        let count = (self.items / self.grain).clamp(1, shares.len());
        let at = |ix: usize| (self.items as u64 * ix.min(count) as u64 / count as u64) as usize;
        for (ix, share) in shares.iter().enumerate() {
            share.0.set(at(ix)..at(ix + 1));
        }
    }
}

/// The items of a thread's share that nobody has taken: start and end in one number.
#[derive(Default)]
struct Share(AtomicU64);

/// From where a part of a share is taken.
#[derive(Clone, Copy)]
enum End {
    /// By its own thread.
    Front,
    /// By the others.
    Back,
}

impl Share {
    /// Items that can be shared at most.
    const MOST: usize = u32::MAX as usize;

    fn set(&self, items: Range<usize>) {
        self.0.store(pack(items), Relaxed);
    }

    fn take(&self, end: End, grain: usize) -> Option<Range<usize>> {
        let mut packed = self.0.load(Relaxed);
        loop {
            let left = unpack(packed);
            if left.is_empty() {
                return None;
            }
            let count = grain.max(left.len() / PARTS_PER_SHARE);
            // What is less than a grain goes with the part before it.
            let count = if left.len() < count + grain { left.len() } else { count };
            let (part, rest) = match end {
                End::Front => (left.start..left.start + count, left.start + count..left.end),
                End::Back => (left.end - count..left.end, left.start..left.end - count),
            };
            match self.0.compare_exchange_weak(packed, pack(rest), Relaxed, Relaxed) {
                Ok(_) => return Some(part),
                Err(changed) => packed = changed,
            }
        }
    }
}

fn pack(items: Range<usize>) -> u64 {
    (items.start as u64) << 32 | items.end as u64
}

fn unpack(packed: u64) -> Range<usize> {
    (packed >> 32) as usize..(packed & 0xffff_ffff) as usize
}

/// The bits of [`Shared::state`]: how many workers have joined the job, ...
const JOINED: u32 = 0xff;
/// ... whether they may, ...
const OPEN: u32 = 1 << 8;
/// ... whether the caller sleeps until they have left, ...
const CALLER_SLEEPS: u32 = 1 << 9;
/// ... whether one panicked, ...
const PANICKED: u32 = 1 << 10;
/// ... whether the pool ends, and the job's number from here on.
const STOP: u32 = 1 << 11;
const NUMBER: u32 = 1 << 12;

/// On a cache line of its own: what one thread writes all the time does not slow the others' reads.
#[derive(Default)]
#[repr(align(128))]
struct Apart<T>(T);

#[derive(Default)]
struct Shared {
    /// What workers watch. Only an open job can be joined, and only while it is open or joined is
    /// `job` in use.
    state: Apart<AtomicU32>,
    /// One for each thread, the caller's first.
    shares: Vec<Apart<Share>>,
    job: UnsafeCell<Option<Job>>,
    panic: Mutex<Option<Panic>>,
    /// Guards the two conditions.
    sleep: Mutex<()>,
    /// A job was published, or the pool ends.
    wake: Condvar,
    /// All workers have left.
    left: Condvar,
    /// Workers that sleep and were not woken yet. Changed under `sleep`.
    sleepers: AtomicUsize,
}

type Panic = Box<dyn Any + Send>;

// SAFETY: `job` is written by the caller whose turn it is while no worker has joined, and read by
// workers that have; its closure is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: as above; the closure belongs to the caller, who waits for the workers.
unsafe impl Send for Shared {}

impl Shared {
    /// A worker's life.
    fn work(&self, thread: usize) {
        let mut done = 0;
        loop {
            if !spins_until(|| self.calls(done)) {
                self.sleep(done);
                continue;
            }
            let state = self.state.0.load(Relaxed);
            if state & STOP != 0 {
                return;
            }
            if !self.join(state) {
                continue;
            }
            done = state / NUMBER;
            // SAFETY: joined, so the caller that wrote it waits before it writes again.
            if let Some(job) = unsafe { *self.job.get() } {
                let take_parts = AssertUnwindSafe(|| job.take_parts(thread, &self.shares));
                if let Err(panic) = catch_unwind(take_parts) {
                    self.note(panic);
                }
            }
            self.leave();
        }
    }

    /// Whether there is something to do for a worker that has `done` this job.
    fn calls(&self, done: u32) -> bool {
        let state = self.state.0.load(SeqCst);
        state & STOP != 0 || (state & OPEN != 0 && state / NUMBER != done)
    }

    /// Sleeps until a job is published.
    fn sleep(&self, done: u32) {
        let guard = self.lock();
        self.sleepers.fetch_add(1, SeqCst);
        // Either this sees the job, or who publishes it sees a sleeper.
        if self.calls(done) {
            self.sleepers.fetch_sub(1, Relaxed);
        } else {
            drop(self.wake.wait(guard));
        }
    }

    fn wake_sleepers(&self) {
        if self.sleepers.load(SeqCst) > 0 {
            let guard = self.lock();
            self.sleepers.store(0, Relaxed);
            // Whoever wakes needs the lock.
            drop(guard);
            self.wake.notify_all();
        }
    }

    /// Whether the job of this state is still open and now has one more worker.
    fn join(&self, state: u32) -> bool {
        let join = || self.state.0.compare_exchange(state, state + 1, Acquire, Relaxed);
        state & OPEN != 0 && join().is_ok()
    }

    /// The first panic ends the job and is kept for the caller.
    fn note(&self, panic: Panic) {
        *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
        self.state.0.fetch_or(PANICKED, Relaxed);
        self.take_back();
    }

    /// Leaves nothing to be taken.
    fn take_back(&self) {
        self.shares.iter().for_each(|share| share.0.set(0..0));
    }

    /// A worker's last act in a job.
    fn leave(&self) {
        let before = self.state.0.fetch_sub(1, Release);
        if before & CALLER_SLEEPS != 0 && before & JOINED == 1 {
            let _guard = self.lock();
            self.left.notify_one();
        }
    }

    /// Lets no more workers join, and waits for those that have.
    fn close(&self) {
        self.state.0.fetch_and(!OPEN, Relaxed);
        let all_left = || self.state.0.load(Acquire) & JOINED == 0;
        if spins_until(all_left) {
            return;
        }
        let mut guard = self.lock();
        while self.state.0.fetch_or(CALLER_SLEEPS, Acquire) & JOINED != 0 {
            guard = self.left.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.sleep.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A job that workers may join; when this goes, also by a panic, none is at it any more.
struct Published<'a>(&'a Shared);

impl<'a> Published<'a> {
    /// It is the caller's turn.
    fn new(shared: &'a Shared, job: Job) -> Self {
        // SAFETY: nobody is joined, and nobody can join before the job is open.
        unsafe { *shared.job.get() = Some(job) };
        job.deal(&shared.shares);
        let number = (shared.state.0.load(Relaxed) / NUMBER).wrapping_add(1);
        shared.state.0.store(number.wrapping_mul(NUMBER) | OPEN, SeqCst);
        shared.wake_sleepers();
        Published(shared)
    }

    /// Waits for the workers; returns what the first one that panicked left.
    fn finish(self) -> Option<Panic> {
        self.0.close();
        match self.0.state.0.load(Relaxed) & PANICKED {
            0 => None,
            _ => self.0.panic.lock().unwrap_or_else(PoisonError::into_inner).take(),
        }
    }
}

impl Drop for Published<'_> {
    fn drop(&mut self) {
        self.0.take_back();
        self.0.close();
    }
}

/// Whether the condition comes true while it is worth spinning for.
fn spins_until(condition: impl Fn() -> bool) -> bool {
    for _ in 0..SPINS {
        if condition() {
            return true;
        }
        std::hint::spin_loop();
    }
    false
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
