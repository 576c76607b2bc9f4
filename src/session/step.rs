//! One step: plan, act, record.

use std::time::Duration;

use super::Session;
use super::plan::{Plan, Remedy};
use super::proposer::Proposal;
use super::token::{End, Source, Step};
use crate::consult::{Cost, Failure};
use crate::controller::{Controller, Writer};
use crate::error::Result;
use crate::policy::Reason;

/// What acting on a plan brought.
pub(super) struct Outcome {
    pub token: u32,
    /// Further tokens of the same answer.
    pub burst: Vec<u32>,
    pub source: Source,
    pub reason: Reason,
    pub failure: Option<Failure>,
    /// `None` without a consult.
    pub consult: Option<Consulted>,
}

#[derive(Default)]
pub(super) struct Consulted {
    pub cost: Cost,
    pub answer_tokens: u64,
}

impl Session {
    /// Generates one token.
    ///
    /// Errors, each leaving the session as it was, so that the step can be taken again:
    /// [`crate::Error::State`] before a prompt and after the end, [`crate::Error::ContextFull`],
    /// [`crate::Error::Cancelled`] (also during a consult: what it cost is in [`Session::usage`]).
    pub fn step(&mut self) -> Result<Step> {
        let plan = self.plan()?;
        let outcome = self.act(&plan)?;
        self.record(plan.proposal, outcome)
    }

    /// Steps until the end, `max_tokens`, or `on_step` returns false. Returns why it ended,
    /// [`End::None`] where it could go on. No tokens, too, are refused before a prompt and after
    /// the end.
    pub fn run(
        &mut self,
        max_tokens: usize,
        on_step: &mut dyn FnMut(&Step) -> bool,
    ) -> Result<End> {
        self.check_begun()?;
        for _ in 0..max_tokens {
            let step = self.step()?;
            if !on_step(&step) || step.end != End::None {
                return Ok(step.end);
            }
        }
        Ok(End::None)
    }

    fn act(&mut self, plan: &Plan) -> Result<Outcome> {
        let (candidate, reason) = (plan.proposal.candidate, plan.reason);
        match plan.remedy {
            Remedy::None => Ok(Outcome::alone(candidate, Source::Local, reason)),
            Remedy::Fallback => Ok(Outcome::alone(candidate, Source::Fallback, reason)),
            Remedy::Burst(token) => {
                Ok(Outcome::alone(token, self.conversation.burst_source, reason))
            }
            Remedy::Correction => {
                // It is there: the plan has seen it.
                let answer = self.corrections.take(self.conversation.context.ids(), candidate);
                let answer = answer.unwrap_or_default();
                Ok(Outcome::of_answer(answer, candidate, Source::Correction, reason))
            }
            Remedy::Consult { burst } => self.ask(burst, reason, candidate),
        }
    }

    fn record(&mut self, proposal: Proposal, outcome: Outcome) -> Result<Step> {
        let token = outcome.token;
        let logprobs = self.proposer.log_probabilities(token, self.top_logprobs);
        self.proposer.accept(token)?;
        self.conversation.context.extend(&[token], &self.tokens);
        self.conversation.burst.pop_front();
        if !outcome.burst.is_empty() {
            self.conversation.burst.extend(&outcome.burst);
            self.conversation.burst_source = outcome.source;
        }
        let bytes = self.handed_out(token).to_vec();
        let text = self.show(token, &bytes);
        let consulted = outcome.consult.is_some();
        let Consulted { cost, answer_tokens } = outcome.consult.unwrap_or_default();
        let times = self.proposer.take_times();
        self.stats.score_time += times.score;
        self.stats.overlap_time += times.overlap;
        let step = Step {
            token,
            bytes,
            text,
            source: outcome.source,
            reason: outcome.reason,
            score: proposal.score.unwrap_or(f32::NAN),
            candidate: proposal.candidate,
            failure: outcome.failure,
            consulted,
            http_status: cost.http_status,
            bytes_sent: cost.bytes_sent,
            bytes_received: cost.bytes_received,
            billed_prompt_tokens: cost.prompt_tokens,
            answer_tokens,
            local_time: times.local,
            cloud_time: cost.elapsed,
            end: self.conversation.end,
            logprobs,
        };
        self.stats.count(&step);
        self.control(|controller, now| controller.wrote(now, writer(step.source)));
        Ok(step)
    }

    /// Lets the controller, if there is one, move the threshold. It rests without a cloud.
    pub(super) fn control(&mut self, next: impl FnOnce(&Controller, Duration) -> Controller) {
        let now = self.now();
        if self.cloud.is_some() {
            self.rules.control(|controller| next(controller, now));
        }
    }

    /// What may be shown once `token` has come; notes the end.
    fn show(&mut self, token: u32, bytes: &[u8]) -> String {
        if self.tokens.is_stop(token) {
            self.conversation.end = End::StopToken;
        }
        let (mut text, stopped) = self.conversation.text.push(bytes);
        if stopped {
            self.conversation.end = End::StopString;
        }
        if self.conversation.end == End::StopToken {
            text += &self.conversation.text.flush();
        }
        if self.conversation.end != End::None {
            self.conversation.burst.clear();
        }
        text
    }
}

fn writer(source: Source) -> Writer {
    match source {
        // A correction costs as little as the SLM's own token.
        Source::Local | Source::Correction => Writer::Slm,
        Source::Cloud => Writer::Cloud,
        Source::Fallback => Writer::Fallback,
    }
}

impl Outcome {
    pub fn alone(token: u32, source: Source, reason: Reason) -> Outcome {
        Outcome { token, burst: Vec::new(), source, reason, failure: None, consult: None }
    }

    /// The answer's first token, and the others for the steps to come. `candidate`: where there is
    /// none.
    pub fn of_answer(
        mut answer: Vec<u32>,
        candidate: u32,
        source: Source,
        reason: Reason,
    ) -> Outcome {
        let burst = answer.split_off(answer.len().min(1));
        let token = answer.first().copied().unwrap_or(candidate);
        Outcome { burst, ..Outcome::alone(token, source, reason) }
    }
}
