//! Time and chance, which tests replace by scripts.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// The outside world as the policy and the breaker see it.
pub(super) struct Clock {
    /// Since the session was made.
    pub elapsed: Box<dyn Fn() -> Duration + Send>,
    /// See [`crate::policy::Situation::clock_set`].
    pub is_set: Box<dyn Fn() -> bool + Send>,
    /// 0..1, different on every device.
    pub jitter: Box<dyn FnMut() -> f64 + Send>,
}

impl Clock {
    pub fn real() -> Clock {
        let start = Instant::now();
        // The standard library seeds its hash maps from the system: entropy without a dependency.
        let mut rng = ChaCha8Rng::seed_from_u64(RandomState::new().build_hasher().finish());
        Clock {
            elapsed: Box::new(move || start.elapsed()),
            is_set: Box::new(crate::clock::is_set),
            jitter: Box::new(move || f64::from(rng.next_u32()) / f64::from(u32::MAX)),
        }
    }
}
