//! The figures as tables for people and as lines of JSON.

use std::fmt::Write;

use serde::Serialize;

use super::arguments::Prices;
use hybrid_common::answers::case::Outcome;

/// A way to generate that was measured on every prompt.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Way {
    /// A score's name, or `slm`, `llm` (each alone) or `oracle`.
    pub gate: &'static str,
    /// The share of cloud tokens that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// By what the threshold was set, if not by a share or by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f32>,
    pub burst: u32,
}

/// One session.
#[derive(Debug, Serialize)]
pub struct Record {
    pub prompt: String,
    #[serde(flatten)]
    pub way: Way,
    #[serde(flatten)]
    pub outcome: Outcome,
    /// The text is the cloud LLM's.
    pub identical: bool,
    /// How much of the longer text the two have in common before they part, 0 to 1.
    pub agreement: f64,
}

impl Record {
    pub fn new(prompt: &str, way: &Way, outcome: Outcome, answer: &str) -> Record {
        Record {
            prompt: prompt.into(),
            way: way.clone(),
            identical: outcome.text == answer,
            agreement: agreement(&outcome.text, answer),
            outcome,
        }
    }
}

fn agreement(a: &str, b: &str) -> f64 {
    let longer = a.len().max(b.len());
    let same = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    if longer == 0 { 1.0 } else { same as f64 / longer as f64 }
}

/// All sessions of one way.
#[derive(Debug, Serialize)]
pub struct Sum {
    #[serde(flatten)]
    pub way: Way,
    pub prompts: usize,
    pub tokens: u64,
    /// The share of cloud tokens that was used.
    pub obtained: f64,
    pub identical: usize,
    /// Mean over prompts.
    pub agreement: f64,
    pub answer_tokens: u64,
    pub consults: u64,
    pub prompt_tokens: u64,
    pub cost: f64,
    pub bytes: u64,
    pub seconds: f64,
}

impl Sum {
    /// `records` are of one way, and there is one at least.
    pub fn of(records: &[&Record], prices: Prices) -> Option<Sum> {
        let way = records.first()?.way.clone();
        let total = |of: fn(&Outcome) -> u64| records.iter().map(|r| of(&r.outcome)).sum::<u64>();
        let (tokens, cloud) = (total(|o| o.tokens), total(|o| o.cloud));
        let (answer_tokens, prompt_tokens) =
            (total(|o| o.answer_tokens), total(|o| o.prompt_tokens));
        Some(Sum {
            way,
            prompts: records.len(),
            tokens,
            obtained: cloud as f64 / tokens.max(1) as f64,
            identical: records.iter().filter(|r| r.identical).count(),
            agreement: records.iter().map(|r| r.agreement).sum::<f64>() / records.len() as f64,
            answer_tokens,
            consults: total(|o| o.consults),
            prompt_tokens,
            cost: (prompt_tokens as f64 * prices.prompt + answer_tokens as f64 * prices.token)
                / 1e6,
            bytes: total(|o| o.bytes),
            seconds: records.iter().map(|r| r.outcome.seconds).sum(),
        })
    }
}

/// A table for people. Cost and time have a column where they are known.
pub fn table(sums: &[Sum]) -> String {
    let (priced, timed) = (sums.iter().any(|s| s.cost > 0.0), sums.iter().any(|s| s.seconds > 0.0));
    let mut text = format!(
        "{:18}{:>6}{:>12}{:>11}{:>7}{:>11}{:>11}{:>9}{:>9}{:>10}",
        "gate",
        "burst",
        "asked",
        "threshold",
        "cloud",
        "identical",
        "agreement",
        "tokens",
        "consults",
        "billed"
    );
    text += if priced { "       cost" } else { "" };
    text += if timed { "   seconds      bytes\n" } else { "\n" };
    for sum in sums {
        let asked = match (sum.way.share, sum.way.rule) {
            (Some(share), _) => format!("{:.0} %", 100.0 * share),
            (None, rule) => rule.unwrap_or("-").into(),
        };
        let threshold = sum.way.threshold.map_or("-".into(), |t| format!("{t:.4}"));
        let identical = format!("{}/{}", sum.identical, sum.prompts);
        let _ = write!(
            text,
            "{:18}{:6}{asked:>12}{threshold:>11}{:5.1} %{identical:>11}{:11.3}{:9}{:9}{:10}",
            sum.way.gate,
            sum.way.burst,
            100.0 * sum.obtained,
            sum.agreement,
            sum.tokens,
            sum.consults,
            sum.prompt_tokens,
        );
        if priced {
            let _ = write!(text, "{:11.6}", sum.cost);
        }
        if timed {
            let _ = write!(text, "{:10.2}{:11}", sum.seconds, sum.bytes);
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_known_sessions() {
        let way =
            Way { gate: "margin", share: Some(0.2), threshold: Some(0.5), burst: 1, rule: None };
        let outcome = |text: &str, tokens, cloud| Outcome {
            text: text.into(),
            tokens,
            cloud,
            answer_tokens: cloud,
            consults: cloud,
            prompt_tokens: 100 * cloud,
            ..Outcome::default()
        };
        let records = [
            Record::new("a", &way, outcome("abcd", 4, 1), "abcd"),
            Record::new("b", &way, outcome("abcd", 6, 1), "abXdefgh"),
            Record::new("c", &way, outcome("", 0, 0), ""),
        ];
        let sum = Sum::of(&records.iter().collect::<Vec<_>>(), Prices { prompt: 1.0, token: 10.0 });
        let sum = sum.unwrap();
        assert_eq!((sum.prompts, sum.identical, sum.tokens, sum.consults), (3, 2, 10, 2));
        assert!((sum.obtained - 0.2).abs() < 1e-12);
        assert!((sum.agreement - (1.0 + 0.25 + 1.0) / 3.0).abs() < 1e-12);
        assert!((sum.cost - (200.0 + 20.0) / 1e6).abs() < 1e-12);
        assert!(table(&[sum]).contains("20 %     0.5000 20.0 %        2/3"));
    }
}
