//! Compute: the SLM's part of a step. Keeps the SLM's state and what is known of the next token.

use std::time::{Duration, Instant};

use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::reward::{Features, Scorer};
use crate::sampler::{Sampler, logit_stats};
use crate::slm::{Output, Rows, SlmState};

/// A score as the session needs it; tests put a script in its place.
pub(super) trait Score: Send {
    /// See [`Scorer::needs_after`].
    fn needs_after(&self) -> bool;
    fn score(&mut self, features: &Features) -> Result<f32>;
}

impl Score for Scorer {
    fn needs_after(&self) -> bool {
        Scorer::needs_after(self)
    }

    fn score(&mut self, features: &Features) -> Result<f32> {
        Scorer::score(self, features)
    }
}

/// Proposes candidates. What is known of the next token is kept until the context changes, so that
/// nothing is computed or drawn twice after a peek or a cancelled call.
pub(super) struct Proposer {
    slm: Box<dyn SlmState>,
    sampler: Sampler,
    /// `None` where the mode needs no score.
    scorer: Option<Box<dyn Score>>,
    /// The row of the context's last token, once the SLM has consumed it.
    output: Option<Output>,
    candidate: Option<u32>,
    score: Option<f32>,
    /// The row of the candidate: the SLM has consumed it, one token more than the context has.
    after: Option<Output>,
    times: Times,
}

/// Spent since they were last taken.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Times {
    pub local: Duration,
    /// Part of `local`.
    pub score: Duration,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Proposal {
    pub candidate: u32,
    pub score: Option<f32>,
}

impl Proposer {
    pub fn new(
        slm: Box<dyn SlmState>,
        sampler: Sampler,
        scorer: Option<Box<dyn Score>>,
    ) -> Proposer {
        let times = Times::default();
        Proposer {
            slm,
            sampler,
            scorer,
            output: None,
            candidate: None,
            score: None,
            after: None,
            times,
        }
    }

    pub fn capacity(&self) -> usize {
        self.slm.capacity()
    }

    /// The time spent since the last call.
    pub fn take_times(&mut self) -> Times {
        std::mem::take(&mut self.times)
    }

    /// The candidate after `context` and its score. On an error what was found out is kept.
    pub fn propose(&mut self, context: &[u32], cancel: &Cancel) -> Result<Proposal> {
        let start = Instant::now();
        let proposal = self.find_proposal(context, cancel);
        self.times.local += start.elapsed();
        proposal
    }

    fn find_proposal(&mut self, context: &[u32], cancel: &Cancel) -> Result<Proposal> {
        let candidate = match self.candidate {
            Some(candidate) => candidate,
            None => {
                self.consume(context, cancel)?;
                let logits = &self.output.as_ref().ok_or_else(no_row)?.logits;
                *self.candidate.insert(self.sampler.sample(logits, context)?)
            }
        };
        if self.score.is_none() && self.scorer.is_some() {
            self.score = Some(self.find_score(candidate, cancel)?);
        }
        Ok(Proposal { candidate, score: self.score })
    }

    fn find_score(&mut self, candidate: u32, cancel: &Cancel) -> Result<f32> {
        let (Some(scorer), Some(output)) = (&mut self.scorer, &self.output) else {
            return Err(no_row());
        };
        if scorer.needs_after() && self.after.is_none() {
            self.after = Some(self.slm.feed(&[candidate], Rows::Last, cancel)?);
        }
        let start = Instant::now();
        let score = scorer.score(&Features {
            hidden: &output.hidden,
            hidden_after: self.after.as_ref().map(|after| after.hidden.as_slice()),
            stats: &logit_stats(&output.logits, candidate),
            candidate,
        });
        self.times.score += start.elapsed();
        score
    }

    /// `token` follows the context. What the SLM did for it is kept if it is the candidate.
    pub fn accept(&mut self, token: u32) -> Result<()> {
        if self.after.is_some() && self.candidate != Some(token) {
            self.slm.rewind(1)?;
            self.after = None;
        }
        self.output = self.after.take();
        self.forget_proposal();
        Ok(())
    }

    /// Lets the SLM consume `context`, which is what it was, longer by a prompt.
    pub fn extend(&mut self, context: &[u32], cancel: &Cancel) -> Result<()> {
        if self.after.is_some() {
            self.slm.rewind(1)?;
            self.after = None;
        }
        self.consume(context, cancel)?;
        self.forget_proposal();
        Ok(())
    }

    /// The context has been cut to `len` tokens, fewer than it had.
    pub fn truncate(&mut self, len: usize) -> Result<()> {
        // The row of the last token is not known any more: the SLM will consume that one again.
        let kept = len.saturating_sub(1);
        self.slm.rewind(self.slm.len().saturating_sub(kept))?;
        self.after = None;
        self.output = None;
        self.forget_proposal();
        Ok(())
    }

    fn forget_proposal(&mut self) {
        self.candidate = None;
        self.score = None;
    }

    /// All tokens the SLM has not seen yet, in one batch. All or nothing.
    fn consume(&mut self, context: &[u32], cancel: &Cancel) -> Result<()> {
        let pending = context.get(self.slm.len()..).ok_or_else(no_row)?;
        if !pending.is_empty() {
            self.output = Some(self.slm.feed(pending, Rows::Last, cancel)?);
        }
        Ok(())
    }
}

fn no_row() -> Error {
    Error::State("the SLM's state does not fit the context; reset the session".into())
}
