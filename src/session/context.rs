//! The tokens of a conversation and their bytes.

use crate::tokens::{Tokens, whole_len};

/// Every token of the context, prompt and generated, with the bytes a cloud LLM with another
/// vocabulary is sent: those of control tokens are their text.
#[derive(Clone, Default)]
pub(super) struct Context {
    ids: Vec<u32>,
    bytes: Vec<u8>,
    /// So many of the bytes, from the start, are whole characters.
    text: usize,
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
        self.text += text_len(self.bytes.get(self.text..).unwrap_or_default());
    }

    /// Keeps the first `len` tokens.
    pub fn truncate(&mut self, len: usize, tokens: &Tokens) {
        let dropped: usize =
            self.since(len).iter().map(|&id| tokens.bytes_with_special(id).len()).sum();
        self.ids.truncate(len);
        self.bytes.truncate(self.bytes.len() - dropped);
        if self.text > self.bytes.len() {
            self.text = whole_len(&self.bytes);
        }
    }

    /// Nothing in it would be lost as text: no unfinished character at the end, no stray byte.
    pub fn is_text(&self) -> bool {
        self.text == self.bytes.len()
    }
}

/// How many bytes from the start are whole characters.
fn text_len(bytes: &[u8]) -> usize {
    std::str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), str::len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::example::*;

    /// Grown and cut at every place, it is text exactly where all its bytes are.
    #[test]
    fn is_text_follows_every_change() {
        let tokens = byte_level();
        let all: [&[u8]; 3] = ["aé😀".as_bytes(), b"a\xE2\x82", b"\xF0\x9F\xFFab\xC3\xA9"];
        for bytes in all {
            let ids: Vec<u32> = bytes.iter().map(|&b| byte(b)).chain([USER, HELLO]).collect();
            for kept in 0..=ids.len() {
                let mut context = Context::default();
                let check = |context: &Context| {
                    let want = std::str::from_utf8(context.bytes()).is_ok();
                    assert_eq!(context.is_text(), want, "{:?}", context.bytes());
                };
                for &id in &ids {
                    context.extend(&[id], &tokens);
                    check(&context);
                }
                context.truncate(kept, &tokens);
                check(&context);
                context.extend(&ids[kept..], &tokens);
                check(&context);
            }
        }
    }
}
