//! A stand-in for the cloud LLM that asks nothing twice, and [`Teacher`], a cloud LLM on this
//! machine.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use hybrid::bundle::sha256;
use hybrid::consult::{Answer, Consult, Continuation, Cost, Failure, Request};
use hybrid::sampler::{Sampler, Sampling};
use hybrid::session::Model;
use hybrid::tokens::Tokens;
use serde::{Deserialize, Serialize};

use super::memory::Memory;
use crate::records::reader::Reader;

/// A cloud LLM whose every token is remembered by its context. Costs are those of a server that
/// bills every context whole; bytes and time are not known.
pub struct KnownCloud {
    /// `None`: whatever is asked must be known.
    pub cloud: Option<Arc<dyn Consult>>,
    pub memory: Arc<Memory>,
}

/// What the cloud LLM wrote after one context.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Next {
    id: Option<u32>,
    /// Its text ends here.
    end: bool,
}

impl KnownCloud {
    /// Remembers `ids` as what follows `context`. An end is what follows the last of them, as it
    /// would be if they were asked for one by one.
    pub fn learn(&self, context: &[u32], ids: &[u32], end: bool) -> Result<()> {
        let mut context = context.to_vec();
        for &id in ids {
            self.put(&context, Next { id: Some(id), end: false })?;
            context.push(id);
        }
        if end {
            self.put(&context, Next { id: None, end })?;
        }
        Ok(())
    }

    /// What is known to follow `context`.
    pub fn known(&self, context: &[u32]) -> Vec<u32> {
        let mut text = context.to_vec();
        while let Some(Next { id: Some(id), .. }) = self.memory.get(&key(&text)) {
            text.push(id);
        }
        text.split_off(context.len())
    }

    fn put(&self, context: &[u32], next: Next) -> Result<()> {
        let key = key(context);
        if self.memory.get::<Next>(&key).is_none() {
            self.memory.put(key, &next)?;
        }
        Ok(())
    }

    /// Asks for `max_tokens` after `context` and remembers them.
    fn ask(
        &self,
        request: &Request,
        context: &[u32],
        max_tokens: u32,
    ) -> std::result::Result<(), Failure> {
        let cloud = self.cloud.as_ref().ok_or(Failure::Connect)?;
        let request = Request { ids: context, bytes: &[], max_tokens, ..*request };
        let answer = cloud.consult(&request).0?;
        let Continuation::Ids(mut ids) = answer.continuation else {
            return Err(Failure::Protocol);
        };
        ids.truncate(max_tokens as usize);
        if ids.is_empty() && !answer.end {
            return Err(Failure::Protocol);
        }
        self.learn(context, &ids, answer.end).map_err(|error| {
            log::error!("{error:#}");
            Failure::Protocol
        })
    }
}

impl Consult for KnownCloud {
    fn consult(&self, request: &Request) -> (std::result::Result<Answer, Failure>, Cost) {
        let mut cost = Cost { prompt_tokens: request.ids.len() as u64, ..Cost::default() };
        let mut context = request.ids.to_vec();
        let (mut left, mut end) = (request.max_tokens, false);
        while left > 0 && !end {
            let Some(next) = self.memory.get::<Next>(&key(&context)) else {
                match self.ask(request, &context, left) {
                    Ok(()) => continue,
                    // A part of a burst is an answer.
                    Err(_) if context.len() > request.ids.len() => break,
                    Err(failure) => return (Err(failure), cost),
                }
            };
            context.extend(next.id);
            end = next.end;
            left -= 1;
        }
        let ids = context.split_off(request.ids.len());
        cost.completion_tokens = ids.len() as u64;
        (Ok(Answer { continuation: Continuation::Ids(ids), end }), cost)
    }

    fn shares_vocabulary(&self, _: &str) -> bool {
        true
    }
}

/// The cloud LLM as a bundle on this machine: no server and no network.
pub struct Teacher {
    tokens: Arc<Tokens>,
    inner: Mutex<(Reader, Sampler)>,
}

impl Teacher {
    pub fn new(model: &Model) -> Result<Teacher> {
        let sampler = Sampler::new(Sampling::default(), 0)?;
        let inner = Mutex::new((Reader::new(&model.slm)?, sampler));
        Ok(Teacher { tokens: model.tokens.clone(), inner })
    }

    /// Its text after `prompt` until it is `done` or ends, and whether it ends. It is the same
    /// whatever the `guess`, and sooner there where that is right.
    pub fn write(
        &self,
        prompt: &[u32],
        guess: &[u32],
        done: impl Fn(&[u32]) -> bool,
    ) -> Result<(Vec<u32>, bool)> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let ends = |ids: &[u32]| ids.last().is_some_and(|&id| self.tokens.is_stop(id));
        let ids = inner.0.write_greedily(prompt, guess, |ids| ends(ids) || done(ids))?;
        let end = ends(&ids);
        Ok((ids, end))
    }

    fn answer(&self, request: &Request) -> Result<Answer> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let (reader, sampler) = &mut *inner;
        let mut context = request.ids.to_vec();
        let mut end = false;
        for _ in 0..request.max_tokens {
            if reader.room(&context) == 0 {
                break;
            }
            let row = reader.after(&context)?;
            let id = sampler.sample(&row.logits, &context)?;
            context.push(id);
            end = self.tokens.is_stop(id);
            if end {
                break;
            }
        }
        let ids = context.split_off(request.ids.len());
        Ok(Answer { continuation: Continuation::Ids(ids), end })
    }
}

impl Consult for Teacher {
    fn consult(&self, request: &Request) -> (std::result::Result<Answer, Failure>, Cost) {
        let answer = self.answer(request).map_err(|error| {
            log::error!("{error:#}");
            Failure::Status
        });
        (answer, Cost::default())
    }

    fn shares_vocabulary(&self, _: &str) -> bool {
        true
    }
}

fn key(context: &[u32]) -> String {
    let bytes: Vec<u8> = context.iter().flat_map(|id| id.to_le_bytes()).collect();
    format!("after {}", sha256(&bytes))
}
