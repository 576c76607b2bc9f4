//! What the SLM knows of the cloud LLM's choice where it proposes another token: the other half of
//! a pair, for heads that are fitted to rank.

use anyhow::Result;
use hybrid::reward::statistics;
use hybrid::sampler::{LogitStats, logit_stats};

use super::features::{Features, TOP};
use super::reader::Reader;

/// One row per position where the choice is not the candidate, ascending.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Chosen {
    /// The positions.
    pub at: Vec<u32>,
    /// Rows of [`statistics::COUNT`] values, with the choice as the candidate.
    pub stats: Vec<f32>,
    /// Rows of hidden size values: the state after the SLM has consumed the choice.
    pub after: Vec<f32>,
}

impl Chosen {
    /// `choices`: the LLM's token at every position of the path that `features` are of.
    pub fn read(
        slm: &mut Reader,
        prompt: &[u32],
        path: &[u32],
        features: &Features,
        choices: &[u32],
    ) -> Result<Chosen> {
        let apart: Vec<usize> =
            (0..path.len()).filter(|&at| features.candidates[at] != choices[at]).collect();
        let mut chosen =
            Chosen { at: apart.iter().map(|&at| at as u32).collect(), ..Chosen::default() };
        let (stats, size) = (statistics::COUNT, slm.hidden_size());
        chosen.stats.resize(apart.len() * stats, 0.0);
        chosen.after.resize(apart.len() * size, 0.0);
        let mut text = [prompt, path].concat();
        // From the last position to the first, so that every way is a rewind.
        for (row, &at) in apart.iter().enumerate().rev() {
            let choice = choices[at];
            let of_choice = match among_top(features, at, choice) {
                Some(known) => known,
                None => logit_stats(&slm.after(&text[..prompt.len() + at])?.logits, choice),
            };
            chosen.stats[row * stats..][..stats].copy_from_slice(&statistics::values(&of_choice));
            let after = &mut chosen.after[row * size..][..size];
            if path[at] == choice && at + 1 < path.len() {
                // The path goes on with it: the next position's state.
                after.copy_from_slice(&features.hidden[(at + 1) * size..][..size]);
            } else {
                text.truncate(prompt.len() + at);
                text.push(choice);
                after.copy_from_slice(&slm.after(&text)?.hidden);
            }
        }
        Ok(chosen)
    }
}

/// The statistics of a token that is among the most likely ones: all but its own probability are
/// the candidate's.
fn among_top(features: &Features, at: usize, token: u32) -> Option<LogitStats> {
    let rank = features.top[at * TOP..][..TOP].iter().position(|&id| id == token)?;
    let (row, _) =
        features.stats[at * statistics::COUNT..].split_first_chunk::<{ statistics::COUNT }>()?;
    let top: [f32; TOP] = *row.last_chunk()?;
    Some(LogitStats { log_p: top[rank], top, entropy: row[ENTROPY] })
}

/// Where [`statistics::NAMES`] has the entropy.
const ENTROPY: usize = 5;

#[cfg(test)]
mod tests {
    use hybrid::sampler::top_tokens;

    use super::*;

    #[test]
    fn statistics_of_likely_tokens_need_no_logits() {
        let logits: Vec<f32> = (0..40).map(|i| (i as f32 * 1.7).sin() * 4.0).collect();
        let top = top_tokens(&logits);
        let row = |token| statistics::values(&logit_stats(&logits, token));
        let features = Features {
            top: [[0; TOP], top].concat(),
            stats: [[0.0; statistics::COUNT], row(top[0])].concat(),
            ..Features::default()
        };
        for token in 0..40 {
            let found = among_top(&features, 1, token).map(|stats| statistics::values(&stats));
            assert_eq!(found, top.contains(&token).then(|| row(token)), "{token}");
        }
        assert_eq!(statistics::NAMES[ENTROPY], "entropy");
    }
}
