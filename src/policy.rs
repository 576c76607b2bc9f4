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
    /// Consult when `score < threshold`; 0..=1, so 0 never consults and anything above 1 always does.
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
    pub spent: Spent,
    pub breaker: BreakerState,
    /// Time since the session's clock began.
    pub now: Duration,
    /// The session has a cloud.
    pub cloud: bool,
    /// The wall clock is later than this library's build time, so that certificates can be judged.
    pub clock_set: bool,
    /// The context ends at a whole character, or ids are exchanged.
    pub safe_boundary: bool,
}

/// What to do with a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Keep it: it is good enough, or the mode is local only.
    Keep(Reason),
    /// Ask the cloud for at most `burst` tokens.
    Consult { burst: u32, reason: Reason },
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
    /// The context ends within a character, which a cloud with another vocabulary cannot be sent.
    UnsafeBoundary = 9,
    /// The consult failed; see the step's failure.
    ConsultFailed = 10,
    /// A further token of an earlier consult's burst.
    Burst = 11,
}

/// Decides one step.
pub fn decide(_policy: &Policy, _situation: &Situation) -> Decision {
    Decision::Keep(Reason::LocalOnly)
}
