//! Anthropic's `/v1/messages`, for models that continue an assistant's message.

use serde_json::Value;

use super::chat::{entries, max_tokens};
use super::continuation::Unusable;
use super::endpoint::Base;
use super::format::{Body, Prompt, Question, Wire, Written, text};
use super::headers::Auth;
use crate::consult::Chat;

pub(super) static WIRE: Wire = Wire {
    name: "Anthropic's /messages",
    base: Base::Api,
    path: "/messages",
    auth: Auth::ApiKey,
    takes_messages: true,
    write,
    read,
    // What was read from the cache or written to it is not part of the first number.
    counts: [
        &[
            "/usage/input_tokens",
            "/usage/cache_read_input_tokens",
            "/usage/cache_creation_input_tokens",
        ],
        &["/usage/cache_read_input_tokens"],
        &["/usage/output_tokens"],
    ],
};

/// The system's messages have a field of their own.
fn write(question: &Question) -> Vec<u8> {
    let Prompt::Chat(chat) = &question.prompt else { return Vec::new() };
    let is_system = |role: &str| role == "system";
    let system: Vec<&str> = chat
        .messages
        .iter()
        .filter(|message| is_system(&message.role))
        .map(|message| message.content.as_str())
        .collect();
    let others: Vec<_> = chat.messages.iter().filter(|m| !is_system(&m.role)).cloned().collect();
    let rest = Chat { messages: &others, answer: chat.answer };
    Body::new()
        .field("model", question.model)
        .field_if(!system.is_empty(), "system", &system.join("\n\n"))
        .field("messages", &entries(&rest, false))
        .field("max_tokens", &max_tokens(question, chat))
        .field("temperature", &0)
        .finish()
}

fn read(answer: &Value) -> Result<Written, Unusable> {
    let end = answer.get("stop_reason").and_then(Value::as_str) == Some("end_turn");
    let blocks = answer.get("content").and_then(Value::as_array).ok_or("no content")?;
    let content = match blocks.first() {
        Some(block) => text(block.get("text")),
        None => end.then(String::new),
    };
    // Only the first block is read, so more of them hold more of the text.
    Ok(Written { text: content, ids: None, end: end && blocks.len() < 2 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consult::Cost;
    use crate::tokens::Message;

    #[test]
    fn a_request() {
        let of = |role: &str, content: &str| Message { role: role.into(), content: content.into() };
        let messages = [of("system", "Be brief."), of("user", "Capital?")];
        let chat = Chat { messages: &messages, answer: "Par" };
        let question = Question { model: "m", prompt: Prompt::Chat(chat), max_tokens: 2 };
        assert_eq!(
            String::from_utf8(write(&question)).unwrap(),
            concat!(
                r#"{"model":"m","system":"Be brief.","messages":[{"role":"user","content":"#,
                r#""Capital?"},{"role":"assistant","content":"Par"}],"max_tokens":2,"#,
                r#""temperature":0}"#
            )
        );
    }

    #[test]
    fn answers() {
        let rows = [
            (
                r#"{"content":[{"type":"text","text":"is"}],"stop_reason":"max_tokens"}"#,
                Some((Some("is"), false)),
            ),
            (r#"{"content":[],"stop_reason":"end_turn"}"#, Some((Some(""), true))),
            (
                r#"{"content":[{"text":"a"},{"text":"b"}],"stop_reason":"end_turn"}"#,
                Some((Some("a"), false)),
            ),
            (r#"{"content":[{"type":"thinking","thinking":"Hm"}]}"#, Some((None, false))),
            (r#"{"type":"error"}"#, None),
        ];
        for (json, want) in rows {
            let got = read(&serde_json::from_str(json).unwrap()).ok();
            let want =
                want.map(|(text, end)| Written { text: text.map(str::to_owned), ids: None, end });
            assert_eq!(got, want, "{json}");
        }
        let mut cost = Cost::default();
        let usage = serde_json::json!({ "usage": {
            "input_tokens": 3, "cache_read_input_tokens": 40, "cache_creation_input_tokens": 5,
            "output_tokens": 2,
        }});
        WIRE.count(&usage, &mut cost);
        let got = (cost.prompt_tokens, cost.cached_tokens, cost.completion_tokens);
        assert_eq!(got, (48, 40, 2));
    }
}
