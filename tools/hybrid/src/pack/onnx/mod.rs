//! A directory with a plain ONNX export of a causal language model as the source of a bundle:
//! `model.onnx` with the cache as inputs and outputs, `tokenizer.json`, `config.json`, as optimum
//! writes them. The graph is kept as it is; tract's own operators run it.

mod config;
mod external;
mod interface;
mod vocabulary;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use hybrid::bundle::{self, FileRole, GraphKind, Manifest, ModelInfo, TokenInfo, Writer};
use prost::Message;
use tract_onnx::pb::{GraphProto, ModelProto};

use super::{Source, hash, hint, left_out, name};
use config::Config;
use external::External;

/// Protobuf ends at 2 GiB.
const MAX_GRAPH_BYTES: u64 = 2 << 30;
const MAX_TEXT_BYTES: u64 = 128 << 20;

pub struct OnnxSource {
    dir: PathBuf,
    model_path: PathBuf,
    model: ModelProto,
    external: External,
    config: Config,
    vocabulary: usize,
    tokenizer: Vec<u8>,
    tokens: TokenInfo,
    /// Tokens that the model cannot read or write.
    left_out: Vec<String>,
}

impl OnnxSource {
    /// Reads everything but the external data, and checks that the graph can be run.
    pub fn open(dir: &Path) -> Result<OnnxSource> {
        let model_path = find_model(dir)?;
        let bytes = read(&model_path, MAX_GRAPH_BYTES)?;
        let model = ModelProto::decode(&*bytes)
            .with_context(|| format!("{} is not an ONNX model", model_path.display()))?;
        let graph = model.graph.as_ref().context("model.onnx has no graph")?;
        let config = Config::read(dir)?;
        interface::check_operators(graph)?;
        let vocabulary = interface::check(graph, &config)?.unwrap_or(config.vocabulary);
        let model_dir = model_path.parent().unwrap_or(dir);
        let external = External::find(graph, model_dir)?;
        let tokenizer = read(&dir.join("tokenizer.json"), MAX_TEXT_BYTES)?;
        let (tokenizer, left_out) = vocabulary::fit(tokenizer, vocabulary)?;
        let tokens = config.tokens(&tokenizer, vocabulary, &left_out)?;
        let tokens = super::fingerprinted(&tokenizer, tokens)?;
        let dir = dir.to_owned();
        Ok(OnnxSource {
            dir,
            model_path,
            model,
            external,
            config,
            vocabulary,
            tokenizer,
            tokens,
            left_out,
        })
    }

    fn model_info(&self, graph: &GraphProto) -> Result<ModelInfo> {
        let sources = std::iter::once(&self.model_path).chain(self.external.paths());
        Ok(ModelInfo {
            name: self.config.name.clone().unwrap_or_else(|| name(&self.dir)),
            architecture: self.config.model_type.clone(),
            graph: GraphKind::Plain,
            parameters: interface::parameters(graph),
            layers: self.config.layers,
            hidden_size: self.config.hidden,
            heads: self.config.heads,
            kv_heads: self.config.kv_heads,
            head_dim: self.config.head_dim,
            vocabulary: self.vocabulary,
            context: self.config.context,
            source: name(&self.model_path),
            source_sha256: hash(&sources.map(PathBuf::as_path).collect::<Vec<_>>())?,
        })
    }
}

impl Source for OnnxSource {
    fn notes(&self) -> Vec<String> {
        left_out(&self.left_out).into_iter().collect()
    }

    fn write(mut self: Box<Self>, writer: &mut Writer) -> Result<Manifest> {
        let mut graph = self.model.graph.take().context("model.onnx has no graph")?;
        let info = self.model_info(&graph)?;
        self.external.write(&mut graph, writer)?;
        self.model.graph = Some(graph);
        writer.add_bytes(FileRole::Graph, &self.model.encode_to_vec())?;
        writer.add_bytes(FileRole::Tokenizer, &self.tokenizer)?;
        Ok(Manifest {
            format_version: bundle::FORMAT_VERSION,
            model: info,
            files: Default::default(),
            tokens: self.tokens,
            chat_template: self.config.chat_template,
            reward: None,
        })
    }
}

/// Exports lie in the directory itself or, on model hubs, in `onnx` inside it.
fn find_model(dir: &Path) -> Result<PathBuf> {
    let places = ["model.onnx", "onnx/model.onnx"].map(|place| dir.join(place));
    match places.iter().find(|place| place.is_file()) {
        Some(found) => Ok(found.clone()),
        None => bail!(hint::of_directory(dir)),
    }
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let context = || format!("{} cannot be read", path.display());
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(context)?;
    file.take(limit + 1).read_to_end(&mut bytes).with_context(context)?;
    ensure!(bytes.len() as u64 <= limit, "{} has more than {limit} bytes", path.display());
    Ok(bytes)
}

#[cfg(test)]
mod tests;
