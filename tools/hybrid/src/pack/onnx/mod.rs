//! An ONNX export of a causal language model as the source of a bundle: a graph with the cache as
//! inputs and outputs, `tokenizer.json`, `config.json`. A plain export, as optimum writes it, is
//! kept as it is and run by tract's own operators. `decoder` reads one with fused operators as if
//! it were a GGUF file.

mod config;
mod decoder;
mod external;
mod file;
mod interface;
mod vocabulary;

use std::any::Any;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use hybrid::bundle::{self, FileRole, GraphKind, Manifest, ModelInfo, TokenInfo, Writer};
use prost::Message;
use tract_onnx::pb::{GraphProto, ModelProto};

use super::from_gguf::PackedSource;
use super::hint;
use super::requantise::Bits;
use super::source::{Options, Source, hash, name};
use super::tokenizer::Tokenizer;
use super::vocabulary::{fingerprinted, left_out};
use config::Config;
use external::External;
use file::{MAX_GRAPH_BYTES, MAX_TEXT_BYTES, read};

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
    fn plain(dir: &Path, model_path: PathBuf, model: ModelProto) -> Result<OnnxSource> {
        let graph = model.graph.as_ref().context("model.onnx has no graph")?;
        let config = Config::read(dir)?;
        interface::check_operators(graph)?;
        let vocabulary = interface::check(graph, &config)?.unwrap_or(config.vocabulary);
        let model_dir = model_path.parent().unwrap_or(dir);
        let external = External::find(graph, model_dir)?;
        let tokenizer = read(&dir.join("tokenizer.json"), MAX_TEXT_BYTES)?;
        let (tokenizer, left_out) = vocabulary::fit(tokenizer, vocabulary)?;
        let tokens = config.tokens(&tokenizer, vocabulary, &left_out)?;
        let tokens = fingerprinted(&tokenizer, tokens)?;
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

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
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

/// Opens a directory with an export, or one of the graphs in it.
pub fn open(path: &Path, options: Options) -> Result<Box<dyn Source>> {
    let (dir, model_path) = match path.is_dir() {
        true => (path.to_owned(), find_model(path)?),
        false => (directory_of(path), path.to_owned()),
    };
    let bytes = read(&model_path, MAX_GRAPH_BYTES)?;
    let model = ModelProto::decode(&*bytes)
        .with_context(|| format!("{} is not an ONNX model", model_path.display()))?;
    let graph = model.graph.as_ref().context("model.onnx has no graph")?;
    decoder::check_quantisation(graph)?;
    if decoder::is_fused(graph) {
        return Ok(Box::new(fused(&dir, &model_path, graph, options)?));
    }
    ensure!(
        options.bits == Bits::AsTheyAre,
        "--bits is for GGUF files, not for a plain ONNX export"
    );
    Ok(Box::new(OnnxSource::plain(&dir, model_path, model)?))
}

fn fused(dir: &Path, path: &Path, graph: &GraphProto, options: Options) -> Result<PackedSource> {
    let config = Config::read(dir)?;
    let model_dir = path.parent().unwrap_or(dir);
    let converted = decoder::convert(graph, model_dir, &config)?;
    let file = Box::new(converted.bytes);
    let external = External::find(graph, model_dir)?;
    let mut paths = vec![path.to_owned()];
    paths.extend(external.paths().cloned());
    let json = read(&dir.join("tokenizer.json"), MAX_TEXT_BYTES)?;
    let tokenizer = |rows: usize| {
        let (json, left_out) = vocabulary::fit(json, rows)?;
        let info = config.tokens(&json, rows, &left_out)?;
        let info = fingerprinted(&json, info)?;
        Ok(Tokenizer { json, info, left_out })
    };
    let mut source = PackedSource::new(paths, file, &converted.gguf, options, tokenizer)?;
    source.set_architecture(config.model_type.clone());
    source.add_notes(converted.notes);
    source.set_name(config.name.unwrap_or_else(|| name(dir)));
    source.set_chat_template(config.chat_template);
    Ok(source)
}

/// Graphs of the hubs' converters, the most exact first.
const NAMES: &[&str] = &["model.onnx", "model_fp16.onnx", "model_q4.onnx", "model_q4f16.onnx"];

/// Exports lie in the directory itself or, on model hubs, in `onnx` inside it.
fn find_model(dir: &Path) -> Result<PathBuf> {
    if let Some(name) = config::genai_file(dir)? {
        ensure!(!name.contains(['/', '\\']), "genai_config.json names {name:?}, no file beside it");
        return Ok(dir.join(name));
    }
    let places = NAMES.iter().flat_map(|name| [dir.join(name), dir.join("onnx").join(name)]);
    match places.into_iter().find(|place| place.is_file()) {
        Some(found) => Ok(found),
        None => bail!(hint::of_directory(dir)),
    }
}

/// Where the files about a graph are: beside it, or around `onnx`.
fn directory_of(path: &Path) -> PathBuf {
    let own = path.parent().unwrap_or(Path::new(""));
    match own.parent() {
        Some(above) if !own.join("tokenizer.json").is_file() => above.to_owned(),
        _ => own.to_owned(),
    }
}

#[cfg(test)]
mod fused_tests;
#[cfg(test)]
mod optimum_tests;
#[cfg(test)]
mod tests;
