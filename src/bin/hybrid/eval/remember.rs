//! Stand-ins for the two models that compute and ask nothing twice: sessions of one prompt share most
//! of their contexts, whatever gates them. [`Teacher`] is a cloud LLM on this machine.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use hybrid::bundle::sha256;
use hybrid::cancel::Cancel;
use hybrid::consult::{Answer, Consult, Continuation, Cost, Failure, Request};
use hybrid::error::{Error, Result};
use hybrid::sampler::{Sampler, SamplerOptions};
use hybrid::session::Model;
use hybrid::slm::{Output, Rows, SlmState};
use hybrid::tokens::Tokens;
use serde::{Deserialize, Serialize};

use super::memory::Memory;

/// Rows kept at a time take no more than this.
const MAX_ROW_BYTES: usize = 512 << 20;

/// A model that reads contexts: what one has in common with the one before is not read again.
pub struct Reader {
    state: Box<dyn SlmState>,
    /// What the state has consumed.
    fed: Vec<u32>,
}

impl Reader {
    pub fn new(state: Box<dyn SlmState>) -> Reader {
        Reader { state, fed: Vec::new() }
    }

    /// The row after `context`, which must have a token.
    fn row(&mut self, context: &[u32], cancel: &Cancel) -> Result<Output> {
        let same = self.fed.iter().zip(context).take_while(|(a, b)| a == b).count();
        // The last token is always fed: its row is wanted.
        let kept = same.min(context.len().saturating_sub(1));
        self.state.rewind(self.fed.len() - kept)?;
        self.fed.truncate(kept);
        let new = context.get(kept..).unwrap_or_default();
        let row = self.state.feed(new, Rows::Last, cancel)?;
        self.fed.extend_from_slice(new);
        Ok(row)
    }
}

/// The SLM's rows after the contexts of one prompt's sessions.
pub struct SlmRows {
    reader: Reader,
    rows: HashMap<Vec<u32>, Output>,
    bytes: usize,
}

impl SlmRows {
    pub fn new(reader: Reader) -> SlmRows {
        SlmRows { reader, rows: HashMap::new(), bytes: 0 }
    }

    /// Another prompt is next.
    pub fn forget(&mut self) {
        self.rows.clear();
        self.bytes = 0;
    }

    fn row(&mut self, context: &[u32], cancel: &Cancel) -> Result<Output> {
        if let Some(row) = self.rows.get(context) {
            return Ok(row.clone());
        }
        let row = self.reader.row(context, cancel)?;
        let bytes = 4 * (row.logits.len() + row.hidden.len());
        if self.bytes + bytes > MAX_ROW_BYTES {
            self.forget();
        }
        self.bytes += bytes;
        self.rows.insert(context.to_vec(), row.clone());
        Ok(row)
    }
}

/// One session's state on shared rows.
pub struct SharedState {
    rows: Arc<Mutex<SlmRows>>,
    context: Vec<u32>,
    capacity: usize,
}

impl SharedState {
    pub fn new(rows: Arc<Mutex<SlmRows>>) -> SharedState {
        let capacity = rows.lock().unwrap_or_else(PoisonError::into_inner).reader.state.capacity();
        SharedState { rows, context: Vec::new(), capacity }
    }
}

impl SlmState for SharedState {
    fn len(&self) -> usize {
        self.context.len()
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn feed(&mut self, ids: &[u32], wanted: Rows, cancel: &Cancel) -> Result<Output> {
        let mut shared = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let mut context = self.context.clone();
        let mut output = Output::default();
        for (at, &id) in ids.iter().enumerate() {
            context.push(id);
            if wanted == Rows::All || at + 1 == ids.len() {
                let row = shared.row(&context, cancel)?;
                output.logits.extend(row.logits);
                output.hidden.extend(row.hidden);
            }
        }
        self.context = context;
        Ok(output)
    }

    fn rewind(&mut self, n: usize) -> Result<()> {
        let kept = self.context.len().checked_sub(n).ok_or_else(|| {
            Error::InvalidArgument(format!("rewind by {n} tokens of {}", self.context.len()))
        })?;
        self.context.truncate(kept);
        Ok(())
    }
}

/// A cloud LLM whose every token is remembered by its context. Costs are those of a server that bills
/// every context whole; bytes and time are not known.
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
    /// Remembers `ids` as what follows `context`. An end is what follows the last of them, as it would be if they
    /// were asked for one by one.
    pub fn learn(&self, context: &[u32], ids: &[u32], end: bool) -> anyhow::Result<()> {
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

    fn put(&self, context: &[u32], next: Next) -> anyhow::Result<()> {
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

    fn shares_vocabulary(&self) -> bool {
        true
    }
}

/// The cloud LLM as a bundle on this machine: no server and no network.
pub struct Teacher {
    tokens: Arc<Tokens>,
    inner: Mutex<(Reader, Sampler)>,
}

impl Teacher {
    pub fn new(model: &Model, context: usize) -> Result<Teacher> {
        let reader = Reader::new(model.slm.spawn(context.min(model.slm.context_limit()))?);
        let sampler = Sampler::new(SamplerOptions::default())?;
        Ok(Teacher { tokens: model.tokens.clone(), inner: Mutex::new((reader, sampler)) })
    }

    fn answer(&self, request: &Request) -> Result<Answer> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let (reader, sampler) = &mut *inner;
        let mut context = request.ids.to_vec();
        let mut end = false;
        for _ in 0..request.max_tokens {
            if context.len() > reader.state.capacity() {
                break;
            }
            let row = reader.row(&context, request.cancel)?;
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
            log::error!("{error}");
            Failure::Status
        });
        (answer, Cost::default())
    }

    fn shares_vocabulary(&self) -> bool {
        true
    }
}

fn key(context: &[u32]) -> String {
    let bytes: Vec<u8> = context.iter().flat_map(|id| id.to_le_bytes()).collect();
    format!("after {}", sha256(&bytes))
}
