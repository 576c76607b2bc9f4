//! SentencePiece BPE (`tokenizer.ggml.model` = `llama`).

use anyhow::{Result, bail};

use super::super::gguf::Metadata;
use super::{Parts, Vocabulary};

pub(super) fn parts(_metadata: &Metadata, _vocabulary: &Vocabulary) -> Result<Parts> {
    bail!("tokenizer.ggml.model llama (SentencePiece) is not supported; supported is gpt2")
}
