//! One sequence of a model that goes from text to text by rewinding to what they share.

use anyhow::Result;
use hybrid::cancel::Cancel;
use hybrid::sampler::{Sampler, Sampling};
use hybrid::slm::{Output, Rows, Slm, SlmState};

/// Tokens fed at a time; bounds the memory of their logits.
const CHUNK: usize = 32;
/// Prompt and answer together are shorter, as a rule; the KV cache is made for so many tokens.
const CONTEXT: usize = 4096;

/// Tokens of a guess that are checked at a time.
const GUESS: usize = 8;
/// A guess that was wrong may go on behind so many tokens.
const SKIP: usize = 6;

pub struct Reader {
    state: Box<dyn SlmState>,
    /// What the state holds.
    fed: Vec<u32>,
    vocabulary: usize,
    hidden_size: usize,
}

impl Reader {
    pub fn new(slm: &Slm) -> Result<Reader> {
        Ok(Reader {
            state: slm.spawn(CONTEXT.min(slm.context_limit()))?,
            fed: Vec::new(),
            vocabulary: slm.vocabulary_size(),
            hidden_size: slm.hidden_size(),
        })
    }

    pub fn hidden_size(&self) -> usize {
        self.hidden_size
    }

    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Tokens that an answer to `prompt` may have.
    pub fn room(&self, prompt: &[u32]) -> usize {
        self.state.capacity().saturating_sub(prompt.len())
    }

    /// Logits and hidden state after `text`.
    pub fn after(&mut self, text: &[u32]) -> Result<Output> {
        let same = self.fed.iter().zip(text).take_while(|(a, b)| a == b).count();
        // The last token is always fed: its row is wanted.
        let keep = self.keep(same.min(text.len().saturating_sub(1)))?;
        self.feed(&text[keep..], Rows::Last)
    }

    /// Reads `path` after `prompt`. `visit` gets logits and hidden state from which each token of
    /// the path follows, and those after the last one.
    pub fn along(
        &mut self,
        prompt: &[u32],
        path: &[u32],
        mut visit: impl FnMut(usize, &[f32], &[f32]) -> Result<()>,
    ) -> Result<()> {
        let first = self.after(prompt)?;
        visit(0, &first.logits, &first.hidden)?;
        let mut at = 0;
        for chunk in path.chunks(CHUNK) {
            let output = self.feed(chunk, Rows::All)?;
            let logits = output.logits.chunks_exact(self.vocabulary);
            for (logits, hidden) in logits.zip(output.hidden.chunks_exact(self.hidden_size)) {
                at += 1;
                visit(at, logits, hidden)?;
            }
        }
        Ok(())
    }

    /// Writes an answer to `prompt` until it is `done`.
    pub fn write(
        &mut self,
        prompt: &[u32],
        (sampling, seed): (Sampling, u64),
        done: impl Fn(&[u32]) -> bool,
    ) -> Result<Vec<u32>> {
        let mut sampler = Sampler::new(sampling, seed)?;
        let mut text = prompt.to_vec();
        while !done(&text[prompt.len()..]) {
            let output = self.after(&text)?;
            text.push(sampler.sample(&output.logits, &text)?);
        }
        Ok(text.split_off(prompt.len()))
    }

    /// The greedy answer to `prompt`, the one that [`Reader::write`] gives. `guess` is what it may
    /// be: its tokens are read many at a time, which is quicker than one by one.
    pub fn write_greedily(
        &mut self,
        prompt: &[u32],
        mut guess: &[u32],
        done: impl Fn(&[u32]) -> bool,
    ) -> Result<Vec<u32>> {
        let mut sampler = Sampler::new(Sampling::default(), 0)?;
        let mut text = prompt.to_vec();
        while !done(&text[prompt.len()..]) {
            let room = self.state.capacity() - text.len();
            let guessed = &guess[..guess.len().min(GUESS).min(room)];
            let mut right = 0;
            let output = self.after_each(&text, guessed)?;
            for logits in output.logits.chunks_exact(self.vocabulary) {
                let choice = sampler.sample(logits, &text)?;
                text.push(choice);
                if done(&text[prompt.len()..]) || guessed.get(right) != Some(&choice) {
                    break;
                }
                right += 1;
            }
            guess = rest(&guess[right..], text[text.len() - 1]);
        }
        Ok(text.split_off(prompt.len()))
    }

    /// Logits and hidden states after `text`, which must have a token, and after each token of
    /// `more`.
    pub fn after_each(&mut self, text: &[u32], more: &[u32]) -> Result<Output> {
        let same = self.fed.iter().zip(text).take_while(|(a, b)| a == b).count();
        // The last token is always fed: its row is wanted, those of the tokens before it are not.
        let last = text.len() - 1;
        let keep = self.keep(same.min(last))?;
        if keep < last {
            self.feed(&text[keep..last], Rows::Last)?;
        }
        self.feed(&[&text[last..], more].concat(), Rows::All)
    }

    /// Goes back to `len` tokens, or to fewer where the state has to; says to how many.
    fn keep(&mut self, len: usize) -> Result<usize> {
        self.state.rewind(self.fed.len() - len)?;
        self.fed.truncate(self.state.len());
        Ok(self.fed.len())
    }

    fn feed(&mut self, ids: &[u32], rows: Rows) -> Result<Output> {
        let output = self.state.feed(ids, rows, &Cancel::new())?;
        self.fed.extend_from_slice(ids);
        Ok(output)
    }
}

/// What is left of a guess whose first token should have been `token`: what follows the next such
/// token, or all but the first.
fn rest(guess: &[u32], token: u32) -> &[u32] {
    let at = guess.iter().take(SKIP).position(|&id| id == token).unwrap_or(0);
    guess.get(at + 1..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guess_goes_on_behind_its_mistake() {
        let table: [(&[u32], u32, &[u32]); 5] = [
            (&[], 1, &[]),
            (&[2], 1, &[]),
            (&[2, 3, 4], 1, &[3, 4]),
            (&[2, 3, 1, 4], 1, &[4]),
            (&[2, 3, 4, 5, 6, 7, 1, 8], 1, &[3, 4, 5, 6, 7, 1, 8]),
        ];
        for (guess, token, want) in table {
            assert_eq!(rest(guess, token), want);
        }
    }
}
