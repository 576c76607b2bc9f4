//! Whether the wall clock can be trusted to judge certificates. Small boards have no battery-backed
//! clock and wake up in 1970 until the network time arrives.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// 2026-11-01T00:00:00Z: no clock that is right shows an earlier time. A constant, so that builds
/// are reproducible; moved forward with each release.
const RELEASED: Duration = Duration::from_secs(1_793_491_200);

/// The wall clock is later than this library's release.
pub fn is_set() -> bool {
    is_set_at(SystemTime::now())
}

fn is_set_at(now: SystemTime) -> bool {
    now.duration_since(UNIX_EPOCH).is_ok_and(|since| since >= RELEASED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_before_the_release_is_not_set() {
        let second = Duration::from_secs(1);
        let rows = [
            (UNIX_EPOCH, false),
            (UNIX_EPOCH - second, false),
            (UNIX_EPOCH + RELEASED - second, false),
            (UNIX_EPOCH + RELEASED, true),
            (UNIX_EPOCH + RELEASED + 1_000_000 * second, true),
        ];
        for (now, expected) in rows {
            assert_eq!(is_set_at(now), expected, "{now:?}");
        }
    }
}
