//! What a server really does: tried with one completion of each kind that it may have. All texts
//! are fixed; nothing of a user is sent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::continuation::{Continues, NEVER_CONTINUES};
use super::endpoint::Base;
use super::format::{Prompt, Question, Shared, Wire};
use super::http::Post;
use super::options::ServerKind;
use super::probe::{self, Vocabulary};
use super::{Cloud, Found, status};
use crate::cancel::Cancel;
use crate::clock;
use crate::consult::{Chat, Failure};
use crate::error::{Error, Result};
use crate::tokens::Message;

/// The whole probe, connection and TLS included.
const TIME: Duration = Duration::from_secs(20);
/// The largest answer read: a list of ids, or a completion that repeats its prompt.
const ANSWER_BYTES: u64 = 1 << 20;

/// What crosses the wire between sessions of a bundle and a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Exchange {
    /// Token ids: exact. The server has the bundle's vocabulary and answers with ids.
    Ids = 1,
    /// Bytes, which each side cuts into tokens of its own.
    Bytes = 2,
    /// Messages, for sessions that begin with a chat, and bytes back.
    Messages = 3,
}

/// In the order in which they are tried: the exact ones first, what sends the least unknown fields
/// last.
const AUTO: [ServerKind; 6] = [
    ServerKind::LlamaCpp,
    ServerKind::SgLang,
    ServerKind::OpenAi,
    ServerKind::ChatContinue,
    ServerKind::ChatPrefix,
    ServerKind::ChatTrailing,
];

/// The end of a word is missing, and no answer that begins afresh would begin like this.
const BEGUN: &str = "As far as I remember, the capital of France is Par";
/// Some small models write it the Spanish way.
const REST: [&str; 2] = ["is", "ís"];
const ASKED: &str = "What is the capital of France? Answer in one sentence.";
/// Of an answer that repeats [`BEGUN`] as well.
const TOKENS: u32 = 32;

impl Cloud {
    /// Asks the server what it can do: with [`ServerKind::Auto`] which wire format it has, of a
    /// completion format whether its token ids mean what the bundle's ([`crate::tokens::Tokens`])
    /// mean and whether it answers with ids, of a chat format whether it continues a message.
    /// Sessions with this vocabulary exchange ids only after a yes. Sends fixed texts and ids,
    /// nothing of a user; takes 20 s at most.
    ///
    /// # Errors
    /// [`Error::Cloud`] when the server cannot be reached, its certificate is not accepted, it
    /// refuses the token, has no wire format that is known, or begins afresh where it should
    /// continue. A server that cannot tokenise is [`Exchange::Bytes`]. [`Error::Cancelled`].
    pub fn probe(&self, vocabulary: &dyn Vocabulary, cancel: &Cancel) -> Result<Exchange> {
        let deadline = Instant::now() + TIME;
        let trial = Trial { cloud: self, deadline, cancel };
        let found = trial.run(vocabulary)?;
        let (wire, shared) = (Wire::of(found.kind), found.shared.first().cloned());
        let mut known = self.found();
        known.shared.retain(|one| one.fingerprint != vocabulary.fingerprint());
        let exchange = match &shared {
            Some(_) => Exchange::Ids,
            None if wire.takes_messages => Exchange::Messages,
            None => Exchange::Bytes,
        };
        known.shared.extend(shared);
        (known.kind, known.continues) = (found.kind, found.continues);
        drop(known);
        log::info!("the server has {}; what crosses the wire: {exchange:?}", wire.name);
        if found.continues == Continues::Never {
            return Err(Error::Cloud(format!("{}: {NEVER_CONTINUES}", self.http.origin())));
        }
        Ok(exchange)
    }
}

struct Trial<'a> {
    cloud: &'a Cloud,
    deadline: Instant,
    cancel: &'a Cancel,
}

impl Trial<'_> {
    fn run(&self, vocabulary: &dyn Vocabulary) -> Result<Found> {
        if !clock::is_set() {
            return Err(Error::Cloud(format!("{}: set it, then try again", Failure::ClockNotSet)));
        }
        let kind = self.cloud.kind;
        if kind != ServerKind::Auto {
            let wire = Wire::of(kind);
            let continues = match wire.takes_messages {
                true => self.continues(wire)?.ok_or_else(|| self.refused(wire))?,
                false => Continues::Unknown,
            };
            return self.with_vocabulary(kind, continues, vocabulary);
        }
        for kind in AUTO {
            let wire = Wire::of(kind);
            let continues = match wire.takes_messages {
                true => self.continues(wire)?.filter(|&continues| continues != Continues::Never),
                false => self.completes(wire)?.then_some(Continues::Unknown),
            };
            if let Some(continues) = continues {
                return self.with_vocabulary(kind, continues, vocabulary);
            }
        }
        Err(Error::Cloud(format!(
            "{}: the server has none of the known wire formats; is the URL's path right?",
            self.cloud.http.origin()
        )))
    }

    fn with_vocabulary(
        &self,
        kind: ServerKind,
        continues: Continues,
        vocabulary: &dyn Vocabulary,
    ) -> Result<Found> {
        let wire = Wire::of(kind);
        let shared = match wire.takes_messages {
            true => None,
            false => self.shared(wire, vocabulary)?,
        };
        Ok(Found { kind, continues, shared: shared.into_iter().map(Arc::new).collect() })
    }

    /// Equal vocabularies are not enough: some servers tokenise alike and then answer without ids.
    fn shared(&self, wire: &Wire, vocabulary: &dyn Vocabulary) -> Result<Option<Shared>> {
        let post = |path: &str, body: &[u8]| {
            self.post(&Post { base: Base::Server, path, body, limit: ANSWER_BYTES })
        };
        let model = self.cloud.model.as_str();
        let Some((shared, ids)) = probe::compare(vocabulary, model, &post)? else {
            return Ok(None);
        };
        let question = Question { model, prompt: Prompt::Ids(&ids), max_tokens: 2 };
        let answered = self.ask(wire, &question)?.is_some_and(|answer| {
            let written = (wire.read)(&answer);
            written.is_ok_and(|written| {
                written.accept(&question, Some(&shared), Continues::Unknown).is_ok()
            })
        });
        if !answered {
            log::info!("the server has the bundle's vocabulary, but does not answer with ids");
        }
        Ok(answered.then_some(shared))
    }

    fn completes(&self, wire: &Wire) -> Result<bool> {
        let model = self.cloud.model.as_str();
        let question = Question { model, prompt: Prompt::Text(BEGUN), max_tokens: 2 };
        let answer = self.ask(wire, &question)?;
        Ok(answer
            .and_then(|answer| (wire.read)(&answer).ok())
            .is_some_and(|written| written.accept(&question, None, Continues::Unknown).is_ok()))
    }

    /// `None` where the server has no such format.
    fn continues(&self, wire: &Wire) -> Result<Option<Continues>> {
        let messages = [Message { role: "user".into(), content: ASKED.into() }];
        let chat = Chat { messages: &messages, answer: BEGUN };
        let model = self.cloud.model.as_str();
        let question = Question { model, prompt: Prompt::Chat(chat), max_tokens: TOKENS };
        let Some(answer) = self.ask(wire, &question)? else { return Ok(None) };
        let text = match (wire.read)(&answer).map(|written| written.text) {
            Ok(Some(text)) => text,
            Ok(None) => return Ok(None),
            // It cannot be relied on, also where the format is the right one.
            Err(_) => return Ok(Some(Continues::Never)),
        };
        let goes_on = |text: &str| REST.iter().any(|rest| text.to_lowercase().starts_with(rest));
        Ok(Some(match text.strip_prefix(BEGUN) {
            // No new answer begins like that; a letter in lower case goes on with the word.
            Some(rest) if rest.starts_with(char::is_lowercase) => Continues::Repeating,
            None if goes_on(&text) => Continues::Plainly,
            _ => Continues::Never,
        }))
    }

    /// The JSON of a good answer; `None` where the server does not know what is asked.
    fn ask(&self, wire: &Wire, question: &Question) -> Result<Option<Value>> {
        let body = (wire.write)(question);
        let post = Post { base: wire.base, path: wire.path, body: &body, limit: ANSWER_BYTES };
        Ok(self.post(&post)?.and_then(|body| serde_json::from_slice(&body).ok()))
    }

    fn post(&self, post: &Post) -> Result<Option<Vec<u8>>> {
        let http = &self.cloud.http;
        let origin = http.origin();
        let (reply, _) = http.post(post, self.deadline, self.cancel);
        let reply = match reply {
            Ok(reply) => reply,
            Err(trouble) if trouble.failure == Failure::Cancelled => return Err(Error::Cancelled),
            Err(trouble) => {
                return Err(Error::Cloud(format!(
                    "{origin}: {}{}",
                    trouble.failure, trouble.detail
                )));
            }
        };
        match status(&reply) {
            Ok(()) => Ok(Some(reply.body)),
            Err(trouble) => match reply.status {
                400 | 404 | 405 | 422 | 501 => Ok(None),
                // Beside the API gateways answer as they like.
                other if post.base == Base::Server && !matches!(other, 401 | 429 | 503) => Ok(None),
                _ => Err(Error::Cloud(format!(
                    "{origin}{}: {}{}",
                    post.path, trouble.failure, trouble.detail
                ))),
            },
        }
    }

    fn refused(&self, wire: &Wire) -> Error {
        Error::Cloud(format!(
            "{}: the server refuses {}; is the URL's path right, and the model's name?",
            self.cloud.http.origin(),
            wire.name
        ))
    }
}
