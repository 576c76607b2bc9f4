//! Time as a session sees it, which tests replace by scripts.

use std::time::{Duration, Instant};

/// The outside world of a session.
pub(super) struct Clock {
    /// Since the session was made.
    pub elapsed: Box<dyn Fn() -> Duration + Send>,
    /// See [`crate::policy::Situation::clock_is_set`].
    pub is_set: Box<dyn Fn() -> bool + Send>,
}

impl Clock {
    pub fn real() -> Clock {
        let start = Instant::now();
        Clock { elapsed: Box::new(move || start.elapsed()), is_set: Box::new(crate::clock::is_set) }
    }
}
