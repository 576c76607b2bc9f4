//! The messages of a chat so far: templates render whole chats, a context only grows.

use crate::cancel::Cancel;
use crate::error::Result;
use crate::sealed::{Reader, Writer};
use crate::tokens::{ChatTemplate, Message};

/// What has been given by [`super::Session::chat`]. What followed in the context, generated or
/// prompted, is the assistant's answer.
#[derive(Clone, Default)]
pub(super) struct Turns {
    messages: Vec<Message>,
    /// For every chat call: the context's length and the number of messages after it.
    marks: Vec<(usize, usize)>,
    /// Text was prompted before the first of them.
    preceded: bool,
}

/// The end of the context: the assistant's answer to the last turn.
pub(super) struct Reply {
    pub text: String,
    /// The text of the stop token that ended it.
    pub stop: Option<String>,
}

impl Turns {
    /// Where the assistant's answer begins, if there was a turn.
    pub fn answer_start(&self) -> Option<usize> {
        self.marks.last().map(|&(context, _)| context)
    }

    /// The messages, if they and the answer are the whole context.
    pub fn whole_chat(&self) -> Option<&[Message]> {
        (!self.messages.is_empty() && !self.preceded).then_some(&self.messages)
    }

    /// The text that continues the context by `new` messages. `reply`: what has followed the last
    /// turn. `thinking`: see [`ChatTemplate::render_with`].
    pub fn render(
        &self,
        template: &ChatTemplate,
        reply: &Reply,
        new: &[Message],
        thinking: Option<bool>,
        cancel: &Cancel,
    ) -> Result<String> {
        let continued = match self.messages.as_slice() {
            [] => None,
            _ => self.continuation(template, reply, new, thinking, cancel)?,
        };
        match continued {
            Some(text) => Ok(text),
            None => template.render_with(new, true, thinking, cancel),
        }
    }

    /// What the template writes after the reply: the end of the assistant's message, then `new`.
    /// `None` where it does not render a longer chat as a continuation of the shorter one.
    fn continuation(
        &self,
        template: &ChatTemplate,
        reply: &Reply,
        new: &[Message],
        thinking: Option<bool>,
        cancel: &Cancel,
    ) -> Result<Option<String>> {
        let mut chat = self.with_reply(reply);
        let before = template.render_with(&chat, false, thinking, cancel)?;
        chat.extend_from_slice(new);
        let whole = template.render_with(&chat, true, thinking, cancel)?;
        // Templates may trim the answer.
        let closing = [reply.text.as_str(), reply.text.trim()]
            .into_iter()
            .find_map(|text| before.rfind(text).and_then(|at| before.get(at + text.len()..)));
        Ok(whole.strip_prefix(&before).zip(closing).map(|(added, closing)| {
            let stop = reply.stop.as_deref().unwrap_or_default();
            format!("{}{added}", closing.strip_prefix(stop).unwrap_or(closing))
        }))
    }

    fn with_reply(&self, reply: &Reply) -> Vec<Message> {
        let mut chat = self.messages.clone();
        if !reply.text.is_empty() {
            chat.push(Message { role: "assistant".into(), content: reply.text.clone() });
        }
        chat
    }

    /// `new` messages were appended; the context was `before` tokens long and is `len` now.
    pub fn push(&mut self, reply: &Reply, new: &[Message], before: usize, len: usize) {
        if self.messages.is_empty() {
            self.preceded = before > 0;
        }
        self.messages = self.with_reply(reply);
        self.messages.extend_from_slice(new);
        self.marks.push((len, self.messages.len()));
    }

    /// The context was cut to `len` tokens.
    pub fn truncate(&mut self, len: usize) {
        self.marks.retain(|&(context, _)| context <= len);
        self.messages.truncate(self.marks.last().map_or(0, |&(_, messages)| messages));
    }

    pub fn write(&self, writer: &mut Writer) {
        writer.count(self.messages.len());
        for message in &self.messages {
            writer.bytes(message.role.as_bytes());
            writer.bytes(message.content.as_bytes());
        }
        writer.count(self.marks.len());
        for &(context, messages) in &self.marks {
            writer.count(context);
            writer.count(messages);
        }
        writer.count(self.preceded.into());
    }

    /// What `write` wrote, of a context of `len` tokens.
    pub fn read(reader: &mut Reader, len: usize) -> Result<Turns> {
        let mut turns = Turns::default();
        for _ in 0..reader.count()? {
            turns.messages.push(Message { role: reader.text()?, content: reader.text()? });
        }
        for _ in 0..reader.count()? {
            let (context, messages) = (reader.count()?, reader.count()?);
            let last = turns.marks.last().copied().unwrap_or_default();
            if context > len || messages > turns.messages.len() || (context, messages) < last {
                return Err(reader.error("its turns do not fit its context"));
            }
            turns.marks.push((context, messages));
        }
        turns.preceded = reader.count()? > 0;
        Ok(turns)
    }
}
