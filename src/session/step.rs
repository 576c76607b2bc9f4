//! One step: compute, decide, act, record.

use std::time::{Duration, Instant};

use super::answer::tokens_of;
use super::proposer::Proposal;
use super::{Clock, Session};
use crate::consult::{Cost, Failure, Request};
use crate::controller::{Controller, Writer};
use crate::error::{Error, Result};
use crate::policy::{Decision, Reason, Situation, decide};

/// Where a token came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Source {
    Local = 0,
    Cloud = 1,
    /// The cloud, in an earlier consult in the same place: see [`SessionOptions::correction_cache`].
    ///
    /// [`SessionOptions::correction_cache`]: super::SessionOptions::correction_cache
    Cached = 2,
    /// The SLM's candidate, kept because the cloud could not be asked or did not answer.
    Fallback = 3,
}

/// Why generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum End {
    /// It goes on.
    None = 0,
    StopToken = 1,
    StopString = 2,
}

/// One step.
#[derive(Debug, Clone)]
pub struct Step {
    pub token: u32,
    /// The token's exact bytes; empty for control and stop tokens.
    pub bytes: Vec<u8>,
    /// What may be shown now: whole UTF-8 characters, held back while a stop string may be forming.
    /// A stop token releases all that was held back.
    pub text: String,
    pub source: Source,
    pub reason: Reason,
    /// Score of the SLM's candidate; NaN where none was computed.
    pub score: f32,
    /// The SLM's candidate (the alternative, where one was taken), equal to `token` unless the cloud wrote
    /// it. A further token of a burst
    /// that is not handed back has none: there it is `token`.
    pub candidate: u32,
    /// Why the consult of this step brought nothing.
    pub failure: Option<Failure>,
    /// A consult was made in this step.
    pub consulted: bool,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    pub prompt_tokens: u64,
    /// The SLM's and the reward head's work for this step.
    pub local_time: Duration,
    pub cloud_time: Duration,
    pub end: End,
}

/// What [`Session::peek`] says of the next step, without taking it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peek {
    pub candidate: u32,
    /// NaN where none was computed.
    pub score: f32,
    pub would_consult: bool,
    pub reason: Reason,
}

/// What acting on a decision brought.
struct Outcome {
    token: u32,
    /// Further tokens of the same answer.
    burst: Vec<u32>,
    source: Source,
    reason: Reason,
    failure: Option<Failure>,
    /// `None` without a consult.
    cost: Option<Cost>,
}

impl Session {
    /// Generates one token.
    ///
    /// Errors, each leaving the session as it was, so that the step can be taken again:
    /// [`Error::State`] before a prompt and after the end, [`Error::ContextFull`],
    /// [`Error::Cancelled`] (also during a consult: what it cost is in the statistics).
    pub fn step(&mut self) -> Result<Step> {
        self.check_ready()?;
        if let Some(&token) = self.queue.front() {
            let (proposal, handed_back) = self.compute_in_burst(token)?;
            let outcome = match handed_back {
                true => Outcome::alone(token, Source::Local, Reason::Confident),
                false => Outcome::alone(token, self.queue_source, Reason::Burst),
            };
            return self.record(proposal, outcome);
        }
        let (proposal, decision) = self.compute()?;
        let outcome = self.act(decision, &proposal)?;
        self.record(proposal, outcome)
    }

    /// Proposes, scores and decides, without acting; the next step reuses the work. Errors as
    /// [`Session::step`].
    pub fn peek(&mut self) -> Result<Peek> {
        self.check_ready()?;
        let (proposal, would_consult, reason) = match self.queue.front() {
            Some(&token) => {
                let (proposal, handed_back) = self.compute_in_burst(token)?;
                (proposal, false, if handed_back { Reason::Confident } else { Reason::Burst })
            }
            None => {
                let (proposal, decision) = self.compute()?;
                match decision {
                    Decision::Keep(reason) | Decision::Fallback(reason) => {
                        (proposal, false, reason)
                    }
                    Decision::Correct => (proposal, false, Reason::Corrected),
                    Decision::Consult { reason, .. } => (proposal, true, reason),
                }
            }
        };
        let score = proposal.score.unwrap_or(f32::NAN);
        Ok(Peek { candidate: proposal.candidate, score, would_consult, reason })
    }

    /// Steps until the end, `max_tokens`, or `on_step` returns false. Returns why it ended,
    /// [`End::None`] where it could go on.
    pub fn run(
        &mut self,
        max_tokens: usize,
        on_step: &mut dyn FnMut(&Step) -> bool,
    ) -> Result<End> {
        for _ in 0..max_tokens {
            let step = self.step()?;
            if !on_step(&step) || step.end != End::None {
                return Ok(step.end);
            }
        }
        Ok(End::None)
    }

    fn check_ready(&self) -> Result<()> {
        self.cancel.check()?;
        if self.end != End::None {
            return Err(Error::State(
                "the generation has ended; prompt, rewind or reset the session".into(),
            ));
        }
        if self.context.is_empty() {
            return Err(Error::State("there is no context yet; give a prompt first".into()));
        }
        self.check_room(1)
    }

    /// The proposal, and what to do with it. Alternatives are tried before the cloud is paid.
    fn compute(&mut self) -> Result<(Proposal, Decision)> {
        let (context, cancel) = (self.context.ids(), &self.cancel);
        let proposal = self.proposer.propose(context, cancel)?;
        let decision = self.decide(&proposal);
        if self.rescue == 0 || !matches!(decision, Decision::Consult { .. }) {
            return Ok((proposal, decision));
        }
        let (rescue, threshold) = (self.rescue, self.policy.threshold);
        let (context, cancel) = (self.context.ids(), &self.cancel);
        let proposal = self.proposer.rescue(rescue, threshold, context, cancel)?;
        Ok((proposal, self.decide(&proposal)))
    }

    /// The proposal where `token` is the next one of a burst, and whether it is handed back to the SLM: it is
    /// the candidate, and would be kept.
    fn compute_in_burst(&mut self, token: u32) -> Result<(Proposal, bool)> {
        if !self.hand_back {
            return Ok((Proposal { candidate: token, score: None, rescued: false }, false));
        }
        let following = self.queue.make_contiguous();
        let proposal = self.proposer.compare(self.context.ids(), following, &self.cancel)?;
        let kept = matches!(self.decide(&proposal), Decision::Keep(_));
        Ok((proposal, proposal.candidate == token && kept))
    }

    fn decide(&self, proposal: &Proposal) -> Decision {
        let now = (self.clock.elapsed)();
        let situation = Situation {
            score: proposal.score,
            rescued: proposal.rescued,
            spent: self.stats.spent(),
            breaker: self.breaker.state(),
            now,
            hour_spent: self.controller.is_some_and(|controller| controller.is_spent(now)),
            corrected: self.corrections.knows(self.context.ids(), proposal.candidate),
            cloud: self.cloud.is_some(),
            clock_set: (self.clock.is_set)(),
            safe_boundary: self.shares_vocabulary() || self.context.is_text(),
        };
        decide(&self.policy, &situation)
    }

    fn act(&mut self, decision: Decision, proposal: &Proposal) -> Result<Outcome> {
        match decision {
            Decision::Keep(reason) => Ok(Outcome::alone(proposal.candidate, Source::Local, reason)),
            Decision::Fallback(reason) => {
                Ok(Outcome::alone(proposal.candidate, Source::Fallback, reason))
            }
            Decision::Correct => Ok(self.correct(proposal.candidate)),
            Decision::Consult { burst, reason } => self.consult(burst, reason, proposal.candidate),
        }
    }

    /// The answer is there: the decision has seen it.
    fn correct(&mut self, candidate: u32) -> Outcome {
        let answer = self.corrections.take(self.context.ids(), candidate);
        let answer = answer.unwrap_or_else(|| vec![candidate]);
        Outcome::of_answer(answer, candidate, Source::Cached, Reason::Corrected)
    }

    /// A failed consult keeps the candidate. Only a cancelled one is an error.
    fn consult(&mut self, burst: u32, reason: Reason, candidate: u32) -> Result<Outcome> {
        let (tokens, cost) = self.ask(burst);
        self.stats.count_consult(&cost, tokens.is_err());
        self.control(|controller, now| controller.consulted(now, &cost));
        let outcome = match tokens {
            Ok(tokens) => {
                self.breaker.success();
                self.stats.answer_tokens += tokens.len() as u64;
                self.corrections.learn(self.context.ids(), candidate, &tokens);
                Outcome::of_answer(tokens, candidate, Source::Cloud, reason)
            }
            Err(Failure::Cancelled) => return Err(Error::Cancelled),
            Err(failure) => {
                let Clock { elapsed, jitter, .. } = &mut self.clock;
                self.breaker.failure(failure, elapsed(), jitter());
                let kept = Outcome::alone(candidate, Source::Fallback, Reason::ConsultFailed);
                Outcome { failure: Some(failure), ..kept }
            }
        };
        Ok(Outcome { cost: Some(cost), ..outcome })
    }

    /// At least one token, or why there is none.
    fn ask(&self, burst: u32) -> (std::result::Result<Vec<u32>, Failure>, Cost) {
        let Some(cloud) = &self.cloud else {
            return (Err(Failure::Connect), Cost::default());
        };
        let (answer, cost) = cloud.consult(&Request {
            ids: self.context.ids(),
            bytes: self.context.bytes(),
            max_tokens: burst,
            deadline: Instant::now() + self.consult_deadline,
            cancel: &self.cancel,
        });
        let shares_vocabulary = cloud.shares_vocabulary();
        let tokens = answer.and_then(|a| tokens_of(a, burst, shares_vocabulary, &self.tokens));
        (tokens, cost)
    }

    fn record(&mut self, proposal: Proposal, outcome: Outcome) -> Result<Step> {
        let token = outcome.token;
        self.proposer.accept(token)?;
        self.context.extend(&[token], &self.tokens);
        self.queue.pop_front();
        if !outcome.burst.is_empty() {
            self.queue.extend(&outcome.burst);
            self.queue_source = outcome.source;
        }
        let bytes = self.handed_out(token).to_vec();
        let text = self.show(token, &bytes);
        let cost = outcome.cost.unwrap_or_default();
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
            consulted: outcome.cost.is_some(),
            bytes_sent: cost.bytes_sent,
            bytes_received: cost.bytes_received,
            prompt_tokens: cost.prompt_tokens,
            local_time: times.local,
            cloud_time: cost.elapsed,
            end: self.end,
        };
        self.stats.count_step(&step);
        self.control(|controller, now| controller.wrote(now, writer(step.source)));
        Ok(step)
    }

    /// Lets the controller, if there is one, set the threshold.
    fn control(&mut self, next: impl FnOnce(&Controller, Duration) -> Controller) {
        if let Some(controller) = &mut self.controller {
            *controller = next(controller, (self.clock.elapsed)());
            self.policy.threshold = controller.threshold();
        }
    }

    /// What may be shown once `token` has come; notes the end.
    fn show(&mut self, token: u32, bytes: &[u8]) -> String {
        if self.tokens.is_stop(token) {
            self.end = End::StopToken;
        }
        let (mut text, stopped) = self.text.push(bytes);
        if stopped {
            self.end = End::StopString;
        }
        if self.end == End::StopToken {
            text += &self.text.flush();
        }
        if self.end != End::None {
            self.queue.clear();
        }
        text
    }
}

fn writer(source: Source) -> Writer {
    match source {
        // A known answer costs as little as the SLM's own token.
        Source::Local | Source::Cached => Writer::Slm,
        Source::Cloud => Writer::Cloud,
        Source::Fallback => Writer::Fallback,
    }
}

impl Outcome {
    fn alone(token: u32, source: Source, reason: Reason) -> Outcome {
        Outcome { token, burst: Vec::new(), source, reason, failure: None, cost: None }
    }

    /// The answer's first token, and the others for the steps to come. `candidate`: where there is none.
    fn of_answer(mut answer: Vec<u32>, candidate: u32, source: Source, reason: Reason) -> Outcome {
        let burst = answer.split_off(answer.len().min(1));
        let token = answer.first().copied().unwrap_or(candidate);
        Outcome { burst, ..Outcome::alone(token, source, reason) }
    }
}
