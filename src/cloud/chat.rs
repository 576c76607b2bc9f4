//! Chat endpoints that continue an assistant's message: `/v1/chat/completions` in three dialects,
//! and what all chat formats have in common.
//!
//! Servers render the messages by their own model's template. An answer that has begun is sent as
//! the last message. Without one it is left out, and any chat server can be asked.

use serde::Serialize;
use serde_json::Value;

use super::continuation::{Unusable, sent};
use super::endpoint::Base;
use super::format::{Body, Prompt, Question, Wire, Written, text};
use super::headers::Auth;
use super::openai::COUNTS;
use crate::consult::Chat;

pub(super) static CONTINUE: Wire =
    wire("chat with continue_final_message", |question| write(question, Dialect::Continue));
pub(super) static PREFIX: Wire =
    wire("chat with prefix", |question| write(question, Dialect::Prefix));
pub(super) static TRAILING: Wire =
    wire("chat with a trailing assistant message", |question| write(question, Dialect::Trailing));

const fn wire(name: &'static str, write: fn(&Question) -> Vec<u8>) -> Wire {
    Wire {
        name,
        base: Base::Api,
        path: "/chat/completions",
        auth: Auth::Bearer,
        takes_messages: true,
        write,
        read,
        counts: COUNTS,
    }
}

/// How a server is told to continue the last message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Continue,
    Prefix,
    Trailing,
}

/// Spaces at the answer's end are not sent, see [`sent`]; the server writes them again, which must
/// not use up what is asked for.
const FOR_SPACES: u32 = 4;

#[derive(Serialize)]
pub(super) struct Entry<'a> {
    role: &'a str,
    content: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<bool>,
}

/// The messages with the answer so far.
pub(super) fn entries<'a>(chat: &Chat<'a>, prefix: bool) -> Vec<Entry<'a>> {
    let messages = chat.messages.iter();
    let mut entries: Vec<_> = messages
        .map(|message| Entry { role: &message.role, content: &message.content, prefix: None })
        .collect();
    let content = sent(chat.answer);
    if !content.is_empty() {
        entries.push(Entry { role: "assistant", content, prefix: prefix.then_some(true) });
    }
    entries
}

pub(super) fn max_tokens(question: &Question, chat: &Chat) -> u32 {
    let spaces = sent(chat.answer).len() < chat.answer.len();
    question.max_tokens + if spaces { FOR_SPACES } else { 0 }
}

fn write(question: &Question, dialect: Dialect) -> Vec<u8> {
    let Prompt::Chat(chat) = &question.prompt else { return Vec::new() };
    let entries = entries(chat, dialect == Dialect::Prefix);
    let continues = dialect == Dialect::Continue && entries.len() > chat.messages.len();
    Body::new()
        .field_if(!question.model.is_empty(), "model", question.model)
        .field("messages", &entries)
        .field("max_tokens", &max_tokens(question, chat))
        .field("temperature", &0)
        .field_if(continues, "add_generation_prompt", &false)
        .field_if(continues, "continue_final_message", &true)
        .field_if(
            dialect == Dialect::Continue,
            "chat_template_kwargs",
            &NoThinking { enable_thinking: false },
        )
        .finish()
}

/// What was begun without thinking goes on without; templates that know no thinking skip it.
#[derive(Serialize)]
struct NoThinking {
    enable_thinking: bool,
}

fn read(answer: &Value) -> Result<Written, Unusable> {
    let choice = answer.pointer("/choices/0").ok_or("no choice in the answer")?;
    let end = choice.get("finish_reason").and_then(Value::as_str) == Some("stop");
    let message = choice.get("message").ok_or("no message in the answer")?;
    let thought = ["reasoning_content", "reasoning"].iter().any(|name| {
        message.get(name).and_then(Value::as_str).is_some_and(|thought| !thought.is_empty())
    });
    let content = text(message.get("content"));
    // A server without a parser for it leaves it in the text.
    let inline = content.as_ref().is_some_and(|text| text.trim_start().starts_with("<think>"));
    if thought || inline {
        return Err("the server's model thinks before it answers; switch that off");
    }
    if message.get("refusal").is_some_and(|refusal| !refusal.is_null()) {
        return Err("the server's model refuses to answer");
    }
    // An end at once may come without any content.
    let none = message.get("content").is_none_or(Value::is_null);
    let content = content.or_else(|| (end && none).then(String::new));
    Ok(Written { text: content, ids: None, end })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::Message;

    fn messages() -> Vec<Message> {
        let of = |role: &str, content: &str| Message { role: role.into(), content: content.into() };
        vec![of("system", "Be brief."), of("user", "Capital of \"France\"?")]
    }

    fn body(wire: &Wire, answer: &str) -> String {
        let chat = Chat { messages: &messages(), answer };
        let question = Question { model: "m", prompt: Prompt::Chat(chat), max_tokens: 2 };
        String::from_utf8((wire.write)(&question)).unwrap()
    }

    #[test]
    fn requests() {
        let begin = concat!(
            r#"{"model":"m","messages":[{"role":"system","content":"Be brief."},"#,
            r#"{"role":"user","content":"Capital of \"France\"?"}"#
        );
        let kwargs = r#""chat_template_kwargs":{"enable_thinking":false}"#;
        let flags = r#""add_generation_prompt":false,"continue_final_message":true"#;
        let par = r#",{"role":"assistant","content":"Par"}]"#;
        let prefix = r#",{"role":"assistant","content":"Par","prefix":true}]"#;
        let limit = r#","max_tokens":2,"temperature":0"#;
        let rows = [
            (&CONTINUE, "", format!("{begin}]{limit},{kwargs}}}")),
            (&CONTINUE, "Par", format!("{begin}{par}{limit},{flags},{kwargs}}}")),
            (&PREFIX, "Par", format!("{begin}{prefix}{limit}}}")),
            (&TRAILING, "Par", format!("{begin}{par}{limit}}}")),
            (&TRAILING, "Par \n", format!("{begin}{par}{}}}", limit.replace('2', "6"))),
            (&TRAILING, " \n", format!("{begin}]{}}}", limit.replace('2', "6"))),
        ];
        for (wire, answer, want) in rows {
            assert_eq!(body(wire, answer), want, "{answer:?}");
        }
    }

    #[test]
    fn answers() {
        let rows = [
            (
                r#"{"choices":[{"message":{"content":"is"},"finish_reason":"length"}]}"#,
                Some((Some("is"), false)),
            ),
            (
                r#"{"choices":[{"message":{"content":null},"finish_reason":"stop"}]}"#,
                Some((Some(""), true)),
            ),
            (
                r#"{"choices":[{"message":{"content":null},"finish_reason":"length"}]}"#,
                Some((None, false)),
            ),
            (r#"{"choices":[{"message":{"content":"","reasoning_content":"Hm"}}]}"#, None),
            (
                r#"{"choices":[{"message":{"content":"x","reasoning":""}}]}"#,
                Some((Some("x"), false)),
            ),
            (
                r#"{"choices":[{"message":{"content":[{"text":"x"}]},"finish_reason":"stop"}]}"#,
                Some((None, true)),
            ),
            (
                r#"{"choices":[{"message":{"content":"x","refusal":"No"},"finish_reason":"x"}]}"#,
                None,
            ),
            (r#"{"choices":[{"message":{"content":"<think>\nHm"}}]}"#, None),
            (r#"{"choices":[{"text":"x"}]}"#, None),
            ("{}", None),
        ];
        for (json, want) in rows {
            let got = read(&serde_json::from_str(json).unwrap()).ok();
            let want =
                want.map(|(text, end)| Written { text: text.map(str::to_owned), ids: None, end });
            assert_eq!(got, want, "{json}");
        }
    }
}
