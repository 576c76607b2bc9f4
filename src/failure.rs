//! How a consult fails.

/// Why a consult gave no token. Never an error of the step: the SLM's candidate is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[repr(i32)]
pub enum Failure {
    #[error("the deadline passed")]
    Timeout = 1,
    #[error("no connection, or it was lost")]
    Connect = 2,
    #[error("no trusted TLS connection: the server's certificate was not accepted")]
    Tls = 3,
    #[error("the server refused the token (401 or 403)")]
    Unauthorized = 4,
    #[error("the server is busy or loading (429 or 503)")]
    Busy = 5,
    #[error("the server answered with another error status")]
    Status = 6,
    #[error("the answer could not be understood")]
    Protocol = 7,
    #[error("the context does not end at a whole character")]
    UnsafeBoundary = 8,
    #[error("the device's clock is not set")]
    ClockNotSet = 9,
    /// A captive portal, a proxy, or a port that speaks something else.
    #[error("what answered does not speak TLS")]
    NotTls = 10,
    #[error("the server's wire format needs messages; begin the session with a chat")]
    NeedsMessages = 11,
    #[error("cancelled")]
    Cancelled = 12,
}
