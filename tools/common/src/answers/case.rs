//! Sessions of one prompt under any gate, each through the library's own [`Session`].

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hybrid::bundle::{FileRole, sha256};
use hybrid::consult::Consult;
use hybrid::policy::Mode;
use hybrid::reward::{ScoreKind, Threshold};
use hybrid::session::{
    ConsultOptions, CorrectionOptions, Gate, Model, Session, SessionOptions, Step,
};
use serde::{Deserialize, Serialize};

use super::memory::Memory;
use super::remember::{KnownCloud, Teacher};
use super::rows::{SharedState, SlmRows};
use crate::prompts::{Prompt, number_of};
use crate::records::reader::Reader;

/// Long: the server may have to read a whole prompt on a slow machine.
const DEADLINE: Duration = Duration::from_secs(120);

/// Answers that a session may remember as corrections.
const CORRECTIONS: u32 = 1024;

/// Longest answer.
const MAX_TOKENS: usize = 256;
/// Tokens of the cloud LLM's own answer that a server is asked for at a time: few enough that
/// little is written past the stop.
const ANSWER_BURST: u32 = 8;

/// What the sessions of all prompts share.
pub struct Bench {
    model: Arc<Model>,
    cloud: Option<Arc<dyn Consult>>,
    /// The same, where it is on this machine.
    teacher: Option<Arc<Teacher>>,
    rows: Arc<Mutex<SlmRows>>,
    context: usize,
    dir: PathBuf,
    /// Stand for SLM, head and cloud LLM in the names of what is kept.
    slm: String,
    head: String,
    llm: String,
}

/// One prompt and what is known of it.
pub struct Case<'a> {
    bench: &'a Bench,
    pub prompt: &'a Prompt,
    /// The cloud LLM's own text.
    pub answer: String,
    /// The prompt's.
    ids: Vec<u32>,
    room: usize,
    cloud: Arc<KnownCloud>,
    memory: Arc<Memory>,
}

/// How a session is set up: with prompt, SLM, head and cloud LLM all that its outcome depends on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Setting {
    pub mode: Mode,
    pub score: ScoreKind,
    pub threshold: f32,
    pub burst: u32,
    pub extras: Extras,
}

/// What a session may do besides asking.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Extras {
    /// [`ConsultOptions::hand_back`].
    pub hand_back: bool,
    /// [`ConsultOptions::rescue`], of gates by a head.
    pub rescue: u32,
    /// [`CorrectionOptions::suffix`] of corrections that begin empty with every prompt; 0: none.
    pub corrections: u32,
}

impl Setting {
    /// One token a consult.
    pub fn gated(score: ScoreKind, threshold: f32) -> Setting {
        Setting { mode: Mode::Hybrid, score, threshold, burst: 1, extras: Extras::default() }
    }

    /// One of the two models, without a gate.
    pub fn alone(mode: Mode) -> Setting {
        Setting { mode, ..Setting::gated(ScoreKind::Auto, 0.0) }
    }

    fn uses_head(&self) -> bool {
        self.mode == Mode::Hybrid && matches!(self.score, ScoreKind::Head | ScoreKind::Auto)
    }
}

/// The candidate at one position of the cloud LLM's answer.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Position {
    pub score: f32,
    /// It is the cloud LLM's token.
    pub agrees: bool,
}

/// What a session wrote and used.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Without the end by which the text was stopped.
    pub text: String,
    pub tokens: u64,
    pub cloud: u64,
    /// Tokens of the cloud's answers, which are billed also where the SLM is sure of them.
    #[serde(default)]
    pub answer_tokens: u64,
    pub consults: u64,
    /// Prompt tokens billed.
    pub prompt_tokens: u64,
    /// Bytes sent and received, and time of the steps; 0 where answers were remembered.
    pub bytes: u64,
    pub seconds: f64,
}

impl Bench {
    /// `llm` names the cloud LLM, which need not be there where all its answers are in `dir`.
    pub fn new(
        model: Arc<Model>,
        cloud: Option<Arc<dyn Consult>>,
        teacher: Option<Arc<Teacher>>,
        llm: &str,
        dir: PathBuf,
    ) -> Result<Bench> {
        let hash = |role| model.bundle.manifest().files.get(&role).map_or("", |file| &file.sha256);
        let reader = Reader::new(&model.slm)?;
        let context = reader.room(&[]);
        Ok(Bench {
            cloud,
            teacher,
            rows: Arc::new(Mutex::new(SlmRows::new(reader))),
            context,
            dir,
            slm: [FileRole::Graph, FileRole::Weights].map(hash).join(" "),
            head: hash(FileRole::Reward).into(),
            llm: llm.into(),
            model,
        })
    }

    /// Begins with a prompt; the rows of the one before are forgotten.
    pub fn case<'a>(&'a self, prompt: &'a Prompt) -> Result<Case<'a>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).forget();
        let ids = self.model.tokens.encode_prompt(&prompt.text, true)?;
        let room = self.context.saturating_sub(ids.len()).min(MAX_TOKENS);
        ensure!(room > 0, "prompt {}: the SLM's context has no room for an answer", prompt.id);
        let name = sha256(format!("{} {} {}", self.slm, self.llm, prompt.text).as_bytes());
        let memory = Arc::new(Memory::open(&self.dir.join(format!("{name}.jsonl")))?);
        let cloud = Arc::new(KnownCloud { cloud: self.cloud.clone(), memory: memory.clone() });
        let answer = String::new();
        let mut case = Case { bench: self, prompt, answer, ids, room, cloud, memory };
        case.answer = case.write_answer()?;
        Ok(case)
    }

    fn text(&self, prompt: &Prompt, bytes: &[u8]) -> String {
        String::from_utf8_lossy(prompt.stop.cut(bytes)).into_owned()
    }
}

impl Case<'_> {
    /// The cloud LLM's own text. A server is asked for some tokens at a time; on this machine it
    /// checks the SLM's text, as far as that is right, which is quicker than to write one token
    /// after the other.
    fn write_answer(&self) -> Result<String> {
        let alone = Setting::alone(Mode::CloudFirst);
        let tokens = &self.bench.model.tokens;
        let burst = match &self.bench.teacher {
            None => ANSWER_BURST,
            Some(teacher) if self.cloud.known(&self.ids).is_empty() => {
                let guess = self.run(Setting::alone(Mode::LocalOnly))?.text;
                let guess = tokens.encode(&guess, false)?;
                let done = |ids: &[u32]| {
                    ids.len() >= self.room || self.prompt.stop.reached(&tokens.bytes_of(ids))
                };
                let (ids, end) = teacher.write(&self.ids, &guess, done)?;
                self.cloud.learn(&self.ids, &ids, end)?;
                1
            }
            Some(_) => 1,
        };
        self.note(&self.cloud.known(&self.ids));
        Ok(self.run(Setting { burst, ..alone })?.text)
    }

    /// Further sessions may repeat `ids` in part.
    fn note(&self, ids: &[u32]) {
        let mut rows = self.bench.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.note(&[&self.ids, ids].concat());
    }

    /// What `kind` says of the candidates along the cloud LLM's own answer.
    pub fn positions(&self, kind: ScoreKind) -> Result<Vec<Position>> {
        let setting = Setting::gated(kind, f32::INFINITY);
        let key = self.key("positions", setting);
        if let Some(positions) = self.memory.get(&key) {
            return Ok(positions);
        }
        let is_stop = |id| self.bench.model.tokens.is_stop(id);
        let mut positions = Vec::new();
        self.generate(&mut self.session(setting)?, &mut |step| {
            let agrees =
                step.candidate == step.token || (is_stop(step.candidate) && is_stop(step.token));
            positions.push(Position { score: step.score, agrees });
        })?;
        self.memory.put(key, &positions)?;
        Ok(positions)
    }

    /// The session in which the cloud is asked exactly where it disagrees.
    pub fn oracle(&self) -> Result<Outcome> {
        let positions = self.positions(ScoreKind::MaxProbability)?;
        let asked = positions.iter().enumerate().filter(|(_, position)| !position.agrees);
        let contexts = asked.map(|(at, _)| (self.ids.len() + at) as u64);
        let consults = contexts.clone().count() as u64;
        Ok(Outcome {
            text: self.answer.clone(),
            tokens: positions.len() as u64,
            cloud: consults,
            answer_tokens: consults,
            consults,
            prompt_tokens: contexts.sum(),
            ..Outcome::default()
        })
    }

    /// A session with answers out of the memory as far as they are there.
    pub fn run(&self, setting: Setting) -> Result<Outcome> {
        let key = self.key("session", setting);
        if let Some(outcome) = self.memory.get(&key) {
            return Ok(outcome);
        }
        let outcome = self.outcome(self.session(setting)?)?;
        let outcome = Outcome { bytes: 0, seconds: 0.0, ..outcome };
        self.memory.put(key, &outcome)?;
        Ok(outcome)
    }

    /// A session that computes and asks everything.
    pub fn run_live(&self, setting: Setting) -> Result<Outcome> {
        let cloud = self.bench.cloud.clone();
        let cloud = cloud.context("live sessions need a cloud: give --cloud-url")?;
        let options = SessionOptions { context: self.bench.context, ..self.options(setting) };
        self.set(Session::new(self.bench.model.clone(), Some(cloud), options)?, setting)
            .and_then(|session| self.outcome(session))
    }

    /// Scores that are drawn are other ones for every prompt.
    fn options(&self, setting: Setting) -> SessionOptions {
        let drawn = matches!(setting.score, ScoreKind::Random | ScoreKind::Sampled);
        let seed = if drawn { number_of(&self.prompt.id).into() } else { 0 };
        SessionOptions { seed, ..SessionOptions::default() }
    }

    /// A greedy session with this setting.
    fn set(&self, mut session: Session, setting: Setting) -> Result<Session> {
        let Setting { mode, score, threshold, burst, extras } = setting;
        session.set_gate(Gate { mode, score, threshold: Threshold::Value(threshold) })?;
        session.set_consult(ConsultOptions {
            burst,
            deadline: DEADLINE,
            hand_back: extras.hand_back,
            rescue: if setting.uses_head() { extras.rescue } else { 0 },
            ..ConsultOptions::default()
        })?;
        if extras.corrections > 0 {
            let options = CorrectionOptions { capacity: CORRECTIONS, suffix: extras.corrections };
            session.set_corrections(options)?;
        }
        Ok(session)
    }

    /// Names a fact by all that it depends on, besides prompt, SLM and cloud LLM.
    fn key(&self, what: &str, setting: Setting) -> String {
        let Setting { mode, score, threshold, burst, extras } = setting;
        let head = if setting.uses_head() { self.bench.head.as_str() } else { "" };
        let mut key = format!("{what} {mode:?} {score:?} {head} at {threshold} burst {burst}");
        if extras != Extras::default() {
            key += &format!(" {extras:?}");
        }
        key
    }

    fn session(&self, setting: Setting) -> Result<Session> {
        let state = SharedState::new(self.bench.rows.clone());
        let (model, options) = (self.bench.model.clone(), self.options(setting));
        let session =
            Session::with_state(model, Box::new(state), Some(self.cloud.clone()), options)?;
        self.set(session, setting)
    }

    fn outcome(&self, mut session: Session) -> Result<Outcome> {
        let mut bytes = Vec::new();
        self.generate(&mut session, &mut |step| bytes.extend_from_slice(&step.bytes))?;
        self.note(session.tokens().get(self.ids.len()..).unwrap_or_default());
        let (stats, usage) = (session.stats(), session.usage());
        Ok(Outcome {
            text: self.bench.text(self.prompt, &bytes),
            tokens: stats.tokens,
            cloud: stats.cloud,
            answer_tokens: usage.answer_tokens,
            consults: usage.consults,
            prompt_tokens: usage.billed_prompt_tokens,
            bytes: usage.bytes_sent + usage.bytes_received,
            seconds: (stats.local_time + usage.cloud_time).as_secs_f64(),
        })
    }

    /// Steps to where the cloud LLM's answer would end, too.
    fn generate(&self, session: &mut Session, each: &mut dyn FnMut(&Step)) -> Result<()> {
        session.prompt(&self.prompt.text)?;
        let mut text = Vec::new();
        let mut failure = None;
        session.run(self.room, &mut |step| {
            each(step);
            failure = step.failure;
            text.extend_from_slice(&step.bytes);
            failure.is_none() && !self.prompt.stop.reached(&text)
        })?;
        let Some(failure) = failure else { return Ok(()) };
        let why = match self.bench.cloud {
            Some(_) => "the cloud LLM did not answer",
            None => "what the cloud LLM says is not kept yet: give --cloud-url or --teacher",
        };
        Err(failure).with_context(|| format!("prompt {}: {why}", self.prompt.id))
    }
}
