//! The cloud LLM's greedy answers, asked once and kept in a folder.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hybrid::bundle::sha256;
use hybrid::cancel::Cancel;
use hybrid::consult::{Answer, Consult, Continuation, Failure, Request};
use hybrid::sampler::Sampling;
use hybrid::tokens::Tokens;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use hybrid_common::files::replace;
use hybrid_common::prompts::Stop;
use hybrid_common::records::reader::Reader;
use hybrid_common::records::text::Text;

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
}

/// A kept answer.
#[derive(Serialize, Deserialize)]
struct Kept {
    model: String,
    prompt: String,
    /// The tokens, with the stop token where the LLM ended its text.
    ids: Vec<u32>,
}

/// One of a server that exchanges text.
#[derive(Serialize, Deserialize)]
struct KeptText {
    model: String,
    prompt: String,
    #[serde(flatten)]
    text: Text,
}

impl Answers<'_> {
    /// The greedy answer to a prompt, at least one token: the kept one, the cloud's, or that of the
    /// LLM on this machine. It begins with `begun`.
    pub fn get(
        &self,
        name: &str,
        prompt: &[u32],
        begun: &[u32],
        ending: &Ending,
        llm: Option<&mut Reader>,
    ) -> Result<Vec<u32>> {
        let context = [prompt, begun].concat();
        let bytes: Vec<u8> = context.iter().flat_map(|id| id.to_le_bytes()).collect();
        let path = self.dir.join(self.file(&bytes));
        let kept: Option<Kept> = load(&path)?;
        let mut ids = ending.trim(kept.map_or_else(|| begun.to_vec(), |kept| kept.ids));
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
                let done = |new: &[u32]| ending.is_reached(&[begun, new].concat());
                let new = llm.write(&context, (Sampling::default(), 0), done)?;
                ids = [begun, &new].concat();
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

    /// The same where the LLM's vocabulary is not the SLM's: the kept text, or the cloud's. `None`
    /// without either. `prompt` is what is sent.
    pub fn text(&self, name: &str, prompt: &str, ending: &Ending) -> Result<Option<Text>> {
        let path = self.dir.join(self.file(prompt.as_bytes()));
        let kept: Option<KeptText> = load(&path)?;
        let Some(cloud) = self.cloud else { return Ok(kept.map(|kept| kept.text)) };
        let mut text = kept.map(|kept| kept.text).unwrap_or_default();
        let before = text.clone();
        while !text.end && !ending.is_reached(&text.path(ending.tokens)?) {
            extend_text(cloud, prompt, &mut text)?;
        }
        if text != before {
            let kept = KeptText { model: self.model.into(), prompt: name.into(), text };
            replace(&path, &serde_json::to_vec(&kept)?)?;
            text = kept.text;
        }
        Ok(Some(text))
    }

    /// There is a cloud that exchanges token ids.
    pub fn shares_vocabulary(&self) -> bool {
        self.cloud.is_some_and(|cloud| cloud.shares_vocabulary(self.fingerprint()))
    }

    fn fingerprint(&self) -> &str {
        &self.tokens.info().fingerprint
    }

    /// Where the answer to a prompt is kept.
    fn file(&self, prompt: &[u8]) -> String {
        format!("{}.json", sha256(&[self.model.as_bytes(), &[0], prompt].concat()))
    }

    /// Asks for the next tokens.
    fn extend(&self, cloud: &dyn Consult, prompt: &[u32], ids: Vec<u32>) -> Result<Vec<u32>> {
        let context = [prompt, &ids].concat();
        let answer = consult(cloud, (&context, self.fingerprint()), &[])?;
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

/// Asks for the next bytes.
fn extend_text(cloud: &dyn Consult, prompt: &str, text: &mut Text) -> Result<()> {
    let answer = consult(cloud, (&[], ""), [prompt, &text.text].concat().as_bytes())?;
    let Continuation::Bytes(new) = answer.continuation else {
        bail!("the server answered with token ids instead of text");
    };
    ensure!(!new.is_empty() || answer.end, "the server's answer is empty");
    text.text += &String::from_utf8(new).context("the server's answer is no text")?;
    text.end = answer.end;
    Ok(())
}

/// `ids`: with the fingerprint of their vocabulary.
fn consult(cloud: &dyn Consult, ids: (&[u32], &str), bytes: &[u8]) -> Result<Answer> {
    let (ids, vocabulary) = ids;
    let mut pause = Duration::from_millis(500);
    for attempt in 1.. {
        let request = Request {
            ids,
            vocabulary,
            bytes,
            chat: None,
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

fn load<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let read = || -> Result<T> { Ok(serde_json::from_slice(&std::fs::read(path)?)?) };
    if !path.exists() {
        return Ok(None);
    }
    read().map(Some).with_context(|| format!("{}: delete it to ask again", path.display()))
}
