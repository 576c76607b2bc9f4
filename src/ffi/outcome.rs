//! Where a token came from, and why
//!
//! The words in which hybrid_step_result and hybrid_peek speak. Later releases may add numbers, so
//! treat an unknown one as "other"; the `_name` functions know what the library knows.

use std::ffi::{CStr, c_char};

/// Where a token came from.
pub type hybrid_source = i32;

/// The SLM.
pub const HYBRID_SOURCE_LOCAL: hybrid_source = 0;
/// The cloud LLM.
pub const HYBRID_SOURCE_CLOUD: hybrid_source = 1;
/// The answer to an earlier consult: `correction_cache` of the session options.
pub const HYBRID_SOURCE_CACHED: hybrid_source = 2;
/// The SLM's candidate, kept because the cloud could not be asked or did not answer: degraded.
pub const HYBRID_SOURCE_FALLBACK: hybrid_source = 3;

/// Why the decision on a candidate was what it was.
pub type hybrid_reason = i32;

/// The score reached the threshold.
pub const HYBRID_REASON_CONFIDENT: hybrid_reason = 0;
/// The score is under the threshold.
pub const HYBRID_REASON_WEAK: hybrid_reason = 1;
/// The mode is local only, or the session has no cloud.
pub const HYBRID_REASON_LOCAL_ONLY: hybrid_reason = 2;
/// The mode is cloud first.
pub const HYBRID_REASON_CLOUD_FIRST: hybrid_reason = 3;
/// The budget of consults is spent.
pub const HYBRID_REASON_BUDGET_CALLS: hybrid_reason = 4;
/// The budget of cloud tokens is spent.
pub const HYBRID_REASON_BUDGET_TOKENS: hybrid_reason = 5;
/// The budget of bytes is spent.
pub const HYBRID_REASON_BUDGET_BYTES: hybrid_reason = 6;
/// Consults failed, so none is made for a while.
pub const HYBRID_REASON_BREAKER_OPEN: hybrid_reason = 7;
/// The device's clock is not set, so no certificate can be judged.
pub const HYBRID_REASON_CLOCK_NOT_SET: hybrid_reason = 8;
/// The context ends within a character, which a cloud with another vocabulary cannot be sent.
pub const HYBRID_REASON_UNSAFE_BOUNDARY: hybrid_reason = 9;
/// The consult failed: see `failure`.
pub const HYBRID_REASON_CONSULT_FAILED: hybrid_reason = 10;
/// A further token of an earlier consult.
pub const HYBRID_REASON_BURST: hybrid_reason = 11;
/// What an hour may cost is spent: `hold` of the session options.
pub const HYBRID_REASON_BUDGET_HOUR: hybrid_reason = 12;
/// The SLM's own choice is weak, but another token reached the threshold: `rescue` of the session options.
pub const HYBRID_REASON_RESCUED: hybrid_reason = 13;
/// A consult in the same place was answered before: `correction_cache` of the session options.
pub const HYBRID_REASON_CORRECTED: hybrid_reason = 14;

/// Why a consult gave no token.
pub type hybrid_failure = i32;

/// No consult failed.
pub const HYBRID_FAILURE_NONE: hybrid_failure = 0;
/// The consult's deadline passed.
pub const HYBRID_FAILURE_TIMEOUT: hybrid_failure = 1;
/// No connection.
pub const HYBRID_FAILURE_CONNECT: hybrid_failure = 2;
/// The server's certificate was not accepted.
pub const HYBRID_FAILURE_TLS: hybrid_failure = 3;
/// The server refused the access token (401 or 403).
pub const HYBRID_FAILURE_UNAUTHORIZED: hybrid_failure = 4;
/// The server is busy or loading (429 or 503).
pub const HYBRID_FAILURE_BUSY: hybrid_failure = 5;
/// The server answered with another error status.
pub const HYBRID_FAILURE_STATUS: hybrid_failure = 6;
/// The answer could not be understood.
pub const HYBRID_FAILURE_PROTOCOL: hybrid_failure = 7;
/// The context does not end at a whole character.
pub const HYBRID_FAILURE_UNSAFE_BOUNDARY: hybrid_failure = 8;
/// The device's clock is not set.
pub const HYBRID_FAILURE_CLOCK_NOT_SET: hybrid_failure = 9;
/// Cancelled.
pub const HYBRID_FAILURE_CANCELLED: hybrid_failure = 10;

/// Why generation ended.
pub type hybrid_end = i32;

/// It goes on.
pub const HYBRID_END_NONE: hybrid_end = 0;
/// A stop token, which has no text.
pub const HYBRID_END_STOP_TOKEN: hybrid_end = 1;
/// A stop string, which is not handed out.
pub const HYBRID_END_STOP_STRING: hybrid_end = 2;

const SOURCES: &[&CStr] = &[c"local", c"cloud", c"cached", c"fallback"];

const REASONS: &[&CStr] = &[
    c"confident",
    c"weak",
    c"local only",
    c"cloud first",
    c"budget of calls spent",
    c"budget of tokens spent",
    c"budget of bytes spent",
    c"breaker open",
    c"clock not set",
    c"unsafe boundary",
    c"consult failed",
    c"burst",
    c"budget of the hour spent",
    c"rescued",
    c"corrected",
];

const FAILURES: &[&CStr] = &[
    c"none",
    c"timeout",
    c"no connection",
    c"certificate not accepted",
    c"unauthorized",
    c"server busy",
    c"server error",
    c"answer not understood",
    c"unsafe boundary",
    c"clock not set",
    c"cancelled",
];

/// "local", "cloud", "cached", "fallback". Static; never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn hybrid_source_name(source: hybrid_source) -> *const c_char {
    name(SOURCES, source)
}

/// For example "budget of calls spent". Static; never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn hybrid_reason_name(reason: hybrid_reason) -> *const c_char {
    name(REASONS, reason)
}

/// For example "timeout". Static; never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn hybrid_failure_name(failure: hybrid_failure) -> *const c_char {
    name(FAILURES, failure)
}

fn name(names: &[&'static CStr], value: i32) -> *const c_char {
    let name = usize::try_from(value).ok().and_then(|at| names.get(at));
    name.copied().unwrap_or(c"unknown").as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consult::Failure;
    use crate::policy::Reason;
    use crate::session::{End, Source};

    /// The header's numbers are the core's: the last one of each kind proves the whole row.
    #[test]
    fn numbers_equal_the_cores() {
        for (core, ours) in [
            (Source::Local as i32, HYBRID_SOURCE_LOCAL),
            (Source::Cloud as i32, HYBRID_SOURCE_CLOUD),
            (Source::Correction as i32, HYBRID_SOURCE_CACHED),
            (Source::Fallback as i32, HYBRID_SOURCE_FALLBACK),
            (Reason::Confident as i32, HYBRID_REASON_CONFIDENT),
            (Reason::Weak as i32, HYBRID_REASON_WEAK),
            (Reason::LocalOnly as i32, HYBRID_REASON_LOCAL_ONLY),
            (Reason::CloudFirst as i32, HYBRID_REASON_CLOUD_FIRST),
            (Reason::BudgetCalls as i32, HYBRID_REASON_BUDGET_CALLS),
            (Reason::BudgetTokens as i32, HYBRID_REASON_BUDGET_TOKENS),
            (Reason::BudgetBytes as i32, HYBRID_REASON_BUDGET_BYTES),
            (Reason::BreakerOpen as i32, HYBRID_REASON_BREAKER_OPEN),
            (Reason::ClockNotSet as i32, HYBRID_REASON_CLOCK_NOT_SET),
            (Reason::UnsafeBoundary as i32, HYBRID_REASON_UNSAFE_BOUNDARY),
            (Reason::ConsultFailed as i32, HYBRID_REASON_CONSULT_FAILED),
            (Reason::Burst as i32, HYBRID_REASON_BURST),
            (Reason::BudgetHour as i32, HYBRID_REASON_BUDGET_HOUR),
            (Reason::Rescued as i32, HYBRID_REASON_RESCUED),
            (Reason::Correction as i32, HYBRID_REASON_CORRECTED),
            (Failure::Timeout as i32, HYBRID_FAILURE_TIMEOUT),
            (Failure::Connect as i32, HYBRID_FAILURE_CONNECT),
            (Failure::Tls as i32, HYBRID_FAILURE_TLS),
            (Failure::Unauthorized as i32, HYBRID_FAILURE_UNAUTHORIZED),
            (Failure::Busy as i32, HYBRID_FAILURE_BUSY),
            (Failure::Status as i32, HYBRID_FAILURE_STATUS),
            (Failure::Protocol as i32, HYBRID_FAILURE_PROTOCOL),
            (Failure::UnsafeBoundary as i32, HYBRID_FAILURE_UNSAFE_BOUNDARY),
            (Failure::ClockNotSet as i32, HYBRID_FAILURE_CLOCK_NOT_SET),
            (Failure::Cancelled as i32, HYBRID_FAILURE_CANCELLED),
            (End::None as i32, HYBRID_END_NONE),
            (End::StopToken as i32, HYBRID_END_STOP_TOKEN),
            (End::StopString as i32, HYBRID_END_STOP_STRING),
        ] {
            assert_eq!(core, ours);
        }
    }

    #[test]
    fn every_number_has_a_name() {
        assert_eq!(SOURCES.len() as i32, HYBRID_SOURCE_FALLBACK + 1);
        assert_eq!(REASONS.len() as i32, HYBRID_REASON_CORRECTED + 1);
        assert_eq!(FAILURES.len() as i32, HYBRID_FAILURE_CANCELLED + 1);
        for (got, want) in [
            (hybrid_source_name(HYBRID_SOURCE_FALLBACK), "fallback"),
            (hybrid_reason_name(HYBRID_REASON_BREAKER_OPEN), "breaker open"),
            (hybrid_failure_name(HYBRID_FAILURE_TLS), "certificate not accepted"),
            (hybrid_failure_name(-1), "unknown"),
            (hybrid_source_name(99), "unknown"),
        ] {
            // SAFETY: static strings.
            assert_eq!(unsafe { CStr::from_ptr(got) }.to_str().unwrap(), want);
        }
    }
}
