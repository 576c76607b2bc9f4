//! What the wire formats have in common: the question, the answer, and what may be taken from it.

use serde::Serialize;

use crate::consult::{Answer, Continuation, Cost};

/// A question, ready to be written in one of the formats.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    pub model: &'a str,
    pub prompt: Prompt<'a>,
    pub max_tokens: u32,
}

/// The context, as the server will take it.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(untagged)]
pub(super) enum Prompt<'a> {
    Ids(&'a [u32]),
    Text(&'a str),
}

/// What the client knows of a vocabulary that it shares with the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shared {
    /// See [`super::Vocabulary::fingerprint`].
    pub fingerprint: String,
    /// Ids from here on are padding.
    pub usable: u32,
    /// Ids that end a text.
    pub stop: Vec<u32>,
    /// Ids of control tokens, ascending.
    pub control: Vec<u32>,
}

/// What a server wrote, before it is judged.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub text: String,
    /// Where the server gave exact ids.
    pub ids: Option<Vec<u32>>,
    /// The server says that the text ended by itself.
    pub end: bool,
}

/// Why an answer cannot be used; for the log.
pub(super) type Unusable = &'static str;

/// An answer in a wire format.
pub(super) trait Parsed {
    fn count(&self, cost: &mut Cost);
    fn written(self) -> Result<Written, Unusable>;
}

impl Written {
    /// The part of it that the session can rely on: exact ids, or whole characters.
    pub fn accept(self, question: &Question, shared: Option<&Shared>) -> Result<Answer, Unusable> {
        let answer = match shared {
            Some(shared) => {
                let ids = self.ids.ok_or("the server gave no exact token ids")?;
                if ids.len() > question.max_tokens as usize {
                    return Err("more tokens than were asked for");
                }
                accept_ids(ids, self.end, shared)?
            }
            None => accept_text(&self.text, self.end),
        };
        let empty = match &answer.continuation {
            Continuation::Ids(ids) => ids.is_empty(),
            Continuation::Bytes(bytes) => bytes.is_empty(),
        };
        if empty && !answer.end { Err("no token and no end") } else { Ok(answer) }
    }
}

/// Servers list the token that ended the text like any other; it is cut off here, also where it is
/// one that the bundle does not count as a stop token.
fn accept_ids(mut ids: Vec<u32>, mut end: bool, shared: &Shared) -> Result<Answer, Unusable> {
    if ids.iter().any(|&id| id >= shared.usable) {
        return Err("a token id outside the shared vocabulary");
    }
    if let Some(at) = ids.iter().position(|id| shared.stop.contains(id)) {
        ids.truncate(at);
        end = true;
    } else if end && ids.last().is_some_and(|id| shared.control.binary_search(id).is_ok()) {
        ids.pop();
    }
    Ok(Answer { continuation: Continuation::Ids(ids), end })
}

/// A burst may end within a character; servers then write U+FFFD, which is not what the LLM wrote.
/// What stands before the first one is exact.
fn accept_text(text: &str, end: bool) -> Answer {
    let exact = text.split('\u{fffd}').next().unwrap_or_default();
    let end = end && exact.len() == text.len();
    Answer { continuation: Continuation::Bytes(exact.as_bytes().to_vec()), end }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUESTION: Question = Question { model: "", prompt: Prompt::Ids(&[1]), max_tokens: 3 };

    fn shared() -> Shared {
        Shared { fingerprint: "f".into(), usable: 100, stop: vec![2], control: vec![1, 2, 3] }
    }

    #[test]
    fn ids() {
        type Row<'a> = (&'a [u32], bool, Result<(&'a [u32], bool), &'a str>);
        let rows: &[Row] = &[
            (&[10, 11], false, Ok((&[10, 11], false))),
            (&[10, 2], true, Ok((&[10], true))),
            (&[2], true, Ok((&[], true))),
            // A stop token ends the text even where the server went on.
            (&[10, 2, 11], false, Ok((&[10], true))),
            // Another control token at the end is what ended it for the server.
            (&[10, 3], true, Ok((&[10], true))),
            (&[10, 3], false, Ok((&[10, 3], false))),
            (&[10, 11], true, Ok((&[10, 11], true))),
            (&[], true, Ok((&[], true))),
            (&[], false, Err("no token")),
            (&[100], false, Err("outside")),
            (&[10, 10, 10, 10], false, Err("more tokens")),
        ];
        for &(ids, end, expected) in rows {
            let written = Written { text: "?".into(), ids: Some(ids.to_vec()), end };
            match (written.accept(&QUESTION, Some(&shared())), expected) {
                (Ok(answer), Ok((ids, end))) => {
                    assert_eq!(
                        (answer.continuation, answer.end),
                        (Continuation::Ids(ids.to_vec()), end)
                    );
                }
                (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
                (got, expected) => panic!("{ids:?}: {got:?} instead of {expected:?}"),
            }
        }
        let none = Written { text: "x".into(), ids: None, end: false };
        assert!(none.accept(&QUESTION, Some(&shared())).is_err());
    }

    #[test]
    fn text() {
        let rows = [
            (" Paris", false, Some((" Paris", false))),
            (" Paris", true, Some((" Paris", true))),
            ("", true, Some(("", true))),
            ("", false, None),
            (" a, \u{fffd}", false, Some((" a, ", false))),
            ("\u{fffd}", false, None),
            ("\u{fffd}", true, None),
        ];
        for (text, end, expected) in rows {
            let written = Written { text: text.into(), ids: None, end };
            let got = written.accept(&QUESTION, None).ok().map(|a| (a.continuation, a.end));
            let expected = expected.map(|(t, end)| (Continuation::Bytes(t.into()), end));
            assert_eq!(got, expected, "{text:?}");
        }
    }
}
