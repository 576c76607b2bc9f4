//! Holds a budget by moving the threshold a little after every token: up by what was to be spent,
//! down by what was (after arXiv:2406.12125). Pure: no clock of its own.

use std::time::Duration;

use crate::consult::Cost;
use crate::error::{Error, Result};

/// How far a whole unit (a cloud token, a consult) moves the threshold. Larger is quicker and less
/// steady.
const RATE: f64 = 0.2;

/// The threshold moves on the scale of log-odds, ln (t / (1 - t)), where scores near 0 and near 1
/// are as far apart as those between. At its ends, ± this, it is 0 and above 1: never and always
/// consult.
const END: f64 = 14.0;

/// Above every score.
const ALWAYS: f32 = 1.0 + f32::EPSILON;

/// Until consults have shown what they cost: so many are taken to fit into an hour.
const GUESS: f64 = 100.0;

/// Weight of the last consult in the mean cost.
const WEIGHT: f64 = 0.125;

const HOUR: f64 = 3600.0;

/// What is held.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Hold {
    /// The cloud's share of the tokens, over 0 and under 1. Tokens of bursts count; tokens that the
    /// cloud was wanted for but could not write do not count at all.
    Share(f64),
    /// What consults cost in an hour of the session, over 0: the first begins with the session. No
    /// consult begins once it is spent, so it is exceeded by a part of one consult at most.
    PerHour { limit: f64, unit: Unit },
}

/// What a [`Hold::PerHour`] counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unit {
    /// Consults.
    Consults,
    /// Bytes sent and received.
    Bytes,
    /// Prices of one token, of the prompt and of the answer; not negative, one of them over 0.
    Money { prompt_token: f64, answer_token: f64 },
}

/// Who wrote a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    Slm,
    Cloud,
    /// The SLM, as the cloud could not be asked or did not answer.
    Fallback,
}

impl Hold {
    /// Errors: [`Error::InvalidArgument`] for a number out of its range.
    pub fn check(&self) -> Result<()> {
        let is_price = |price: f64| price >= 0.0 && price.is_finite();
        let fault = match *self {
            Hold::Share(share) if !(share > 0.0 && share < 1.0) => {
                format!("the share to hold is {share}, but must be between 0 and 1")
            }
            Hold::PerHour { limit, .. } if !(limit > 0.0 && limit.is_finite()) => {
                format!("the budget of an hour is {limit}, but must be over 0")
            }
            Hold::PerHour { unit: Unit::Money { prompt_token, answer_token }, .. }
                if !(is_price(prompt_token)
                    && is_price(answer_token)
                    && prompt_token + answer_token > 0.0) =>
            {
                format!(
                    "the prices of a token are {prompt_token} and {answer_token}, but must be 0 or \
                     more, one over 0"
                )
            }
            Hold::Share(_) | Hold::PerHour { .. } => return Ok(()),
        };
        Err(Error::InvalidArgument(fault))
    }
}

impl Unit {
    fn of(&self, cost: &Cost) -> f64 {
        match self {
            Unit::Consults => 1.0,
            Unit::Bytes => (cost.bytes_sent + cost.bytes_received) as f64,
            Unit::Money { prompt_token, answer_token } => {
                cost.prompt_tokens as f64 * prompt_token
                    + cost.completion_tokens as f64 * answer_token
            }
        }
    }
}

/// The threshold and what moves it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Controller {
    hold: Hold,
    /// The threshold's, within ± [`END`].
    log_odds: f64,
    /// When the last token came.
    last: Duration,
    /// The hour that `spent` is of.
    hour: u64,
    spent: f64,
    /// Mean cost of a consult.
    cost: f64,
}

impl Controller {
    /// Begins at `threshold`. `hold` has been checked.
    pub fn new(hold: Hold, threshold: f32) -> Controller {
        let cost = match hold {
            Hold::Share(_) | Hold::PerHour { unit: Unit::Consults, .. } => 1.0,
            Hold::PerHour { limit, .. } => limit / GUESS,
        };
        let threshold = f64::from(threshold).clamp(0.0, 1.0);
        let log_odds = (threshold.ln() - (-threshold).ln_1p()).clamp(-END, END);
        Controller { hold, log_odds, last: Duration::ZERO, hour: 0, spent: 0.0, cost }
    }

    /// For [`crate::policy::Policy::threshold`].
    pub fn threshold(&self) -> f32 {
        if self.log_odds <= -END {
            0.0
        } else if self.log_odds >= END {
            ALWAYS
        } else {
            (1.0 / (1.0 + (-self.log_odds).exp())) as f32
        }
    }

    /// No consult may begin at `now`.
    pub fn is_spent(&self, now: Duration) -> bool {
        match self.hold {
            Hold::Share(_) => false,
            Hold::PerHour { limit, .. } => self.hour == hour(now) && self.spent >= limit,
        }
    }

    /// After a consult, which may have failed.
    #[must_use]
    pub fn consulted(&self, now: Duration, cost: &Cost) -> Controller {
        let Hold::PerHour { unit, .. } = &self.hold else { return *self };
        let cost = unit.of(cost);
        let before = if self.hour == hour(now) { self.spent } else { 0.0 };
        Controller {
            hour: hour(now),
            spent: before + cost,
            cost: self.cost + WEIGHT * (cost - self.cost),
            ..self.moved(-1.0)
        }
    }

    /// After a token.
    #[must_use]
    pub fn wrote(&self, now: Duration, writer: Writer) -> Controller {
        let change = match (self.hold, writer) {
            // The way back after a time without the cloud would be long otherwise.
            (_, Writer::Fallback) => 0.0,
            _ if self.is_spent(now) => 0.0,
            (Hold::Share(share), Writer::Slm) => share,
            (Hold::Share(share), Writer::Cloud) => share - 1.0,
            // Time in which nothing is written is not saved up: at most one consult is due.
            (Hold::PerHour { limit, .. }, _) => {
                let passed = now.saturating_sub(self.last).as_secs_f64();
                (limit * passed / HOUR / self.cost).min(1.0)
            }
        };
        Controller { last: now, ..self.moved(change) }
    }

    fn moved(&self, change: f64) -> Controller {
        Controller { log_odds: (self.log_odds + RATE * change).clamp(-END, END), ..*self }
    }
}

fn hour(now: Duration) -> u64 {
    now.as_secs() / HOUR as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reward::builtin::Uniform;

    /// Scores of a stream: `exponent` 1 is uniform, a lower one has more high scores.
    struct Stream {
        uniform: Uniform,
        exponent: f32,
        now: Duration,
        controller: Controller,
    }

    impl Stream {
        fn new(hold: Hold) -> Stream {
            hold.check().unwrap();
            let controller = Controller::new(hold, 0.5);
            Stream { uniform: Uniform::new(1), exponent: 1.0, now: Duration::ZERO, controller }
        }

        /// One token every 100 ms; those of a burst cost nothing more. Returns tokens and consults
        /// of the cloud.
        fn run(&mut self, tokens: usize, burst: usize, cost: &Cost) -> (usize, usize) {
            let (mut written, mut consults, mut left) = (0, 0, 0);
            for _ in 0..tokens {
                let weak = self.uniform.draw().powf(self.exponent) < self.controller.threshold();
                if left == 0 && weak && !self.controller.is_spent(self.now) {
                    left = burst;
                    consults += 1;
                    self.controller = self.controller.consulted(self.now, cost);
                }
                let writer = match (left > 0, weak) {
                    (true, _) => Writer::Cloud,
                    (false, true) => Writer::Fallback,
                    (false, false) => Writer::Slm,
                };
                written += usize::from(left > 0);
                left = left.saturating_sub(1);
                self.controller = self.controller.wrote(self.now, writer);
                self.now += Duration::from_millis(100);
                assert!((0.0..=1.001).contains(&self.controller.threshold()));
            }
            (written, consults)
        }
    }

    #[test]
    fn a_share_is_held_whatever_the_scores_are() {
        for share in [0.05f32, 0.2, 0.5] {
            for burst in [1, 4] {
                let mut stream = Stream::new(Hold::Share(share.into()));
                for exponent in [1.0, 0.3, 2.0, 1.0] {
                    stream.exponent = exponent;
                    let before = stream.controller.log_odds;
                    let (written, _) = stream.run(5000, burst, &Cost::default());
                    let got = written as f32 / 5000.0;
                    let row = format!("{share} {burst} {exponent}: {got}");
                    assert!((got - share).abs() <= 0.025, "{row}");
                    // What the share is off by is what the threshold has moved.
                    let too_many = (before - stream.controller.log_odds) / RATE;
                    let expected = f64::from(share) * 5000.0 + too_many;
                    assert!((written as f64 - expected).abs() < 1e-3, "{row}");
                }
            }
        }
    }

    #[test]
    fn an_hour_is_spent_evenly_and_not_exceeded() {
        let cost = Cost {
            prompt_tokens: 500,
            completion_tokens: 1,
            bytes_sent: 2000,
            bytes_received: 1000,
            ..Cost::default()
        };
        let money = Unit::Money { prompt_token: 0.5e-6, answer_token: 2e-6 };
        // unit, limit, consults that fit
        let rows = [
            (Unit::Consults, 360.0, 360),
            (Unit::Bytes, 600_000.0, 200),
            (Unit::Bytes, 600_001.0, 201),
            (money, 0.1, 397),
            (Unit::Consults, 20_000.0, 20_000),
        ];
        for (unit, limit, fit) in rows {
            let mut stream = Stream::new(Hold::PerHour { limit, unit });
            for hour in 0..4 {
                let quarters: Vec<usize> = (0..4).map(|_| stream.run(9000, 1, &cost).1).collect();
                let consults: usize = quarters.iter().sum();
                let row = format!("{unit:?} {limit}, hour {hour}: {quarters:?}");
                assert!(consults <= fit, "{row}");
                if hour > 0 {
                    assert!(consults * 10 >= fit * 9, "{row}");
                    let most = quarters.iter().max().unwrap();
                    assert!(*most <= fit * 3 / 10, "{row}");
                }
            }
        }
    }

    #[test]
    fn offline_and_idle_time_is_not_made_up_for() {
        let start = Controller::new(Hold::Share(0.2), 0.5);
        let offline = (0..1000).fold(start, |c, _| c.wrote(Duration::ZERO, Writer::Fallback));
        assert_eq!(offline.threshold(), 0.5);
        let hold = Hold::PerHour { limit: 100.0, unit: Unit::Consults };
        let late = Controller::new(hold, 0.5).wrote(Duration::from_secs(100_000), Writer::Slm);
        assert!((late.threshold() - 0.549_834).abs() < 1e-5, "one consult is due, no more");
        let bottom = Controller::new(Hold::Share(0.5), 0.0).wrote(Duration::ZERO, Writer::Cloud);
        assert_eq!(bottom.threshold(), 0.0);
        assert!(Controller::new(Hold::Share(0.5), 9.0).threshold() > 1.0);
    }

    #[test]
    fn a_new_hour_begins_with_nothing_spent() {
        let hold = Hold::PerHour { limit: 2.0, unit: Unit::Consults };
        let at = Duration::from_secs;
        let once = Controller::new(hold, 0.5).consulted(at(10), &Cost::default());
        let twice = once.consulted(at(3599), &Cost::default());
        let rows = [(once, 3599, false), (twice, 3599, true), (twice, 3600, false)];
        for (controller, now, want) in rows {
            assert_eq!(controller.is_spent(at(now)), want, "{controller:?} at {now}");
        }
        assert!(!twice.consulted(at(3600), &Cost::default()).is_spent(at(3601)));
    }

    #[test]
    fn ranges() {
        let money = |prompt_token, answer_token| Hold::PerHour {
            limit: 1.0,
            unit: Unit::Money { prompt_token, answer_token },
        };
        let consults = |limit| Hold::PerHour { limit, unit: Unit::Consults };
        for hold in [Hold::Share(0.5), consults(0.1), money(0.0, 1e-6), money(1e-6, 0.0)] {
            assert!(hold.check().is_ok(), "{hold:?}");
        }
        let bad = [
            Hold::Share(0.0),
            Hold::Share(1.0),
            Hold::Share(f64::NAN),
            consults(0.0),
            consults(f64::NAN),
            consults(f64::INFINITY),
            money(0.0, 0.0),
            money(-1.0, 2.0),
            money(f64::NAN, 1.0),
        ];
        for hold in bad {
            assert!(hold.check().is_err(), "{hold:?}");
        }
    }
}
