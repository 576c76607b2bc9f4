//! The cloud LLM's greedy answers, asked once and kept in a folder.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hybrid::bundle::sha256;
use hybrid::cancel::Cancel;
use hybrid::consult::{Answer, Consult, Continuation, Failure, Request};
use hybrid::tokens::Tokens;
use serde::{Deserialize, Serialize};

use super::reader::Reader;
use crate::train::{Stop, replace};

/// Tokens asked for at a time: few enough that little is written past the stop.
const BURST: u32 = 16;
/// Long: the server may have to read a whole prompt on a slow machine.
const DEADLINE: Duration = Duration::from_secs(120);
/// A server that is loading or restarting gets this many tries, with growing pauses.
const TRIES: u32 = 6;

/// Where an answer ends.
pub struct Ending<'a> {
    pub tokens: &'a Tokens,
    pub stop: Stop,
    /// It is cut here, in tokens.
    pub room: usize,
}

impl Ending<'_> {
    pub fn is_reached(&self, ids: &[u32]) -> bool {
        ids.len() >= self.room
            || ids.last().is_some_and(|&id| self.tokens.is_stop(id))
            || self.stop.reached(&self.tokens.bytes_of(ids))
    }

    /// Cuts after the first token at which the end is reached.
    pub fn trim(&self, mut ids: Vec<u32>) -> Vec<u32> {
        let mut text = Vec::new();
        let end = ids.iter().position(|&id| {
            text.extend_from_slice(self.tokens.bytes(id));
            self.tokens.is_stop(id) || self.stop.reached(&text)
        });
        ids.truncate(end.map_or(self.room, |at| (at + 1).min(self.room)));
        ids
    }
}

/// Asks for answers and remembers them.
pub struct Answers<'a> {
    pub cloud: Option<&'a dyn Consult>,
    /// Names the LLM: its answers are kept under this name.
    pub model: &'a str,
    pub tokens: &'a Tokens,
    pub dir: &'a Path,
    /// Such a folder whose answers may be wrong. The LLM on this machine checks them.
    pub guesses: Option<&'a Path>,
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
    /// The greedy answer to a prompt, at least one token: the kept one, the cloud's, or `llm`'s.
    pub fn get(
        &self,
        name: &str,
        prompt: &[u32],
        ending: &Ending,
        llm: Option<&mut Reader>,
    ) -> Result<Vec<u32>> {
        let file = format!("{}.json", self.key(prompt));
        let path = self.dir.join(&file);
        let mut ids = ending.trim(load(&path)?.unwrap_or_default());
        if ending.is_reached(&ids) {
            return Ok(ids);
        }
        match (self.cloud, llm) {
            (Some(cloud), _) => {
                while !ending.is_reached(&ids) {
                    ids = ending.trim(self.extend(cloud, prompt, ids)?);
                }
            }
            (None, Some(llm)) => {
                let guess = self.guesses.map(|dir| load(&dir.join(file))).transpose()?.flatten();
                let guess = guess.unwrap_or_default();
                ids = llm.write_greedily(prompt, &guess, |ids| ending.is_reached(ids))?;
            }
            (None, None) => bail!(
                "the LLM's answer is not in {}: give --cloud-url or --teacher",
                self.dir.display()
            ),
        }
        let kept = Kept { model: self.model.into(), prompt: name.into(), ids };
        replace(&path, &serde_json::to_vec(&kept)?)?;
        Ok(kept.ids)
    }

    fn key(&self, prompt: &[u32]) -> String {
        let mut bytes = self.model.as_bytes().to_vec();
        bytes.push(0);
        bytes.extend(prompt.iter().flat_map(|id| id.to_le_bytes()));
        sha256(&bytes)
    }

    /// Asks for the next tokens.
    fn extend(&self, cloud: &dyn Consult, prompt: &[u32], ids: Vec<u32>) -> Result<Vec<u32>> {
        let context = [prompt, &ids].concat();
        let answer = consult(cloud, &context)?;
        let Continuation::Ids(new) = answer.continuation else {
            bail!("the server answered with text instead of token ids");
        };
        ensure!(!new.is_empty() || answer.end, "the server's answer is empty");
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
