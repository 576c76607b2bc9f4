//! What the caller does to the context: prompts, chats, rewinds, resets.

use std::time::Instant;

use super::Session;
use super::token::End;
use super::turns::Reply;
use crate::error::{Error, Result};
use crate::tokens::{Message, to_text, whole_len};

impl Session {
    /// Appends text to the context. Raw: the caller has rendered any template; text of control
    /// tokens becomes control tokens. Ends what was being generated: tokens of a burst and text
    /// that were not handed out are dropped.
    ///
    /// Errors, each leaving the session as it was: [`Error::InvalidArgument`] for an empty text or
    /// one over [`crate::tokens::MAX_TEXT_BYTES`], [`Error::ContextFull`], [`Error::Cancelled`],
    /// [`Error::State`] for the first text of a session whose cloud takes messages only.
    pub fn prompt(&mut self, text: &str) -> Result<()> {
        self.check_plain_text()?;
        self.append_text(text)
    }

    fn append_text(&mut self, text: &str) -> Result<()> {
        if text.is_empty() {
            return Err(Error::InvalidArgument("the prompt is empty".into()));
        }
        let start = Instant::now();
        let first = self.conversation.context.is_empty();
        let ids = self.tokens.encode_prompt_cancellable(text, first, &self.cancel)?;
        self.append(&ids, start)
    }

    /// Appends tokens to the context as they are. Nothing is put in front of the first one, no
    /// `bos` either. Otherwise as [`Session::prompt`].
    ///
    /// Errors, each leaving the session as it was: [`Error::InvalidArgument`] for no ids and for
    /// one that is no token, [`Error::ContextFull`], [`Error::Cancelled`], [`Error::State`] as
    /// there.
    pub fn prompt_tokens(&mut self, ids: &[u32]) -> Result<()> {
        self.check_plain_text()?;
        if ids.is_empty() {
            return Err(Error::InvalidArgument("the prompt is empty".into()));
        }
        self.tokens.check(ids)?;
        self.append(ids, Instant::now())
    }

    /// Appends messages, rendered by the bundle's chat template up to where the assistant's answer
    /// begins. A later call continues the chat: what the context has got since the last call,
    /// generated or prompted, is the assistant's message before the new ones.
    ///
    /// Text of control tokens within a message becomes control tokens, as templates are plain text.
    ///
    /// Errors as [`Session::prompt`], [`Error::Unsupported`] for a bundle without a template, and
    /// those of [`crate::tokens::ChatTemplate::render`].
    pub fn chat(&mut self, messages: &[Message]) -> Result<()> {
        let template = self.base.chat_template().ok_or_else(|| {
            Error::Unsupported("chat: this bundle has no chat template; use a raw prompt".into())
        })?;
        let reply = self.reply();
        let text = self.conversation.turns.render(
            template,
            &reply,
            messages,
            self.thinking,
            &self.cancel,
        )?;
        let before = self.conversation.context.len();
        self.append_text(&text)?;
        self.conversation.turns.push(&reply, messages, before, self.conversation.context.len());
        Ok(())
    }

    /// A cloud that takes messages only could never be asked about plain text.
    fn check_plain_text(&self) -> Result<()> {
        let asks = self.cloud.as_ref().is_some_and(|cloud| cloud.needs_messages());
        if asks && self.is_empty() {
            return Err(Error::State(
                "the cloud's wire format takes messages: begin the session with a chat, or choose \
                 a completion format"
                    .into(),
            ));
        }
        Ok(())
    }

    /// Whether what follows the last turn is the assistant's text alone. After a rewind into a
    /// later turn, or a prompt with control tokens, parts of other messages are in it.
    pub(super) fn reply_is_plain(&self) -> bool {
        let control = |&id: &u32| self.tokens.bytes(id).is_empty();
        !self.answered().iter().any(control)
    }

    /// What follows the last turn.
    fn answered(&self) -> &[u32] {
        let context = &self.conversation.context;
        context.since(self.conversation.turns.answer_start().unwrap_or(context.len()))
    }

    pub(super) fn reply(&self) -> Reply {
        let ids = self.answered();
        let stop = ids.last().filter(|&&id| self.tokens.is_stop(id));
        Reply {
            text: to_text(&self.tokens.bytes_of(ids)),
            stop: stop.map(|&id| to_text(self.tokens.bytes_with_special(id))),
        }
    }

    /// `start`: when the work on this prompt began.
    fn append(&mut self, ids: &[u32], start: Instant) -> Result<()> {
        self.cancel.check()?;
        self.check_room(ids.len())?;
        let before = self.conversation.context.len();
        self.conversation.context.extend(ids, &self.tokens);
        if let Err(error) = self.read_prompt() {
            self.conversation.context.truncate(before, &self.tokens);
            return Err(error);
        }
        self.begin_afresh();
        self.conversation.text.clear();
        self.stats.prompt_tokens += ids.len() as u64;
        self.stats.prompt_time += start.elapsed();
        Ok(())
    }

    /// After the context was changed by the caller.
    fn begin_afresh(&mut self) {
        self.conversation.burst.clear();
        self.conversation.end = End::None;
    }

    pub(super) fn check_room(&self, needed: usize) -> Result<()> {
        let (used, limit) = (self.conversation.context.len(), self.proposer.reader().capacity());
        if needed > limit.saturating_sub(used) {
            return Err(Error::ContextFull { used, needed, limit });
        }
        Ok(())
    }

    /// Text still held back (an unfinished character or stop string) after the last step.
    pub fn flush(&mut self) -> String {
        self.conversation.text.flush()
    }

    /// Forgets the last `n` tokens of the context, prompt included, and what is left of a burst.
    /// Generation can go on from there, also after its end.
    ///
    /// Errors: [`Error::InvalidArgument`] when there are fewer than `n`.
    pub fn rewind(&mut self, n: usize) -> Result<()> {
        let len = self.conversation.context.len();
        let kept = len.checked_sub(n).ok_or_else(|| {
            Error::InvalidArgument(format!("cannot rewind {n} tokens: the context has {len}"))
        })?;
        if n > 0 {
            self.proposer.truncate(kept)?;
            self.rewind_text(kept);
            self.conversation.context.truncate(kept, &self.tokens);
            self.conversation.turns.truncate(kept);
        }
        self.begin_afresh();
        Ok(())
    }

    fn rewind_text(&mut self, kept: usize) {
        let dropped = self.conversation.context.since(kept);
        let shown: usize = dropped.iter().map(|&id| self.handed_out(id).len()).sum();
        let bytes: usize = dropped.iter().map(|&id| self.tokens.bytes_with_special(id).len()).sum();
        let rest = self.conversation.context.bytes();
        let rest = rest.get(..rest.len() - bytes).unwrap_or_default();
        self.conversation.text.rewind(shown, rest.get(whole_len(rest)..).unwrap_or_default());
    }

    /// The bytes of a generated token as its step gave them.
    pub(super) fn handed_out(&self, id: u32) -> &[u8] {
        if self.tokens.is_stop(id) { &[] } else { self.tokens.bytes(id) }
    }

    /// Forgets the context. Settings, statistics, with them the budgets, corrections and the
    /// sampler's generator go on.
    pub fn reset(&mut self) {
        // Cannot fail: there are as many tokens as are forgotten.
        let forgotten = self.rewind(self.conversation.context.len());
        debug_assert!(forgotten.is_ok(), "{forgotten:?}");
        self.conversation.text.clear();
    }

    /// Tokens in the context.
    pub fn len(&self) -> usize {
        self.conversation.context.len()
    }

    pub fn is_empty(&self) -> bool {
        self.conversation.context.is_empty()
    }

    /// The text of the whole context, prompt and generated, with the texts of control tokens.
    /// U+FFFD stands for bytes that are no character.
    pub fn text(&self) -> String {
        to_text(self.conversation.context.bytes())
    }

    /// Every token of the context, prompt and generated.
    pub fn tokens(&self) -> &[u32] {
        self.conversation.context.ids()
    }
}
