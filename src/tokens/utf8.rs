//! Bytes to text, in whole UTF-8 characters only.

/// Holds back bytes until they are whole UTF-8 characters.
///
/// Bytes that are part of no character become U+FFFD, so the text is for people; the exact bytes are
/// in [`crate::session::Step::bytes`].
#[derive(Debug, Clone, Default)]
pub struct Utf8Stream {
    /// The start of an unfinished character, at most three bytes.
    held: Vec<u8>,
}

impl Utf8Stream {
    /// The text that `bytes` complete.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.held.extend_from_slice(bytes);
        let rest = self.held.split_off(whole_len(&self.held));
        let text = to_text(&self.held);
        self.held = rest;
        text
    }

    /// What is still held back, as U+FFFD; empty when nothing is.
    pub fn flush(&mut self) -> String {
        to_text(&std::mem::take(&mut self.held))
    }
}

/// How many of `bytes` come before an unfinished character at their end.
pub fn whole_len(bytes: &[u8]) -> usize {
    for start in (bytes.len().saturating_sub(3)..bytes.len()).rev() {
        let tail = bytes.get(start..).unwrap_or_default();
        if tail.first().is_some_and(|&byte| byte & 0xC0 == 0x80) {
            continue;
        }
        let unfinished = std::str::from_utf8(tail).is_err_and(|e| e.error_len().is_none());
        return if unfinished { start } else { bytes.len() };
    }
    bytes.len()
}

/// Text for people: what is not UTF-8 becomes U+FFFD.
pub fn to_text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_characters() {
        let rows: &[(&[u8], usize)] = &[
            (b"", 0),
            (b"abc", 3),
            ("aé".as_bytes(), 3),
            (b"a\xC3", 1),
            (b"a\xE2\x82", 1),
            (b"\xF0\x9F\x98", 0),
            ("😀".as_bytes(), 4),
            (b"\x80\x80\x80\x80", 4),
            (b"a\xFF", 2),
            // Surrogates and overlong forms are invalid at their second byte: nothing to wait for.
            (b"\xED\xA0", 2),
            (b"\xC0", 1),
            (b"\xF0\x9F\xFF\xE2", 3),
        ];
        for (bytes, want) in rows {
            assert_eq!(whole_len(bytes), *want, "{bytes:x?}");
        }
    }

    /// However the bytes are cut, the text is the same and no call hands out part of a character.
    #[test]
    fn cuts_do_not_matter() {
        let texts: [&[u8]; 4] = [
            "naïve 😀 日本語 \u{10FFFF}".as_bytes(),
            b"bad \xFF\xFE \xE2\x82 and \xF0\x9F\x98\x80",
            b"\xE2\x82",
            b"\x82\x82\xC3",
        ];
        for text in texts {
            for size in 1..=text.len() {
                let mut stream = Utf8Stream::default();
                let mut out: String = text.chunks(size).map(|chunk| stream.push(chunk)).collect();
                out += &stream.flush();
                assert_eq!(out, to_text(text), "cut every {size} bytes");
                assert_eq!(stream.flush(), "");
            }
        }
    }
}
