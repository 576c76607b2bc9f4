//! Text to tokens and back: byte-exact, streamed in whole UTF-8 characters.

use crate::bundle::Bundle;
use crate::error::{Error, Result};

/// The vocabulary of a bundle.
pub struct Tokens {}

impl Tokens {
    pub fn open(_bundle: &Bundle) -> Result<Tokens> {
        Err(Error::Unsupported("not built yet".into()))
    }

    /// `special`: text such as `<|im_start|>` becomes its control token, as chat templates need;
    /// otherwise it stays plain text.
    pub fn encode(&self, _text: &str, _special: bool) -> Result<Vec<u32>> {
        Err(Error::Unsupported("not built yet".into()))
    }

    /// The exact bytes of a token; empty for control tokens and for padding ids.
    pub fn bytes(&self, _id: u32) -> &[u8] {
        &[]
    }

    /// The text of the control token, or the bytes of a plain one: what a byte prompt for another
    /// vocabulary must carry.
    pub fn bytes_with_special(&self, _id: u32) -> &[u8] {
        &[]
    }

    pub fn is_stop(&self, _id: u32) -> bool {
        false
    }
}

/// One message of a chat.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Message {
    pub role: String,
    pub content: String,
}

/// The chat template of a bundle, rendered by minijinja.
pub struct ChatTemplate {}

impl ChatTemplate {
    pub fn open(_bundle: &Bundle) -> Result<Option<ChatTemplate>> {
        Err(Error::Unsupported("not built yet".into()))
    }

    /// The prompt for `messages`, ending where the assistant's answer begins.
    pub fn render(&self, _messages: &[Message]) -> Result<String> {
        Err(Error::Unsupported("not built yet".into()))
    }
}

/// Holds back bytes until they are whole UTF-8 characters.
#[derive(Debug, Default)]
pub struct Utf8Stream {}
