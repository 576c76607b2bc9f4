//! What the SLM says at every position of a path, computed by the runtime itself.

use anyhow::Result;
use hybrid::reward::statistics;
use hybrid::sampler::{Sampler, Sampling, logit_stats, top_tokens};

use super::reader::Reader;

/// Most likely tokens that are noted.
pub const TOP: usize = 8;

/// One row per position of a path.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Features {
    /// The SLM's greedy tokens.
    pub candidates: Vec<u32>,
    /// Rows of [`TOP`] ids, the most likely first.
    pub top: Vec<u32>,
    /// Rows of [`statistics::COUNT`] values.
    pub stats: Vec<f32>,
    /// Rows of hidden size values: before the candidate, and after the SLM has consumed it.
    pub hidden: Vec<f32>,
    pub after: Vec<f32>,
}

impl Features {
    pub fn read(slm: &mut Reader, prompt: &[u32], path: &[u32]) -> Result<Features> {
        let mut features = Features::default();
        let mut sampler = Sampler::new(Sampling::default(), 0)?;
        slm.along(prompt, path, |at, logits, hidden| {
            if at > 0 {
                features.after.extend_from_slice(hidden);
            }
            if at < path.len() {
                let candidate = sampler.sample(logits, &[])?;
                features.candidates.push(candidate);
                features.top.extend(top_tokens(logits));
                features.stats.extend(statistics::values(&logit_stats(logits, candidate)));
                features.hidden.extend_from_slice(hidden);
            }
            Ok(())
        })?;
        features.replace_rejected(slm, prompt, path)?;
        Ok(features)
    }

    /// Where the candidate is another token than the path's, the state after it is computed by
    /// feeding it, from the last position to the first so that every way is a rewind.
    fn replace_rejected(&mut self, slm: &mut Reader, prompt: &[u32], path: &[u32]) -> Result<()> {
        let mut text = [prompt, path].concat();
        let size = slm.hidden_size();
        for (at, &token) in path.iter().enumerate().rev() {
            let candidate = self.candidates[at];
            if candidate != token {
                text.truncate(prompt.len() + at);
                text.push(candidate);
                self.after[at * size..(at + 1) * size].copy_from_slice(&slm.after(&text)?.hidden);
            }
        }
        Ok(())
    }
}
