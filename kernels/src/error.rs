//! Why a kernel or what it works on was refused.

/// Shorthand used throughout the crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Nothing was computed or changed. The library makes its own error of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Sizes, ranges or names that a function does not take.
    #[error("{0}")]
    InvalidArgument(String),
    /// Packed weights that are not as long or not as aligned as their format says.
    #[error("{0}")]
    Weights(String),
    /// A number out of a model's description that nothing here computes.
    #[error("{0}")]
    Model(String),
    /// The system refused a thread.
    #[error("{0}")]
    Thread(String),
    /// More tokens than a KV cache has room for.
    #[error("{used} used + {needed} needed > {limit} tokens")]
    Full { used: usize, needed: usize, limit: usize },
    /// Packed weights could not be written.
    #[error("packed weights: {0}")]
    Write(#[source] std::io::Error),
}
