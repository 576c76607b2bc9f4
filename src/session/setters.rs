//! What can be changed between two steps.
//!
//! A setter does all or nothing: after an error the session is as it was. What it changes takes
//! effect with the next candidate. A candidate that was peeked is forgotten and drawn again, so a
//! peek before a setter changes no text. Tokens of a burst that were not handed out yet stay.

use std::sync::Arc;

use super::rules::{Rules, Settings};
use super::settings::{ConsultOptions, CorrectionOptions, Gate, in_range};
use super::{Session, check_reading_ahead};
use crate::cancel::Cancel;
use crate::consult::Consult;
use crate::error::Result;
use crate::policy::Budget;
use crate::sampler::{LogitBias, Sampling};
use crate::slm::kernels::logits::TOP;

impl Session {
    /// The flag that stops a running call of this session.
    pub fn set_cancel(&mut self, cancel: Cancel) {
        self.cancel = cancel;
    }

    /// Another cloud LLM, or `None`: from now on no byte leaves the device.
    pub fn set_cloud(&mut self, cloud: Option<Arc<dyn Consult>>) {
        self.cloud = cloud;
        self.proposer.forget_candidate();
    }

    pub fn sampling(&self) -> Sampling {
        self.proposer.sampling()
    }

    /// Errors: [`crate::Error::InvalidArgument`] for a number out of its range.
    pub fn set_sampling(&mut self, sampling: Sampling) -> Result<()> {
        self.proposer.set_sampling(sampling)
    }

    pub fn gate(&self) -> Gate {
        self.rules.settings().gate
    }

    /// May open the reward head. Settings that need scores (a share, a guarantee, a held budget,
    /// hand-back, rescue) are kept in every mode, and rest where the mode is not hybrid.
    ///
    /// Errors: [`crate::Error::InvalidArgument`] for a threshold out of its range, and for one that
    /// contradicts a held budget; those of [`crate::reward::Scorer::new`] and
    /// [`crate::reward::Threshold::resolve`]; [`crate::Error::Unsupported`] where rescue is on and
    /// the score is not a reward head's.
    pub fn set_gate(&mut self, gate: Gate) -> Result<()> {
        self.set_rules(Settings { gate, ..self.rules.settings() })
    }

    pub fn consult(&self) -> ConsultOptions {
        self.rules.settings().consult
    }

    /// Errors: [`crate::Error::InvalidArgument`] for a number out of its range,
    /// [`crate::Error::Unsupported`] for a rescue where the score is not a reward head's, and for
    /// overlap with a plain export.
    pub fn set_consult(&mut self, consult: ConsultOptions) -> Result<()> {
        check_reading_ahead(&*self.base, "overlap", consult.overlap)?;
        self.set_rules(Settings { consult, ..self.rules.settings() })
    }

    pub fn budget(&self) -> Budget {
        self.rules.settings().budget
    }

    /// The limits count from the session's birth, see [`Session::usage`]. Another hold begins at
    /// the gate's threshold; the same one goes on.
    ///
    /// Errors: [`crate::Error::InvalidArgument`] for a number out of its range, and for a hold that
    /// contradicts the gate: a guarantee, or a threshold of 0.
    pub fn set_budget(&mut self, budget: Budget) -> Result<()> {
        self.set_rules(Settings { budget, ..self.rules.settings() })
    }

    pub fn corrections(&self) -> CorrectionOptions {
        self.corrections.options()
    }

    /// A smaller capacity forgets what was used longest ago, another suffix forgets everything.
    ///
    /// Errors: [`crate::Error::InvalidArgument`] for a number out of its range.
    pub fn set_corrections(&mut self, options: CorrectionOptions) -> Result<()> {
        options.check()?;
        self.corrections.set_options(options);
        Ok(())
    }

    /// Adds to the logits of some tokens, in place of what was added before; minus infinity: never.
    /// The SLM's candidates and scores follow the sums. The cloud LLM knows nothing of it. No
    /// entries turn it off.
    ///
    /// Errors: [`crate::Error::InvalidArgument`] for an id that is no token or occurs twice, plus
    /// infinity and NaN.
    pub fn set_logit_bias(&mut self, entries: &[(u32, f32)]) -> Result<()> {
        let bias = LogitBias::new(entries, self.tokens.info().usable)?;
        self.proposer.set_bias(bias);
        Ok(())
    }

    /// How many of the most likely tokens each [`super::Step::logprobs`] has besides its own, 0 (no
    /// log-probabilities at all) to 8. Costs one pass over the logits a token.
    ///
    /// Errors: [`crate::Error::InvalidArgument`] for more.
    pub fn set_top_logprobs(&mut self, top: u32) -> Result<()> {
        in_range("top_logprobs", top, 0, TOP as u32)?;
        self.top_logprobs = top as usize;
        Ok(())
    }

    /// The variable `enable_thinking` of the chat template, from the next chat on. `None`: it is
    /// not defined, so the template's default. Templates without the variable ignore it.
    pub fn set_thinking(&mut self, thinking: Option<bool>) {
        self.thinking = thinking;
    }

    fn set_rules(&mut self, settings: Settings) -> Result<()> {
        let score = self.base.score_kind(settings.gate.score)?;
        let rules = self.rules.with(settings, score, self.base.reward())?;
        self.open_score(&rules)?;
        self.rules = rules;
        self.proposer.forget_candidate();
        Ok(())
    }

    /// Opens the score that `rules` need, where it is not open.
    fn open_score(&mut self, rules: &Rules) -> Result<()> {
        let is_open = self.proposer.has_score() && self.rules.score() == rules.score();
        if rules.compares_scores() && !is_open {
            self.proposer.set_score(Some(self.base.open_score(rules.score(), self.options.seed)?));
        } else if self.rules.score() != rules.score() {
            self.proposer.set_score(None);
        }
        Ok(())
    }
}
