//! llama.cpp's own `/completion`: exact ids in both directions, and only the fields that are read.
//!
//! The server keeps the contexts of several sessions apart by itself: without `id_slot` it picks
//! the slot whose context begins like the prompt.

use serde_json::Value;

use super::continuation::Unusable;
use super::endpoint::Base;
use super::format::{Body, Prompt, Question, Wire, Written, ids, text};
use super::headers::Auth;

pub(super) static WIRE: Wire = Wire {
    name: "llama.cpp's /completion",
    base: Base::Server,
    path: "/completion",
    auth: Auth::Bearer,
    takes_messages: false,
    write,
    read,
    counts: [&["/tokens_evaluated"], &["/timings~1cache_n"], &["/tokens_predicted"]],
};

/// Without this list the answer repeats the whole prompt and every sampling setting.
const FIELDS: &[&str] =
    &["content", "tokens", "stop_type", "tokens_evaluated", "tokens_predicted", CACHED];

/// Of the prompt, tokens that were in the slot's cache.
const CACHED: &str = "timings/cache_n";

fn write(question: &Question) -> Vec<u8> {
    Body::new()
        .field("prompt", &question.prompt)
        .field("n_predict", &question.max_tokens)
        .field("temperature", &0)
        .field("cache_prompt", &true)
        .field("return_tokens", &matches!(question.prompt, Prompt::Ids(_)))
        .field("response_fields", FIELDS)
        .finish()
}

/// A server too old for `response_fields` sends more.
fn read(answer: &Value) -> Result<Written, Unusable> {
    Ok(Written {
        text: text(answer.get("content")),
        ids: ids(answer.get("tokens")),
        end: answer.get("stop_type").and_then(Value::as_str) == Some("eos"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consult::Cost;

    #[test]
    fn a_request() {
        let question = Question { model: "m", prompt: Prompt::Ids(&[5, 6]), max_tokens: 2 };
        let json: Value = serde_json::from_slice(&write(&question)).unwrap();
        assert_eq!(json["prompt"], serde_json::json!([5, 6]));
        assert_eq!(json["n_predict"], 2);
        assert_eq!(json["temperature"], 0);
        assert_eq!(json["return_tokens"], true);
        assert!(json.get("model").is_none());
    }

    #[test]
    fn the_cached_field_is_asked_for_by_the_name_it_is_read_by() {
        let json = serde_json::json!({ CACHED: 4, "tokens_evaluated": 9, "tokens_predicted": 2 });
        let mut cost = Cost::default();
        WIRE.count(&json, &mut cost);
        let got = (cost.prompt_tokens, cost.cached_tokens, cost.completion_tokens);
        assert_eq!(got, (9, 4, 2));
    }

    #[test]
    fn answers() {
        type Row<'a> = (&'a str, Option<&'a str>, Option<&'a [u32]>, bool);
        let rows: [Row; 7] = [
            (
                r#"{"content":" Paris.","tokens":[7042,30],"stop_type":"limit"}"#,
                Some(" Paris."),
                Some(&[7042, 30]),
                false,
            ),
            (
                r#"{"content":"","tokens":[2],"stop_type":"eos","tokens_predicted":1}"#,
                Some(""),
                Some(&[2]),
                true,
            ),
            (
                r#"{"content":" \ufffd","tokens":[15107],"stop_type":"limit","more":{}}"#,
                Some(" \u{fffd}"),
                Some(&[15107]),
                false,
            ),
            (r#"{"content":"x","tokens":[-1],"stop_type":0}"#, Some("x"), None, false),
            ("{}", None, None, false),
            ("[]", None, None, false),
            (r#"{"content":1}"#, None, None, false),
        ];
        for (json, text, ids, end) in rows {
            let got = read(&serde_json::from_str(json).unwrap()).unwrap();
            let text = text.map(str::to_owned);
            assert_eq!(got, Written { text, ids: ids.map(<[u32]>::to_vec), end }, "{json}");
        }
    }
}
