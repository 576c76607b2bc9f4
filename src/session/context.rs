//! The tokens of a conversation and their bytes.

use crate::tokens::Tokens;

/// Every token of the context, prompt and generated, with the bytes a cloud LLM with another
/// vocabulary is sent: those of control tokens are their text.
#[derive(Default)]
pub(super) struct Context {
    ids: Vec<u32>,
    bytes: Vec<u8>,
}

impl Context {
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn len(&self) -> usize {
        self.ids.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The tokens from `start` on.
    pub fn since(&self, start: usize) -> &[u32] {
        self.ids.get(start..).unwrap_or_default()
    }

    pub fn extend(&mut self, ids: &[u32], tokens: &Tokens) {
        self.ids.extend_from_slice(ids);
        for &id in ids {
            self.bytes.extend_from_slice(tokens.bytes_with_special(id));
        }
    }

    /// Keeps the first `len` tokens.
    pub fn truncate(&mut self, len: usize, tokens: &Tokens) {
        let dropped: usize =
            self.since(len).iter().map(|&id| tokens.bytes_with_special(id).len()).sum();
        self.ids.truncate(len);
        self.bytes.truncate(self.bytes.len() - dropped);
    }

    /// Nothing in it would be lost as text: no unfinished character at the end, no stray byte.
    pub fn is_text(&self) -> bool {
        std::str::from_utf8(&self.bytes).is_ok()
    }
}
