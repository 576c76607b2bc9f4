//! A consult as a step makes it: the cloud is asked, and the answer becomes tokens. With *overlap*
//! the SLM reads on meanwhile.
//!
//! Most weak candidates are the cloud LLM's token too. So while the network has its time, the SLM
//! consumes its candidate and what it would write after it. If the answer is the candidate, or none
//! comes, the next steps find these rows there and take no time. If the answer is another token,
//! the SLM stops at once and its cache is rewound. The step returns with the answer either way: no
//! token is handed out before it stands, and no second consult begins.

use std::sync::OnceLock;
use std::time::Instant;

use super::Session;
use super::answer::{BEYOND_BURST, tokens_of};
use super::step::{Consulted, Outcome};
use super::token::Source;
use crate::breaker::SharedBreaker;
use crate::consult::{Chat, Consult, Cost, Failure, Request};
use crate::error::{Error, Result};
use crate::policy::Reason;
use crate::slm::kernels::threads;

/// What a TLS handshake and a long answer need, with room to spare.
pub(super) const CONSULT_STACK: usize = 1 << 20;

/// At least one token, or why there is none.
type Tokens = std::result::Result<Vec<u32>, Failure>;

impl Session {
    /// A consult, if the breaker still lets it through: another session may have begun the probe. A
    /// failed one keeps the candidate. Only a cancelled one is an error.
    pub(super) fn ask(&mut self, burst: u32, reason: Reason, candidate: u32) -> Result<Outcome> {
        let fallback = |reason| Outcome::alone(candidate, Source::Fallback, reason);
        let Some(cloud) = self.cloud.clone() else {
            return Ok(fallback(Reason::LocalOnly));
        };
        let permit = match cloud.breaker().map(SharedBreaker::admit) {
            Some(None) => return Ok(fallback(Reason::BreakerOpen)),
            permit => permit.flatten(),
        };
        let (tokens, cost) = self.consult_for(&*cloud, burst, candidate);
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

    fn consult_for(&mut self, cloud: &dyn Consult, burst: u32, candidate: u32) -> (Tokens, Cost) {
        let overlap = self.consult().overlap as usize;
        let deadline = Instant::now() + self.consult().deadline;
        let left = self.budget().tokens.map_or(u64::MAX, |all| {
            all.saturating_sub(self.usage.spent().tokens).max(burst.into())
        });
        let most = u64::from(burst + BEYOND_BURST).min(left) as u32;
        let answer = self.reply().text;
        let messages = self.conversation.turns.whole_chat().filter(|_| self.reply_is_plain());
        let vocabulary = self.tokens.info().fingerprint.as_str();
        let (context, tokens, cancel) = (&self.conversation.context, &*self.tokens, &self.cancel);
        let request = Request {
            ids: context.ids(),
            vocabulary,
            bytes: context.bytes(),
            chat: messages.map(|messages| Chat { messages, answer: &answer }),
            max_tokens: burst,
            deadline,
            cancel,
        };
        let ask = || {
            let (answer, cost) = cloud.consult(&request);
            let shares_vocabulary = cloud.shares_vocabulary(vocabulary);
            let tokens =
                answer.and_then(|a| tokens_of(a, burst..=most, shares_vocabulary, tokens, cancel));
            (tokens, cost)
        };
        if overlap == 0 {
            return ask();
        }
        let (answered, stop) = (OnceLock::new(), cancel.child());
        let ask_beside = || {
            let answer = ask();
            if !stands(candidate, &answer.0) {
                stop.raise();
            }
            let _ = answered.set(Instant::now());
            answer
        };
        let proposer = &mut self.proposer;
        let read_on = || {
            let may_follow = |id| answered.get().is_none() && !tokens.is_stop(id);
            proposer.read_on(context.ids(), overlap, &may_follow, &stop);
            // The token at which the answer came was waited for.
            proposer.was_late(answered.get().map(Instant::elapsed).unwrap_or_default());
        };
        match threads::beside("hybrid-consult".into(), CONSULT_STACK, &ask_beside, read_on) {
            Ok((answer, ())) => answer,
            // The system has no thread to spare.
            Err(_) => ask(),
        }
    }
}

/// The candidate follows the context: the cloud LLM's first token is the same, or there is none.
fn stands(candidate: u32, answer: &Tokens) -> bool {
    answer.as_ref().map_or(true, |tokens| tokens.first() == Some(&candidate))
}
