//! One file for each part that reads bytes from outside.

pub mod addresses;
pub mod answers;
pub mod calls;
pub mod export;
pub mod gguf;
pub mod graph;
pub mod head;
pub mod manifest;
pub mod prompt;
pub mod state;
pub mod template;
pub mod tokenizer;
pub mod weights;
