//! A GGUF file, or what was read as if it were one, as the source of a bundle.

use std::any::Any;
use std::fs::File;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result};
use hybrid::bundle::{self, FileRole, GraphKind, Manifest, ModelInfo, Writer};

use super::family;
use super::gguf::{Gguf, TensorType};
use super::plan::{Matrix, Plan};
use super::reader::{self, Shape};
use super::requantise::{self, Bits};
use super::source::{Options, Source, hash, name};
use super::tokenizer::{self, Tokenizer};
use super::vocabulary::left_out;
use super::{graph, weights};

#[derive(Clone)]
pub struct PackedSource {
    /// The source's files, the first one's name stands for all.
    paths: Vec<PathBuf>,
    /// The plan's tensors lie in it.
    pub file: Rc<dyn Deref<Target = [u8]>>,
    pub plan: Plan,
    bits: Bits,
    shape: Shape,
    pub tokenizer: Tokenizer,
    model_name: String,
    pub chat_template: Option<String>,
    notes: Vec<String>,
}

impl PackedSource {
    /// Reads everything of a GGUF file but the weights' values.
    pub fn open(path: &Path, options: Options) -> Result<PackedSource> {
        let file = Box::new(bundle::map(&File::open(path)?)?);
        // That a family is not supported matters more than what else cannot be read.
        let gguf = Gguf::parse(&file).or_else(|error| {
            family::of(&Gguf::metadata(&file)?)?;
            Err(error)
        })?;
        let tokenizer = |rows| tokenizer::from_gguf(&gguf.metadata, rows);
        let paths = vec![path.to_owned()];
        let mut source = PackedSource::new(paths, file, &gguf, options, tokenizer)?;
        if let Some(name) = gguf.metadata.text("general.name")? {
            source.set_name(name.to_owned());
        }
        let template = gguf.metadata.text("tokenizer.chat_template")?;
        source.set_chat_template(template.map(str::to_owned));
        Ok(source)
    }

    /// `tokenizer`: that of a model whose output has so many rows.
    pub fn new(
        paths: Vec<PathBuf>,
        file: Box<dyn Deref<Target = [u8]>>,
        gguf: &Gguf,
        options: Options,
        tokenizer: impl FnOnce(usize) -> Result<Tokenizer>,
    ) -> Result<PackedSource> {
        let bits = options.bits;
        let (mut plan, shape) = reader::plan(gguf, &file, options.context)?;
        for matrix in plan.matrices() {
            matrix.tensor.kind.check().with_context(|| matrix.name.clone())?;
        }
        if bits == Bits::Four {
            requantise::tie(&mut plan, &file)?;
        }
        let tokenizer = tokenizer(plan.output.rows())?;
        let model_name = paths.first().map(|path| name(path)).unwrap_or_default();
        let (chat_template, notes) = (None, Vec::new());
        Ok(PackedSource {
            paths,
            file: file.into(),
            plan,
            bits,
            shape,
            tokenizer,
            model_name,
            chat_template,
            notes,
        })
    }

    /// As the model's makers call it.
    pub fn set_architecture(&mut self, architecture: String) {
        self.shape.architecture = architecture;
    }

    pub fn set_name(&mut self, name: String) {
        self.model_name = name;
    }

    pub fn set_chat_template(&mut self, template: Option<String>) {
        self.chat_template = template;
    }

    /// The same model with other weights, which lie in `file`, and other tokens. `name` is added
    /// to its own.
    pub fn changed(
        &self,
        plan: Plan,
        file: Vec<u8>,
        tokenizer: Tokenizer,
        name: &str,
    ) -> PackedSource {
        let parameters = self.shape.parameters + plan.parameters() - self.plan.parameters();
        PackedSource {
            paths: self.paths.clone(),
            file: Rc::new(file),
            plan,
            bits: self.bits,
            shape: Shape { parameters, ..self.shape.clone() },
            tokenizer,
            model_name: format!("{}{name}", self.model_name),
            chat_template: self.chat_template.clone(),
            notes: self.notes.clone(),
        }
    }

    pub fn add_notes(&mut self, notes: Vec<String>) {
        self.notes.extend(notes);
    }

    fn model(&self) -> Result<ModelInfo> {
        let layers = &self.plan.layers;
        let attention = layers.iter().filter_map(|layer| layer.attention.as_ref());
        let widest = attention.max_by_key(|part| part.heads).context("no layer has attention")?;
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
            source: self.paths.first().map(|path| name(path)).unwrap_or_default(),
            source_sha256: hash(&self.paths.iter().map(PathBuf::as_path).collect::<Vec<_>>())?,
        })
    }
}

impl Source for PackedSource {
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
        let context = self.shape.longest_context.map(|longest| {
            let context = self.shape.context;
            format!("for a context of {context} tokens; --context {longest} is the longest")
        });
        let notes = self.notes.iter().cloned().chain(kept).chain(recoded);
        notes.chain(left_out(&self.tokenizer.left_out)).chain(context).collect()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
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
