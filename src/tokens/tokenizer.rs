//! The tokeniser: the crate's, put together of what `tokenizer.json` may ask for.

use tokenizers::TokenizerImpl;
use tokenizers::models::bpe::BPE;

use super::steps::{AnyPostProcessor, DecoderDescription, NormalizerStep, PreTokenizerStep};

/// With BPE, which all supported models use, and the steps around it that they need: all others
/// would make the library larger.
pub type Tokenizer =
    TokenizerImpl<BPE, NormalizerStep, PreTokenizerStep, AnyPostProcessor, DecoderDescription>;
