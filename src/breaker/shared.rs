//! One breaker for many sessions and threads, with a clock and jitter of its own.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Admission, Breaker, BreakerReport};
use crate::failure::Failure;

/// One breaker for all sessions and threads of a cloud client.
pub struct SharedBreaker {
    breaker: Mutex<Breaker>,
    /// Since the breaker was made.
    now: Box<dyn Fn() -> Duration + Send + Sync>,
    /// 0..1, different on every device and with every call.
    jitter: Box<dyn Fn() -> f64 + Send + Sync>,
}

impl SharedBreaker {
    pub fn new() -> SharedBreaker {
        let start = Instant::now();
        // The standard library seeds its hash maps from the system: entropy without a dependency.
        let random = || RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64;
        SharedBreaker::with(Box::new(move || start.elapsed()), Box::new(random))
    }

    /// With a clock and a source of jitter of the caller's, for tests.
    pub fn with(
        now: Box<dyn Fn() -> Duration + Send + Sync>,
        jitter: Box<dyn Fn() -> f64 + Send + Sync>,
    ) -> SharedBreaker {
        SharedBreaker { breaker: Mutex::default(), now, jitter }
    }

    /// No consult may begin now.
    pub fn is_open(&self) -> bool {
        self.lock().is_open((self.now)())
    }

    pub fn report(&self) -> BreakerReport {
        self.lock().report((self.now)())
    }

    /// See [`Breaker::admit`].
    pub fn admit(&self) -> Option<Permit<'_>> {
        let admission = self.lock().admit((self.now)())?;
        Some(Permit { breaker: self, admission: Some(admission) })
    }

    /// See [`Breaker::reset`].
    pub fn reset(&self) {
        self.lock().reset();
    }

    fn lock(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Allows one consult. Dropped without [`Permit::record`], as by a panic, it says nothing of the
/// cloud, and the next session may probe.
#[must_use]
pub struct Permit<'a> {
    breaker: &'a SharedBreaker,
    admission: Option<Admission>,
}

impl Permit<'_> {
    /// How the consult ended, and for how long the server asked for quiet, see
    /// [`Breaker::record`].
    pub fn record(mut self, outcome: Result<(), Failure>, quiet: Duration) {
        self.hand_back(outcome, quiet);
    }

    fn hand_back(&mut self, outcome: Result<(), Failure>, quiet: Duration) {
        if let Some(admission) = self.admission.take() {
            let SharedBreaker { now, jitter, .. } = self.breaker;
            self.breaker.lock().record(admission, outcome, quiet, now(), jitter());
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.hand_back(Err(Failure::Cancelled), Duration::ZERO);
    }
}

impl Default for SharedBreaker {
    fn default() -> Self {
        SharedBreaker::new()
    }
}

impl fmt::Debug for SharedBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.report().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::breaker::BreakerState;

    #[test]
    fn a_shared_breaker_has_its_own_clock() {
        let breaker = SharedBreaker::new();
        for _ in 0..3 {
            breaker.admit().unwrap().record(Err(Failure::Timeout), Duration::ZERO);
        }
        assert!(breaker.is_open() && breaker.admit().is_none());
        let BreakerReport { state, retry_in, .. } = breaker.report();
        assert_eq!(state, BreakerState::Open);
        assert!(
            retry_in > Duration::from_millis(100) && retry_in <= Duration::from_millis(1250),
            "{retry_in:?}"
        );
        breaker.reset();
        assert!(breaker.admit().is_some());
    }

    #[test]
    fn a_probe_that_is_never_recorded_does_not_silence_the_others() {
        let clock = Arc::new(AtomicU64::new(0));
        let seconds = clock.clone();
        let now = move || Duration::from_secs(seconds.load(Ordering::Relaxed));
        let breaker = SharedBreaker::with(Box::new(now), Box::new(|| 0.5));
        for _ in 0..3 {
            breaker.admit().unwrap().record(Err(Failure::Timeout), Duration::ZERO);
        }
        clock.store(1, Ordering::Relaxed);
        let probe = breaker.admit().unwrap();
        assert!(breaker.admit().is_none(), "one probe at a time");
        drop(probe);
        breaker.admit().unwrap().record(Ok(()), Duration::ZERO);
        assert_eq!(breaker.report(), BreakerReport::default());
    }
}
