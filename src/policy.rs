//! `decide`: whether a candidate is kept or the cloud is consulted. Pure: no I/O, no clock of its own.

use std::time::Duration;

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

/// Limits of a session's cloud use; `None` is unlimited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Budget {
    /// Consults.
    pub calls: Option<u64>,
    /// Tokens taken from the cloud.
    pub tokens: Option<u64>,
    /// Bytes sent and received.
    pub bytes: Option<u64>,
}

/// What has been spent of a [`Budget`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    pub calls: u64,
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

/// The breaker as `decide` sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Consults go through.
    Closed,
    /// No consult before `until` (on the session's clock).
    Open { until: Duration },
}

/// Everything a decision depends on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Situation {
    /// Score of the candidate; `None` where the mode needs none.
    pub score: Option<f32>,
    /// The candidate is the best of some alternatives to the SLM's own choice, which was weak.
    pub rescued: bool,
    pub spent: Spent,
    pub breaker: BreakerState,
    /// Time since the session's clock began.
    pub now: Duration,
    /// What an hour may cost is spent, see [`crate::controller::Controller::is_spent`].
    pub hour_spent: bool,
    /// The cloud LLM's answer in this place is known.
    pub corrected: bool,
    /// The session has a cloud.
    pub cloud: bool,
    /// The wall clock is later than this library's build time, so that certificates can be judged.
    pub clock_set: bool,
    /// The context is whole characters throughout, or ids are exchanged.
    pub safe_boundary: bool,
}

/// What to do with a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Keep it: it is good enough, or the mode is local only.
    Keep(Reason),
    /// Ask the cloud for at most `burst` tokens.
    Consult { burst: u32, reason: Reason },
    /// Take the answer that is known.
    Correct,
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
    BudgetCalls = 4,
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
    /// A consult in the same place was answered before.
    Corrected = 14,
}

/// Decides one step. What is checked first wins: the mode, the score, a known answer, the clock, the
/// budgets, the boundary, the breaker.
pub fn decide(policy: &Policy, situation: &Situation) -> Decision {
    match wish(policy, situation) {
        Err(reason) => Decision::Keep(reason),
        Ok(_) if situation.corrected => Decision::Correct,
        Ok(reason) => match obstacle(&policy.budget, situation) {
            Some(obstacle) => Decision::Fallback(obstacle),
            None => Decision::Consult { burst: burst(policy, &situation.spent), reason },
        },
    }
}

/// `Ok`: why the cloud is wanted. `Err`: why it is not.
fn wish(policy: &Policy, situation: &Situation) -> Result<Reason, Reason> {
    if !situation.cloud {
        return Err(Reason::LocalOnly);
    }
    match policy.mode {
        Mode::LocalOnly => Err(Reason::LocalOnly),
        Mode::CloudFirst => Ok(Reason::CloudFirst),
        Mode::Hybrid if is_weak(policy.threshold, situation.score) => Ok(Reason::Weak),
        Mode::Hybrid if situation.rescued => Err(Reason::Rescued),
        Mode::Hybrid => Err(Reason::Confident),
    }
}

/// A score that says nothing (absent or NaN) is weak, but a threshold of 0 never consults.
fn is_weak(threshold: f32, score: Option<f32>) -> bool {
    threshold > 0.0 && !score.is_some_and(|s| s >= threshold)
}

/// Why the cloud may not be asked now.
fn obstacle(budget: &Budget, situation: &Situation) -> Option<Reason> {
    let spent = &situation.spent;
    let is_spent = |limit: Option<u64>, spent: u64| limit.is_some_and(|limit| spent >= limit);
    if !situation.clock_set {
        Some(Reason::ClockNotSet)
    } else if is_spent(budget.calls, spent.calls) {
        Some(Reason::BudgetCalls)
    } else if is_spent(budget.tokens, spent.tokens) {
        Some(Reason::BudgetTokens)
    } else if is_spent(budget.bytes, spent.bytes) {
        Some(Reason::BudgetBytes)
    } else if situation.hour_spent {
        Some(Reason::BudgetHour)
    } else if !situation.safe_boundary {
        Some(Reason::UnsafeBoundary)
    } else {
        match situation.breaker {
            BreakerState::Open { until } if situation.now < until => Some(Reason::BreakerOpen),
            BreakerState::Open { .. } | BreakerState::Closed => None,
        }
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

    /// A situation in which nothing stands in the way of a consult.
    fn free(score: f32) -> Situation {
        Situation {
            score: Some(score),
            rescued: false,
            spent: Spent::default(),
            breaker: BreakerState::Closed,
            now: Duration::from_secs(100),
            hour_spent: false,
            corrected: false,
            cloud: true,
            clock_set: true,
            safe_boundary: true,
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
            let no_cloud = Situation { cloud: false, ..free(score) };
            assert_eq!(decide(&policy(mode, threshold), &no_cloud), keep(LocalOnly));
        }
        let rescued = |score| Situation { rescued: true, ..free(score) };
        assert_eq!(decide(&policy(HYBRID, 0.5), &rescued(0.5)), keep(Rescued));
        assert_eq!(decide(&policy(HYBRID, 0.5), &rescued(0.4)), ask(4, Weak));
        let unscored = Situation { score: None, ..free(0.0) };
        assert_eq!(decide(&policy(HYBRID, 0.5), &unscored), ask(4, Weak));
        assert_eq!(decide(&policy(HYBRID, 0.0), &unscored), keep(Confident));
        assert_eq!(decide(&policy(FIRST, 0.5), &unscored), ask(4, CloudFirst));
    }

    /// Each obstacle alone, and the order in which they win. Every row holds for a weak candidate
    /// in hybrid mode and for cloud first; a confident candidate is kept whatever stands in the way.
    #[test]
    fn obstacles() {
        use Reason::*;
        let open = |secs| BreakerState::Open { until: Duration::from_secs(secs) };
        let closed = BreakerState::Closed;
        let none = Budget::default();
        let calls = Budget { calls: Some(3), ..none };
        let tokens = Budget { tokens: Some(10), ..none };
        let bytes = Budget { bytes: Some(1000), ..none };
        let all = Budget { calls: Some(3), tokens: Some(10), bytes: Some(1000) };
        let nothing = Budget { calls: Some(0), ..none };
        let rows = [
            // budget, (calls, tokens, bytes) spent, breaker, clock, boundary, burst or obstacle
            (none, (9, 99, 9999), closed, true, true, Ok(4)),
            (none, (0, 0, 0), closed, false, true, Err(ClockNotSet)),
            (none, (0, 0, 0), closed, true, false, Err(UnsafeBoundary)),
            (none, (0, 0, 0), open(101), true, true, Err(BreakerOpen)),
            (none, (0, 0, 0), open(100), true, true, Ok(4)),
            (none, (0, 0, 0), open(99), true, true, Ok(4)),
            (nothing, (0, 0, 0), closed, true, true, Err(BudgetCalls)),
            (calls, (2, 99, 9999), closed, true, true, Ok(4)),
            (calls, (3, 0, 0), closed, true, true, Err(BudgetCalls)),
            (calls, (4, 0, 0), closed, true, true, Err(BudgetCalls)),
            (tokens, (9, 6, 9999), closed, true, true, Ok(4)),
            (tokens, (9, 7, 9999), closed, true, true, Ok(3)),
            (tokens, (9, 9, 9999), closed, true, true, Ok(1)),
            (tokens, (9, 10, 0), closed, true, true, Err(BudgetTokens)),
            (tokens, (9, 11, 0), closed, true, true, Err(BudgetTokens)),
            (bytes, (9, 99, 999), closed, true, true, Ok(4)),
            (bytes, (9, 99, 1000), closed, true, true, Err(BudgetBytes)),
            (all, (3, 10, 1000), open(101), false, false, Err(ClockNotSet)),
            (all, (3, 10, 1000), open(101), true, false, Err(BudgetCalls)),
            (all, (0, 10, 1000), open(101), true, false, Err(BudgetTokens)),
            (all, (0, 0, 1000), open(101), true, false, Err(BudgetBytes)),
            (all, (0, 0, 0), open(101), true, false, Err(UnsafeBoundary)),
            (all, (0, 0, 0), open(101), true, true, Err(BreakerOpen)),
        ];
        for (row, (budget, spent, breaker, clock_set, safe_boundary, want)) in
            rows.into_iter().enumerate()
        {
            let (calls, tokens, bytes) = spent;
            let situation = |score| Situation {
                spent: Spent { calls, tokens, bytes },
                breaker,
                clock_set,
                safe_boundary,
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

    /// What is known costs nothing: no obstacle stands in its way. Only what would be asked is looked up.
    #[test]
    fn a_known_answer_is_taken() {
        let known = |score| Situation { corrected: true, clock_set: false, ..free(score) };
        let policy = |mode| Policy {
            budget: Budget { calls: Some(0), ..Budget::default() },
            ..policy(mode, 0.5)
        };
        assert_eq!(decide(&policy(HYBRID), &known(0.1)), Decision::Correct);
        assert_eq!(decide(&policy(FIRST), &known(0.9)), Decision::Correct);
        assert_eq!(decide(&policy(HYBRID), &known(0.5)), keep(Reason::Confident));
        assert_eq!(decide(&policy(LOCAL), &known(0.1)), keep(Reason::LocalOnly));
    }

    #[test]
    fn an_hour_that_is_spent() {
        let spent = |score| Situation { hour_spent: true, safe_boundary: false, ..free(score) };
        let policy = policy(HYBRID, 0.5);
        assert_eq!(decide(&policy, &spent(0.1)), fall(Reason::BudgetHour), "before the boundary");
        assert_eq!(decide(&policy, &spent(0.9)), keep(Reason::Confident));
        let budget = Budget { calls: Some(0), ..Budget::default() };
        let both = Policy { budget, ..policy };
        assert_eq!(decide(&both, &spent(0.1)), fall(Reason::BudgetCalls), "after the session's");
    }

    #[test]
    fn a_burst_asks_for_one_token_at_least() {
        let policy = Policy { burst: 0, ..policy(HYBRID, 0.5) };
        assert_eq!(decide(&policy, &free(0.0)), ask(1, Reason::Weak));
    }
}
