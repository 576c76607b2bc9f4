//! Model families as GGUF names them, and how their tensors become a [`Plan`]. A family with the
//! same structure is one more line of [`FAMILIES`].

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};

use super::gguf::{Gguf, Metadata, Tensor, required};
use super::plan::{Layer, Linear, Matrix, Plan, Rope, RowOrder};

struct Family {
    /// `general.architecture`
    name: &'static str,
    /// Rows of q and k are in llama.cpp's order, neighbours rotated together.
    interleaved_rope: bool,
}

const FAMILIES: &[Family] = &[
    Family { name: "llama", interleaved_rope: true },
    Family { name: "qwen2", interleaved_rope: false },
];

/// Divisors of the RoPE frequencies: a tensor, but no weights of the model.
const ROPE_FACTORS: &str = "rope_freqs.weight";

/// What would change the arithmetic in a way that a [`Plan`] cannot say.
const UNSUPPORTED_KEYS: &[&str] = &[
    "expert_count",
    "attention.scale",
    "residual_scale",
    "embedding_scale",
    "logit_scale",
    "attention.sliding_window",
];

/// The numbers of a model, for the manifest.
#[derive(Debug)]
pub struct Shape {
    pub architecture: String,
    pub context: usize,
    pub hidden: usize,
    pub parameters: u64,
}

/// Reads metadata and tensors of `gguf`, whose bytes are `file`.
pub fn plan(gguf: &Gguf, file: &[u8]) -> Result<(Plan, Shape)> {
    let key = "general.architecture";
    let architecture = required(key, gguf.metadata.text(key))?;
    let Some(family) = FAMILIES.iter().find(|family| family.name == architecture) else {
        let known: Vec<_> = FAMILIES.iter().map(|family| family.name).collect();
        bail!("architecture {architecture} is not supported; supported are {}", known.join(", "));
    };
    let mut reader = Reader { family, gguf, file, used: BTreeSet::new() };
    reader.check_unsupported()?;
    let plan = reader.plan()?;
    reader.check_all_used()?;
    let weights = reader.used.iter().filter(|name| *name != ROPE_FACTORS);
    let weights = weights.filter_map(|name| gguf.tensors.get(name));
    let shape = Shape {
        architecture: architecture.to_owned(),
        context: reader.required_size("context_length")?,
        hidden: plan.embedding.tensor.cols,
        parameters: weights.map(|t| t.rows as u64 * t.cols as u64).sum(),
    };
    Ok((plan, shape))
}

struct Reader<'a> {
    family: &'static Family,
    gguf: &'a Gguf,
    file: &'a [u8],
    /// Tensors that went into the plan.
    used: BTreeSet<String>,
}

/// The shape of one layer's attention.
struct Heads {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
}

impl Reader<'_> {
    fn plan(&mut self) -> Result<Plan> {
        let hidden = self.required_size("embedding_length")?;
        let layers = self.required_size("block_count")?;
        ensure!(layers <= 1024, "{} is {layers}, expected 1 to 1024", self.key("block_count"));
        let heads = required(
            &self.key("attention.head_count"),
            self.metadata().sizes(&self.key("attention.head_count"), layers),
        )?;
        let kv_key = self.key("attention.head_count_kv");
        let kv_heads = self.metadata().sizes(&kv_key, layers)?.unwrap_or_else(|| heads.clone());
        let head_dim = self.head_dim(hidden, &heads)?;
        let rope = self.rope(head_dim)?;
        let embedding = self.matrix("token_embd", hidden)?;
        let mut plan_layers = Vec::new();
        for (index, (heads, kv_heads)) in heads.into_iter().zip(kv_heads).enumerate() {
            let shape = Heads { heads, kv_heads, head_dim };
            plan_layers.push(self.layer(index, hidden, shape, &rope)?);
        }
        let final_norm = self.vector("output_norm.weight", hidden)?;
        let output = self.output(&embedding)?;
        let epsilon_key = self.key("attention.layer_norm_rms_epsilon");
        let epsilon = required(&epsilon_key, self.metadata().float(&epsilon_key))?;
        Ok(Plan { embedding, layers: plan_layers, final_norm, output, epsilon, rope })
    }

    fn layer(&mut self, index: usize, hidden: usize, shape: Heads, rope: &Rope) -> Result<Layer> {
        let Heads { heads, kv_heads, head_dim } = shape;
        ensure!(
            heads.is_multiple_of(kv_heads),
            "layer {index} has {heads} heads, not a multiple of {kv_heads} key heads"
        );
        let name = |part: &str| format!("blk.{index}.{part}");
        let order = match self.family.interleaved_rope {
            true => RowOrder::Deinterleave { head_dim, rope_dim: rope.dim },
            false => RowOrder::AsIs,
        };
        let attention_norm = self.vector(&name("attn_norm.weight"), hidden)?;
        let qkv = self.linear(
            &[
                (name("attn_q"), Some(heads * head_dim), order),
                (name("attn_k"), Some(kv_heads * head_dim), order),
                (name("attn_v"), Some(kv_heads * head_dim), RowOrder::AsIs),
            ],
            hidden,
        )?;
        let as_is = RowOrder::AsIs;
        let attention_output =
            self.linear(&[(name("attn_output"), Some(hidden), as_is)], heads * head_dim)?;
        let ffn_norm = self.vector(&name("ffn_norm.weight"), hidden)?;
        let gate_up =
            self.linear(&[(name("ffn_gate"), None, as_is), (name("ffn_up"), None, as_is)], hidden)?;
        let [gate, up] = [0, 1].map(|i| gate_up.matrices.get(i).map_or(0, |m| m.tensor.rows));
        ensure!(gate == up, "layer {index} has {gate} gate rows but {up} up rows");
        let down = self.linear(&[(name("ffn_down"), Some(hidden), as_is)], gate)?;
        Ok(Layer {
            attention_norm,
            qkv,
            heads,
            kv_heads,
            head_dim,
            attention_output,
            ffn_norm,
            gate_up,
            down,
        })
    }

    /// A separate output matrix, or the embedding again where the file has none.
    fn output(&mut self, embedding: &Matrix) -> Result<Linear> {
        let Tensor { rows, cols, .. } = embedding.tensor;
        if self.gguf.tensors.contains_key("output.weight") {
            return self.linear(&[("output".to_owned(), Some(rows), RowOrder::AsIs)], cols);
        }
        Ok(Linear { matrices: vec![embedding.clone()], bias: None })
    }

    /// Matrices of `cols` columns with (name, rows, order), and their biases where the file has
    /// any.
    fn linear(
        &mut self,
        parts: &[(String, Option<usize>, RowOrder)],
        cols: usize,
    ) -> Result<Linear> {
        let (mut matrices, mut bias, mut has_bias) = (Vec::new(), Vec::new(), false);
        for (name, rows, order) in parts {
            let matrix = Matrix { order: *order, ..self.matrix(name, cols)? };
            let found = matrix.tensor.rows;
            if let Some(rows) = *rows {
                ensure!(found == rows, "{name}.weight has {found} rows, expected {rows}");
            }
            matrices.push(matrix);
            let bias_name = format!("{name}.bias");
            if self.gguf.tensors.contains_key(&bias_name) {
                has_bias = true;
                let values = self.vector(&bias_name, found)?;
                bias.extend((0..found).filter_map(|row| values.get(order.source_row(row))));
            } else {
                bias.resize(bias.len() + found, 0.0);
            }
        }
        Ok(Linear { matrices, bias: has_bias.then_some(bias) })
    }

    fn rope(&mut self, head_dim: usize) -> Result<Rope> {
        let key = self.key("rope.dimension_count");
        let dim = self.metadata().size(&key)?.unwrap_or(head_dim);
        ensure!(
            dim.is_multiple_of(2) && dim <= head_dim,
            "{key} is {dim}, expected an even number up to the head dimension {head_dim}"
        );
        let base = self.metadata().float(&self.key("rope.freq_base"))?.unwrap_or(10_000.0);
        ensure!(base > 0.0, "{} is {base}, expected more than 0", self.key("rope.freq_base"));
        let factors = match self.gguf.tensors.contains_key(ROPE_FACTORS) {
            true => Some(self.vector(ROPE_FACTORS, dim / 2)?),
            false => self.rope_scaling()?.map(|factor| vec![factor; dim / 2]),
        };
        let sound = |factors: &Vec<f32>| factors.iter().all(|f| f.is_finite() && *f > 0.0);
        ensure!(factors.as_ref().is_none_or(sound), "a RoPE factor is not a positive number");
        Ok(Rope { dim, base, factors })
    }

    /// Linear scaling divides every frequency by the same factor.
    fn rope_scaling(&self) -> Result<Option<f32>> {
        let kind = self.metadata().text(&self.key("rope.scaling.type"))?;
        let factor = self.metadata().float(&self.key("rope.scaling.factor"))?;
        match (kind, factor) {
            (None | Some("none"), _) | (Some("linear"), None) => Ok(None),
            (Some("linear"), factor) => Ok(factor),
            (Some(other), _) => {
                bail!("RoPE scaling {other} is not supported; supported are none, linear, llama3")
            }
        }
    }

    fn head_dim(&self, hidden: usize, heads: &[usize]) -> Result<usize> {
        let (key_length, value_length) =
            (self.key("attention.key_length"), self.key("attention.value_length"));
        let explicit = self.metadata().size(&key_length)?;
        let first = heads.first().copied().unwrap_or(1);
        ensure!(
            explicit.is_some() || hidden.is_multiple_of(first),
            "{hidden} is not a multiple of {first} heads and {key_length} is missing"
        );
        let head_dim = explicit.unwrap_or(hidden / first);
        let values = self.metadata().size(&value_length)?.unwrap_or(head_dim);
        ensure!(values == head_dim, "{value_length} is {values}, but keys have {head_dim}");
        Ok(head_dim)
    }

    fn matrix(&mut self, name: &str, cols: usize) -> Result<Matrix> {
        let name = format!("{name}.weight");
        let tensor = self.tensor(&name)?;
        ensure!(tensor.cols == cols, "{name} has {} columns, expected {cols}", tensor.cols);
        Ok(Matrix { name, tensor, order: RowOrder::AsIs })
    }

    fn vector(&mut self, name: &str, length: usize) -> Result<Vec<f32>> {
        let tensor = self.tensor(name)?;
        let shape = (tensor.rows, tensor.cols);
        ensure!(shape == (1, length), "{name} has {shape:?} values, expected {length}");
        tensor.floats(self.file).with_context(|| name.to_owned())
    }

    fn tensor(&mut self, name: &str) -> Result<Tensor> {
        let tensor = self.gguf.tensors.get(name);
        let tensor = tensor.with_context(|| format!("tensor {name} is missing"))?;
        self.used.insert(name.to_owned());
        Ok(tensor.clone())
    }

    fn check_unsupported(&self) -> Result<()> {
        for key in UNSUPPORTED_KEYS.iter().map(|key| self.key(key)) {
            // 0 means "not there" for all of them.
            match self.metadata().get(&key) {
                None | Some(super::gguf::Value::Integer(0)) => {}
                Some(super::gguf::Value::Float(value)) if *value == 0.0 => {}
                Some(value) => bail!("{key} = {value:?} is not supported"),
            }
        }
        Ok(())
    }

    /// A tensor nobody asked for means that the model computes something the plan lacks.
    fn check_all_used(&self) -> Result<()> {
        match self.gguf.tensors.keys().find(|name| !self.used.contains(*name)) {
            None => Ok(()),
            Some(name) => {
                bail!("tensor {name} is not known in a model of the {} family", self.family.name)
            }
        }
    }

    fn metadata(&self) -> &Metadata {
        &self.gguf.metadata
    }

    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.family.name)
    }

    fn required_size(&self, name: &str) -> Result<usize> {
        let key = self.key(name);
        required(&key, self.metadata().size(&key))
    }
}
