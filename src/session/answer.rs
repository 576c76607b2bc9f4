//! What a consult brought, as tokens to append.

use std::ops::RangeInclusive;

use crate::cancel::Cancel;
use crate::consult::{Answer, Continuation, Failure};
use crate::error::Error;
use crate::tokens::{Tokens, whole_len};

/// Bytes read per token wanted, however many a server sends: more than any sensible token has, and
/// few enough to be tokenised in no time.
const MOST_TOKEN_BYTES: usize = 128;

/// What the first character and the end of a text may take beyond the burst: a character has up to
/// four tokens where the vocabulary has only its bytes.
pub(super) const BEYOND_BURST: u32 = 3;

/// The tokens of an answer, at least one; the last one is the stop token where the cloud LLM ended
/// its text.
///
/// Ids are taken as they are, up to the first that a text cannot hold: a control token that does
/// not end it. Bytes are re-encoded: they begin where the context ends at a whole character, and
/// are cut where an unfinished one begins, so no token carries a part of one. An answer that this
/// vocabulary cannot hold exactly is a [`Failure::Protocol`].
///
/// `burst`: so many tokens at most; the second number is for a first character that takes more than
/// the first, and for the stop token.
pub(super) fn tokens_of(
    answer: Answer,
    burst: RangeInclusive<u32>,
    shares_vocabulary: bool,
    tokens: &Tokens,
    cancel: &Cancel,
) -> Result<Vec<u32>, Failure> {
    let (asked, most) = (*burst.start() as usize, *burst.end() as usize);
    let (mut ids, whole) = match answer.continuation {
        Continuation::Ids(ids) if shares_vocabulary => at_most(ids, asked),
        Continuation::Ids(_) => return Err(Failure::Protocol),
        Continuation::Bytes(bytes) => encode(&bytes, asked, most, tokens, cancel)?,
    };
    if !ids.iter().all(|&id| tokens.is_usable(id)) {
        return Err(Failure::Protocol);
    }
    let control = |id: &u32| tokens.bytes(*id).is_empty();
    match ids.iter().position(|id| tokens.is_stop(*id) || control(id)) {
        Some(at) if ids.get(at).is_some_and(|&id| tokens.is_stop(id)) => ids.truncate(at + 1),
        Some(at) => ids.truncate(at),
        None if answer.end && whole && ids.len() < most => ids.push(tokens.stop()),
        None => {}
    }
    if ids.is_empty() { Err(Failure::Protocol) } else { Ok(ids) }
}

/// And whether these are all: a server that sends more than asked has not ended within what was
/// asked.
fn at_most(mut ids: Vec<u32>, asked: usize) -> (Vec<u32>, bool) {
    let whole = ids.len() <= asked;
    ids.truncate(asked);
    (ids, whole)
}

/// As [`at_most`], in whole characters, of the first one up to `most` tokens.
fn encode(
    bytes: &[u8],
    asked: usize,
    most: usize,
    tokens: &Tokens,
    cancel: &Cancel,
) -> Result<(Vec<u32>, bool), Failure> {
    let read = bytes.get(..asked.saturating_mul(MOST_TOKEN_BYTES)).unwrap_or(bytes);
    let text = read.get(..whole_len(read)).unwrap_or_default();
    let text = std::str::from_utf8(text).map_err(|_| Failure::Protocol)?;
    let mut ids = match tokens.encode_continuation_cancellable(text, cancel) {
        Ok(Some(ids)) => ids,
        Err(Error::Cancelled) => return Err(Failure::Cancelled),
        Ok(None) | Err(_) => return Err(Failure::Protocol),
    };
    let ends = ids.iter().scan(0, |end, &id| {
        *end += tokens.bytes(id).len();
        Some(*end)
    });
    let mut kept = 0;
    for (count, end) in (1..=most).zip(ends) {
        if count > asked && kept > 0 {
            break;
        }
        if text.is_char_boundary(end) {
            kept = count;
        }
    }
    let whole = kept == ids.len() && text.len() == bytes.len();
    ids.truncate(kept);
    Ok((ids, whole))
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
            // A control token that ends no text is none of a text.
            (ids(&[a, b, USER]), false, Ok(vec![a, b])),
            (ids(&[a, USER, b]), true, Ok(vec![a])),
            (ids(&[USER, a]), false, bad.clone()),
            (ids(&[USER]), true, bad.clone()),
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
            (bytes(b"aaaaa"), false, Ok(vec![a; 3])),
            (bytes(b"aaaaa"), true, Ok(vec![a; 3])),
            (bytes(b"aaa"), true, Ok(vec![a, a, a, END])),
            (bytes(b"aa"), true, Ok(vec![a, a, END])),
            // Whole characters only; of the first one more than was asked for.
            (bytes("aaé".as_bytes()), true, Ok(vec![a, a])),
            (bytes("😀a".as_bytes()), true, Ok("😀".bytes().map(byte).collect())),
            (bytes(b""), true, Ok(vec![END])),
            (bytes(b""), false, bad.clone()),
            (bytes(b"a\xE2\x82"), false, Ok(vec![a])),
            (bytes(b"\xE2\x82"), false, bad.clone()),
            (bytes(b"\xE2\x82"), true, bad.clone()),
            (bytes(b"a\xFFb"), false, bad.clone()),
            (bytes(b"\xAC"), true, bad.clone()),
        ];
        let tokens = byte_level();
        for (row, (continuation, end, want)) in rows.into_iter().enumerate() {
            let got = tokens_of(Answer { continuation, end }, 3..=4, true, &tokens, &Cancel::new());
            assert_eq!(got, want, "row {row}");
        }
        let answer = Answer { continuation: ids(&[a]), end: false };
        assert_eq!(
            tokens_of(answer, 3..=4, false, &tokens, &Cancel::new()),
            bad,
            "ids of another vocabulary"
        );
        let answer = Answer { continuation: bytes("😀".as_bytes()), end: false };
        assert_eq!(
            tokens_of(answer, 3..=3, false, &tokens, &Cancel::new()),
            bad,
            "more than the budget has left"
        );
    }

    /// However much a server sends, only what may be needed is tokenised.
    #[test]
    fn a_flood_of_bytes_costs_nothing() {
        let tokens = byte_level();
        for unit in ["x", "é", "😀"] {
            let flood = unit.repeat(32 << 20);
            let continuation = Continuation::Bytes(flood.into_bytes());
            let answer = Answer { continuation, end: true };
            let ids = tokens_of(answer, 8..=8, false, &tokens, &Cancel::new()).unwrap();
            assert_eq!(tokens.bytes_of(&ids), unit.repeat(8 / unit.len()).as_bytes());
        }
    }

    /// The cloud LLM's text is text, also where it spells a control token.
    #[test]
    fn control_tokens_are_not_taken_from_text() {
        let tokens = byte_level();
        let answer = Answer { continuation: Continuation::Bytes(b"<|user|>".into()), end: false };
        let ids = tokens_of(answer, 8..=8, false, &tokens, &Cancel::new()).unwrap();
        assert!(!ids.contains(&USER));
        assert_eq!(tokens.bytes_of(&ids), b"<|user|>");
    }
}
