//! SGLang's own `/generate`: exact ids in both directions.

use serde_json::Value;

use super::continuation::Unusable;
use super::endpoint::Base;
use super::format::{Body, Prompt, Question, Wire, Written, ids, text};
use super::headers::Auth;

pub(super) static WIRE: Wire = Wire {
    name: "SGLang's /generate",
    base: Base::Server,
    path: "/generate",
    auth: Auth::Bearer,
    takes_messages: false,
    write,
    read,
    counts: [
        &["/meta_info/prompt_tokens"],
        &["/meta_info/cached_tokens"],
        &["/meta_info/completion_tokens"],
    ],
};

#[derive(serde::Serialize)]
struct Sampling {
    temperature: u32,
    max_new_tokens: u32,
}

fn write(question: &Question) -> Vec<u8> {
    let ids = matches!(question.prompt, Prompt::Ids(_));
    Body::new()
        .field(if ids { "input_ids" } else { "text" }, &question.prompt)
        .field("sampling_params", &Sampling { temperature: 0, max_new_tokens: question.max_tokens })
        .finish()
}

fn read(answer: &Value) -> Result<Written, Unusable> {
    Ok(Written {
        text: text(answer.get("text")),
        ids: ids(answer.get("output_ids")),
        end: answer.pointer("/meta_info/finish_reason/type").and_then(Value::as_str)
            == Some("stop"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consult::Cost;

    #[test]
    fn requests() {
        let sampling = r#""sampling_params":{"temperature":0,"max_new_tokens":2}"#;
        let rows = [
            (Prompt::Ids(&[5, 6]), format!(r#"{{"input_ids":[5,6],{sampling}}}"#)),
            (Prompt::Text("a"), format!(r#"{{"text":"a",{sampling}}}"#)),
        ];
        for (prompt, want) in rows {
            let body = write(&Question { model: "m", prompt, max_tokens: 2 });
            assert_eq!(String::from_utf8(body).unwrap(), want);
        }
    }

    #[test]
    fn an_answer() {
        let json = serde_json::json!({
            "text": " Paris", "output_ids": [7042, 30],
            "meta_info": {
                "id": "x", "finish_reason": { "type": "stop", "matched": 30 },
                "prompt_tokens": 9, "completion_tokens": 2, "cached_tokens": 8, "e2e_latency": 0.1
            }
        });
        let want = Written { text: Some(" Paris".into()), ids: Some(vec![7042, 30]), end: true };
        assert_eq!(read(&json).unwrap(), want);
        let mut cost = Cost::default();
        WIRE.count(&json, &mut cost);
        let got = (cost.prompt_tokens, cost.cached_tokens, cost.completion_tokens);
        assert_eq!(got, (9, 8, 2));
        let length = serde_json::json!({ "text": "a", "meta_info": { "finish_reason": null } });
        assert_eq!(
            read(&length).unwrap(),
            Written { text: Some("a".into()), ..Written::default() }
        );
    }
}
