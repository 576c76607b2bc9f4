//! A GGUF file as the source of a bundle.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hybrid::bundle::{self, FileRole, GraphKind, Manifest, ModelInfo, Writer};
use memmap2::Mmap;

use super::family::{self, Shape};
use super::gguf::{Gguf, TensorType};
use super::plan::{Matrix, Plan};
use super::requantise::{self, Bits};
use super::tokenizer::{self, Tokenizer};
use super::{Source, graph, hash, left_out, name, weights};

pub struct GgufSource {
    path: PathBuf,
    file: Mmap,
    plan: Plan,
    bits: Bits,
    shape: Shape,
    tokenizer: Tokenizer,
    model_name: String,
    chat_template: Option<String>,
}

impl GgufSource {
    /// Reads everything but the weights' values.
    pub fn open(path: &Path, bits: Bits) -> Result<GgufSource> {
        let file = bundle::map(&File::open(path)?)?;
        let gguf = Gguf::parse(&file)?;
        let (mut plan, shape) = family::plan(&gguf, &file)?;
        for matrix in plan.matrices() {
            matrix.tensor.kind.check().with_context(|| matrix.name.clone())?;
        }
        if bits == Bits::Four {
            requantise::tie(&mut plan, &file)?;
        }
        let tokenizer = tokenizer::from_gguf(&gguf.metadata, plan.output.rows())?;
        let model_name = gguf.metadata.text("general.name")?.map(str::to_owned);
        let chat_template = gguf.metadata.text("tokenizer.chat_template")?.map(str::to_owned);
        Ok(GgufSource {
            path: path.to_owned(),
            plan,
            bits,
            shape,
            tokenizer,
            model_name: model_name.unwrap_or_else(|| name(path)),
            chat_template,
            file,
        })
    }

    fn model(&self) -> Result<ModelInfo> {
        let layers = &self.plan.layers;
        let widest = layers.iter().max_by_key(|layer| layer.heads).context("there is no layer")?;
        Ok(ModelInfo {
            name: self.model_name.clone(),
            architecture: self.shape.architecture.clone(),
            graph: GraphKind::Packed,
            parameters: self.shape.parameters,
            layers: layers.len(),
            hidden_size: self.shape.hidden,
            heads: widest.heads,
            kv_heads: widest.kv_heads,
            head_dim: widest.head_dim,
            vocabulary: self.plan.output.rows(),
            context: self.shape.context,
            source: name(&self.path),
            source_sha256: hash(&[&self.path])?,
        })
    }
}

impl Source for GgufSource {
    fn notes(&self) -> Vec<String> {
        let matrices = self.plan.matrices();
        let kept = matrices.iter().filter_map(|matrix| self.bits.exception(matrix));
        let recoded = TensorType::supported().filter_map(|kind| {
            let of_kind = |matrix: &&&Matrix| {
                matrix.tensor.kind == kind && self.bits.format(matrix) == kind.format()
            };
            match matrices.iter().filter(of_kind).count() {
                0 => None,
                count => kind.note(count),
            }
        });
        kept.chain(recoded).chain(left_out(&self.tokenizer.left_out)).collect()
    }

    fn write(self: Box<Self>, writer: &mut Writer) -> Result<Manifest> {
        let entries = weights::layout(&self.plan, self.bits)?;
        writer.add_bytes(FileRole::Graph, &graph::encode(&self.plan, &entries)?)?;
        writer.add_bytes(FileRole::Tokenizer, &self.tokenizer.json)?;
        weights::write(&self.plan, self.bits, &entries, &self.file, writer)?;
        Ok(Manifest {
            format_version: bundle::FORMAT_VERSION,
            model: self.model()?,
            files: Default::default(),
            tokens: self.tokenizer.info,
            chat_template: self.chat_template,
            reward: None,
        })
    }
}
