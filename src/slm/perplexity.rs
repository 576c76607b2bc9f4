//! Perplexity: how well a model predicts a text.

use super::{Rows, Slm};
use crate::cancel::Cancel;
use crate::error::{Error, Result};

/// A sum over the tokens scored.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Perplexity {
    pub tokens: usize,
    /// Negative log-likelihood, natural logarithm, summed over `tokens`.
    pub nll: f64,
}

impl Perplexity {
    /// e to the mean negative log-likelihood; 1 for no tokens.
    pub fn value(&self) -> f64 {
        (self.nll / self.tokens.max(1) as f64).exp()
    }
}

/// Scores `ids` in windows of `window` tokens that do not overlap, each from an empty cache: in
/// every window all tokens but its first. What does not fill a last window is left out. `progress`
/// is called with the tokens done after every window.
pub fn perplexity(
    slm: &Slm,
    ids: &[u32],
    window: usize,
    cancel: &Cancel,
    mut progress: impl FnMut(usize),
) -> Result<Perplexity> {
    if window < 2 || ids.len() < window {
        return Err(Error::InvalidArgument(format!(
            "{} tokens in windows of {window}; a window has at least 2 and must be filled once",
            ids.len()
        )));
    }
    let mut state = slm.spawn(window)?;
    let mut total = Perplexity::default();
    for (ix, window_ids) in ids.chunks_exact(window).enumerate() {
        state.rewind(state.len())?;
        let logits = state.feed(window_ids, Rows::All, cancel)?.logits;
        let rows = logits.chunks_exact(slm.vocabulary_size());
        for (row, &next) in rows.zip(&window_ids[1..]) {
            total.nll += negative_log_likelihood(row, next as usize);
            total.tokens += 1;
        }
        progress((ix + 1) * window);
    }
    Ok(total)
}

/// `-ln softmax(logits)[id]`.
fn negative_log_likelihood(logits: &[f32], id: usize) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|x| f64::from(x - max).exp()).sum();
    let logit = logits.get(id).copied().unwrap_or(f32::NEG_INFINITY);
    sum.ln() - f64::from(logit - max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn likelihoods_are_those_of_a_softmax() {
        let table = [
            (vec![0.0, 0.0], 0, 2f64.ln()),
            (vec![1.0, f32::NEG_INFINITY], 0, 0.0),
            (vec![1000.0, 1000.0], 0, 2f64.ln()),
            (vec![0.0, 3f32.ln()], 0, 4f64.ln()),
            (vec![0.0, f32::NEG_INFINITY], 1, f64::INFINITY),
        ];
        for (logits, id, wanted) in table {
            let got = negative_log_likelihood(&logits, id);
            assert!((got - wanted).abs() < 1e-5 || got == wanted, "{logits:?}: {got} {wanted}");
        }
    }

    #[test]
    fn the_mean_counts_tokens() {
        assert_eq!(Perplexity::default().value(), 1.0);
        let two = Perplexity { tokens: 2, nll: 2.0 * 3f64.ln() };
        assert!((two.value() - 3.0).abs() < 1e-9);
    }
}
