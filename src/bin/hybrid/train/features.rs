//! What the SLM says at every position of the cloud LLM's answer, computed by the runtime itself.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use hybrid::bundle::{FileRole, sha256};
use hybrid::cancel::Cancel;
use hybrid::reward::statistics;
use hybrid::sampler::{Sampler, SamplerOptions, logit_stats};
use hybrid::session::Model;
use hybrid::slm::{Rows, SlmState};
use hybrid::tokens::Tokens;

/// Answer tokens fed at a time; bounds the memory of their logits.
const CHUNK: usize = 32;
/// Prompt and answer together are shorter, as a rule; the KV cache is made for so many tokens.
const CONTEXT: usize = 4096;
const MAGIC: &[u8; 8] = b"hybridF1";

/// One row per position of an answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Positions {
    /// 1 where the SLM's greedy token is the cloud LLM's, else 0.
    pub agrees: Vec<u8>,
    /// Rows of [`statistics::COUNT`] values.
    pub stats: Vec<f32>,
    /// Rows of hidden size values: before the candidate, and after the SLM has consumed it.
    pub hidden: Vec<f32>,
    pub after: Vec<f32>,
}

/// Computes features and remembers them.
pub struct Collector<'a> {
    tokens: &'a Tokens,
    sampler: Sampler,
    state: Box<dyn SlmState>,
    /// What the state holds.
    fed: Vec<u32>,
    vocabulary: usize,
    hidden_size: usize,
    /// Stands for the SLM in the names of kept files.
    slm: String,
    dir: PathBuf,
}

impl<'a> Collector<'a> {
    pub fn new(model: &'a Model, dir: PathBuf) -> Result<Self> {
        let (slm, files) = (&model.slm, &model.bundle.manifest().files);
        let hashes = [FileRole::Graph, FileRole::Weights]
            .map(|role| files.get(&role).map_or("", |file| &file.sha256));
        Ok(Collector {
            tokens: &model.tokens,
            sampler: Sampler::new(SamplerOptions::default())?,
            state: slm.spawn(CONTEXT.min(slm.context_limit()))?,
            fed: Vec::new(),
            vocabulary: slm.vocabulary_size(),
            hidden_size: slm.hidden_size(),
            slm: hashes.join(" "),
            dir,
        })
    }

    /// Tokens that an answer to `prompt` may have.
    pub fn room(&self, prompt: &[u32]) -> usize {
        self.state.capacity().saturating_sub(prompt.len())
    }

    /// The features along `answer`, from the cache folder where they are there already.
    pub fn get(&mut self, prompt: &[u32], answer: &[u32]) -> Result<Positions> {
        let path = self.dir.join(format!("{}.bin", self.key(prompt, answer)));
        if path.exists() {
            let bytes = std::fs::read(&path)?;
            return decode(&bytes, answer.len(), self.hidden_size)
                .with_context(|| format!("{} is damaged: delete it", path.display()));
        }
        let positions = self.compute(prompt, answer)?;
        super::replace(&path, &encode(&positions))?;
        Ok(positions)
    }

    fn key(&self, prompt: &[u32], answer: &[u32]) -> String {
        let mut bytes = format!("{} {} ", self.slm, statistics::VERSION).into_bytes();
        bytes.extend((prompt.len() as u64).to_le_bytes());
        bytes.extend(prompt.iter().chain(answer).flat_map(|id| id.to_le_bytes()));
        sha256(&bytes)
    }

    fn compute(&mut self, prompt: &[u32], answer: &[u32]) -> Result<Positions> {
        let mut positions = Positions::default();
        // Row i of `states` is the state before answer token i; the last one is after the answer.
        let mut states = Vec::new();
        let mut candidates = Vec::new();
        let (mut logits, hidden) = self.feed_prompt(prompt)?;
        states.extend(hidden);
        for chunk in answer.chunks(CHUNK) {
            let output = self.feed(chunk, Rows::All)?;
            // Each token was predicted by the row before it.
            logits.extend(output.0);
            let (rows, last) = logits.split_at(chunk.len() * self.vocabulary);
            for (row, &token) in rows.chunks_exact(self.vocabulary).zip(chunk) {
                let candidate = self.sampler.sample(row, &[])?;
                candidates.push(candidate);
                positions.agrees.push(self.agree(candidate, token).into());
                positions.stats.extend(statistics::values(&logit_stats(row, candidate)));
            }
            logits = last.to_vec();
            states.extend(output.1);
        }
        let size = self.hidden_size;
        positions.hidden = states.get(..answer.len() * size).context("short states")?.to_vec();
        positions.after = states.get(size..).context("short states")?.to_vec();
        self.replace_rejected(prompt.len(), answer, &candidates, &mut positions.after)?;
        Ok(positions)
    }

    fn agree(&self, candidate: u32, token: u32) -> bool {
        candidate == token || (self.tokens.is_stop(candidate) && self.tokens.is_stop(token))
    }

    /// Where the candidate is another token than the answer's, the state after it is computed by
    /// feeding it, from the last position to the first so that every way is a rewind.
    fn replace_rejected(
        &mut self,
        prompt: usize,
        answer: &[u32],
        candidates: &[u32],
        after: &mut [f32],
    ) -> Result<()> {
        let rows = after.chunks_exact_mut(self.hidden_size);
        for ((i, row), (&candidate, &token)) in
            rows.enumerate().zip(candidates.iter().zip(answer)).rev()
        {
            if candidate != token {
                self.rewind_to(prompt + i)?;
                row.copy_from_slice(&self.feed(&[candidate], Rows::Last)?.1);
            }
        }
        Ok(())
    }

    /// Feeds the prompt, keeping what it shares with the one before: the template's beginning.
    fn feed_prompt(&mut self, prompt: &[u32]) -> Result<(Vec<f32>, Vec<f32>)> {
        let same = self.fed.iter().zip(prompt).take_while(|(a, b)| a == b).count();
        // The last token is always fed: its row is wanted.
        let keep = same.min(prompt.len().saturating_sub(1));
        self.rewind_to(keep)?;
        self.feed(prompt.get(keep..).unwrap_or_default(), Rows::Last)
    }

    fn rewind_to(&mut self, length: usize) -> Result<()> {
        self.state.rewind(self.fed.len().saturating_sub(length))?;
        self.fed.truncate(length);
        Ok(())
    }

    /// Logits and hidden states.
    fn feed(&mut self, ids: &[u32], rows: Rows) -> Result<(Vec<f32>, Vec<f32>)> {
        let output = self.state.feed(ids, rows, &Cancel::new())?;
        self.fed.extend_from_slice(ids);
        Ok((output.logits, output.hidden))
    }
}

fn encode(positions: &Positions) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&positions.agrees);
    for values in [&positions.stats, &positions.hidden, &positions.after] {
        bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    }
    bytes
}

fn decode(bytes: &[u8], rows: usize, hidden_size: usize) -> Result<Positions> {
    let rest = bytes.strip_prefix(MAGIC).context("it is no feature file")?;
    let (agrees, rest) = rest.split_at_checked(rows).context("it is cut")?;
    let (chunks, odd) = rest.as_chunks::<4>();
    let values: Vec<f32> = chunks.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let (stats, hidden) = (rows * statistics::COUNT, rows * hidden_size);
    ensure!(odd.is_empty() && values.len() == stats + 2 * hidden, "its length is wrong");
    Ok(Positions {
        agrees: agrees.to_vec(),
        stats: values[..stats].to_vec(),
        hidden: values[stats..stats + hidden].to_vec(),
        after: values[stats + hidden..].to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_features_come_back_and_damage_is_noticed() {
        let positions = Positions {
            agrees: vec![1, 0, 1],
            stats: (0..3 * statistics::COUNT).map(|i| i as f32).collect(),
            hidden: (0..12).map(|i| -(i as f32)).collect(),
            after: (0..12).map(|i| 0.5 * i as f32).collect(),
        };
        let bytes = encode(&positions);
        assert_eq!(decode(&bytes, 3, 4).unwrap(), positions);
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut], 3, 4).is_err(), "cut at {cut}");
        }
        assert!(decode(&bytes, 2, 4).is_err());
        assert!(decode(&bytes, 3, 5).is_err());
    }
}
