//! Sessions along prompts, and the cloud LLM's answers to them, none of them computed twice: `case`
//! runs the sessions, `rows`, `remember` and `memory` keep what they need, `llm` has the options.

pub mod case;
pub mod llm;
mod memory;
mod remember;
mod rows;
