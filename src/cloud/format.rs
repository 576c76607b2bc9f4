//! What the wire formats have in common: the question, the answer, and what may be taken from it.
//!
//! A format is a [`Wire`]: where it is asked, how a question is written, and where in the answer's
//! JSON things are. Answers are read leniently: what is not needed may be missing or of any kind.

use serde::Serialize;
use serde_json::Value;

use super::continuation::{self, Continues, Unusable};
use super::endpoint::Base;
use super::headers::Auth;
use crate::consult::{Answer, Chat, Continuation, Cost};

/// A wire format.
pub(super) struct Wire {
    pub name: &'static str,
    pub base: Base,
    pub path: &'static str,
    pub auth: Auth,
    /// It renders messages itself, and takes nothing else.
    pub takes_messages: bool,
    pub write: fn(&Question) -> Vec<u8>,
    pub read: fn(&Value) -> Result<Written, Unusable>,
    /// Pointers to the numbers of prompt tokens, of these cached, and of the answer's tokens.
    pub counts: [&'static [&'static str]; 3],
}

impl Wire {
    pub fn count(&self, answer: &Value, cost: &mut Cost) {
        let sum = |places: &[&str]| {
            places.iter().fold(0, |sum: u64, at| sum.saturating_add(count(answer.pointer(at))))
        };
        let [prompt, cached, completion] = self.counts;
        cost.prompt_tokens = sum(prompt);
        cost.cached_tokens = sum(cached);
        cost.completion_tokens = sum(completion);
    }
}

/// More tokens than any request has. A larger number is none that a server counted.
const MOST_TOKENS: f64 = (1u64 << 32) as f64;

/// 0 for what is no number, and for one that cannot be.
fn count(value: Option<&Value>) -> u64 {
    let number = value.and_then(Value::as_f64).unwrap_or(0.0);
    if (0.0..MOST_TOKENS).contains(&number) { number as u64 } else { 0 }
}

/// The ids in a list; `None` for what is none.
pub(super) fn ids(value: Option<&Value>) -> Option<Vec<u32>> {
    value?.as_array()?.iter().map(id).collect()
}

pub(super) fn id(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

pub(super) fn text(value: Option<&Value>) -> Option<String> {
    value.and_then(Value::as_str).map(str::to_owned)
}

/// A JSON object that is written field by field.
pub(super) struct Body(Vec<u8>);

impl Body {
    pub fn new() -> Body {
        Body(Vec::new())
    }

    pub fn field<T: Serialize + ?Sized>(mut self, name: &str, value: &T) -> Body {
        self.0.push(if self.0.is_empty() { b'{' } else { b',' });
        self.0.extend_from_slice(format!("\"{name}\":").as_bytes());
        // Text, numbers and lists of them cannot fail to be written into memory.
        let written = serde_json::to_writer(&mut self.0, value);
        debug_assert!(written.is_ok(), "{written:?}");
        self
    }

    pub fn field_if<T: Serialize + ?Sized>(self, condition: bool, name: &str, value: &T) -> Body {
        if condition { self.field(name, value) } else { self }
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.0.extend_from_slice(if self.0.is_empty() { b"{}" } else { b"}" });
        self.0
    }
}

/// A question, ready to be written in one of the formats.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    pub model: &'a str,
    pub prompt: Prompt<'a>,
    pub max_tokens: u32,
}

/// The context, as the server will take it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Prompt<'a> {
    Ids(&'a [u32]),
    Text(&'a str),
    Chat(Chat<'a>),
}

impl Serialize for Prompt<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Prompt::Ids(ids) => ids.serialize(serializer),
            Prompt::Text(text) => text.serialize(serializer),
            // Formats with messages write them one by one.
            Prompt::Chat(chat) => chat.answer.serialize(serializer),
        }
    }
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
    pub text: Option<String>,
    /// Where the server gave exact ids.
    pub ids: Option<Vec<u32>>,
    /// The server says that the text ended by itself.
    pub end: bool,
}

impl Written {
    /// The part of it that the session can rely on: exact ids, or whole characters. `continues`:
    /// what a server of messages does with the answer begun.
    pub fn accept(
        self,
        question: &Question,
        shared: Option<&Shared>,
        continues: Continues,
    ) -> Result<Answer, Unusable> {
        let answer = match (shared, question.prompt) {
            (Some(shared), Prompt::Ids(_)) => {
                let ids = self.ids.ok_or("the server gave no exact token ids")?;
                if ids.len() > question.max_tokens as usize {
                    return Err("more tokens than were asked for");
                }
                accept_ids(ids, self.end, shared)?
            }
            (_, Prompt::Chat(chat)) => {
                let text = self.text.ok_or("no text in the answer")?;
                accept_text(continuation::of(&text, chat.answer, continues)?, self.end)
            }
            _ => accept_text(&self.text.ok_or("no text in the answer")?, self.end),
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
    fn accepted_ids() {
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
            let written = Written { text: None, ids: Some(ids.to_vec()), end };
            match (written.accept(&QUESTION, Some(&shared()), Continues::Unknown), expected) {
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
        let none = Written { text: Some("x".into()), ids: None, end: false };
        assert!(none.accept(&QUESTION, Some(&shared()), Continues::Unknown).is_err());
    }

    #[test]
    fn accepted_text() {
        let rows = [
            (" Paris", false, Some((" Paris", false))),
            (" Paris", true, Some((" Paris", true))),
            ("", true, Some(("", true))),
            ("", false, None),
            (" a, \u{fffd}", false, Some((" a, ", false))),
            ("\u{fffd}", false, None),
            ("\u{fffd}", true, None),
        ];
        let question = Question { prompt: Prompt::Text("a"), ..QUESTION };
        for (text, end, expected) in rows {
            let written = Written { text: Some(text.into()), ids: None, end };
            let got = written.accept(&question, None, Continues::Unknown).ok();
            let got = got.map(|a| (a.continuation, a.end));
            let expected = expected.map(|(t, end)| (Continuation::Bytes(t.into()), end));
            assert_eq!(got, expected, "{text:?}");
        }
        assert!(
            Written { end: true, ..Written::default() }
                .accept(&question, None, Continues::Unknown)
                .is_err()
        );
    }

    #[test]
    fn counts_that_cannot_be_are_none() {
        let rows = [
            ("7", 7),
            ("5.0", 5),
            ("4294967295", 4_294_967_295),
            ("4294967296", 0),
            ("9223372036854775808", 0),
            ("-1", 0),
            ("1e300", 0),
            ("null", 0),
            ("\"7\"", 0),
            ("[7]", 0),
        ];
        for (json, want) in rows {
            assert_eq!(count(serde_json::from_str(json).ok().as_ref()), want, "{json}");
        }
        assert_eq!(count(None), 0);
    }

    #[test]
    fn bodies_are_json() {
        let body = Body::new().field("a", "\"\n").field_if(false, "b", &1).field("c", &[1, 2]);
        assert_eq!(body.finish(), br#"{"a":"\"\n","c":[1,2]}"#);
        assert_eq!(Body::new().finish(), b"{}");
    }
}
