//! llama.cpp's own `/completion`: exact ids in both directions, and only the fields that are read.
//!
//! The server keeps the contexts of several sessions apart by itself: without `id_slot` it picks
//! the slot whose context begins like the prompt.

use serde::{Deserialize, Serialize};

use super::format::{Parsed, Prompt, Question, Unusable, Written};
use crate::consult::Cost;

pub(super) const PATH: &str = "/completion";

/// Without this list the answer repeats the whole prompt and every sampling setting.
const FIELDS: &[&str] =
    &["content", "tokens", "stop_type", "tokens_evaluated", "tokens_predicted", CACHED];

/// Of the prompt, tokens that were in the slot's cache.
const CACHED: &str = "timings/cache_n";

#[derive(Serialize)]
struct Body<'a> {
    prompt: Prompt<'a>,
    n_predict: u32,
    temperature: u32,
    cache_prompt: bool,
    return_tokens: bool,
    response_fields: &'a [&'a str],
}

pub(super) fn write(question: &Question) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Body {
        prompt: question.prompt,
        n_predict: question.max_tokens,
        temperature: 0,
        cache_prompt: true,
        return_tokens: matches!(question.prompt, Prompt::Ids(_)),
        response_fields: FIELDS,
    })
}

/// The fields that are read; a server too old for `response_fields` sends more, which are skipped.
#[derive(Deserialize)]
pub(super) struct Completion {
    content: String,
    #[serde(default)]
    tokens: Option<Vec<u32>>,
    stop_type: String,
    #[serde(default)]
    tokens_evaluated: u64,
    #[serde(default)]
    tokens_predicted: u64,
    #[serde(default, rename = "timings/cache_n")]
    cached: u64,
}

impl Parsed for Completion {
    fn count(&self, cost: &mut Cost) {
        cost.prompt_tokens = self.tokens_evaluated;
        cost.completion_tokens = self.tokens_predicted;
        cost.cached_tokens = self.cached;
    }

    fn written(self) -> Result<Written, Unusable> {
        Ok(Written { text: self.content, ids: self.tokens, end: self.stop_type == "eos" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request() {
        let question = Question { model: "m", prompt: Prompt::Ids(&[5, 6]), max_tokens: 2 };
        let json: serde_json::Value = serde_json::from_slice(&write(&question).unwrap()).unwrap();
        assert_eq!(json["prompt"], serde_json::json!([5, 6]));
        assert_eq!(json["n_predict"], 2);
        assert_eq!(json["temperature"], 0);
        assert_eq!(json["return_tokens"], true);
        assert!(json.get("model").is_none());
    }

    #[test]
    fn the_cached_field_is_asked_for_by_the_name_it_is_read_by() {
        let json = format!(r#"{{"content":"","stop_type":"eos","{CACHED}":4}}"#);
        let mut cost = Cost::default();
        serde_json::from_str::<Completion>(&json).unwrap().count(&mut cost);
        assert_eq!(cost.cached_tokens, 4);
    }

    #[test]
    fn answers() {
        let rows = [
            (
                r#"{"content":" Paris.","tokens":[7042,30],"stop_type":"limit"}"#,
                Written { text: " Paris.".into(), ids: Some(vec![7042, 30]), end: false },
            ),
            (
                r#"{"content":"","tokens":[2],"stop_type":"eos","tokens_predicted":1}"#,
                Written { text: String::new(), ids: Some(vec![2]), end: true },
            ),
            (
                r#"{"content":" \ufffd","tokens":[15107],"stop_type":"limit","more":{}}"#,
                Written { text: " \u{fffd}".into(), ids: Some(vec![15107]), end: false },
            ),
        ];
        for (json, expected) in rows {
            let parsed: Completion = serde_json::from_str(json).unwrap();
            assert_eq!(parsed.written().unwrap(), expected, "{json}");
        }
        for json in ["", "{}", "[]", r#"{"content":1}"#, r#"{"content":"","stop_type":0}"#] {
            assert!(serde_json::from_str::<Completion>(json).is_err(), "{json}");
        }
    }
}
