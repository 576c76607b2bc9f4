//! Hostile input for everything that reads what comes from outside.
//!
//! A [`Target`] is a function that gives bytes to one part of the library or of the tool, as
//! somebody from outside could. It may answer with any error, but must not panic, hang or take more
//! than `bounds` allow. `tests/replay.rs` runs all targets on stable Rust for some seconds each;
//! `scripts/attack` runs them under libFuzzer and the address sanitizer.
//!
//! To add a target, write a file in `targets/` and a line in [`TARGETS`].

pub mod bounds;
pub mod corpus;
pub mod mutate;
mod onnx;
mod parts;
mod small;
mod targets;

#[path = "../../tests/support/gguf.rs"]
#[allow(dead_code, clippy::expect_used)]
mod gguf;

#[path = "../../tests/support/mod.rs"]
#[allow(clippy::expect_used)]
mod support;

/// What is attacked.
pub struct Target {
    pub name: &'static str,
    /// Gives `input` to what is attacked.
    pub run: fn(&[u8]),
    /// Good inputs, and such as once did harm elsewhere, to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Words that inputs are made of.
    pub words: &'static [&'static str],
    /// Longer inputs find nothing more, and take longer.
    pub longest: usize,
}

pub const TARGETS: &[Target] = &[
    targets::manifest::TARGET,
    targets::tokenizer::TARGET,
    targets::template::TARGET,
    targets::graph::TARGET,
    targets::weights::TARGET,
    targets::head::TARGET,
    targets::gguf::HEADER,
    targets::gguf::TENSORS,
    targets::export::TARGET,
    targets::state::SESSION,
    targets::state::CORRECTIONS,
    targets::answers::CONSULT,
    targets::answers::PROBE,
    targets::addresses::TARGET,
    targets::prompt::TARGET,
    targets::calls::TARGET,
];

/// The target called `name`.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
