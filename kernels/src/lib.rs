//! Quantised matmul, attention and their helpers: the hot loops of libhybrid, which knows this
//! crate as `slm::kernels`.
//!
//! [`Kernels`] is the way in: one table of functions per instruction set, picked at run time. What
//! they work on is checked when it is made ([`Matrix`], [`Activations`], [`KvCache`], [`Rope`]) or
//! called; inside, sizes fit.
#![allow(unsafe_code)]
// Loops over register blocks index several arrays by the same row or lane.
#![allow(clippy::needless_range_loop)]

#[macro_use]
mod table;

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod activations;
pub mod aligned;
mod attention;
#[cfg(test)]
mod attention_tests;
mod code;
mod elementwise;
mod error;
mod float;
pub mod format;
mod kv_cache;
mod lanes;
pub mod logits;
mod mapped;
mod matrix;
mod output;
mod pack;
mod parts;
mod pick;
mod pool;
mod portable;
mod ring;
mod rope;
mod short_conv;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod threads;
#[cfg(target_arch = "x86_64")]
mod x86_64;

pub use activations::Activations;
pub use attention::{AttentionRule, AttentionScratch};
pub use elementwise::Activation;
pub use error::{Error, Result};
pub use format::Format;
pub use kv_cache::{AttentionShape, KvCache};
pub use matrix::Matrix;
pub use pack::{RowBuffer, pack_matrix};
pub use pool::Pool;
pub use ring::{Cache, Ring};
pub use rope::Rope;
pub use short_conv::{ConvCache, short_conv};
pub use table::Kernels;
