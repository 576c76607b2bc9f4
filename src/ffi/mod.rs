//! The C boundary, nothing else: `include/hybrid.h` is generated from these files by
//! `cargo xtask header`, one banner section per file, so the doc comments here are written for
//! readers of the header.
//!
//! Every entry function has the same five parts: enter the panic boundary; set the out-values to
//! their neutral value; turn pointers into references (naming a bad one); call one method of the
//! core; map the result to a status. Anything longer belongs into the core.
//!
//! Each `unsafe` operation is one line whose SAFETY comment names the rule of the header's
//! conventions chapter (cbindgen.toml) that the caller keeps.
#![allow(unsafe_code)]
#![allow(non_camel_case_types, reason = "the names are the C names")]
#![allow(
    clippy::missing_safety_doc,
    reason = "the conventions chapter of the header is the safety section of every entry function"
)]

mod boundary;
mod client;
mod fault;
mod inject;
#[cfg(all(test, target_pointer_width = "64"))]
mod layout;
mod numbers;
mod pointers;
mod sized;
mod stack;

pub mod budget;
pub mod cancel;
pub mod cloud;
pub mod consult;
pub mod context;
pub mod corrections;
pub mod gate;
pub mod last_error;
pub mod log;
pub mod model;
pub mod network;
pub mod objects;
pub mod outcome;
pub mod result;
pub mod sampling;
pub mod session;
pub mod state;
pub mod status;
pub mod step;
pub mod tokens;
pub mod version;
