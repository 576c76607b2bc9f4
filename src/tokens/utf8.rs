//! Bytes to text, in whole UTF-8 characters only.

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
}
