//! The breaker: after failed consults it keeps sessions from asking for a while, then lets a single
//! probe through. [`Breaker`] is pure: time and jitter are given to it. [`SharedBreaker`] brings
//! both, and belongs to the cloud client, so that all its sessions learn from each other.

use std::time::Duration;

use crate::failure::Failure;

mod shared;

pub use shared::{Permit, SharedBreaker};

/// This many failures in a row open it.
const FAILURES_IN_A_ROW: u32 = 3;
/// Or half of the last so many consults.
const WINDOW: u32 = 10;
/// The first pause; every failed probe doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The same after a failure that repeating seldom mends: wrong certificate, token or clock. One is
/// enough.
const FIRST_SETUP_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_SETUP_PAUSE: Duration = Duration::from_secs(600);
/// The longest quiet that a server may ask for.
const LONGEST_QUIET: Duration = Duration::from_secs(600);

/// Whether consults go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(i32)]
pub enum BreakerState {
    /// They do.
    #[default]
    Closed = 0,
    /// None does for a while.
    Open = 1,
    /// The pause is over: the next consult is a probe, or one is on its way. It closes the breaker
    /// or opens it again.
    HalfOpen = 2,
}

/// What can be told of a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BreakerReport {
    pub state: BreakerState,
    /// Failed consults in a row.
    pub failures: u32,
    /// Time until a probe may go through; 0 unless the state is open.
    pub retry_in: Duration,
}

/// Allows one consult. Hand it back with the outcome.
#[derive(Debug)]
#[must_use]
pub struct Admission {
    epoch: u64,
}

/// The state of a breaker.
#[derive(Debug, Clone, Default)]
pub struct Breaker {
    /// Outcomes of the last consults, newest in bit 0; 1 is a failure.
    outcomes: u32,
    /// Consults recorded since it last closed.
    recorded: u32,
    in_a_row: u32,
    open: Option<Open>,
    /// Counts openings and closings: a consult that began before one says nothing about what is
    /// now.
    epoch: u64,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    until: Duration,
    /// Before jitter.
    pause: Duration,
    /// The probe is on its way.
    probing: bool,
}

impl Breaker {
    /// No consult may begin at `now`.
    pub fn is_open(&self, now: Duration) -> bool {
        self.open.is_some_and(|open| open.probing || now < open.until)
    }

    pub fn report(&self, now: Duration) -> BreakerReport {
        let retry_in = self.open.map_or(Duration::ZERO, |open| open.until.saturating_sub(now));
        let state = match self.open {
            None => BreakerState::Closed,
            Some(_) if retry_in.is_zero() => BreakerState::HalfOpen,
            Some(_) => BreakerState::Open,
        };
        BreakerReport { state, failures: self.in_a_row, retry_in }
    }

    /// Lets a consult begin at `now`, if it may. The first one after a pause is the probe.
    pub fn admit(&mut self, now: Duration) -> Option<Admission> {
        if self.is_open(now) {
            return None;
        }
        if let Some(open) = &mut self.open {
            open.probing = true;
        }
        Some(Admission { epoch: self.epoch })
    }

    /// How an admitted consult ended at `now`. `quiet`: for how long the server of a failed one
    /// asked not to be asked (`Retry-After`); 0: it did not. It opens the breaker at once. `jitter`
    /// in 0..1 spreads the pauses of a fleet of devices whose server came back: a pause is 75 % to
    /// 125 % of its nominal length, and never shorter than the quiet.
    pub fn record(
        &mut self,
        admission: Admission,
        outcome: Result<(), Failure>,
        quiet: Duration,
        now: Duration,
        jitter: f64,
    ) {
        if admission.epoch != self.epoch {
            return;
        }
        let doubled =
            |first, longest| self.open.map_or(first, |open| (open.pause * 2).clamp(first, longest));
        match outcome.map_err(Weight::of) {
            Ok(()) if self.open.is_some() => self.reset(),
            Ok(()) => {
                self.in_a_row = 0;
                self.note(0);
            }
            Err(Weight::None) => {
                if let Some(open) = &mut self.open {
                    open.probing = false;
                }
            }
            Err(Weight::Setup) => {
                let pause = doubled(FIRST_SETUP_PAUSE, LONGEST_SETUP_PAUSE);
                self.in_a_row += 1;
                self.open_for(pause, quiet, now, jitter);
            }
            Err(Weight::One) => {
                let pause = doubled(FIRST_PAUSE, LONGEST_PAUSE);
                self.in_a_row += 1;
                self.note(1);
                if self.open.is_some() || !quiet.is_zero() || self.has_had_enough() {
                    self.open_for(pause, quiet, now, jitter);
                }
            }
        }
    }

    /// Closes it and forgets all that happened. Consults on their way will say nothing.
    pub fn reset(&mut self) {
        *self = Breaker { epoch: self.epoch + 1, ..Breaker::default() };
    }

    fn note(&mut self, outcome: u32) {
        self.outcomes = (self.outcomes << 1 | outcome) & ((1 << WINDOW) - 1);
        self.recorded = (self.recorded + 1).min(WINDOW);
    }

    fn has_had_enough(&self) -> bool {
        self.in_a_row >= FAILURES_IN_A_ROW
            || (self.recorded == WINDOW && self.outcomes.count_ones() * 2 >= WINDOW)
    }

    fn open_for(&mut self, pause: Duration, quiet: Duration, now: Duration, jitter: f64) {
        let jitter = jitter.clamp(0.0, 1.0);
        let quiet = quiet.min(LONGEST_QUIET).mul_f64(1.0 + 0.25 * jitter);
        let until = now + pause.mul_f64(0.75 + 0.5 * jitter).max(quiet);
        self.open = Some(Open { until, pause, probing: false });
        self.epoch += 1;
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
            Failure::Cancelled | Failure::UnsafeBoundary | Failure::NeedsMessages => Weight::None,
            Failure::Unauthorized | Failure::Tls | Failure::ClockNotSet => Weight::Setup,
            Failure::Timeout
            | Failure::Connect
            | Failure::NotTls
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

    const ZERO: Duration = Duration::ZERO;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Milliseconds until which it is open, 0 when it is closed.
    fn open_until(breaker: &Breaker) -> u128 {
        breaker.open.map_or(0, |open| open.until.as_millis())
    }

    /// A consult that begins and ends at `at`, with a jitter that leaves pauses as they are.
    fn consult(breaker: &mut Breaker, outcome: Result<(), Failure>, at: Duration) {
        let admission = breaker.admit(at).expect("it may begin");
        breaker.record(admission, outcome, ZERO, at, 0.5);
    }

    /// Plays `(milliseconds, outcome, open until)` rows.
    fn play(name: &str, rows: &[(u64, Option<Failure>, u128)]) {
        let mut breaker = Breaker::default();
        for (row, (at, outcome, until)) in rows.iter().enumerate() {
            consult(&mut breaker, outcome.map_or(Ok(()), Err), millis(*at));
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
        play("token", &[(5, Some(Unauthorized), 10_005), (10_005, None, 0)]);
        play("certificate", &[(0, Some(Tls), 10_000), (10_000, bad, 30_000)]);
        play("clock", &[(0, Some(ClockNotSet), 10_000)]);
        play("a captive portal", &[(0, Some(NotTls), 0), (0, Some(NotTls), 0), (1, None, 0)]);
        play(
            "a set-up that stays wrong",
            &[
                (0, Some(Tls), 10_000),
                (10_000, Some(Tls), 30_000),
                (30_000, Some(Unauthorized), 70_000),
                (70_000, Some(Tls), 150_000),
                (150_000, Some(Tls), 310_000),
                (310_000, Some(Tls), 630_000),
                (630_000, Some(Tls), 1_230_000),
                (1_230_000, Some(Tls), 1_830_000),
                (1_830_000, bad, 1_890_000),
            ],
        );
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
            consult(&mut breaker, Ok(()), ZERO);
            consult(&mut breaker, Err(Status), ZERO);
        }
        assert_eq!(open_until(&breaker), 1000);
    }

    #[test]
    fn few_failures_among_many_leave_it_closed() {
        let mut breaker = Breaker::default();
        for _ in 0..100 {
            for _ in 0..3 {
                consult(&mut breaker, Ok(()), ZERO);
            }
            consult(&mut breaker, Err(Timeout), ZERO);
            assert_eq!(breaker.report(ZERO).state, BreakerState::Closed);
        }
    }

    #[test]
    fn jitter_moves_a_pause_by_a_quarter() {
        for (jitter, until) in [(0.0, 750), (0.5, 1000), (1.0, 1250), (-7.0, 750), (7.0, 1250)] {
            let mut breaker = Breaker::default();
            for _ in 0..3 {
                let admission = breaker.admit(ZERO).unwrap();
                breaker.record(admission, Err(Timeout), ZERO, ZERO, jitter);
            }
            assert_eq!(open_until(&breaker), until);
        }
    }

    /// Each row on a breaker of its own: quiet in milliseconds, jitter, outcome, open until.
    #[test]
    fn a_server_that_asks_for_quiet_gets_it() {
        let rows = [
            (30_000, 0.0, Busy, 30_000),
            (30_000, 1.0, Busy, 37_500),
            (2_000, 0.5, Status, 2_250),
            (1, 0.5, Busy, 1_000),
            (u64::MAX, 0.0, Busy, 600_000),
            (20_000, 0.0, Unauthorized, 20_000),
            (0, 0.5, Busy, 0),
            (30_000, 0.0, Cancelled, 0),
        ];
        for (quiet, jitter, failure, until) in rows {
            let mut breaker = Breaker::default();
            let admission = breaker.admit(ZERO).unwrap();
            breaker.record(admission, Err(failure), millis(quiet), ZERO, jitter);
            assert_eq!(open_until(&breaker), until, "{quiet} {failure:?}");
        }
    }

    /// Three failures at 0, which open it until 1000.
    fn opened() -> Breaker {
        let mut breaker = Breaker::default();
        (0..3).for_each(|_| consult(&mut breaker, Err(Timeout), ZERO));
        breaker
    }

    #[test]
    fn reports() {
        use BreakerState::*;
        let mut breaker = opened();
        let told = |breaker: &Breaker, at| {
            let BreakerReport { state, failures, retry_in } = breaker.report(millis(at));
            (state, failures, retry_in.as_millis())
        };
        assert_eq!(told(&Breaker::default(), 7), (Closed, 0, 0));
        assert_eq!(told(&breaker, 400), (Open, 3, 600));
        assert_eq!(told(&breaker, 1000), (HalfOpen, 3, 0));
        let probe = breaker.admit(millis(1000)).unwrap();
        assert_eq!(told(&breaker, 1001), (HalfOpen, 3, 0));
        breaker.record(probe, Err(Timeout), ZERO, millis(1500), 0.5);
        assert_eq!(told(&breaker, 1500), (Open, 4, 2000));
        breaker.reset();
        assert_eq!(told(&breaker, 1500), (Closed, 0, 0));
    }

    /// However many ask, one probe is on its way. One that says nothing makes room for the next.
    #[test]
    fn one_probe_at_a_time() {
        for (outcome, open) in [(Ok(()), false), (Err(Timeout), true), (Err(Cancelled), false)] {
            let mut breaker = opened();
            assert!(breaker.admit(millis(999)).is_none());
            let probe = breaker.admit(millis(1000)).unwrap();
            assert!(breaker.is_open(millis(1000)) && breaker.admit(millis(1000)).is_none());
            breaker.record(probe, outcome, ZERO, millis(1100), 0.5);
            assert_eq!(breaker.is_open(millis(1100)), open, "{outcome:?}");
            assert_eq!(breaker.admit(millis(1100)).is_none(), open, "{outcome:?}");
        }
    }

    /// A consult that began before the breaker opened, closed or was reset is no probe.
    #[test]
    fn stragglers_say_nothing() {
        for outcome in [Ok(()), Err(Timeout), Err(Unauthorized), Err(Cancelled)] {
            let mut breaker = Breaker::default();
            let [late, later] = [(); 2].map(|()| breaker.admit(ZERO).unwrap());
            (0..3).for_each(|_| consult(&mut breaker, Err(Timeout), ZERO));
            breaker.record(late, outcome, ZERO, millis(10), 0.5);
            assert_eq!(open_until(&breaker), 1000, "{outcome:?}");
            let probe = breaker.admit(millis(1000)).unwrap();
            breaker.record(later, outcome, ZERO, millis(1000), 0.5);
            assert!(breaker.is_open(millis(1000)), "the probe is still on its way");
            breaker.reset();
            breaker.record(probe, outcome, ZERO, millis(1001), 0.5);
            assert_eq!(breaker.report(millis(1001)), BreakerReport::default(), "{outcome:?}");
        }
    }
}
