//! The one error type of the library. Each variant is one status code of the C ABI.

use std::path::{Path, PathBuf};

/// Shorthand used throughout the crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a call failed. The text says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option or argument is out of its documented range.
    #[error("invalid argument: {0}")]
    InvalidArgument(String),
    /// Bytes that must be UTF-8 are not.
    #[error("invalid UTF-8 in {what} at byte {at}")]
    InvalidUtf8 { what: &'static str, at: usize },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    /// A bundle is damaged: a hash, a size, the manifest or a file inside is wrong.
    #[error("damaged bundle: {0}")]
    Bundle(String),
    /// Something valid that this build does not support; the text names it.
    #[error("not supported: {0}")]
    Unsupported(String),
    /// The model could not be loaded or run.
    #[error("model: {0}")]
    Model(String),
    /// The chat template failed.
    #[error("chat template: {0}")]
    Template(String),
    /// The tokens do not fit into the session's context; nothing was consumed.
    #[error(
        "context full: {used} used + {needed} needed > {limit}; rewind, or open the session with \
         a larger context"
    )]
    ContextFull { used: usize, needed: usize, limit: usize },
    /// The caller cancelled; the session is as it was before the call.
    #[error("cancelled")]
    Cancelled,
    /// The cloud client could not be set up (URL, certificate, token, clock).
    #[error("cloud: {0}")]
    Cloud(String),
    /// The call does not fit the state of the session (for example a step before a prompt).
    #[error("wrong state: {0}")]
    State(String),
}

/// What a kernel refused, as the caller sees it.
impl From<hybrid_kernels::Error> for Error {
    fn from(error: hybrid_kernels::Error) -> Self {
        use hybrid_kernels::Error as Kernel;
        match error {
            Kernel::InvalidArgument(text) => Error::InvalidArgument(text),
            Kernel::Weights(text) => Error::Bundle(text),
            Kernel::Model(text) | Kernel::Thread(text) => Error::Model(text),
            Kernel::Full { used, needed, limit } => Error::ContextFull { used, needed, limit },
            Kernel::Write(source) => Error::io("packed weights".as_ref(), source),
        }
    }
}

impl Error {
    pub fn io(path: &Path, source: std::io::Error) -> Self {
        Error::Io { path: path.to_owned(), source }
    }
}
