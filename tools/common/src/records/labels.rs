//! What the cloud LLM would have said at every position of a path.

use anyhow::Result;
use hybrid::sampler::top_tokens;
use hybrid::tokens::Tokens;

use super::features::{Features, TOP};
use super::reader::Reader;
use super::text::Text;

/// One row per position.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Labels {
    /// The LLM's greedy tokens; the path's where its vocabulary is another.
    pub choices: Vec<u32>,
    /// The SLM's candidate says the same. Missing from files of an earlier version.
    pub agrees: Option<Vec<bool>>,
    /// What only an LLM on this machine tells.
    pub odds: Option<Odds>,
}

/// The LLM's distribution, as far as it is kept. Logarithms are natural.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Odds {
    /// Its log-probability of the SLM's candidate, and how many tokens it finds likelier.
    pub log_p: Vec<f32>,
    pub rank: Vec<u32>,
    /// Rows of [`TOP`]: its log-probabilities of the SLM's most likely tokens.
    pub log_p_of_top: Vec<f32>,
    /// Rows of [`TOP`]: its own most likely tokens and their log-probabilities.
    pub top: Vec<u32>,
    pub top_log_p: Vec<f32>,
}

impl Labels {
    /// Of an LLM with the SLM's vocabulary. Tokens that end a text say the same.
    pub fn new(
        choices: Vec<u32>,
        odds: Option<Odds>,
        features: &Features,
        tokens: &Tokens,
    ) -> Labels {
        let is_stop = |id| tokens.is_stop(id);
        let agrees = agreement(&features.candidates, &choices, is_stop);
        Labels { choices, agrees: Some(agrees), odds }
    }

    /// Of an LLM with another vocabulary, along its own text.
    pub fn of_text(text: &Text, path: &[u32], features: &Features, tokens: &Tokens) -> Labels {
        let agrees = text.agrees(path, &features.candidates, tokens);
        Labels { choices: path.to_vec(), agrees: Some(agrees), odds: None }
    }

    /// Has the LLM read the path in one go.
    pub fn read(
        llm: &mut Reader,
        prompt: &[u32],
        path: &[u32],
        features: &Features,
        tokens: &Tokens,
    ) -> Result<Labels> {
        let mut choices = Vec::new();
        let mut odds = Odds::default();
        llm.along(prompt, path, |at, logits, _| {
            if at < path.len() {
                let own = top_tokens(logits);
                choices.push(own[0]);
                odds.push(logits, own, features.candidates[at], &features.top[at * TOP..][..TOP]);
            }
            Ok(())
        })?;
        Ok(Labels::new(choices, Some(odds), features, tokens))
    }
}

/// Where two models of one vocabulary say the same.
pub fn agreement(candidates: &[u32], choices: &[u32], is_stop: impl Fn(u32) -> bool) -> Vec<bool> {
    let pairs = candidates.iter().zip(choices);
    pairs.map(|(&a, &b)| a == b || (is_stop(a) && is_stop(b))).collect()
}

impl Odds {
    fn push(&mut self, logits: &[f32], own: [u32; TOP], candidate: u32, slm_top: &[u32]) {
        let largest = logits[own[0] as usize];
        let sum: f64 = logits.iter().map(|&l| f64::from((l - largest).exp())).sum();
        let log_p = |id: u32| logits[id as usize] - largest - sum.ln() as f32;
        let at_candidate = logits[candidate as usize];
        self.log_p.push(log_p(candidate));
        self.rank.push(logits.iter().filter(|&&l| l > at_candidate).count() as u32);
        self.log_p_of_top.extend(slm_top.iter().map(|&id| log_p(id)));
        self.top.extend(own);
        self.top_log_p.extend(own.map(log_p));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_and_ranks() {
        let p: [f32; 9] = [0.05, 0.3, 0.1, 0.02, 0.2, 0.03, 0.15, 0.11, 0.04];
        let logits = p.map(|p| p.ln() + 3.0);
        let mut odds = Odds::default();
        odds.push(&logits, top_tokens(&logits), 7, &[4, 1]);
        assert_eq!(odds.rank, [3]);
        assert_eq!(odds.top, [1, 4, 6, 7, 2, 0, 8, 5]);
        let close = |found: f32, want: f32| assert!((found.exp() - want).abs() < 1e-6, "{want}");
        close(odds.log_p[0], 0.11);
        close(odds.log_p_of_top[0], 0.2);
        close(odds.log_p_of_top[1], 0.3);
        odds.top_log_p.iter().zip(&odds.top).for_each(|(&l, &id)| close(l, p[id as usize]));
    }
}
