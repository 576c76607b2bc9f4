//! The cloud LLM's greedy answers, asked once and kept in the cache folder.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hybrid::bundle::sha256;
use hybrid::cancel::Cancel;
use hybrid::consult::{Answer, Consult, Continuation, Failure, Request};
use hybrid::tokens::Tokens;
use serde::{Deserialize, Serialize};

use super::prompts::Stop;

/// Tokens asked for at a time: few enough that little is written past the stop.
const BURST: u32 = 16;
/// An answer is cut here.
const MAX_TOKENS: usize = 256;
/// Long: the server may have to read a whole prompt on a slow machine.
const DEADLINE: Duration = Duration::from_secs(120);
/// A server that is loading or restarting gets this many tries, with growing pauses.
const TRIES: u32 = 6;

/// Asks for answers and remembers them.
pub struct Answers<'a> {
    /// `None`: every answer must be in the folder already.
    pub cloud: Option<&'a dyn Consult>,
    /// Names the LLM: its answers are kept under this name.
    pub model: &'a str,
    pub tokens: &'a Tokens,
    pub dir: PathBuf,
}

/// A kept answer.
#[derive(Serialize, Deserialize)]
struct Kept {
    model: String,
    prompt: String,
    /// The tokens, with the stop token where the LLM ended its text.
    ids: Vec<u32>,
}

impl Answers<'_> {
    /// The greedy answer to a prompt: at most `room` ids, ending with the token that reaches `stop`, or
    /// with a stop token.
    pub fn get(&self, name: &str, prompt: &[u32], stop: Stop, room: usize) -> Result<Vec<u32>> {
        let room = room.min(MAX_TOKENS);
        let path = self.dir.join(format!("{}.json", self.key(prompt)));
        let kept = load(&path)?;
        let mut ids = self.trim(kept.unwrap_or_default(), stop, room);
        if self.is_done(&ids, stop, room) {
            return Ok(ids);
        }
        while !self.is_done(&ids, stop, room) {
            ids = self.trim(self.extend(name, prompt, ids)?, stop, room);
        }
        let kept = Kept { model: self.model.into(), prompt: name.into(), ids };
        super::replace(&path, &serde_json::to_vec(&kept)?)?;
        Ok(kept.ids)
    }

    fn key(&self, prompt: &[u32]) -> String {
        let mut bytes = self.model.as_bytes().to_vec();
        bytes.push(0);
        bytes.extend(prompt.iter().flat_map(|id| id.to_le_bytes()));
        sha256(&bytes)
    }

    /// Cuts after the first token at which the answer is done.
    fn trim(&self, mut ids: Vec<u32>, stop: Stop, room: usize) -> Vec<u32> {
        let mut text = Vec::new();
        let end = ids.iter().position(|&id| {
            text.extend_from_slice(self.tokens.bytes(id));
            self.tokens.is_stop(id) || stop.reached(&text)
        });
        ids.truncate(end.map_or(room, |at| (at + 1).min(room)));
        ids
    }

    fn is_done(&self, ids: &[u32], stop: Stop, room: usize) -> bool {
        ids.len() >= room
            || ids.last().is_some_and(|&id| self.tokens.is_stop(id))
            || stop.reached(&self.tokens.bytes_of(ids))
    }

    /// Asks for the next tokens.
    fn extend(&self, name: &str, prompt: &[u32], ids: Vec<u32>) -> Result<Vec<u32>> {
        let cloud = self.cloud.with_context(|| {
            format!("the answer to prompt {name} is not in the cache folder: give --cloud-url")
        })?;
        let context = [prompt, &ids].concat();
        let answer = consult(cloud, &context).with_context(|| format!("prompt {name}"))?;
        let Continuation::Ids(new) = answer.continuation else {
            bail!("prompt {name}: the server answered with text instead of token ids");
        };
        ensure!(!new.is_empty() || answer.end, "prompt {name}: the server's answer is empty");
        let ends = answer.end && !new.last().is_some_and(|&id| self.tokens.is_stop(id));
        let mut ids = [ids, new].concat();
        if ends {
            ids.push(self.tokens.stop());
        }
        Ok(ids)
    }
}

fn consult(cloud: &dyn Consult, ids: &[u32]) -> Result<Answer> {
    let mut pause = Duration::from_millis(500);
    for attempt in 1.. {
        let request = Request {
            ids,
            bytes: &[],
            max_tokens: BURST,
            deadline: Instant::now() + DEADLINE,
            cancel: &Cancel::new(),
        };
        match cloud.consult(&request).0 {
            Ok(answer) => return Ok(answer),
            Err(Failure::Busy | Failure::Connect | Failure::Timeout) if attempt < TRIES => {
                std::thread::sleep(pause);
                pause *= 2;
            }
            Err(failure) => bail!("the cloud LLM did not answer: {failure}"),
        }
    }
    unreachable!("the loop ends by returning")
}

fn load(path: &Path) -> Result<Option<Vec<u32>>> {
    let read = || -> Result<Vec<u32>> {
        let kept: Kept = serde_json::from_slice(&std::fs::read(path)?)?;
        Ok(kept.ids)
    };
    if !path.exists() {
        return Ok(None);
    }
    read().map(Some).with_context(|| format!("{}: delete it to ask again", path.display()))
}
