//! One step: plan, act, record.

use std::time::{Duration, Instant};

use super::Session;
use super::answer::{BEYOND_BURST, tokens_of};
use super::plan::{Plan, Remedy};
use super::proposer::Proposal;
use super::token::{End, Source, Step};
use crate::breaker::SharedBreaker;
use crate::consult::{Chat, Consult, Cost, Failure, Request};
use crate::controller::{Controller, Writer};
use crate::error::{Error, Result};
use crate::policy::Reason;

/// What acting on a plan brought.
struct Outcome {
    token: u32,
    /// Further tokens of the same answer.
    burst: Vec<u32>,
    source: Source,
    reason: Reason,
    failure: Option<Failure>,
    /// `None` without a consult.
    consult: Option<Consulted>,
}

#[derive(Default)]
struct Consulted {
    cost: Cost,
    answer_tokens: u64,
}

impl Session {
    /// Generates one token.
    ///
    /// Errors, each leaving the session as it was, so that the step can be taken again:
    /// [`Error::State`] before a prompt and after the end, [`Error::ContextFull`],
    /// [`Error::Cancelled`] (also during a consult: what it cost is in [`Session::usage`]).
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

    /// A consult, if the breaker still lets it through: another session may have begun the probe. A
    /// failed one keeps the candidate. Only a cancelled one is an error.
    fn ask(&mut self, burst: u32, reason: Reason, candidate: u32) -> Result<Outcome> {
        let fallback = |reason| Outcome::alone(candidate, Source::Fallback, reason);
        let Some(cloud) = self.cloud.clone() else {
            return Ok(fallback(Reason::LocalOnly));
        };
        let permit = match cloud.breaker().map(SharedBreaker::admit) {
            Some(None) => return Ok(fallback(Reason::BreakerOpen)),
            permit => permit.flatten(),
        };
        let (tokens, cost) = self.consult_for(&*cloud, burst);
        if let Some(permit) = permit {
            permit.record(tokens.as_ref().map(|_| ()).map_err(|failure| *failure), cost.quiet);
        }
        let answer_tokens = tokens.as_ref().ok().map(Vec::len);
        self.usage.count(&cost, answer_tokens);
        self.control(|controller, now| controller.consulted(now, &cost));
        let outcome = match tokens {
            Ok(tokens) => {
                self.corrections.learn(self.conversation.context.ids(), candidate, &tokens);
                Outcome::of_answer(tokens, candidate, Source::Cloud, reason)
            }
            Err(Failure::Cancelled) => return Err(Error::Cancelled),
            Err(failure) => Outcome { failure: Some(failure), ..fallback(Reason::ConsultFailed) },
        };
        let answer_tokens = answer_tokens.unwrap_or_default() as u64;
        Ok(Outcome { consult: Some(Consulted { cost, answer_tokens }), ..outcome })
    }

    /// At least one token, or why there is none.
    fn consult_for(
        &self,
        cloud: &dyn Consult,
        burst: u32,
    ) -> (std::result::Result<Vec<u32>, Failure>, Cost) {
        let vocabulary = self.tokens.info().fingerprint.as_str();
        let answer = self.reply().text;
        let messages = self.conversation.turns.whole_chat().filter(|_| self.reply_is_plain());
        let (answer, cost) = cloud.consult(&Request {
            ids: self.conversation.context.ids(),
            vocabulary,
            bytes: self.conversation.context.bytes(),
            chat: messages.map(|messages| Chat { messages, answer: &answer }),
            max_tokens: burst,
            deadline: Instant::now() + self.consult().deadline,
            cancel: &self.cancel,
        });
        let shares_vocabulary = cloud.shares_vocabulary(vocabulary);
        let left = self.budget().tokens.map_or(u64::MAX, |all| {
            all.saturating_sub(self.usage.spent().tokens).max(burst.into())
        });
        let most = u64::from(burst + BEYOND_BURST).min(left) as u32;
        let tokens = answer.and_then(|a| {
            tokens_of(a, burst..=most, shares_vocabulary, &self.tokens, &self.cancel)
        });
        (tokens, cost)
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
    fn control(&mut self, next: impl FnOnce(&Controller, Duration) -> Controller) {
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
    fn alone(token: u32, source: Source, reason: Reason) -> Outcome {
        Outcome { token, burst: Vec::new(), source, reason, failure: None, consult: None }
    }

    /// The answer's first token, and the others for the steps to come. `candidate`: where there is
    /// none.
    fn of_answer(mut answer: Vec<u32>, candidate: u32, source: Source, reason: Reason) -> Outcome {
        let burst = answer.split_off(answer.len().min(1));
        let token = answer.first().copied().unwrap_or(candidate);
        Outcome { burst, ..Outcome::alone(token, source, reason) }
    }
}
