//! libhybrid: a small language model (SLM) writes on the device. A reward head scores every token
//! that it proposes. Only for a token that scores under the threshold the library asks a cloud LLM.
//!
//! Read top-down: [`session`] is the step; [`policy`] decides it; [`slm`], [`reward`] and [`cloud`]
//! are its three parts; [`bundle`] is what they are loaded from; `ffi` is the C boundary.

// Tests may.
#![cfg_attr(
    not(test),
    warn(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, clippy::expect_used)
)]

mod base64;
pub mod breaker;
pub mod bundle;
pub mod cancel;
pub mod clock;
#[cfg(feature = "cloud")]
pub mod cloud;
pub mod consult;
pub mod controller;
pub mod error;
pub mod failure;
pub mod ffi;
pub mod graph;
mod jinja;
pub mod policy;
pub mod reward;
pub mod sampler;
pub mod sealed;
pub mod session;
pub mod slm;
pub mod tokens;

pub use cancel::Cancel;
pub use error::{Error, Result};
