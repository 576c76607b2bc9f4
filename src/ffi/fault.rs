//! Why an entry function fails: the core's errors, and what only the boundary can see.

use crate::error::Error;

#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("{0} is NULL")]
    Null(&'static str),
    #[error("in use by another call; a session, and the log callback, serve one at a time")]
    Busy,
    #[error("the session is unusable since a call on it panicked; free it and make a new one")]
    Poisoned,
    #[error("the buffer is too small: it holds {capacity} {unit}, and {needed} are needed")]
    TooSmall { capacity: usize, needed: usize, unit: &'static str },
    #[error(
        "this thread has {left} kB of stack left, and the call needs up to {needed}; start the \
         thread with 256 kB or more"
    )]
    Stack { left: usize, needed: usize },
    #[error("internal error, please report it: {0}")]
    Panic(String),
    #[error(transparent)]
    Core(#[from] Error),
}

pub(super) type Result<T> = std::result::Result<T, Fault>;

/// An argument or option that is out of its range.
pub(super) fn bad(text: String) -> Fault {
    Fault::Core(Error::InvalidArgument(text))
}
