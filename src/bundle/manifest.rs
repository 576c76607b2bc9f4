//! `bundle.json`: what a bundle is made of. Parsed strictly: an unknown format version is an error.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The manifest's file name.
pub const MANIFEST_NAME: &str = "bundle.json";

/// The version this build reads and writes.
pub const FORMAT_VERSION: u32 = 3;

/// `bundle.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub format_version: u32,
    pub model: ModelInfo,
    pub files: BTreeMap<FileRole, FileEntry>,
    pub tokens: TokenInfo,
    /// Jinja source; absent for a base model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_template: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward: Option<RewardInfo>,
}

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileRole {
    /// `graph.onnx`
    Graph,
    /// `weights.bin` (packed graphs) or the graph's external data (plain exports)
    Weights,
    /// `tokenizer.json`
    Tokenizer,
    /// `reward.onnx`
    Reward,
}

impl FileRole {
    /// The name a packer gives the file. Readers take the name from the manifest.
    pub fn file_name(self) -> &'static str {
        match self {
            FileRole::Graph => "graph.onnx",
            FileRole::Weights => "weights.bin",
            FileRole::Tokenizer => "tokenizer.json",
            FileRole::Reward => "reward.onnx",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// A plain file name inside the bundle's directory.
    pub name: String,
    pub bytes: u64,
    /// Lower-case hex, as are all hashes here. For other tools, and to tell models apart.
    pub sha256: String,
    /// What is checked whenever the bundle is opened.
    pub blake3: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelInfo {
    pub name: String,
    /// GGUF's `general.architecture`, or the `model_type` of an ONNX export's `config.json`.
    pub architecture: String,
    pub graph: GraphKind,
    pub parameters: u64,
    pub layers: usize,
    pub hidden_size: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub vocabulary: usize,
    pub context: usize,
    /// Where it came from: file name and SHA-256 of the source.
    pub source: String,
    pub source_sha256: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GraphKind {
    /// Our ops with packed weights and an in-place KV cache.
    Packed,
    /// A plain ONNX export with `past_key_values.*` inputs, run by tract's own ops.
    Plain,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenInfo {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bos: Option<u32>,
    /// The prompt gets a `bos` in front when its text does not start with one.
    pub add_bos: bool,
    /// Tokens that end a generation, at least one.
    pub stop: Vec<u32>,
    /// Ids at and above this one are padding of the output matrix and never sampled.
    pub usable: usize,
    /// What [`super::fingerprint`] says of the usable ids: equal fingerprints, equal vocabularies.
    pub fingerprint: String,
}

/// The reward head and what its scores mean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardInfo {
    /// The head reads the hidden state after the SLM has consumed the candidate.
    pub after: bool,
    /// The cloud LLM whose agreement the score predicts.
    pub cloud_model: String,
    /// What it was trained and calibrated on, for people.
    pub provenance: String,
    pub default_threshold: f32,
    /// Threshold and expected share of cloud tokens on the calibration data, thresholds ascending.
    pub calibration: Vec<CalibrationPoint>,
    /// How much data the table stands on; without it nothing can be guaranteed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<Measured>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalibrationPoint {
    pub threshold: f32,
    /// Expected share of tokens that score under the threshold, 0..=1.
    pub share: f32,
    /// Expected share of the cloud's disagreements that are among them, 0..=1.
    pub recall: f32,
    /// Share of a prompt's tokens that are kept and not the cloud LLM's, mean over the prompts,
    /// 0..=1; given with [`RewardInfo::measured`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk: Option<f32>,
}

/// The calibration data.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    pub prompts: u32,
    pub tokens: u32,
    /// Tokens where the cloud LLM disagrees.
    pub disagreements: u32,
    /// By how much the errors of one prompt come together: the tokens count as this many times
    /// fewer independent ones, 1 or more.
    pub design_effect: f32,
}
