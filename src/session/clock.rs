//! Time as a session sees it, which tests replace by scripts.

use std::sync::Arc;
use std::time::{Duration, Instant};

/// The outside world of a session, and of the forks that go on from it.
#[derive(Clone)]
pub(super) struct Clock {
    /// Since the first of these sessions was made.
    pub elapsed: Arc<dyn Fn() -> Duration + Send + Sync>,
    /// See [`crate::policy::Situation::clock_is_set`].
    pub is_set: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl Clock {
    pub fn real() -> Clock {
        let start = Instant::now();
        Clock { elapsed: Arc::new(move || start.elapsed()), is_set: Arc::new(crate::clock::is_set) }
    }
}
