//! A path with its features and labels as a safetensors file. docs/reward-head.md lists the
//! tensors.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use half::f16;
use hybrid::reward::statistics;
use safetensors::tensor::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};

use super::chosen::Chosen;
use super::features::{Features, TOP};
use super::labels::{Labels, Odds, agreement};
use crate::files::replace;
use crate::prompts::Split;

/// Changes when a tensor changes its meaning.
pub const FORMAT: &str = "hybrid-collect 1";

/// What one file holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub about: About,
    /// The path itself: the row of a token is what was known before it.
    pub tokens: Vec<u32>,
    pub features: Features,
    pub labels: Labels,
    /// Missing from files of an earlier version, which cannot serve ranking.
    pub chosen: Option<Chosen>,
}

/// Where a record comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    pub format: String,
    pub prompt: String,
    pub split: Split,
    /// Who wrote the path: `llm`, `slm` with its temperature and seed, or `answer`.
    pub path: String,
    /// The SLM's file.
    pub slm_sha256: String,
    pub llm: String,
    pub statistics_version: u32,
}

impl About {
    pub fn new(prompt: &str, split: Split, path: &str, slm_sha256: &str, llm: &str) -> About {
        About {
            format: FORMAT.into(),
            prompt: prompt.into(),
            split,
            path: path.into(),
            slm_sha256: slm_sha256.into(),
            llm: llm.into(),
            statistics_version: statistics::VERSION,
        }
    }
}

/// A tensor about to be written.
struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for Tensor {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        (&self.bytes).into()
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

impl Record {
    /// Writes the file whole or not at all.
    pub fn save(&self, path: &Path) -> Result<()> {
        let rows = self.tokens.len();
        let (features, labels) = (&self.features, &self.labels);
        let mut tensors = vec![
            ("tokens", ids(rows, &self.tokens)),
            ("candidates", ids(rows, &features.candidates)),
            ("top", ids(rows, &features.top)),
            ("stats", floats(rows, &features.stats)),
            ("hidden", halves(rows, &features.hidden)),
            ("hidden_after", halves(rows, &features.after)),
            ("choices", ids(rows, &labels.choices)),
        ];
        if let Some(agrees) = &labels.agrees {
            let bytes = agrees.iter().map(|&agrees| u8::from(agrees)).collect();
            tensors.push(("agrees", Tensor { dtype: Dtype::U8, shape: vec![rows], bytes }));
        }
        if let Some(odds) = &labels.odds {
            tensors.extend([
                ("llm_log_p", floats(rows, &odds.log_p)),
                ("llm_rank", ids(rows, &odds.rank)),
                ("llm_log_p_of_top", floats(rows, &odds.log_p_of_top)),
                ("llm_top", ids(rows, &odds.top)),
                ("llm_top_log_p", floats(rows, &odds.top_log_p)),
            ]);
        }
        if let Some(chosen) = &self.chosen {
            let rows = chosen.at.len();
            tensors.extend([
                ("chosen_at", ids(rows, &chosen.at)),
                ("chosen_stats", floats(rows, &chosen.stats)),
                ("chosen_after", halves(rows, &chosen.after)),
            ]);
        }
        // The header's values are texts.
        let about = HashMap::from([("about".to_owned(), serde_json::to_string(&self.about)?)]);
        replace(path, &safetensors::serialize(tensors, Some(about))?)
    }

    /// At every position, whether SLM and LLM say the same.
    pub fn agrees(&self, is_stop: impl Fn(u32) -> bool) -> Vec<bool> {
        let Labels { agrees, choices, .. } = &self.labels;
        let compared = || agreement(&self.features.candidates, choices, is_stop);
        agrees.clone().unwrap_or_else(compared)
    }

    pub fn load(path: &Path) -> Result<Record> {
        let read = || {
            let bytes = std::fs::read(path)?;
            decode(&bytes)
        };
        read().with_context(|| format!("{}: delete it to collect it again", path.display()))
    }
}

fn decode(bytes: &[u8]) -> Result<Record> {
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    let about = header.metadata().as_ref().and_then(|m| m.get("about"));
    let about: About =
        serde_json::from_str(about.context("it is no file of `hybrid-lab collect`")?)?;
    ensure!(about.format == FORMAT, "its format is {}, this tool reads {FORMAT}", about.format);
    let file = File(SafeTensors::deserialize(bytes)?);
    let tokens = file.ids("tokens", None)?;
    let n = tokens.len();
    let (hidden, columns) = file.halves("hidden", n)?;
    let (after, columns_after) = file.halves("hidden_after", n)?;
    ensure!(columns == columns_after, "its hidden states differ in size");
    let features = Features {
        candidates: file.ids("candidates", Some(n))?,
        top: file.ids("top", Some(n * TOP))?,
        stats: file.floats("stats", n * statistics::COUNT)?,
        hidden,
        after,
    };
    let odds = match file.0.tensor("llm_log_p") {
        Err(_) => None,
        Ok(_) => Some(Odds {
            log_p: file.floats("llm_log_p", n)?,
            rank: file.ids("llm_rank", Some(n))?,
            log_p_of_top: file.floats("llm_log_p_of_top", n * TOP)?,
            top: file.ids("llm_top", Some(n * TOP))?,
            top_log_p: file.floats("llm_top_log_p", n * TOP)?,
        }),
    };
    let agrees = file.0.tensor("agrees").is_ok().then(|| file.flags("agrees", n)).transpose()?;
    let labels = Labels { choices: file.ids("choices", Some(n))?, agrees, odds };
    let chosen = chosen(&file, n, columns)?;
    Ok(Record { about, tokens, features, labels, chosen })
}

fn chosen(file: &File, rows: usize, columns: usize) -> Result<Option<Chosen>> {
    if file.0.tensor("chosen_at").is_err() {
        return Ok(None);
    }
    let at = file.ids("chosen_at", None)?;
    ensure!(
        at.is_sorted_by(|a, b| a < b) && at.last().is_none_or(|&last| (last as usize) < rows),
        "its tensor `chosen_at` has no ascending positions"
    );
    let (after, columns_chosen) = file.halves("chosen_after", at.len())?;
    ensure!(at.is_empty() || columns_chosen == columns, "its hidden states differ in size");
    Ok(Some(Chosen {
        stats: file.floats("chosen_stats", at.len() * statistics::COUNT)?,
        at,
        after,
    }))
}

/// `[rows]` or `[rows, columns]`
fn shape(rows: usize, values: usize) -> Vec<usize> {
    match values.checked_div(rows) {
        None | Some(1) => vec![rows],
        Some(columns) => vec![rows, columns],
    }
}

fn ids(rows: usize, values: &[u32]) -> Tensor {
    let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    Tensor { dtype: Dtype::U32, shape: shape(rows, values.len()), bytes }
}

fn floats(rows: usize, values: &[f32]) -> Tensor {
    let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    Tensor { dtype: Dtype::F32, shape: shape(rows, values.len()), bytes }
}

fn halves(rows: usize, values: &[f32]) -> Tensor {
    let bytes = values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
    Tensor { dtype: Dtype::F16, shape: shape(rows, values.len()), bytes }
}

/// A file being read. Lengths are in values.
struct File<'a>(SafeTensors<'a>);

impl File<'_> {
    fn values<const N: usize>(&self, name: &str, dtype: Dtype) -> Result<Vec<[u8; N]>> {
        let tensor = self.0.tensor(name).with_context(|| format!("its tensor `{name}`"))?;
        ensure!(tensor.dtype() == dtype, "its tensor `{name}` is not {dtype:?}");
        Ok(tensor.data().as_chunks::<N>().0.to_vec())
    }

    fn ids(&self, name: &str, length: Option<usize>) -> Result<Vec<u32>> {
        let values = self.values(name, Dtype::U32)?;
        ensure!(length.is_none_or(|n| n == values.len()), "its tensor `{name}` has a wrong size");
        Ok(values.into_iter().map(u32::from_le_bytes).collect())
    }

    fn flags(&self, name: &str, length: usize) -> Result<Vec<bool>> {
        let values = self.values(name, Dtype::U8)?;
        ensure!(values.len() == length, "its tensor `{name}` has a wrong size");
        Ok(values.into_iter().map(|[value]: [u8; 1]| value != 0).collect())
    }

    fn floats(&self, name: &str, length: usize) -> Result<Vec<f32>> {
        let values = self.values(name, Dtype::F32)?;
        ensure!(values.len() == length, "its tensor `{name}` has a wrong size");
        Ok(values.into_iter().map(f32::from_le_bytes).collect())
    }

    /// The values and their columns.
    fn halves(&self, name: &str, rows: usize) -> Result<(Vec<f32>, usize)> {
        let values = self.values(name, Dtype::F16)?;
        let columns = values.len() / rows.max(1);
        ensure!(values.len() == rows * columns, "its tensor `{name}` has a wrong size");
        Ok((values.into_iter().map(|b| f16::from_le_bytes(b).to_f32()).collect(), columns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With or without what is not in every file, and with so many disagreements.
    fn record(odds: bool, disagreements: Option<usize>) -> Record {
        let numbers = |n: usize| (0..n).map(|i| i as f32 * 0.5 - 3.0).collect::<Vec<f32>>();
        let ids = |n: usize| (0..n as u32).collect::<Vec<u32>>();
        let odds = odds.then(|| Odds {
            log_p: numbers(3),
            rank: ids(3),
            log_p_of_top: numbers(3 * TOP),
            top: ids(3 * TOP),
            top_log_p: numbers(3 * TOP),
        });
        let chosen = disagreements.map(|rows| Chosen {
            at: (0..rows as u32).map(|row| row + 1).collect(),
            stats: numbers(rows * statistics::COUNT),
            after: numbers(rows * 4),
        });
        Record {
            about: About::new("p", Split::Validation, "llm", "abc", "toy"),
            tokens: vec![7, 8, 9],
            features: Features {
                candidates: ids(3),
                top: ids(3 * TOP),
                stats: numbers(3 * statistics::COUNT),
                hidden: numbers(12),
                after: numbers(12),
            },
            labels: Labels {
                choices: vec![7, 1, 9],
                agrees: odds.is_some().then(|| vec![true, false, true]),
                odds,
            },
            chosen,
        }
    }

    #[test]
    fn records_come_back_and_damage_is_noticed() {
        let temp = temp_dir::TempDir::new().unwrap();
        let path = temp.child("r.safetensors");
        for (odds, disagreements) in
            [(false, None), (true, None), (false, Some(0)), (true, Some(2))]
        {
            let record = record(odds, disagreements);
            record.save(&path).unwrap();
            assert_eq!(Record::load(&path).unwrap(), record);
            let bytes = std::fs::read(&path).unwrap();
            for cut in 0..bytes.len() {
                assert!(decode(&bytes[..cut]).is_err(), "cut at {cut}");
            }
        }
    }

    #[test]
    fn tensors_of_wrong_sizes_are_errors() {
        let temp = temp_dir::TempDir::new().unwrap();
        let path = temp.child("r.safetensors");
        let mut short = record(true, Some(2));
        short.labels.choices.pop();
        assert!(short.save(&path).is_err(), "three rows and two choices");

        let mut beyond = record(true, Some(2));
        beyond.chosen.as_mut().unwrap().at = vec![1, 3];
        beyond.save(&path).unwrap();
        let error = format!("{:#}", Record::load(&path).unwrap_err());
        assert!(error.contains("no ascending positions"), "{error}");

        record(true, Some(2)).save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let names = file.names();
        for wrong in names.into_iter().filter(|name| *name != "tokens") {
            let tensors = file.tensors().into_iter().map(|(name, tensor)| {
                let bytes = tensor.data().to_vec();
                let (mut shape, dtype) = (tensor.shape().to_vec(), tensor.dtype());
                let row = bytes.len() / shape[0];
                if name == wrong {
                    shape[0] -= 1;
                }
                let bytes = bytes[..shape[0] * row].to_vec();
                (name, Tensor { dtype, shape, bytes })
            });
            let damaged = safetensors::serialize(tensors, header.metadata().clone()).unwrap();
            let error = format!("{:#}", decode(&damaged).unwrap_err());
            assert!(
                error.contains("wrong size") || error.contains("differ in size"),
                "{wrong}: {error}"
            );
        }
    }
}
