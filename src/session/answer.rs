//! What a consult brought, as tokens to append.

use crate::consult::{Answer, Continuation, Failure};
use crate::tokens::{Tokens, whole_len};

/// The tokens of an answer, at least one; the last one is the stop token where the cloud LLM ended
/// its text.
///
/// Ids are taken as they are, `burst` at most. Bytes are re-encoded: they begin where the context
/// ends at a whole character, and are cut where an unfinished one begins, so no token carries a
/// part of one. An answer that this vocabulary cannot hold exactly is a [`Failure::Protocol`].
pub(super) fn tokens_of(
    answer: Answer,
    burst: u32,
    shares_vocabulary: bool,
    tokens: &Tokens,
) -> Result<Vec<u32>, Failure> {
    let (mut ids, end) = match answer.continuation {
        Continuation::Ids(ids) if shares_vocabulary => at_most(ids, answer.end, burst as usize),
        Continuation::Ids(_) => return Err(Failure::Protocol),
        Continuation::Bytes(bytes) => (encode(&bytes, tokens)?, answer.end),
    };
    if !ids.iter().all(|&id| tokens.is_usable(id)) {
        return Err(Failure::Protocol);
    }
    if let Some(stop) = ids.iter().position(|&id| tokens.is_stop(id)) {
        ids.truncate(stop + 1);
    } else if end {
        ids.push(tokens.stop());
    }
    if ids.is_empty() { Err(Failure::Protocol) } else { Ok(ids) }
}

/// A server that sends more than asked has not ended within what was asked.
fn at_most(mut ids: Vec<u32>, end: bool, burst: usize) -> (Vec<u32>, bool) {
    let fits = ids.len() <= burst;
    ids.truncate(burst);
    (ids, end && fits)
}

fn encode(bytes: &[u8], tokens: &Tokens) -> Result<Vec<u32>, Failure> {
    let whole = bytes.get(..whole_len(bytes)).unwrap_or_default();
    let text = std::str::from_utf8(whole).map_err(|_| Failure::Protocol)?;
    tokens.encode_continuation(text).ok().flatten().ok_or(Failure::Protocol)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::example::*;

    #[test]
    fn answers() {
        let ids = |ids: &[u32]| Continuation::Ids(ids.to_vec());
        let bytes = |bytes: &[u8]| Continuation::Bytes(bytes.to_vec());
        let bad = Err(Failure::Protocol);
        let [a, b] = [byte(b'a'), byte(b'b')];
        let rows = [
            (ids(&[HELLO]), false, Ok(vec![HELLO])),
            (ids(&[a, b, USER]), false, Ok(vec![a, b, USER])),
            (ids(&[a, b]), true, Ok(vec![a, b, END])),
            (ids(&[a, END]), true, Ok(vec![a, END])),
            (ids(&[a, END, b]), false, Ok(vec![a, END])),
            (ids(&[]), true, Ok(vec![END])),
            (ids(&[]), false, bad.clone()),
            (ids(&[a, a, a, a]), false, Ok(vec![a, a, a])),
            (ids(&[a, a, a, a]), true, Ok(vec![a, a, a])),
            (ids(&[a, PADDING]), false, bad.clone()),
            (ids(&[u32::MAX]), true, bad.clone()),
            (bytes(b"hello"), false, Ok(vec![HELLO])),
            (bytes(b"hellhe"), true, Ok(vec![HELL, HE, END])),
            (bytes(b"aaaaa"), false, Ok(vec![a; 5])),
            (bytes(b""), true, Ok(vec![END])),
            (bytes(b""), false, bad.clone()),
            (bytes(b"a\xE2\x82"), false, Ok(vec![a])),
            (bytes(b"\xE2\x82"), false, bad.clone()),
            (bytes(b"\xE2\x82"), true, Ok(vec![END])),
            (bytes(b"a\xFFb"), false, bad.clone()),
            (bytes(b"\xAC"), true, bad.clone()),
        ];
        let tokens = byte_level();
        for (row, (continuation, end, want)) in rows.into_iter().enumerate() {
            let got = tokens_of(Answer { continuation, end }, 3, true, &tokens);
            assert_eq!(got, want, "row {row}");
        }
        let answer = Answer { continuation: ids(&[a]), end: false };
        assert_eq!(tokens_of(answer, 3, false, &tokens), bad, "ids of another vocabulary");
    }

    /// The cloud LLM's text is text, also where it spells a control token.
    #[test]
    fn control_tokens_are_not_taken_from_text() {
        let tokens = byte_level();
        let answer = Answer { continuation: Continuation::Bytes(b"<|user|>".into()), end: false };
        let ids = tokens_of(answer, 1, false, &tokens).unwrap();
        assert!(!ids.contains(&USER));
        assert_eq!(tokens.bytes_of(&ids), b"<|user|>");
    }
}
