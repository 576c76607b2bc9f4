//! The breaker: after failed consults it keeps the device from asking for a while, then lets a
//! single probe through. Pure: time and jitter are given to it.

use std::time::Duration;

use crate::consult::Failure;
use crate::policy::BreakerState;

/// This many failures in a row open it.
const FAILURES_IN_A_ROW: u32 = 3;
/// Or half of the last so many consults.
const WINDOW: u32 = 10;
/// The first pause; every failed probe doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The pause after a failure that repeating does not mend: wrong certificate, token or clock.
const SETUP_PAUSE: Duration = Duration::from_secs(600);

/// One breaker per session.
#[derive(Debug, Clone, Default)]
pub struct Breaker {
    /// Outcomes of the last consults, newest in bit 0; 1 is a failure.
    outcomes: u32,
    /// Consults recorded since it last closed.
    recorded: u32,
    in_a_row: u32,
    open: Option<Open>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    until: Duration,
    /// Before jitter.
    pause: Duration,
}

impl Breaker {
    /// For [`crate::policy::decide`]: a consult after `until` is the probe.
    pub fn state(&self) -> BreakerState {
        self.open.map_or(BreakerState::Closed, |open| BreakerState::Open { until: open.until })
    }

    /// A consult gave an answer: a probe closes the breaker.
    pub fn success(&mut self) {
        if self.open.is_some() {
            *self = Breaker::default();
        } else {
            self.in_a_row = 0;
            self.note(0);
        }
    }

    /// A consult failed at `now`. `jitter` in 0..1 spreads the pauses of a fleet of devices whose
    /// server came back: a pause is 75 % to 125 % of its nominal length.
    pub fn failure(&mut self, failure: Failure, now: Duration, jitter: f64) {
        match Weight::of(failure) {
            Weight::None => {}
            Weight::Setup => self.open_for(SETUP_PAUSE, now, jitter),
            Weight::One => {
                self.in_a_row += 1;
                self.note(1);
                if let Some(open) = self.open {
                    self.open_for((open.pause * 2).min(LONGEST_PAUSE), now, jitter);
                } else if self.has_had_enough() {
                    self.open_for(FIRST_PAUSE, now, jitter);
                }
            }
        }
    }

    fn note(&mut self, outcome: u32) {
        self.outcomes = (self.outcomes << 1 | outcome) & ((1 << WINDOW) - 1);
        self.recorded = (self.recorded + 1).min(WINDOW);
    }

    fn has_had_enough(&self) -> bool {
        self.in_a_row >= FAILURES_IN_A_ROW
            || (self.recorded == WINDOW && self.outcomes.count_ones() * 2 >= WINDOW)
    }

    fn open_for(&mut self, pause: Duration, now: Duration, jitter: f64) {
        let until = now + pause.mul_f64(0.75 + 0.5 * jitter.clamp(0.0, 1.0));
        self.open = Some(Open { until, pause });
    }
}

/// What a failure says about the cloud.
enum Weight {
    /// Nothing: the caller or the context was the reason.
    None,
    One,
    Setup,
}

impl Weight {
    fn of(failure: Failure) -> Weight {
        match failure {
            Failure::Cancelled | Failure::UnsafeBoundary => Weight::None,
            Failure::Unauthorized | Failure::Tls | Failure::ClockNotSet => Weight::Setup,
            Failure::Timeout
            | Failure::Connect
            | Failure::Busy
            | Failure::Status
            | Failure::Protocol => Weight::One,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Failure::*;

    /// Milliseconds until which it is open, 0 when it is closed.
    fn open_until(breaker: &Breaker) -> u128 {
        match breaker.state() {
            BreakerState::Closed => 0,
            BreakerState::Open { until } => until.as_millis(),
        }
    }

    /// Plays `(milliseconds, outcome, open until)` rows with a jitter that leaves pauses as they are.
    fn play(name: &str, rows: &[(u64, Option<Failure>, u128)]) {
        let mut breaker = Breaker::default();
        for (row, (at, outcome, until)) in rows.iter().enumerate() {
            match outcome {
                None => breaker.success(),
                Some(failure) => breaker.failure(*failure, Duration::from_millis(*at), 0.5),
            }
            assert_eq!(open_until(&breaker), *until, "{name}, row {row}");
        }
    }

    #[test]
    fn opens_and_closes() {
        let bad = Some(Timeout);
        play("three in a row", &[(0, bad, 0), (10, bad, 0), (20, bad, 1020)]);
        play("a success between", &[(0, bad, 0), (1, bad, 0), (2, None, 0), (3, bad, 0)]);
        play(
            "a probe closes it, and the count starts afresh",
            &[(0, bad, 0), (0, bad, 0), (0, bad, 1000), (1000, None, 0), (1001, bad, 0)],
        );
        play(
            "failed probes double the pause up to a minute",
            &[
                (0, bad, 0),
                (0, Some(Connect), 0),
                (0, Some(Busy), 1_000),
                (1_000, Some(Status), 3_000),
                (3_000, Some(Protocol), 7_000),
                (7_000, bad, 15_000),
                (15_000, bad, 31_000),
                (31_000, bad, 63_000),
                (63_000, bad, 123_000),
                (123_000, bad, 183_000),
                (183_000, None, 0),
            ],
        );
        play("token", &[(5, Some(Unauthorized), 600_005), (600_005, None, 0)]);
        play("certificate", &[(0, Some(Tls), 600_000), (600_000, bad, 660_000)]);
        play("clock", &[(0, Some(ClockNotSet), 600_000)]);
        play(
            "what says nothing about the cloud",
            &[(0, bad, 0), (0, bad, 0), (0, Some(Cancelled), 0), (0, Some(UnsafeBoundary), 0)],
        );
    }

    #[test]
    fn opens_at_half_of_the_last_ten() {
        let mut breaker = Breaker::default();
        for round in 0..5 {
            assert_eq!(open_until(&breaker), 0, "round {round}");
            breaker.success();
            breaker.failure(Status, Duration::ZERO, 0.5);
        }
        assert_eq!(open_until(&breaker), 1000);
    }

    #[test]
    fn few_failures_among_many_leave_it_closed() {
        let mut breaker = Breaker::default();
        for _ in 0..100 {
            for _ in 0..3 {
                breaker.success();
            }
            breaker.failure(Timeout, Duration::ZERO, 0.5);
            assert_eq!(breaker.state(), BreakerState::Closed);
        }
    }

    #[test]
    fn jitter_moves_a_pause_by_a_quarter() {
        for (jitter, until) in [(0.0, 750), (0.5, 1000), (1.0, 1250), (-7.0, 750), (7.0, 1250)] {
            let mut breaker = Breaker::default();
            (0..3).for_each(|_| breaker.failure(Timeout, Duration::ZERO, jitter));
            assert_eq!(open_until(&breaker), until);
        }
    }
}
