//! Warming: while the SLM reads a prompt, the server reads it too.
//!
//! The server is asked for one token, which is dropped. The first consult then finds a connection,
//! and on a server with a prefix cache the prompt. Both read side by side; the call returns when
//! both have ended, the consult at its deadline at the latest.

use std::sync::Arc;
use std::time::Instant;

use super::Session;
use super::ask::CONSULT_STACK;
use crate::breaker::SharedBreaker;
use crate::consult::{Consult, Request};
use crate::error::Result;
use crate::slm::kernels::threads;

impl Session {
    /// Lets the SLM consume the context, which has become longer by a prompt, and perhaps the
    /// server. Whether that one answers is no matter of the prompt.
    pub(super) fn read_prompt(&mut self) -> Result<()> {
        let cloud = self.cloud_to_warm();
        let permit = cloud.as_deref().and_then(Consult::breaker).map(SharedBreaker::admit);
        let (context, cancel) = (&self.conversation.context, &self.cancel);
        let deadline = Instant::now() + self.rules.settings().consult.deadline;
        let request = Request {
            ids: context.ids(),
            vocabulary: &self.tokens.info().fingerprint,
            bytes: context.bytes(),
            chat: None,
            max_tokens: 1,
            deadline,
            cancel,
        };
        let proposer = &mut self.proposer;
        let mut read = || proposer.extend(context.ids(), cancel);
        let (Some(cloud), None | Some(Some(_))) = (&cloud, &permit) else { return read() };
        let ask = || cloud.consult(&request);
        let both = threads::beside("hybrid-warm".into(), CONSULT_STACK, &ask, &mut read);
        // The system may have no thread to spare.
        let Ok(((answer, cost), read)) = both else { return read() };
        let answer = answer.map(drop);
        if let Some(permit) = permit.flatten() {
            permit.record(answer, cost.quiet);
        }
        self.usage.count(&cost, answer.ok().map(|()| 1));
        self.control(|controller, now| controller.consulted(now, &cost));
        read
    }

    /// The cloud, where it may be asked about the context. One that takes messages is not: those of
    /// a chat are known only when it has been read.
    fn cloud_to_warm(&self) -> Option<Arc<dyn Consult>> {
        let warms = self.rules.settings().consult.warm && self.rules.may_consult();
        let cloud = self.cloud.as_ref().filter(|cloud| warms && !cloud.needs_messages())?;
        self.obstacle().is_none().then(|| cloud.clone())
    }
}
