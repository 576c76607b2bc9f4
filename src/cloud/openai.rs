//! OpenAI-style `/v1/completions`, as vLLM, llama.cpp's server, OpenAI and many others speak it.
//!
//! With text, the request holds only what the original API knows, since strict servers refuse
//! unknown fields. Ids are exchanged only after the probe, which strict servers do not
//! pass; then two more fields ask for the answer's ids: `return_token_ids` (vLLM) and `logprobs`
//! (llama.cpp). Neither kind of server puts a beginning-of-text token in front of a prompt of ids;
//! in front of a text they put what their own model needs, and the client leaves that to them.

use serde_json::Value;

use super::continuation::Unusable;
use super::endpoint::Base;
use super::format::{Body, Prompt, Question, Wire, Written, id, ids, text};
use super::headers::Auth;

pub(super) static WIRE: Wire = Wire {
    name: "OpenAI-style /completions",
    base: Base::Api,
    path: "/completions",
    auth: Auth::Bearer,
    takes_messages: false,
    write,
    read,
    counts: COUNTS,
};

/// Those of chats too.
pub(super) const COUNTS: [&[&str]; 3] = [
    &["/usage/prompt_tokens"],
    &["/usage/prompt_tokens_details/cached_tokens"],
    &["/usage/completion_tokens"],
];

fn write(question: &Question) -> Vec<u8> {
    let ids = matches!(question.prompt, Prompt::Ids(_));
    Body::new()
        .field_if(!question.model.is_empty(), "model", question.model)
        .field("prompt", &question.prompt)
        .field("max_tokens", &question.max_tokens)
        .field("temperature", &0)
        .field_if(ids, "logprobs", &1)
        .field_if(ids, "return_token_ids", &true)
        .finish()
}

fn read(answer: &Value) -> Result<Written, Unusable> {
    let choice = answer.pointer("/choices/0").ok_or("no choice in the answer")?;
    let exact = || ids(choice.get("token_ids")).or_else(|| logprob_ids(answer, choice));
    Ok(Written {
        end: choice.get("finish_reason").and_then(Value::as_str) == Some("stop"),
        ids: exact(),
        text: text(choice.get("text")),
    })
}

/// llama.cpp lists one entry per *character or more*: where several tokens make one character, only
/// the last one's id is there. The ids are exact only if there are as many as tokens.
fn logprob_ids(answer: &Value, choice: &Value) -> Option<Vec<u32>> {
    let entries = choice.pointer("/logprobs/content")?.as_array()?;
    let ids: Option<Vec<u32>> = entries.iter().map(|entry| id(entry.get("id")?)).collect();
    let tokens = answer.pointer("/usage/completion_tokens")?.as_u64()?;
    ids.filter(|ids| ids.len() as u64 == tokens)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consult::Cost;

    fn written(json: &str) -> Result<Written, String> {
        let parsed: Value = serde_json::from_str(json).map_err(|e| e.to_string())?;
        read(&parsed).map_err(str::to_owned)
    }

    #[test]
    fn a_text_request_holds_only_original_fields() {
        let question = Question { model: "m", prompt: Prompt::Text(" a\n\"b\""), max_tokens: 4 };
        let json = String::from_utf8(write(&question)).unwrap();
        assert_eq!(json, r#"{"model":"m","prompt":" a\n\"b\"","max_tokens":4,"temperature":0}"#);
    }

    #[test]
    fn an_id_request_asks_for_ids() {
        let question = Question { model: "", prompt: Prompt::Ids(&[5, 6]), max_tokens: 1 };
        let json = String::from_utf8(write(&question)).unwrap();
        assert_eq!(
            json,
            concat!(
                r#"{"prompt":[5,6],"max_tokens":1,"temperature":0,"#,
                r#""logprobs":1,"return_token_ids":true}"#
            )
        );
    }

    fn of(text: &str, ids: Option<&[u32]>, end: bool) -> Written {
        Written { text: Some(text.into()), ids: ids.map(<[u32]>::to_vec), end }
    }

    #[test]
    fn answers() {
        let rows = [
            // vLLM
            (
                r#"{"choices":[{"text":" a","token_ids":[7,8],"finish_reason":"length",
                    "logprobs":{"tokens":[" a"],"token_logprobs":[-0.1]}}]}"#,
                of(" a", Some(&[7, 8]), false),
            ),
            // llama.cpp
            (
                r#"{"choices":[{"text":"x","logprobs":{"content":[{"id":9,"bytes":[120]}]},
                    "finish_reason":"length"}],"usage":{"completion_tokens":1}}"#,
                of("x", Some(&[9]), false),
            ),
            // llama.cpp, one character of three tokens
            (
                r#"{"choices":[{"text":"x","logprobs":{"content":[{"id":126}]},
                    "finish_reason":"length"}],"usage":{"completion_tokens":3}}"#,
                of("x", None, false),
            ),
            // The end of the text
            (
                r#"{"choices":[{"text":"","logprobs":null,"finish_reason":"stop"}]}"#,
                of("", None, true),
            ),
            // What is not needed may be anything.
            (
                r#"{"choices":[{"text":"x","logprobs":{"content":[{"bytes":[120]}]},
                    "token_ids":[-1],"finish_reason":7}],"usage":{"completion_tokens":null}}"#,
                of("x", None, false),
            ),
            (
                r#"{"choices":[{"text":"x","logprobs":[1],"token_ids":"none"}],"usage":[]}"#,
                of("x", None, false),
            ),
        ];
        for (json, expected) in rows {
            assert_eq!(written(json).unwrap(), expected, "{json}");
        }
    }

    #[test]
    fn not_an_answer() {
        let rows =
            ["", "[]", "{}", r#"{"choices":[]}"#, r#"{"choices":{}}"#, r#"{"error":{"a":"x"}}"#];
        for json in rows {
            assert!(written(json).is_err(), "{json}");
        }
        for json in [r#"{"choices":[{}]}"#, r#"{"choices":[{"text":1}]}"#] {
            assert_eq!(written(json).unwrap().text, None, "{json}");
        }
    }

    #[test]
    fn tokens_are_counted() {
        let rows = [
            (r#"{"choices":[]}"#, (0, 0, 0)),
            (r#"{"usage":{"prompt_tokens":9,"completion_tokens":2}}"#, (9, 0, 2)),
            (
                r#"{"usage":{"prompt_tokens":9,"completion_tokens":2,
                    "prompt_tokens_details":{"cached_tokens":8}}}"#,
                (9, 8, 2),
            ),
            (
                r#"{"usage":{"prompt_tokens":9,"completion_tokens":2.0,
                    "prompt_tokens_details":null}}"#,
                (9, 0, 2),
            ),
            (r#"{"usage":{"prompt_tokens":null,"completion_tokens":"2"}}"#, (0, 0, 0)),
        ];
        for (json, expected) in rows {
            let mut cost = Cost::default();
            WIRE.count(&serde_json::from_str(json).unwrap(), &mut cost);
            let got = (cost.prompt_tokens, cost.cached_tokens, cost.completion_tokens);
            assert_eq!(got, expected, "{json}");
        }
    }
}
