//! A session: one conversation, generated step by step.
//!
//! Read [`step`] first: it is what this library is about. [`proposer`] is the SLM's part of it,
//! [`answer`] the cloud's, [`crate::policy`] the decision between them.
//!
//! The context is the list of tokens that were prompted or handed out. Tokens that the SLM has not
//! consumed yet are *pending*: they are fed in one batch when the next candidate is needed, so a
//! burst from the cloud costs the SLM one batch. Tokens of a burst that were not handed out yet are
//! not part of the context, also where the SLM has read them ahead.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::breaker::Breaker;
use crate::bundle::{GraphKind, RewardInfo};
use crate::cancel::Cancel;
use crate::consult::Consult;
use crate::controller::Controller;
use crate::error::{Error, Result};
use crate::policy::{Mode, Policy};
use crate::reward::{ScoreKind, Scorer};
use crate::sampler::Sampler;
use crate::sealed::Fingerprint;
use crate::slm::SlmState;
use crate::tokens::{ChatTemplate, Message, Tokens, to_text, whole_len};

mod answer;
mod clock;
mod context;
mod corrections;
mod draft;
mod model;
mod options;
mod proposer;
mod state;
mod stats;
mod step;
#[cfg(test)]
mod tests;
mod text;
mod turns;

pub use model::{Model, ModelOptions};
pub use options::SessionOptions;
pub use stats::Stats;
pub use step::{End, Peek, Source, Step};

use clock::Clock;
use context::Context;
use corrections::Corrections;
use draft::Drafter;
use proposer::{Proposer, Score};
use text::TextOut;
use turns::{Reply, Turns};

/// One conversation. Not shared: one thread at a time.
pub struct Session {
    /// See [`crate::bundle::Bundle::fingerprint`].
    model: Fingerprint,
    tokens: Arc<Tokens>,
    chat_template: Option<Arc<ChatTemplate>>,
    cloud: Option<Arc<dyn Consult>>,
    score_kind: Option<ScoreKind>,
    policy: Policy,
    /// Sets the policy's threshold.
    controller: Option<Controller>,
    /// See [`SessionOptions::hand_back`].
    hand_back: bool,
    /// Alternatives, see [`SessionOptions::rescue`].
    rescue: usize,
    consult_deadline: Duration,
    cancel: Cancel,
    clock: Clock,
    context: Context,
    turns: Turns,
    proposer: Proposer,
    corrections: Corrections,
    /// Tokens of the last answer that were not handed out yet, and where it came from.
    queue: VecDeque<u32>,
    queue_source: Source,
    text: TextOut,
    end: End,
    breaker: Breaker,
    stats: Stats,
}

/// What a session is made of: tests put scripts in the place of the SLM, the score and the clock.
struct Parts<'a> {
    model: Fingerprint,
    tokens: Arc<Tokens>,
    chat_template: Option<Arc<ChatTemplate>>,
    slm: Box<dyn SlmState>,
    scorer: Option<Box<dyn Score>>,
    score_kind: Option<ScoreKind>,
    /// The calibration of the score.
    reward: Option<&'a RewardInfo>,
    clock: Clock,
}

impl Session {
    /// `cloud`: `None` for a session that never leaves the device.
    ///
    /// Errors: [`Error::InvalidArgument`] for an option out of its range,
    /// [`Error::Unsupported`] for a rescue without a reward head and for drafts with a plain export, and
    /// those of [`crate::slm::Slm::spawn`], [`Scorer::open`] and [`crate::reward::Threshold::resolve`].
    pub fn new(
        model: Arc<Model>,
        cloud: Option<Arc<dyn Consult>>,
        options: SessionOptions,
    ) -> Result<Session> {
        let slm = model.slm.spawn(options.context)?;
        Session::with_state(model, slm, cloud, options)
    }

    /// The same on an SLM's state of the caller's, which holds no token yet and takes the place of one
    /// with [`SessionOptions::context`] tokens: an evaluation has one that computes no row twice.
    ///
    /// Errors: as [`Session::new`], but for those of [`crate::slm::Slm::spawn`].
    pub fn with_state(
        model: Arc<Model>,
        slm: Box<dyn SlmState>,
        cloud: Option<Arc<dyn Consult>>,
        options: SessionOptions,
    ) -> Result<Session> {
        if options.draft > 0 && model.bundle.manifest().model.graph == GraphKind::Plain {
            return Err(Error::Unsupported(
                "draft: a plain export computes tokens alone and together with other roundings"
                    .into(),
            ));
        }
        let scorer = match options.mode {
            Mode::Hybrid => Some(Scorer::open(&model.bundle, options.score, options.sampler.seed)?),
            Mode::LocalOnly | Mode::CloudFirst => None,
        };
        let score_kind = scorer.as_ref().map(Scorer::kind);
        let reward = model.bundle.manifest().reward.as_ref();
        let parts = Parts {
            model: model.bundle.fingerprint(),
            tokens: model.tokens.clone(),
            chat_template: model.chat_template.clone(),
            slm,
            scorer: scorer.map(|scorer| Box::new(scorer) as Box<dyn Score>),
            score_kind,
            // A bundle is calibrated for its head; that means nothing for another score.
            reward: reward.filter(|_| score_kind == Some(ScoreKind::Head)),
            clock: Clock::real(),
        };
        Session::from_parts(parts, cloud, &options)
    }

    fn from_parts(
        parts: Parts,
        cloud: Option<Arc<dyn Consult>>,
        options: &SessionOptions,
    ) -> Result<Session> {
        let policy = options.policy(parts.reward)?;
        if options.rescue > 0 && parts.score_kind.is_some_and(|kind| kind != ScoreKind::Head) {
            return Err(Error::Unsupported(
                "rescue: only a reward head can find another token better than the most likely one"
                    .into(),
            ));
        }
        let sampler = Sampler::new(options.sampler)?;
        let controller = options.hold.map(|hold| Controller::new(hold, policy.threshold));
        Ok(Session {
            model: parts.model,
            tokens: parts.tokens,
            chat_template: parts.chat_template,
            cloud,
            score_kind: parts.score_kind,
            policy,
            controller,
            hand_back: options.hand_back,
            rescue: options.rescue as usize,
            consult_deadline: options.consult_deadline,
            cancel: Cancel::new(),
            clock: parts.clock,
            context: Context::default(),
            turns: Turns::default(),
            proposer: Proposer::new(
                parts.slm,
                sampler,
                parts.scorer,
                Drafter::new(options.draft as usize),
            ),
            corrections: Corrections::new(
                options.correction_cache as usize,
                options.correction_suffix as usize,
            ),
            queue: VecDeque::new(),
            queue_source: Source::Cloud,
            text: TextOut::new(&options.stop_strings),
            end: End::None,
            breaker: Breaker::default(),
            stats: Stats::default(),
        })
    }

    /// The flag that stops a running call of this session.
    pub fn set_cancel(&mut self, cancel: Cancel) {
        self.cancel = cancel;
    }

    /// Appends text to the context. Raw: the caller has rendered any template; text of control
    /// tokens becomes control tokens. Ends what was being generated: tokens of a burst and text that
    /// were not handed out are dropped.
    ///
    /// Errors, each leaving the session as it was: [`Error::InvalidArgument`] for an empty text or one
    /// over [`crate::tokens::MAX_TEXT_BYTES`], [`Error::ContextFull`], [`Error::Cancelled`].
    pub fn prompt(&mut self, text: &str) -> Result<()> {
        if text.is_empty() {
            return Err(Error::InvalidArgument("the prompt is empty".into()));
        }
        let start = Instant::now();
        let ids = self.tokens.encode_prompt(text, self.context.is_empty())?;
        self.append(&ids)?;
        self.stats.prompt_tokens += ids.len() as u64;
        self.stats.prompt_time += start.elapsed();
        Ok(())
    }

    /// Appends messages, rendered by the bundle's chat template up to where the assistant's answer
    /// begins. A later call continues the chat: what the context has got since the last call,
    /// generated or prompted, is the assistant's message before the new ones.
    ///
    /// Text of control tokens within a message becomes control tokens, as templates are plain text.
    ///
    /// Errors as [`Session::prompt`], [`Error::Unsupported`] for a bundle without a template, and
    /// those of [`ChatTemplate::render`].
    pub fn chat(&mut self, messages: &[Message]) -> Result<()> {
        let template = self.chat_template.clone().ok_or_else(|| {
            Error::Unsupported("chat: this bundle has no chat template; use a raw prompt".into())
        })?;
        let reply = self.reply();
        let text = self.turns.render(&template, &reply, messages)?;
        self.prompt(&text)?;
        self.turns.push(&reply, messages, self.context.len());
        Ok(())
    }

    fn reply(&self) -> Reply {
        let start = self.turns.answer_start().unwrap_or(self.context.len());
        let ids = self.context.since(start);
        let stop = ids.last().filter(|&&id| self.tokens.is_stop(id));
        Reply {
            text: to_text(&self.tokens.bytes_of(ids)),
            stop: stop.map(|&id| to_text(self.tokens.bytes_with_special(id))),
        }
    }

    fn append(&mut self, ids: &[u32]) -> Result<()> {
        self.cancel.check()?;
        self.check_room(ids.len())?;
        let before = self.context.len();
        self.context.extend(ids, &self.tokens);
        if let Err(error) = self.proposer.extend(self.context.ids(), &self.cancel) {
            self.context.truncate(before, &self.tokens);
            return Err(error);
        }
        self.begin_afresh();
        self.text.clear();
        Ok(())
    }

    /// After the context was changed by the caller.
    fn begin_afresh(&mut self) {
        self.queue.clear();
        self.end = End::None;
    }

    fn check_room(&self, needed: usize) -> Result<()> {
        let (used, limit) = (self.context.len(), self.proposer.capacity());
        if needed > limit.saturating_sub(used) {
            return Err(Error::ContextFull { used, needed, limit });
        }
        Ok(())
    }

    /// Text still held back (an unfinished character or stop string) after the last step.
    pub fn flush(&mut self) -> String {
        self.text.flush()
    }

    /// Forgets the last `n` tokens of the context, prompt included, and what is left of a burst.
    /// Generation can go on from there, also after its end.
    ///
    /// Errors: [`Error::InvalidArgument`] when there are fewer than `n`.
    pub fn rewind(&mut self, n: usize) -> Result<()> {
        let len = self.context.len();
        let kept = len.checked_sub(n).ok_or_else(|| {
            Error::InvalidArgument(format!("cannot rewind {n} tokens: the context has {len}"))
        })?;
        if n > 0 {
            self.proposer.truncate(kept)?;
            self.rewind_text(kept);
            self.context.truncate(kept, &self.tokens);
            self.turns.truncate(kept);
        }
        self.begin_afresh();
        Ok(())
    }

    fn rewind_text(&mut self, kept: usize) {
        let dropped = self.context.since(kept);
        let shown: usize = dropped.iter().map(|&id| self.handed_out(id).len()).sum();
        let bytes: usize = dropped.iter().map(|&id| self.tokens.bytes_with_special(id).len()).sum();
        let rest = self.context.bytes();
        let rest = rest.get(..rest.len() - bytes).unwrap_or_default();
        self.text.rewind(shown, rest.get(whole_len(rest)..).unwrap_or_default());
    }

    /// The bytes of a generated token as its step gave them.
    fn handed_out(&self, id: u32) -> &[u8] {
        if self.tokens.is_stop(id) { &[] } else { self.tokens.bytes(id) }
    }

    /// Forgets the context; the statistics, with them the budgets, the breaker, the correction cache and
    /// the sampler's generator go on.
    pub fn reset(&mut self) {
        // Cannot fail: there are as many tokens as are forgotten.
        let forgotten = self.rewind(self.context.len());
        debug_assert!(forgotten.is_ok(), "{forgotten:?}");
        self.text.clear();
    }

    /// Tokens in the context.
    pub fn len(&self) -> usize {
        self.context.len()
    }

    pub fn is_empty(&self) -> bool {
        self.context.is_empty()
    }

    /// Every token of the context, prompt and generated.
    pub fn ids(&self) -> &[u32] {
        self.context.ids()
    }

    /// What [`ScoreKind::Auto`] became; `None` where the mode needs no score.
    pub fn score_kind(&self) -> Option<ScoreKind> {
        self.score_kind
    }

    /// The threshold of the next step, see [`Policy::threshold`].
    pub fn threshold(&self) -> f32 {
        self.policy.threshold
    }

    pub fn stats(&self) -> Stats {
        self.stats
    }

    fn shares_vocabulary(&self) -> bool {
        self.cloud.as_ref().is_some_and(|cloud| cloud.shares_vocabulary())
    }
}
