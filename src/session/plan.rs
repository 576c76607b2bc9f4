//! What the next step is going to do: compute and decide, without acting.

use std::time::Duration;

use super::Session;
use super::proposer::Proposal;
use super::token::End;
use crate::error::{Error, Result};
use crate::policy::{Decision, Reason, Situation, Spent, decide, obstacle};

/// What [`Session::peek`] says of the next step, without taking it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peek {
    pub candidate: u32,
    /// NaN where none was computed.
    pub score: f32,
    pub would_consult: bool,
    pub reason: Reason,
}

/// What the next step does: [`Session::peek`] tells it, [`Session::step`] carries it out.
pub(super) struct Plan {
    pub proposal: Proposal,
    pub remedy: Remedy,
    pub reason: Reason,
}

/// What takes the candidate's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Nothing: the candidate is kept. It may be an alternative to the SLM's own choice.
    None,
    /// The candidate is weak, but nothing may help.
    Fallback,
    /// The next token of a burst.
    Burst(u32),
    /// The cloud LLM's earlier answer in this place.
    Correction,
    /// The cloud LLM, asked for at most so many tokens.
    Consult { burst: u32 },
}

impl Plan {
    fn new(proposal: Proposal, decision: Decision) -> Plan {
        let (remedy, reason) = match decision {
            Decision::Keep(reason) => (Remedy::None, reason),
            Decision::Fallback(reason) => (Remedy::Fallback, reason),
            Decision::Correction => (Remedy::Correction, Reason::Correction),
            Decision::Consult { burst, reason } => (Remedy::Consult { burst }, reason),
        };
        Plan { proposal, remedy, reason }
    }
}

impl Session {
    /// Proposes, scores and decides, without acting; the next step reuses the work. Errors as
    /// [`Session::step`].
    pub fn peek(&mut self) -> Result<Peek> {
        let Plan { proposal, remedy, reason } = self.plan()?;
        Ok(Peek {
            candidate: proposal.candidate,
            score: proposal.score.unwrap_or(f32::NAN),
            would_consult: matches!(remedy, Remedy::Consult { .. }),
            reason,
        })
    }

    pub(super) fn plan(&mut self) -> Result<Plan> {
        self.check_ready()?;
        if let Some(&token) = self.conversation.burst.front() {
            return self.plan_in_burst(token);
        }
        let (context, cancel) = (self.conversation.context.ids(), &self.cancel);
        let scored = self.rules.compares_scores();
        let proposal = self.proposer.propose(context, scored, cancel)?;
        let plan = Plan::new(proposal, self.decide(&proposal));
        let rescue = self.rules.rescue();
        if rescue == 0 || !matches!(plan.remedy, Remedy::Consult { .. }) {
            return Ok(plan);
        }
        // Alternatives of the SLM are tried before the cloud is paid.
        let threshold = self.rules.threshold();
        let proposal = self.proposer.rescue(context, rescue, threshold, cancel)?;
        Ok(Plan::new(proposal, self.decide(&proposal)))
    }

    /// `token` is the next one of a burst. It is handed back to the SLM if it is the candidate, and
    /// the candidate is not weak.
    fn plan_in_burst(&mut self, token: u32) -> Result<Plan> {
        let of_burst =
            |proposal| Plan { proposal, remedy: Remedy::Burst(token), reason: Reason::Burst };
        if !self.rules.hands_back() {
            return Ok(of_burst(Proposal { candidate: token, score: None, rescued: false }));
        }
        let following = self.conversation.burst.make_contiguous();
        let context = self.conversation.context.ids();
        let proposal = self.proposer.compare(context, following, &self.cancel)?;
        match self.decide(&proposal) {
            decision @ Decision::Keep(Reason::Confident) if proposal.candidate == token => {
                Ok(Plan::new(proposal, decision))
            }
            _ => Ok(of_burst(proposal)),
        }
    }

    fn check_ready(&self) -> Result<()> {
        self.check_begun()?;
        self.check_room(1)
    }

    /// Whether there is something to continue.
    pub(super) fn check_begun(&self) -> Result<()> {
        self.cancel.check()?;
        if self.conversation.end != End::None {
            return Err(Error::State(
                "the generation has ended; prompt, rewind or reset the session".into(),
            ));
        }
        if self.is_empty() {
            return Err(Error::State("there is no context yet; give a prompt first".into()));
        }
        Ok(())
    }

    fn decide(&self, proposal: &Proposal) -> Decision {
        decide(&self.rules.policy(), &Now { session: self, proposal })
    }

    /// Why the cloud may not be asked about the context, whatever the candidate.
    pub(super) fn obstacle(&self) -> Option<Reason> {
        let proposal = &Proposal { candidate: 0, score: None, rescued: false };
        obstacle(&self.budget(), &Now { session: self, proposal })
    }

    pub(super) fn now(&self) -> Duration {
        (self.clock.elapsed)()
    }
}

/// The session in front of a candidate.
struct Now<'a> {
    session: &'a Session,
    proposal: &'a Proposal,
}

impl Situation for Now<'_> {
    fn has_cloud(&self) -> bool {
        self.session.cloud.is_some()
    }

    fn score(&self) -> Option<f32> {
        self.proposal.score
    }

    fn is_rescued(&self) -> bool {
        self.proposal.rescued
    }

    fn has_correction(&self) -> bool {
        let context = self.session.conversation.context.ids();
        self.session.corrections.has(context, self.proposal.candidate)
    }

    fn clock_is_set(&self) -> bool {
        (self.session.clock.is_set)()
    }

    fn spent(&self) -> Spent {
        self.session.usage.spent()
    }

    fn hour_is_spent(&self) -> bool {
        self.session.rules.hour_spent(self.session.now())
    }

    fn is_at_boundary(&self) -> bool {
        let fingerprint = &self.session.tokens.info().fingerprint;
        let cloud = self.session.cloud.as_deref();
        cloud.is_some_and(|cloud| cloud.shares_vocabulary(fingerprint))
            || self.session.conversation.context.is_text()
    }

    fn breaker_is_open(&self) -> bool {
        let breaker = self.session.cloud.as_deref().and_then(|cloud| cloud.breaker());
        breaker.is_some_and(|breaker| breaker.is_open())
    }
}
