//! Text to tokens and back, byte by byte.

use std::sync::{Mutex, PoisonError};

use tokenizers::{NormalizedString, Normalizer};

use crate::bundle::{self, Bundle, FileRole, TokenInfo};
use crate::cancel::Cancel;
use crate::error::{Error, Result};

mod chat;
#[cfg(test)]
pub(crate) mod example;
mod nfc;
mod outline;
mod pattern;
mod steps;
mod table;
mod tokenizer;
mod utf8;

pub use chat::{ChatTemplate, Message};
pub use utf8::{to_text, whole_len};

use pattern::watched;
use table::Table;
use tokenizer::Tokenizer;

/// The longest text encoded in one call. The time of a tokeniser is not linear for every text, so
/// an unbounded one would be a way to stall the device.
pub const MAX_TEXT_BYTES: usize = 1 << 20;

/// More usable tokens than this are a damaged manifest.
const MAX_TOKENS: usize = 1 << 22;

/// The vocabulary of a bundle. Shared between threads.
pub struct Tokens {
    /// Locked because recognising control tokens or not is a setting of the tokeniser, and a second
    /// tokeniser for the other setting would cost tens of megabytes.
    tokenizer: Mutex<Tokenizer>,
    table: Table,
    info: TokenInfo,
}

impl Tokens {
    /// Errors: [`Error::Bundle`] when `tokenizer.json` is damaged or does not fit the manifest,
    /// [`Error::Unsupported`] for a kind of vocabulary whose bytes are not known.
    pub fn open(bundle: &Bundle) -> Result<Tokens> {
        let tokens =
            Tokens::new(&bundle.read(FileRole::Tokenizer)?, bundle.manifest().tokens.clone())?;
        if tokens.fingerprint() == tokens.info.fingerprint {
            return Ok(tokens);
        }
        Err(Error::Bundle(
            "tokenizer.json does not have the vocabulary of tokens.fingerprint".into(),
        ))
    }

    /// From the content of a `tokenizer.json`; `info.fingerprint` is not compared.
    pub fn new(json: &[u8], info: TokenInfo) -> Result<Tokens> {
        let damaged = |reason: String| Error::Bundle(format!("tokenizer.json: {reason}"));
        outline::check(json).map_err(damaged)?;
        steps::begin_file();
        let mut tokenizer: Tokenizer =
            serde_json::from_slice(json).map_err(|e| damaged(e.to_string()))?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|e| damaged(e.to_string()))?;
        if info.usable > MAX_TOKENS {
            return Err(Error::Bundle(format!("tokens.usable is over {MAX_TOKENS}")));
        }
        check_letters(&tokenizer).map_err(damaged)?;
        let table = Table::new(&tokenizer, info.usable)?;
        let known = info.stop.iter().chain(&info.bos).all(|&id| (id as usize) < info.usable);
        if info.stop.is_empty() || !known {
            return Err(Error::Bundle(
                "tokens.stop must name a token, and every token named must be usable".into(),
            ));
        }
        Ok(Tokens { tokenizer: Mutex::new(tokenizer), table, info })
    }

    /// `special`: text such as `<|im_start|>` becomes its control token, as chat templates need;
    /// otherwise it stays plain text.
    ///
    /// Errors: [`Error::InvalidArgument`] for more than [`MAX_TEXT_BYTES`].
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        self.encode_cancellable(text, special, &Cancel::new())
    }

    /// As [`Tokens::encode`], and [`Error::Cancelled`].
    fn encode_cancellable(&self, text: &str, special: bool, cancel: &Cancel) -> Result<Vec<u32>> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(Error::InvalidArgument(format!(
                "a text of {} bytes is over the limit of {MAX_TEXT_BYTES}; give it in parts",
                text.len()
            )));
        }
        let encoding = {
            let mut tokenizer = self.tokenizer.lock().unwrap_or_else(PoisonError::into_inner);
            tokenizer.set_encode_special_tokens(!special);
            watched(text.len(), cancel, || tokenizer.encode_fast(text, false))
        };
        cancel.check()?;
        let encoding = encoding.map_err(|e| {
            Error::InvalidArgument(format!("the tokeniser cannot encode this text: {e}"))
        })?;
        match encoding.get_ids().iter().find(|&&id| !self.is_usable(id)) {
            Some(id) => Err(Error::Bundle(format!("tokenizer.json knows the unusable token {id}"))),
            None => Ok(encoding.get_ids().to_vec()),
        }
    }

    /// A prompt's tokens: as [`Tokens::encode`] with control tokens and, for the first prompt of a
    /// context, the `bos` that the model wants in front.
    pub fn encode_prompt(&self, text: &str, first: bool) -> Result<Vec<u32>> {
        self.encode_prompt_cancellable(text, first, &Cancel::new())
    }

    /// As [`Tokens::encode_prompt`], and [`Error::Cancelled`].
    pub(crate) fn encode_prompt_cancellable(
        &self,
        text: &str,
        first: bool,
        cancel: &Cancel,
    ) -> Result<Vec<u32>> {
        let ids = self.encode_cancellable(text, true, cancel)?;
        Ok(if first { self.with_bos(ids) } else { ids })
    }

    /// The same ids with the `bos` in front that the model wants there, if it wants one and it is
    /// not there yet.
    pub fn with_bos(&self, mut ids: Vec<u32>) -> Vec<u32> {
        match self.info.bos {
            Some(bos) if self.info.add_bos && ids.first() != Some(&bos) => ids.insert(0, bos),
            _ => {}
        }
        ids
    }

    /// Tokens whose bytes are exactly `text`, to be appended to a context; `None` when this
    /// vocabulary's tokeniser cannot do it (it would change the text, or add a space in front).
    pub fn encode_continuation(&self, text: &str) -> Result<Option<Vec<u32>>> {
        self.encode_continuation_cancellable(text, &Cancel::new())
    }

    /// As [`Tokens::encode_continuation`], and [`Error::Cancelled`].
    pub(crate) fn encode_continuation_cancellable(
        &self,
        text: &str,
        cancel: &Cancel,
    ) -> Result<Option<Vec<u32>>> {
        let ids = self.encode_cancellable(text, false, cancel)?;
        if self.bytes_of(&ids) == text.as_bytes() {
            return Ok(Some(ids));
        }
        // SentencePiece puts a space before the first word of a text: give it another first word.
        const GUARD: &str = "\n";
        let guarded = self.encode_cancellable(&format!("{GUARD}{text}"), false, cancel)?;
        let tail = (0..=guarded.len().min(3)).filter_map(|skip| guarded.get(skip..));
        Ok(tail.into_iter().find(|ids| self.bytes_of(ids) == text.as_bytes()).map(<[u32]>::to_vec))
    }

    /// What the manifest says of this vocabulary.
    pub fn info(&self) -> &TokenInfo {
        &self.info
    }

    /// The exact bytes of a token; empty for control tokens and for padding ids.
    pub fn bytes(&self, id: u32) -> &[u8] {
        if self.table.is_control(id) { &[] } else { self.table.bytes(id) }
    }

    /// The text of the control token, or the bytes of a plain one: what a byte prompt for another
    /// vocabulary must carry.
    pub fn bytes_with_special(&self, id: u32) -> &[u8] {
        self.table.bytes(id)
    }

    /// `Err(InvalidArgument)` naming the first id that stands for no token.
    pub fn check(&self, ids: &[u32]) -> Result<()> {
        match ids.iter().find(|&&id| !self.is_usable(id)) {
            None => Ok(()),
            Some(id) => Err(Error::InvalidArgument(format!(
                "token {id} is outside the vocabulary of {}",
                self.info.usable
            ))),
        }
    }

    /// The exact bytes of several tokens, control tokens left out.
    pub fn bytes_of(&self, ids: &[u32]) -> Vec<u8> {
        ids.iter().flat_map(|&id| self.bytes(id)).copied().collect()
    }

    pub fn is_stop(&self, id: u32) -> bool {
        self.info.stop.contains(&id)
    }

    /// The token appended where the cloud LLM ended its text: the first stop token of the manifest.
    pub fn stop(&self) -> u32 {
        self.info.stop.first().copied().unwrap_or_default()
    }

    /// The id stands for a token; others are padding.
    pub fn is_usable(&self, id: u32) -> bool {
        (id as usize) < self.info.usable
    }

    /// See [`bundle::fingerprint`].
    pub fn fingerprint(&self) -> String {
        bundle::fingerprint((0..self.info.usable as u32).map(|id| self.table.bytes(id)))
    }

    /// The text of `bos` and of the first stop token, as chat templates use them.
    fn edges(&self) -> [String; 2] {
        [self.info.bos, Some(self.stop())]
            .map(|id| id.map(|id| to_text(self.table.bytes(id))).unwrap_or_default())
    }
}

/// A normaliser that drops letters would lose what is asked.
fn check_letters(tokenizer: &Tokenizer) -> std::result::Result<(), String> {
    let Some(normalizer) = tokenizer.get_normalizer() else { return Ok(()) };
    for letter in ('a'..='z').chain('A'..='Z').chain('0'..='9').map(String::from) {
        // With a neighbour, so that one for both is found as well.
        for text in [letter.clone(), format!("{letter}{letter}")] {
            let mut normalized = NormalizedString::from(text.as_str());
            normalizer.normalize(&mut normalized).map_err(|e| e.to_string())?;
            if normalized.get().chars().count() < text.len() {
                return Err(format!("its normaliser deletes {letter:?}"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use example::*;

    #[test]
    fn control_tokens() {
        let tokens = byte_level();
        assert_eq!(tokens.encode("<|user|>a", true).unwrap(), [USER, byte(b'a')]);
        let plain = tokens.encode("<|user|>a", false).unwrap();
        assert!(!plain.contains(&USER));
        assert_eq!(tokens.bytes_of(&plain), b"<|user|>a");
        assert_eq!(tokens.bytes(USER), b"");
        assert_eq!(tokens.bytes_with_special(USER), b"<|user|>");
        assert_eq!(tokens.bytes(HELLO), b"hello");
        assert_eq!(tokens.bytes(PADDING), b"");
        assert_eq!(tokens.bytes_with_special(u32::MAX), b"");
        assert!(tokens.is_stop(END) && !tokens.is_stop(USER));
        assert!(tokens.is_usable(HELLO) && !tokens.is_usable(PADDING));
    }

    #[test]
    fn bytes_survive_encoding() {
        let texts = ["", "hello", " hello\n\n", "naïve 😀 \u{10FFFF}\0", "hehehellollo", "   x"];
        for tokens in [byte_level(), sentence_piece()] {
            for text in texts {
                let ids = tokens.encode_continuation(text).unwrap();
                let bytes = ids.map(|ids| tokens.bytes_of(&ids));
                assert_eq!(bytes.as_deref(), Some(text.as_bytes()), "{text:?}");
            }
        }
    }

    #[test]
    fn bos() {
        let [with, without] = [true, false]
            .map(|add_bos| byte_level_with(TokenInfo { bos: Some(USER), add_bos, ..info() }));
        let (a, user) = (byte(b'a'), USER);
        assert_eq!(with.encode_prompt("a", true).unwrap(), [user, a]);
        assert_eq!(with.encode_prompt("<|user|>a", true).unwrap(), [user, a]);
        assert_eq!(with.encode_prompt("a", false).unwrap(), [a]);
        assert_eq!(with.encode_prompt("", true).unwrap(), [user]);
        assert_eq!(without.encode_prompt("a", true).unwrap(), [a]);
        let plain = |tokens: &Tokens| tokens.with_bos(tokens.encode("<|user|>", false).unwrap());
        assert_eq!(plain(&with).first(), Some(&user), "in front of text that only looks like it");
        assert_eq!(plain(&with).len(), plain(&without).len() + 1);
    }

    #[test]
    fn a_raised_flag_ends_it() {
        let cancel = Cancel::new();
        cancel.raise();
        let ended = byte_level().encode_prompt_cancellable("hello", true, &cancel);
        assert!(matches!(ended, Err(Error::Cancelled)), "{ended:?}");
    }

    #[test]
    fn limits_and_damage() {
        let tokens = byte_level();
        assert_eq!(tokens.encode(&"a".repeat(MAX_TEXT_BYTES), true).unwrap().len(), MAX_TEXT_BYTES);
        let error = tokens.encode(&"a".repeat(MAX_TEXT_BYTES + 1), true).unwrap_err().to_string();
        assert!(error.contains("over the limit of 1048576"), "{error}");

        let json = byte_level_json();
        let rows = [
            (&json.as_bytes()[..100], info(), "tokenizer.json"),
            (json.as_bytes(), TokenInfo { stop: vec![], ..info() }, "tokens.stop"),
            (json.as_bytes(), TokenInfo { stop: vec![PADDING], ..info() }, "tokens.stop"),
            (json.as_bytes(), TokenInfo { bos: Some(PADDING), ..info() }, "every token named"),
            (json.as_bytes(), TokenInfo { usable: MAX_TOKENS + 1, ..info() }, "tokens.usable"),
        ];
        for (json, info, part) in rows {
            let error = Tokens::new(json, info).err().expect(part).to_string();
            assert!(error.contains(part), "{error}");
        }
        let fewer = byte_level_with(TokenInfo { usable: HELLO as usize, ..info() });
        let error = fewer.encode("hello", false).unwrap_err().to_string();
        assert!(error.contains("unusable token"), "{error}");
        let odd = json.replace("decoder\":{\"type\":\"ByteLevel", "decoder\":{\"type\":\"Fuse");
        assert!(matches!(Tokens::new(odd.as_bytes(), info()), Err(Error::Unsupported(_))));
    }
}
