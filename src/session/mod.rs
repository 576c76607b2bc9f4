//! A session: one conversation, generated step by step.
//!
//! Read [`step`] first: it is what this library is about. [`plan`] is what a step is going to do,
//! [`proposer`] and [`reader`] the SLM's part of it, [`ask`] and [`answer`] the cloud's,
//! [`crate::policy`] the decision between them. [`rules`] are the settings that the decision
//! follows, [`setters`] change them.
//!
//! The context is the list of tokens that were prompted or handed out. Tokens that the SLM has not
//! consumed yet are *pending*: they are fed in one batch when the next candidate is needed, so a
//! burst from the cloud costs the SLM one batch. Tokens of a burst that were not handed out yet are
//! not part of the context, also where the SLM has read them ahead.

use std::sync::Arc;

use crate::cancel::Cancel;
use crate::consult::Consult;
use crate::error::{Error, Result};
use crate::reward::ScoreKind;
use crate::sampler::{Sampler, Sampling};
use crate::slm::SlmState;
use crate::tokens::Tokens;

mod answer;
mod ask;
mod base;
mod clock;
mod context;
mod conversation;
mod corrections;
mod draft;
mod model;
mod plan;
mod prompt;
mod proposer;
mod reader;
mod rules;
mod setters;
mod settings;
mod state;
mod stats;
mod step;
#[cfg(test)]
mod tests;
mod text;
mod token;
mod turns;
mod warm;

pub use model::{Model, ModelOptions, Tokenize};
pub use plan::Peek;
pub use settings::{ConsultOptions, CorrectionOptions, Gate, SessionOptions};
pub use stats::{Stats, Usage};
pub use token::{End, Source, Step};

use base::Base;
use clock::Clock;
use conversation::Conversation;
use corrections::Corrections;
use draft::Drafter;
use proposer::Proposer;
use reader::Reader;
use rules::{Rules, Settings};

/// One conversation. Not shared: one thread at a time.
pub struct Session {
    base: Arc<dyn Base>,
    tokens: Arc<Tokens>,
    options: SessionOptions,
    cloud: Option<Arc<dyn Consult>>,
    rules: Rules,
    /// See [`Session::set_top_logprobs`].
    top_logprobs: usize,
    /// See [`Session::set_thinking`].
    thinking: Option<bool>,
    cancel: Cancel,
    clock: Clock,
    conversation: Conversation,
    proposer: Proposer,
    corrections: Corrections,
    stats: Stats,
    usage: Usage,
}

impl Session {
    /// A session with an empty context and the defaults of every setting: hybrid mode, the bundle's
    /// score and threshold, greedy sampling, no budget. `cloud`: `None` for a session that never
    /// leaves the device.
    ///
    /// Errors: [`Error::InvalidArgument`] for an option out of its range, [`Error::Unsupported`]
    /// for drafts with a plain export, and those of [`crate::slm::Slm::spawn`] and
    /// [`crate::reward::Scorer::new`].
    pub fn new(
        model: Arc<Model>,
        cloud: Option<Arc<dyn Consult>>,
        options: SessionOptions,
    ) -> Result<Session> {
        let slm = model.slm.spawn(options.context)?;
        Session::with_state(model, slm, cloud, options)
    }

    /// The same on an SLM's state of the caller's, which holds no token yet and takes the place of
    /// one with [`SessionOptions::context`] tokens: an evaluation has one that computes no row
    /// twice.
    ///
    /// Errors: as [`Session::new`], but for those of [`crate::slm::Slm::spawn`].
    pub fn with_state(
        model: Arc<Model>,
        slm: Box<dyn SlmState>,
        cloud: Option<Arc<dyn Consult>>,
        options: SessionOptions,
    ) -> Result<Session> {
        Session::on(model, slm, cloud, options)
    }

    fn on(
        base: Arc<dyn Base>,
        slm: Box<dyn SlmState>,
        cloud: Option<Arc<dyn Consult>>,
        options: SessionOptions,
    ) -> Result<Session> {
        options.check()?;
        check_reading_ahead(&*base, "draft", options.draft)?;
        let settings = Settings::default();
        let score = base.score_kind(settings.gate.score)?;
        let rules = Rules::new(settings, score, base.reward())?;
        if score != ScoreKind::Head {
            log::info!("the bundle has no reward head: {score} is the score");
        }
        let sampler = Sampler::new(Sampling::default(), options.seed)?;
        let drafter = Drafter::new(options.draft as usize);
        let mut proposer = Proposer::new(Reader::new(slm), sampler, drafter);
        proposer.set_score(Some(base.open_score(score, options.seed)?));
        Ok(Session {
            tokens: base.tokens().clone(),
            cloud,
            rules,
            top_logprobs: 0,
            thinking: None,
            cancel: Cancel::new(),
            clock: base.clock(),
            conversation: Conversation::new(&options.stop_strings),
            proposer,
            corrections: Corrections::default(),
            stats: Stats::default(),
            usage: Usage::default(),
            base,
            options,
        })
    }

    /// Another session that goes on from here: with the same model, cloud client, settings,
    /// conversation and corrections, and the same draws to come. Statistics and usage begin with
    /// the values of this one: what it has spent of a budget is spent for both, and what either
    /// spends from now on counts for itself alone. Has a cancel flag of its own. The two share
    /// nothing that changes, so each may go to a thread of its own.
    ///
    /// Errors: [`Error::Unsupported`] for an SLM's state of the caller's that cannot be copied.
    pub fn fork(&self) -> Result<Session> {
        let score = match self.proposer.has_score() {
            true => Some(self.base.open_score(self.rules.score(), self.options.seed)?),
            false => None,
        };
        Ok(Session {
            base: self.base.clone(),
            tokens: self.tokens.clone(),
            options: self.options.clone(),
            cloud: self.cloud.clone(),
            rules: self.rules,
            top_logprobs: self.top_logprobs,
            thinking: self.thinking,
            cancel: Cancel::new(),
            clock: self.clock.clone(),
            conversation: self.conversation.clone(),
            proposer: self.proposer.fork(score)?,
            corrections: self.corrections.clone(),
            stats: self.stats,
            usage: self.usage,
        })
    }

    /// What [`ScoreKind::Auto`] became; `None` where the mode needs no score.
    pub fn score_kind(&self) -> Option<ScoreKind> {
        self.rules.compares_scores().then(|| self.rules.score())
    }

    /// The threshold of the next step, see [`crate::policy::Policy::threshold`].
    pub fn threshold(&self) -> f32 {
        self.rules.threshold()
    }

    /// What was written so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// What consults have cost so far.
    pub fn usage(&self) -> Usage {
        self.usage
    }
}

/// `tokens`: what the option `name` lets the SLM read ahead at most.
fn check_reading_ahead(base: &dyn Base, name: &str, tokens: u32) -> Result<()> {
    if tokens > 0 && !base.rows_are_exact() {
        return Err(Error::Unsupported(format!(
            "{name}: a plain export computes tokens alone and together with other roundings; set \
             {name} to 0"
        )));
    }
    Ok(())
}
