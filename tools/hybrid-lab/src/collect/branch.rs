//! What the cloud LLM writes behind a token of the SLM's instead of its own. Where the outcome
//! stays the same, the disagreement was neutral, and not worth a consult; R2R (arXiv:2505.21600)
//! tells these from divergent ones.

use hybrid::bundle::sha256;
use hybrid::tokens::Tokens;
use serde::Serialize;

use hybrid_common::prompts::Prompt;
use hybrid_common::records::record::Record;

/// A line of the file, as docs/reward-head.md describes it.
#[derive(Serialize)]
pub struct Branch<'a> {
    prompt: &'a str,
    text: &'a str,
    at: usize,
    candidate: String,
    choice: String,
    answer: String,
    branch: String,
}

impl<'a> Branch<'a> {
    /// `ids`: the LLM's answer that begins with the record's first `at` tokens and the SLM's
    /// candidate.
    pub fn new(
        prompt: &'a Prompt,
        record: &Record,
        at: usize,
        ids: &[u32],
        tokens: &Tokens,
    ) -> Branch<'a> {
        let text = |ids: &[u32]| {
            String::from_utf8_lossy(prompt.stop.cut(&tokens.bytes_of(ids))).into_owned()
        };
        let token = |id: u32| String::from_utf8_lossy(tokens.bytes(id)).into_owned();
        Branch {
            prompt: &prompt.id,
            text: &prompt.text,
            at,
            candidate: token(record.features.candidates[at]),
            choice: token(record.labels.choices[at]),
            answer: text(&record.tokens),
            branch: text(ids),
        }
    }
}

/// One of the positions at which the two models disagree, if there is any: drawn, but for a prompt
/// always the same.
pub fn place(prompt: &str, candidates: &[u32], choices: &[u32]) -> Option<usize> {
    let apart: Vec<usize> =
        (0..choices.len()).filter(|&at| candidates[at] != choices[at]).collect();
    let draw =
        u64::from_str_radix(&sha256(prompt.as_bytes())[..12], 16).expect("hexadecimal digits");
    (!apart.is_empty()).then(|| apart[(draw % apart.len() as u64) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_one_of_disagreement_and_stays() {
        assert_eq!(place("p", &[1, 2, 3], &[1, 2, 3]), None);
        assert_eq!(place("p", &[1, 9, 3], &[1, 2, 3]), Some(1));
        let (candidates, choices) = ([0; 40], [0, 1].repeat(20));
        let drawn: Vec<_> = ('a'..='z')
            .map(|p| place(&p.to_string(), &candidates, &choices).unwrap())
            .inspect(|at| assert_eq!(at % 2, 1))
            .collect();
        assert!(drawn.iter().any(|at| *at != drawn[0]));
        assert_eq!(place("a", &candidates, &choices), Some(drawn[0]));
    }
}
