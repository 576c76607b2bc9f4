//! OpenAI-style `/v1/completions`, as vLLM, llama.cpp's server, OpenAI and many others speak it.
//!
//! With text, the request holds only what the original API knows, since strict servers refuse
//! unknown fields. Ids are exchanged only after the vocabulary probe, which strict servers do not
//! pass; then two more fields ask for the answer's ids: `return_token_ids` (vLLM) and `logprobs`
//! (llama.cpp). Neither kind of server puts a beginning-of-text token in front of a prompt of ids;
//! in front of a text they put what their own model needs, and the client leaves that to them.

use serde::{Deserialize, Serialize};

use super::format::{Parsed, Prompt, Question, Unusable, Written};
use crate::consult::Cost;

pub(super) const PATH: &str = "/v1/completions";

#[derive(Serialize)]
struct Body<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    model: &'a str,
    prompt: Prompt<'a>,
    max_tokens: u32,
    temperature: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    return_token_ids: Option<bool>,
}

pub(super) fn write(question: &Question) -> serde_json::Result<Vec<u8>> {
    let ids = matches!(question.prompt, Prompt::Ids(_));
    serde_json::to_vec(&Body {
        model: question.model,
        prompt: question.prompt,
        max_tokens: question.max_tokens,
        temperature: 0,
        logprobs: ids.then_some(1),
        return_token_ids: ids.then_some(true),
    })
}

/// The fields that are read; all others are skipped.
#[derive(Deserialize)]
pub(super) struct Completion {
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    text: String,
    #[serde(default)]
    finish_reason: Option<String>,
    #[serde(default)]
    token_ids: Option<Vec<u32>>,
    #[serde(default)]
    logprobs: Option<Logprobs>,
}

#[derive(Deserialize)]
struct Logprobs {
    #[serde(default)]
    content: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
struct Entry {
    id: u32,
}

#[derive(Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
    #[serde(default)]
    prompt_tokens_details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    #[serde(default)]
    cached_tokens: Option<u64>,
}

impl Parsed for Completion {
    fn count(&self, cost: &mut Cost) {
        let Some(usage) = &self.usage else { return };
        cost.prompt_tokens = usage.prompt_tokens;
        cost.completion_tokens = usage.completion_tokens;
        cost.cached_tokens =
            usage.prompt_tokens_details.as_ref().and_then(|d| d.cached_tokens).unwrap_or(0);
    }

    fn written(self) -> Result<Written, Unusable> {
        let tokens = self.usage.map(|usage| usage.completion_tokens);
        let choice = self.choices.into_iter().next().ok_or("no choice in the answer")?;
        Ok(Written {
            end: choice.finish_reason.as_deref() == Some("stop"),
            ids: choice.token_ids.or_else(|| logprob_ids(choice.logprobs, tokens)),
            text: choice.text,
        })
    }
}

/// llama.cpp lists one entry per *character or more*: where several tokens make one character, only
/// the last one's id is there. The ids are exact only if there are as many as tokens.
fn logprob_ids(logprobs: Option<Logprobs>, tokens: Option<u64>) -> Option<Vec<u32>> {
    let ids: Vec<u32> = logprobs?.content?.iter().map(|entry| entry.id).collect();
    (Some(ids.len() as u64) == tokens).then_some(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(json: &str) -> Result<Written, String> {
        let parsed: Completion = serde_json::from_str(json).map_err(|e| e.to_string())?;
        parsed.written().map_err(str::to_owned)
    }

    #[test]
    fn a_text_request_holds_only_original_fields() {
        let question = Question { model: "m", prompt: Prompt::Text(" a\n\"b\""), max_tokens: 4 };
        let json = String::from_utf8(write(&question).unwrap()).unwrap();
        assert_eq!(json, r#"{"model":"m","prompt":" a\n\"b\"","max_tokens":4,"temperature":0}"#);
    }

    #[test]
    fn an_id_request_asks_for_ids() {
        let question = Question { model: "", prompt: Prompt::Ids(&[5, 6]), max_tokens: 1 };
        let json = String::from_utf8(write(&question).unwrap()).unwrap();
        assert_eq!(
            json,
            concat!(
                r#"{"prompt":[5,6],"max_tokens":1,"temperature":0,"#,
                r#""logprobs":1,"return_token_ids":true}"#
            )
        );
    }

    #[test]
    fn answers() {
        let rows = [
            // vLLM
            (
                r#"{"choices":[{"text":" a","token_ids":[7,8],"finish_reason":"length",
                    "logprobs":{"tokens":[" a"],"token_logprobs":[-0.1]}}]}"#,
                Written { text: " a".into(), ids: Some(vec![7, 8]), end: false },
            ),
            // llama.cpp
            (
                r#"{"choices":[{"text":"x","logprobs":{"content":[{"id":9,"bytes":[120]}]},
                    "finish_reason":"length"}],"usage":{"completion_tokens":1}}"#,
                Written { text: "x".into(), ids: Some(vec![9]), end: false },
            ),
            // llama.cpp, one character of three tokens
            (
                r#"{"choices":[{"text":"x","logprobs":{"content":[{"id":126}]},
                    "finish_reason":"length"}],"usage":{"completion_tokens":3}}"#,
                Written { text: "x".into(), ids: None, end: false },
            ),
            // The end of the text
            (
                r#"{"choices":[{"text":"","logprobs":null,"finish_reason":"stop"}]}"#,
                Written { text: String::new(), ids: None, end: true },
            ),
        ];
        for (json, expected) in rows {
            assert_eq!(written(json).unwrap(), expected, "{json}");
        }
    }

    #[test]
    fn not_an_answer() {
        let rows = [
            "",
            "[]",
            "{}",
            r#"{"choices":[]}"#,
            r#"{"choices":[{}]}"#,
            r#"{"choices":[{"text":1}]}"#,
            r#"{"error":{"message":"x"}}"#,
            r#"{"choices":[{"text":"","token_ids":[-1]}]}"#,
        ];
        for json in rows {
            assert!(written(json).is_err(), "{json}");
        }
    }

    #[test]
    fn tokens_are_counted() {
        let rows = [
            (r#"{"choices":[]}"#, (0, 0, 0)),
            (r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2}}"#, (9, 0, 2)),
            (
                r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,
                    "prompt_tokens_details":{"cached_tokens":8}}}"#,
                (9, 8, 2),
            ),
            (
                r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,
                    "prompt_tokens_details":null}}"#,
                (9, 0, 2),
            ),
        ];
        for (json, expected) in rows {
            let mut cost = Cost::default();
            serde_json::from_str::<Completion>(json).unwrap().count(&mut cost);
            let got = (cost.prompt_tokens, cost.cached_tokens, cost.completion_tokens);
            assert_eq!(got, expected, "{json}");
        }
    }
}
