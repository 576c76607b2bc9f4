//! Where a token came from, and why
//!
//! The words of hybrid_step_result and hybrid_peek. Later releases may add values, so treat an
//! unknown one as "other". The `_name` functions know every value of the library that is linked.

use std::ffi::c_char;

use super::numbers::{Number, mirror, values};
use crate::consult::Failure;
use crate::policy::Reason;
use crate::session::{End, Source};

/// Where a token came from.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum hybrid_source {
    /// The SLM.
    Local = 0,
    /// The cloud LLM.
    Cloud = 1,
    /// A remembered answer of the cloud LLM; see hybrid_corrections.
    Correction = 2,
    /// The SLM's candidate is weak, but the library could not ask the cloud or got no answer. Text
    /// with many of these is of the SLM's own quality: degraded.
    Fallback = 3,
}
mirror!(hybrid_source = Source { Local, Cloud, Correction, Fallback });

/// Why a candidate was kept or replaced.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum hybrid_reason {
    /// The score reached the threshold.
    Confident = 0,
    /// The score is under the threshold.
    Weak = 1,
    /// The mode is local only, or the session has no cloud.
    LocalOnly = 2,
    /// The mode is cloud first.
    CloudFirst = 3,
    /// The budget of consults is spent.
    BudgetConsults = 4,
    /// The budget of cloud tokens is spent.
    BudgetTokens = 5,
    /// The budget of bytes is spent.
    BudgetBytes = 6,
    /// Consults failed, so the library does not ask for a while; see hybrid_breaker.
    BreakerOpen = 7,
    /// The device's clock is not set, so no certificate can be checked.
    ClockNotSet = 8,
    /// The context ends inside a character. A cloud LLM with another vocabulary cannot continue
    /// that.
    UnsafeBoundary = 9,
    /// The consult failed; see hybrid_consult_result.failure.
    ConsultFailed = 10,
    /// A further token of an earlier answer.
    Burst = 11,
    /// The budget of this hour is spent; see hybrid_budget.hold.
    BudgetHour = 12,
    /// The SLM's first choice is weak, but another of its tokens reached the threshold; see
    /// hybrid_consult.rescue.
    Rescued = 13,
    /// The session remembers an answer for this place; see hybrid_corrections.
    Correction = 14,
}
mirror!(
    hybrid_reason = Reason {
        Confident,
        Weak,
        LocalOnly,
        CloudFirst,
        BudgetConsults,
        BudgetTokens,
        BudgetBytes,
        BreakerOpen,
        ClockNotSet,
        UnsafeBoundary,
        ConsultFailed,
        Burst,
        BudgetHour,
        Rescued,
        Correction,
    }
);

/// Why a consult gave no token. A cancelled consult is not among them: the call then returns
/// HYBRID_ERR_CANCELLED and there is no step.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum hybrid_failure {
    /// No consult failed.
    None = 0,
    /// The consult's deadline passed.
    Timeout = 1,
    /// No connection, or it was lost.
    Connect = 2,
    /// The library did not accept the server's certificate.
    Tls = 3,
    /// The server refused the access token (401 or 403).
    Unauthorized = 4,
    /// The server is busy or loading (429 or 503).
    Busy = 5,
    /// The server answered with another error status.
    Status = 6,
    /// The library could not read the answer.
    Protocol = 7,
    /// The context does not end at a whole character.
    UnsafeBoundary = 8,
    /// The device's clock is not set.
    ClockNotSet = 9,
    /// What answered does not speak TLS: a captive portal, or a port for something else.
    NotTls = 10,
    /// The server's wire format takes messages, but the session did not begin with
    /// hybrid_session_chat.
    NeedsMessages = 11,
}
values!(hybrid_failure {
    None,
    Timeout,
    Connect,
    Tls,
    Unauthorized,
    Busy,
    Status,
    Protocol,
    UnsafeBoundary,
    ClockNotSet,
    NotTls,
    NeedsMessages,
});

impl From<Option<Failure>> for hybrid_failure {
    fn from(failure: Option<Failure>) -> hybrid_failure {
        match failure {
            // A cancelled consult is the call's error and not in a step.
            None | Some(Failure::Cancelled) => hybrid_failure::None,
            Some(Failure::Timeout) => hybrid_failure::Timeout,
            Some(Failure::Connect) => hybrid_failure::Connect,
            Some(Failure::Tls) => hybrid_failure::Tls,
            Some(Failure::Unauthorized) => hybrid_failure::Unauthorized,
            Some(Failure::Busy) => hybrid_failure::Busy,
            Some(Failure::Status) => hybrid_failure::Status,
            Some(Failure::Protocol) => hybrid_failure::Protocol,
            Some(Failure::UnsafeBoundary) => hybrid_failure::UnsafeBoundary,
            Some(Failure::ClockNotSet) => hybrid_failure::ClockNotSet,
            Some(Failure::NotTls) => hybrid_failure::NotTls,
            Some(Failure::NeedsMessages) => hybrid_failure::NeedsMessages,
        }
    }
}

/// Why generation ended.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum hybrid_end {
    /// It has not ended.
    None = 0,
    /// A stop token, which has no text.
    StopToken = 1,
    /// A stop string, which is not handed out.
    StopString = 2,
}
mirror!(hybrid_end = End { None, StopToken, StopString });

/// "local", "cloud", "correction" or "fallback"; "unknown" for any other number. Static; never
/// NULL.
#[unsafe(no_mangle)]
pub extern "C" fn hybrid_source_name(source: Number<hybrid_source>) -> *const c_char {
    let name = source.known().map_or(c"unknown", |source| match source {
        hybrid_source::Local => c"local",
        hybrid_source::Cloud => c"cloud",
        hybrid_source::Correction => c"correction",
        hybrid_source::Fallback => c"fallback",
    });
    name.as_ptr()
}

/// For example "budget of consults spent"; "unknown" for a number that is no reason. Static; never
/// NULL.
#[unsafe(no_mangle)]
pub extern "C" fn hybrid_reason_name(reason: Number<hybrid_reason>) -> *const c_char {
    let name = reason.known().map_or(c"unknown", |reason| match reason {
        hybrid_reason::Confident => c"confident",
        hybrid_reason::Weak => c"weak",
        hybrid_reason::LocalOnly => c"local only",
        hybrid_reason::CloudFirst => c"cloud first",
        hybrid_reason::BudgetConsults => c"budget of consults spent",
        hybrid_reason::BudgetTokens => c"budget of tokens spent",
        hybrid_reason::BudgetBytes => c"budget of bytes spent",
        hybrid_reason::BreakerOpen => c"breaker open",
        hybrid_reason::ClockNotSet => c"clock not set",
        hybrid_reason::UnsafeBoundary => c"unsafe boundary",
        hybrid_reason::ConsultFailed => c"consult failed",
        hybrid_reason::Burst => c"burst",
        hybrid_reason::BudgetHour => c"budget of the hour spent",
        hybrid_reason::Rescued => c"rescued",
        hybrid_reason::Correction => c"correction",
    });
    name.as_ptr()
}

/// For example "timeout"; "unknown" for a number that is no failure. Static; never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn hybrid_failure_name(failure: Number<hybrid_failure>) -> *const c_char {
    let name = failure.known().map_or(c"unknown", |failure| match failure {
        hybrid_failure::None => c"none",
        hybrid_failure::Timeout => c"timeout",
        hybrid_failure::Connect => c"no connection",
        hybrid_failure::Tls => c"certificate not accepted",
        hybrid_failure::Unauthorized => c"unauthorized",
        hybrid_failure::Busy => c"server busy",
        hybrid_failure::Status => c"server error",
        hybrid_failure::Protocol => c"answer not understood",
        hybrid_failure::UnsafeBoundary => c"unsafe boundary",
        hybrid_failure::ClockNotSet => c"clock not set",
        hybrid_failure::NotTls => c"no TLS",
        hybrid_failure::NeedsMessages => c"messages needed",
    });
    name.as_ptr()
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::super::numbers::Enum;
    use super::*;

    fn text(name: *const c_char) -> &'static str {
        // SAFETY: static strings.
        unsafe { CStr::from_ptr(name) }.to_str().unwrap()
    }

    fn distinct<E: Enum>(name: impl Fn(Number<E>) -> *const c_char) {
        let mut names: Vec<_> = E::ALL.iter().map(|&one| text(name(Number::of(one)))).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), E::ALL.len(), "{}", E::NAME);
        for value in [-1, 99] {
            assert_eq!(text(name(Number::raw(value))), "unknown");
        }
    }

    #[test]
    fn every_value_has_a_name_of_its_own() {
        distinct(|source| hybrid_source_name(source));
        distinct(|reason| hybrid_reason_name(reason));
        distinct(|failure| hybrid_failure_name(failure));
        let tls = Number::of(Some(Failure::Tls));
        assert_eq!(text(hybrid_failure_name(tls)), "certificate not accepted");
    }
}
