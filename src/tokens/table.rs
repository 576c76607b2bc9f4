//! The exact bytes of every token, in one block of memory.

use super::tokenizer::Tokenizer;
use crate::error::{Error, Result};

/// Bytes by token id.
pub(super) struct Table {
    bytes: Vec<u8>,
    /// Where the bytes of token `id` end.
    ends: Vec<u32>,
    control: Vec<bool>,
}

/// How a vocabulary writes bytes as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spelling {
    /// Byte-level BPE: every byte is one character of a fixed alphabet.
    ByteLevel,
    /// SentencePiece: `▁` is a space, `<0xXX>` a byte, all else itself.
    SentencePiece,
}

impl Table {
    pub fn new(tokenizer: &Tokenizer, usable: usize) -> Result<Table> {
        let spelling = Spelling::of(tokenizer)?;
        let added = tokenizer.get_added_tokens_decoder();
        let mut table = Table { bytes: Vec::new(), ends: Vec::new(), control: Vec::new() };
        for id in 0..usable as u32 {
            if let Some(token) = added.get(&id) {
                table.push(token.content.as_bytes(), token.special);
            } else {
                let spelled = tokenizer.id_to_token(id).unwrap_or_default();
                table.push(&spelling.bytes(&spelled), false);
            }
        }
        Ok(table)
    }

    fn push(&mut self, bytes: &[u8], control: bool) {
        self.bytes.extend_from_slice(bytes);
        self.ends.push(self.bytes.len() as u32);
        self.control.push(control);
    }

    /// Empty for an id beyond the table.
    pub fn bytes(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let end = self.ends.get(id).copied().unwrap_or(0) as usize;
        let start = id.checked_sub(1).and_then(|before| self.ends.get(before)).copied();
        self.bytes.get(start.unwrap_or(0) as usize..end).unwrap_or_default()
    }

    pub fn is_control(&self, id: u32) -> bool {
        self.control.get(id as usize).copied().unwrap_or(true)
    }
}

impl Spelling {
    fn of(tokenizer: &Tokenizer) -> Result<Spelling> {
        let decoder = tokenizer.get_decoder().map(serde_json::to_string).transpose();
        let decoder = decoder.map_err(|e| Error::Bundle(format!("tokenizer.json: {e}")))?;
        let has = |name: &str| {
            decoder.as_ref().is_some_and(|json| json.contains(&format!("\"type\":\"{name}\"")))
        };
        if has("ByteLevel") {
            Ok(Spelling::ByteLevel)
        } else if has("ByteFallback") || has("Metaspace") {
            Ok(Spelling::SentencePiece)
        } else {
            Err(Error::Unsupported(format!(
                "a tokenizer whose decoder is {}; known are byte-level BPE and SentencePiece",
                decoder.as_deref().unwrap_or("absent")
            )))
        }
    }

    fn bytes(self, spelled: &str) -> Vec<u8> {
        match self {
            // A token with a character outside the alphabet was never made of bytes: as it stands.
            Spelling::ByteLevel => spelled
                .chars()
                .map(byte_level)
                .collect::<Option<_>>()
                .unwrap_or_else(|| spelled.as_bytes().to_vec()),
            Spelling::SentencePiece => match byte_token(spelled) {
                Some(byte) => vec![byte],
                None => spelled.replace('\u{2581}', " ").into_bytes(),
            },
        }
    }
}

/// The byte that a character of the byte-level alphabet stands for: printable Latin-1 stands for
/// itself, the other 68 bytes, in order, are the characters from U+0100 on.
fn byte_level(c: char) -> Option<u8> {
    let printable = |b: &u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    match u32::from(c) {
        code @ 0..=0xFF => Some(code as u8).filter(printable),
        code => (0..=0xFF).filter(|b| !printable(b)).nth((code - 0x100) as usize),
    }
}

/// The byte of a `<0xXX>` token.
fn byte_token(spelled: &str) -> Option<u8> {
    let hex = spelled.strip_prefix("<0x")?.strip_suffix('>')?;
    let is_byte = hex.len() == 2 && hex.bytes().all(|b| b.is_ascii_hexdigit());
    is_byte.then(|| u8::from_str_radix(hex, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings() {
        use Spelling::*;
        let rows: &[(Spelling, &str, &[u8])] = &[
            (ByteLevel, "Hello", b"Hello"),
            (ByteLevel, "\u{120}the", b" the"),
            (ByteLevel, "\u{10A}", b"\n"),
            (ByteLevel, "Ã©", "é".as_bytes()),
            (ByteLevel, "\u{100}\u{143}", b"\x00\xAD"),
            (ByteLevel, "日本", "日本".as_bytes()),
            (ByteLevel, "", b""),
            (SentencePiece, "\u{2581}the", b" the"),
            (SentencePiece, "<0x0A>", b"\n"),
            (SentencePiece, "<0xe9>", b"\xE9"),
            (SentencePiece, "<0xE>", b"<0xE>"),
            (SentencePiece, "<0x+1>", b"<0x+1>"),
            (SentencePiece, "é", "é".as_bytes()),
        ];
        for (spelling, spelled, want) in rows {
            assert_eq!(spelling.bytes(spelled), *want, "{spelling:?} {spelled}");
        }
    }

    #[test]
    fn the_alphabet_has_every_byte_once() {
        let mut bytes: Vec<u8> = ('\0'..='\u{200}').filter_map(byte_level).collect();
        bytes.sort_unstable();
        assert!(bytes.into_iter().eq(0..=0xFF));
    }
}
