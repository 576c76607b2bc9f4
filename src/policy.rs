//! `decide`: whether a candidate is kept or the cloud is consulted. Pure: no I/O, no clock of its
//! own.

use crate::controller::Hold;

/// Who may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(i32)]
pub enum Mode {
    /// The SLM alone; no byte leaves the device.
    LocalOnly = 0,
    /// The SLM, and the cloud for candidates under the threshold.
    #[default]
    Hybrid = 1,
    /// The cloud for every token it can be asked for, the SLM when it can't.
    CloudFirst = 2,
}

/// What a session may spend on the cloud. The limits count from the session's birth; `None` is
/// unlimited. Once one is reached, candidates are kept, marked as fallback. A consult that has
/// begun may overshoot it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Budget {
    /// Consults, failed ones included.
    pub consults: Option<u64>,
    /// Tokens of the cloud's answers, handed out or not.
    pub tokens: Option<u64>,
    /// Bytes sent and received.
    pub bytes: Option<u64>,
    /// Moves the threshold while the session goes on, so that this is held. It works in hybrid mode
    /// with a cloud, and rests otherwise.
    pub hold: Option<Hold>,
}

/// What has been spent of a [`Budget`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    pub consults: u64,
    pub tokens: u64,
    pub bytes: u64,
}

/// What the session was set up with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    pub mode: Mode,
    /// Consult when `score < threshold`. Scores are 0..=1, so 0 never consults and anything above 1
    /// always does. A score that is NaN counts as weak.
    pub threshold: f32,
    pub budget: Budget,
    /// At most this many tokens from one consult, at least 1.
    pub burst: u32,
}

/// Everything a decision depends on. [`decide`] asks for no more than it needs: some of it takes
/// work to find out.
pub trait Situation {
    /// The session has a cloud.
    fn has_cloud(&self) -> bool;
    /// Score of the candidate; `None` where the mode needs none.
    fn score(&self) -> Option<f32>;
    /// The candidate is the best of some alternatives to the SLM's own choice, which was weak.
    fn is_rescued(&self) -> bool;
    /// The cloud LLM's answer in this place is remembered.
    fn has_correction(&self) -> bool;
    /// The wall clock is later than the constant in [`crate::clock`], so that certificates can be
    /// judged.
    fn clock_is_set(&self) -> bool;
    fn spent(&self) -> Spent;
    /// What an hour may cost is spent, see [`crate::controller::Controller::is_spent`].
    fn hour_is_spent(&self) -> bool;
    /// The context is whole characters throughout, or ids are exchanged.
    fn is_at_boundary(&self) -> bool;
    /// See [`crate::breaker::SharedBreaker::is_open`].
    fn breaker_is_open(&self) -> bool;
}

/// What to do with a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Keep it: it is good enough, or the mode is local only.
    Keep(Reason),
    /// Ask the cloud for at most `burst` tokens.
    Consult { burst: u32, reason: Reason },
    /// Take the correction: the cloud LLM's earlier answer in this place.
    Correction,
    /// It is weak, but the cloud may not be asked: keep it, marked.
    Fallback(Reason),
}

/// Why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Reason {
    /// The score reached the threshold.
    Confident = 0,
    /// The score is under the threshold.
    Weak = 1,
    /// The mode is local only, or there is no cloud.
    LocalOnly = 2,
    /// The mode is cloud first.
    CloudFirst = 3,
    /// A budget is spent.
    BudgetConsults = 4,
    BudgetTokens = 5,
    BudgetBytes = 6,
    /// The breaker is open after failed consults.
    BreakerOpen = 7,
    /// The device's clock is earlier than this library's build.
    ClockNotSet = 8,
    /// The context ends within a character (or holds bytes that are none), which a cloud LLM with
    /// another vocabulary cannot be sent.
    UnsafeBoundary = 9,
    /// The consult failed; see the step's failure.
    ConsultFailed = 10,
    /// A further token of an earlier consult's burst.
    Burst = 11,
    /// What an hour may cost is spent.
    BudgetHour = 12,
    /// The SLM's own choice was weak, but an alternative's score reached the threshold.
    Rescued = 13,
    /// The cloud LLM answered in the same place before, see [`Decision::Correction`].
    Correction = 14,
}

/// Decides one step. What is checked first wins: the mode, the score, a correction, the clock, the
/// budgets, the boundary, the breaker.
pub fn decide(policy: &Policy, situation: &dyn Situation) -> Decision {
    match wish(policy, situation) {
        Err(reason) => Decision::Keep(reason),
        Ok(_) if situation.has_correction() => Decision::Correction,
        Ok(reason) => match obstacle(&policy.budget, situation) {
            Some(obstacle) => Decision::Fallback(obstacle),
            None => Decision::Consult { burst: burst(policy, &situation.spent()), reason },
        },
    }
}

/// `Ok`: why the cloud is wanted. `Err`: why it is not.
fn wish(policy: &Policy, situation: &dyn Situation) -> Result<Reason, Reason> {
    if !situation.has_cloud() {
        return Err(Reason::LocalOnly);
    }
    match policy.mode {
        Mode::LocalOnly => Err(Reason::LocalOnly),
        Mode::CloudFirst => Ok(Reason::CloudFirst),
        Mode::Hybrid if is_weak(policy.threshold, situation.score()) => Ok(Reason::Weak),
        Mode::Hybrid if situation.is_rescued() => Err(Reason::Rescued),
        Mode::Hybrid => Err(Reason::Confident),
    }
}

/// A score that says nothing (absent or NaN) is weak, but a threshold of 0 never consults.
fn is_weak(threshold: f32, score: Option<f32>) -> bool {
    threshold > 0.0 && !score.is_some_and(|s| s >= threshold)
}

/// Why the cloud may not be asked now. Looks at no candidate.
pub fn obstacle(budget: &Budget, situation: &dyn Situation) -> Option<Reason> {
    let spent = situation.spent();
    let is_spent = |limit: Option<u64>, spent: u64| limit.is_some_and(|limit| spent >= limit);
    if !situation.clock_is_set() {
        Some(Reason::ClockNotSet)
    } else if is_spent(budget.consults, spent.consults) {
        Some(Reason::BudgetConsults)
    } else if is_spent(budget.tokens, spent.tokens) {
        Some(Reason::BudgetTokens)
    } else if is_spent(budget.bytes, spent.bytes) {
        Some(Reason::BudgetBytes)
    } else if situation.hour_is_spent() {
        Some(Reason::BudgetHour)
    } else if !situation.is_at_boundary() {
        Some(Reason::UnsafeBoundary)
    } else if situation.breaker_is_open() {
        Some(Reason::BreakerOpen)
    } else {
        None
    }
}

/// A burst never asks for more than the token budget has left.
fn burst(policy: &Policy, spent: &Spent) -> u32 {
    let left = policy.budget.tokens.map_or(u64::MAX, |limit| limit.saturating_sub(spent.tokens));
    u32::try_from(left).unwrap_or(u32::MAX).min(policy.burst).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAN: f32 = f32::NAN;
    const LOCAL: Mode = Mode::LocalOnly;
    const HYBRID: Mode = Mode::Hybrid;
    const FIRST: Mode = Mode::CloudFirst;

    fn keep(reason: Reason) -> Decision {
        Decision::Keep(reason)
    }

    fn ask(burst: u32, reason: Reason) -> Decision {
        Decision::Consult { burst, reason }
    }

    fn fall(reason: Reason) -> Decision {
        Decision::Fallback(reason)
    }

    #[derive(Debug, Clone, Copy)]
    struct Facts {
        cloud: bool,
        score: Option<f32>,
        rescued: bool,
        /// `None`: must not be asked for.
        correction: Option<bool>,
        clock_set: bool,
        spent: Spent,
        hour_spent: bool,
        boundary: Option<bool>,
        breaker_open: bool,
    }

    impl Situation for Facts {
        fn has_cloud(&self) -> bool {
            self.cloud
        }
        fn score(&self) -> Option<f32> {
            self.score
        }
        fn is_rescued(&self) -> bool {
            self.rescued
        }
        fn has_correction(&self) -> bool {
            self.correction.expect("the search is for weak candidates only")
        }
        fn clock_is_set(&self) -> bool {
            self.clock_set
        }
        fn spent(&self) -> Spent {
            self.spent
        }
        fn hour_is_spent(&self) -> bool {
            self.hour_spent
        }
        fn is_at_boundary(&self) -> bool {
            self.boundary.expect("it matters only where the cloud would be asked")
        }
        fn breaker_is_open(&self) -> bool {
            self.breaker_open
        }
    }

    /// A situation in which nothing stands in the way of a consult.
    fn free(score: f32) -> Facts {
        Facts {
            cloud: true,
            score: Some(score),
            rescued: false,
            correction: Some(false),
            clock_set: true,
            spent: Spent::default(),
            hour_spent: false,
            boundary: Some(true),
            breaker_open: false,
        }
    }

    fn policy(mode: Mode, threshold: f32) -> Policy {
        Policy { mode, threshold, budget: Budget::default(), burst: 4 }
    }

    #[test]
    fn mode_and_score() {
        use Reason::*;
        let rows = [
            // mode, threshold, score, decision
            (LOCAL, 0.5, 0.0, keep(LocalOnly)),
            (LOCAL, 2.0, NAN, keep(LocalOnly)),
            (HYBRID, 0.5, 0.9, keep(Confident)),
            (HYBRID, 0.5, 0.5, keep(Confident)),
            (HYBRID, 0.5, 0.499_999, ask(4, Weak)),
            (HYBRID, 0.5, 0.0, ask(4, Weak)),
            (HYBRID, 0.5, NAN, ask(4, Weak)),
            (HYBRID, 0.5, f32::INFINITY, keep(Confident)),
            (HYBRID, 0.5, f32::NEG_INFINITY, ask(4, Weak)),
            (HYBRID, 0.0, 0.0, keep(Confident)),
            (HYBRID, 0.0, NAN, keep(Confident)),
            (HYBRID, 0.0, -1.0, keep(Confident)),
            (HYBRID, 1.0, 1.0, keep(Confident)),
            (HYBRID, 1.0, 0.999, ask(4, Weak)),
            (HYBRID, 1.01, 1.0, ask(4, Weak)),
            (HYBRID, f32::INFINITY, 1.0, ask(4, Weak)),
            (FIRST, 0.0, 1.0, ask(4, CloudFirst)),
            (FIRST, 0.5, NAN, ask(4, CloudFirst)),
        ];
        for (mode, threshold, score, decision) in rows {
            let got = decide(&policy(mode, threshold), &free(score));
            assert_eq!(got, decision, "{mode:?} {threshold} {score}");
            let no_cloud = Facts { cloud: false, ..free(score) };
            assert_eq!(decide(&policy(mode, threshold), &no_cloud), keep(LocalOnly));
        }
        let rescued = |score| Facts { rescued: true, ..free(score) };
        assert_eq!(decide(&policy(HYBRID, 0.5), &rescued(0.5)), keep(Rescued));
        assert_eq!(decide(&policy(HYBRID, 0.5), &rescued(0.4)), ask(4, Weak));
        let unscored = Facts { score: None, ..free(0.0) };
        assert_eq!(decide(&policy(HYBRID, 0.5), &unscored), ask(4, Weak));
        assert_eq!(decide(&policy(HYBRID, 0.0), &unscored), keep(Confident));
        assert_eq!(decide(&policy(FIRST, 0.5), &unscored), ask(4, CloudFirst));
    }

    /// Each obstacle alone, and the order in which they win. Every row holds for a weak candidate
    /// in hybrid mode and for cloud first; a confident candidate is kept whatever stands in the
    /// way.
    #[test]
    fn obstacles() {
        use Reason::*;
        let (open, closed) = (true, false);
        let none = Budget::default();
        let consults = Budget { consults: Some(3), ..none };
        let tokens = Budget { tokens: Some(10), ..none };
        let bytes = Budget { bytes: Some(1000), ..none };
        let all = Budget { consults: Some(3), tokens: Some(10), bytes: Some(1000), hold: None };
        let nothing = Budget { consults: Some(0), ..none };
        let rows = [
            // budget, (consults, tokens, bytes) spent, breaker, clock, boundary, burst or obstacle
            (none, (9, 99, 9999), closed, true, true, Ok(4)),
            (none, (0, 0, 0), closed, false, true, Err(ClockNotSet)),
            (none, (0, 0, 0), closed, true, false, Err(UnsafeBoundary)),
            (none, (0, 0, 0), open, true, true, Err(BreakerOpen)),
            (nothing, (0, 0, 0), closed, true, true, Err(BudgetConsults)),
            (consults, (2, 99, 9999), closed, true, true, Ok(4)),
            (consults, (3, 0, 0), closed, true, true, Err(BudgetConsults)),
            (consults, (4, 0, 0), closed, true, true, Err(BudgetConsults)),
            (tokens, (9, 6, 9999), closed, true, true, Ok(4)),
            (tokens, (9, 7, 9999), closed, true, true, Ok(3)),
            (tokens, (9, 9, 9999), closed, true, true, Ok(1)),
            (tokens, (9, 10, 0), closed, true, true, Err(BudgetTokens)),
            (tokens, (9, 11, 0), closed, true, true, Err(BudgetTokens)),
            (bytes, (9, 99, 999), closed, true, true, Ok(4)),
            (bytes, (9, 99, 1000), closed, true, true, Err(BudgetBytes)),
            (all, (3, 10, 1000), open, false, false, Err(ClockNotSet)),
            (all, (3, 10, 1000), open, true, false, Err(BudgetConsults)),
            (all, (0, 10, 1000), open, true, false, Err(BudgetTokens)),
            (all, (0, 0, 1000), open, true, false, Err(BudgetBytes)),
            (all, (0, 0, 0), open, true, false, Err(UnsafeBoundary)),
            (all, (0, 0, 0), open, true, true, Err(BreakerOpen)),
        ];
        for (row, (budget, spent, breaker_open, clock_set, boundary, want)) in
            rows.into_iter().enumerate()
        {
            let (consults, tokens, bytes) = spent;
            let situation = |score| Facts {
                spent: Spent { consults, tokens, bytes },
                breaker_open,
                clock_set,
                boundary: Some(boundary),
                ..free(score)
            };
            for (mode, reason) in [(HYBRID, Weak), (FIRST, CloudFirst)] {
                let policy = Policy { budget, ..policy(mode, 0.5) };
                let want = want.map_or_else(fall, |burst| ask(burst, reason));
                assert_eq!(decide(&policy, &situation(0.1)), want, "row {row}, {mode:?}");
            }
            let policy = Policy { budget, ..policy(HYBRID, 0.5) };
            assert_eq!(decide(&policy, &situation(0.9)), keep(Confident), "row {row}");
        }
    }

    /// A correction costs nothing: no obstacle stands in its way.
    #[test]
    fn a_correction_is_taken() {
        let known = |score| Facts { correction: Some(true), clock_set: false, ..free(score) };
        let policy = |mode| Policy {
            budget: Budget { consults: Some(0), ..Budget::default() },
            ..policy(mode, 0.5)
        };
        assert_eq!(decide(&policy(HYBRID), &known(0.1)), Decision::Correction);
        assert_eq!(decide(&policy(FIRST), &known(0.9)), Decision::Correction);
        assert_eq!(decide(&policy(HYBRID), &known(0.5)), keep(Reason::Confident));
        assert_eq!(decide(&policy(LOCAL), &known(0.1)), keep(Reason::LocalOnly));
    }

    /// What takes work is found out only where it matters.
    #[test]
    fn a_decision_asks_for_no_more_than_it_needs() {
        let lazy = |score| Facts { correction: None, boundary: None, ..free(score) };
        assert_eq!(decide(&policy(HYBRID, 0.5), &lazy(0.9)), keep(Reason::Confident));
        assert_eq!(decide(&policy(HYBRID, 0.0), &lazy(0.0)), keep(Reason::Confident));
        assert_eq!(decide(&policy(LOCAL, 0.5), &lazy(0.1)), keep(Reason::LocalOnly));
        let off = Facts { cloud: false, ..lazy(0.1) };
        assert_eq!(decide(&policy(FIRST, 0.5), &off), keep(Reason::LocalOnly));
        let unset = Facts { correction: Some(false), clock_set: false, ..lazy(0.1) };
        assert_eq!(decide(&policy(HYBRID, 0.5), &unset), fall(Reason::ClockNotSet));
    }

    #[test]
    fn an_hour_that_is_spent() {
        let spent = |score| Facts { hour_spent: true, boundary: Some(false), ..free(score) };
        let policy = policy(HYBRID, 0.5);
        assert_eq!(decide(&policy, &spent(0.1)), fall(Reason::BudgetHour), "before the boundary");
        assert_eq!(decide(&policy, &spent(0.9)), keep(Reason::Confident));
        let budget = Budget { consults: Some(0), ..Budget::default() };
        let both = Policy { budget, ..policy };
        assert_eq!(decide(&both, &spent(0.1)), fall(Reason::BudgetConsults), "after the session's");
    }

    #[test]
    fn a_burst_asks_for_one_token_at_least() {
        let policy = Policy { burst: 0, ..policy(HYBRID, 0.5) };
        assert_eq!(decide(&policy, &free(0.0)), ask(1, Reason::Weak));
    }
}
