//! Quantised matmul, attention and their helpers: the hot loops. Unsafe is allowed here only.
#![allow(unsafe_code)]

pub mod aligned;
pub mod format;
pub mod matrix;
pub mod pack;
#[cfg(test)]
mod testing;

pub use format::Format;
pub use matrix::Matrix;
pub use pack::{RowBuffer, pack_matrix};
