//! Exports with fused operators, as onnxruntime-genai's model builder and the hubs' converters
//! write them: read as if they were GGUF files, so that the families' table and all behind it is
//! the same. `layers` finds the parts in the graph, with `linear` and `index`; `weights` turns
//! matrices into tensors, `rope` the tables of rotary embeddings into numbers.

mod index;
mod layers;
mod linear;
mod rope;
mod values;
mod weights;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use tract_onnx::pb::{GraphProto, NodeProto};

use super::super::gguf::{Gguf, Metadata, Tensor, TensorType, Value};
use super::config::Config;
use index::{Index, float, input, integer};
use layers::{ATTENTION, Activation, Decoder, Layer, Norm};
use linear::Linear;
use rope::Rope;
use values::Values;
use weights::Weight;

/// What is no operator of a plain export.
const FUSED: &[&str] = &[
    "GatherBlockQuantized",
    "MatMulNBits",
    "RMSNormalization",
    "RotaryEmbedding",
    "SimplifiedLayerNormalization",
    "SkipSimplifiedLayerNormalization",
];

/// Quantisation that computes in integers or between operators.
const OTHER_QUANTISATION: &[&str] = &[
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "DynamicQuantizeMatMul",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "QLinearMatMul",
    "QuantizeLinear",
];

/// A model as a GGUF file would have it.
pub struct Converted {
    pub gguf: Gguf,
    /// What the tensors' places are in.
    pub bytes: Vec<u8>,
    pub notes: Vec<String>,
}

/// Whether an export has fused operators.
pub fn is_fused(graph: &GraphProto) -> bool {
    let is_known = |op: &str| FUSED.contains(&op) || ATTENTION.contains(&op);
    graph.node.iter().any(|node| is_known(&node.op_type))
}

/// Quantised graphs that would lose their numbers.
pub fn check_quantisation(graph: &GraphProto) -> Result<()> {
    match graph.node.iter().find(|node| OTHER_QUANTISATION.contains(&&*node.op_type)) {
        None => Ok(()),
        Some(node) => bail!(
            "this export is quantised with {} (node {}), which is not supported; take the variant \
             with MatMulNBits (model_q4.onnx, int4), the one with floats, or a GGUF file",
            node.op_type,
            node.name
        ),
    }
}

/// Reads a graph whose external data lie in `dir`.
pub fn convert(graph: &GraphProto, dir: &Path, config: &Config) -> Result<Converted> {
    let values = Values::open(graph, dir)?;
    let index = Index::new(graph, &values);
    let decoder = Decoder::find(graph, &index).context(
        "the graph is no decoder that is known; take a GGUF file of this model, or export it with \
         onnxruntime-genai's model builder",
    )?;
    let mut writer = Writer::new(&decoder, config)?;
    writer.whole(&decoder, config)?;
    let mut ropes = Ropes::default();
    for (at, layer) in decoder.layers.iter().enumerate() {
        writer.layer(at, layer, &index, &mut ropes).with_context(|| format!("layer {at}"))?;
    }
    writer.shapes(&decoder, ropes)?;
    index.check_all_used()?;
    let gguf = Gguf { metadata: writer.metadata, tensors: writer.tensors };
    Ok(Converted { gguf, bytes: writer.bytes, notes: writer.notes })
}

struct Writer {
    architecture: &'static str,
    metadata: Metadata,
    tensors: BTreeMap<String, Tensor>,
    bytes: Vec<u8>,
    notes: Vec<String>,
    epsilon: f32,
    default_heads: usize,
    heads: Vec<Heads>,
}

/// The rotary embeddings of layers that see everything, and of those that see a window.
#[derive(Default)]
struct Ropes {
    global: Option<Rope>,
    local: Option<Rope>,
}

/// Of one layer.
struct Heads {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    /// Whether it has a rotary embedding.
    turned: bool,
    window: usize,
    scale: Option<f32>,
    soft_cap: f32,
}

impl Writer {
    fn new(decoder: &Decoder, config: &Config) -> Result<Writer> {
        Ok(Writer {
            architecture: architecture(decoder, config)?,
            metadata: Metadata::default(),
            tensors: BTreeMap::new(),
            bytes: Vec::new(),
            notes: Vec::new(),
            epsilon: decoder.final_norm.epsilon,
            default_heads: config.heads,
            heads: Vec::new(),
        })
    }

    fn set(&mut self, key: &str, value: Value) {
        self.metadata.set(&format!("{}.{key}", self.architecture), value);
    }

    fn size(&mut self, key: &str, value: usize) {
        self.set(key, Value::Integer(value as i128));
    }

    /// What is not in a layer.
    fn whole(&mut self, decoder: &Decoder, config: &Config) -> Result<()> {
        let architecture = Value::Text(self.architecture.to_owned());
        self.metadata.set("general.architecture", architecture);
        let hidden = decoder.embedding.cols;
        self.size("context_length", config.context);
        self.size("embedding_length", hidden);
        self.size("block_count", decoder.layers.len());
        self.set("attention.layer_norm_rms_epsilon", Value::Float(self.epsilon.into()));
        if let Some(scale) = decoder.embedding_scale {
            // The Gemma families have it by themselves, as half a float's digits.
            let root = (hidden as f32).sqrt();
            if !self.architecture.starts_with("gemma") {
                self.set("embedding_scale", Value::Float(scale.into()));
            } else {
                let fits = (scale - root).abs() <= 0.01 * root;
                ensure!(fits, "the embedding is multiplied with {scale}, expected {root}");
            }
        }
        if let Some(scale) = decoder.logits.scale {
            self.set("logit_scale", Value::Float(scale.into()));
        }
        if let Some(cap) = decoder.logits.cap {
            self.set("final_logit_softcapping", Value::Float(cap.into()));
        }
        self.matrix("token_embd.weight", &decoder.embedding, 0..decoder.embedding.rows);
        self.norm("output_norm", &decoder.final_norm)?;
        if let Some(output) = &decoder.output {
            self.linear("output", output);
        }
        Ok(())
    }

    fn layer<'a>(
        &mut self,
        at: usize,
        layer: &Layer<'a>,
        index: &Index<'a>,
        ropes: &mut Ropes,
    ) -> Result<()> {
        let heads = Heads::of(layer, self.default_heads)?;
        let (queries, keys) = (layer.queries.rotary, layer.keys.rotary);
        ensure!(queries == keys, "queries and keys are rotated differently");
        if let Some(rotary) = &queries {
            let rope = if heads.window > 0 { &mut ropes.local } else { &mut ropes.global };
            match rope {
                None => *rope = Some(Rope::read(index, rotary)?),
                Some(known) => ensure!(
                    known.is_of(rotary) || *known == Rope::read(index, rotary)?,
                    "layers with different rotary embeddings are not supported"
                ),
            }
            for table in rotary.tables {
                index.constant(table);
            }
        }
        self.heads.push(heads);
        let name = |part: &str| format!("blk.{at}.{part}");
        self.norm(&name("attn_norm"), &layer.norm)?;
        for (part, linear) in [
            ("attn_q", &layer.queries.linear),
            ("attn_k", &layer.keys.linear),
            ("attn_v", &layer.values),
            ("attn_output", &layer.output),
            ("ffn_gate", &layer.gate),
            ("ffn_up", &layer.up),
            ("ffn_down", &layer.down),
        ] {
            self.linear(&name(part), linear);
        }
        for (part, norm) in [
            ("attn_q_norm", &layer.queries.norm),
            ("attn_k_norm", &layer.keys.norm),
            ("post_attention_norm", &layer.post_norm),
            ("post_ffw_norm", &layer.ffn_post_norm),
        ] {
            norm.iter().try_for_each(|norm| self.norm(&name(part), norm))?;
        }
        self.norm(&name("ffn_norm"), &layer.ffn_norm)
    }

    /// What the layers have said.
    fn shapes(&mut self, decoder: &Decoder, ropes: Ropes) -> Result<()> {
        let Ropes { global, local } = ropes;
        if let (Some(global), Some(local)) = (&global, &local) {
            let plain = local.factors.is_none() && local.length == global.length;
            let fits = local.dim == global.dim && plain;
            ensure!(fits, "layers with a window have a scaled rotary embedding");
            self.set("rope.freq_base_swa", Value::Float(local.base.into()));
        }
        let rope = global.or(local).context("no layer has a rotary embedding")?;
        let heads = std::mem::take(&mut self.heads);
        let each = |of: fn(&Heads) -> usize| {
            Value::Integers(heads.iter().map(|layer| of(layer) as i64).collect())
        };
        self.set("attention.head_count", each(|layer| layer.heads));
        self.set("attention.head_count_kv", each(|layer| layer.kv_heads));
        let first = heads.first().context("there is no layer")?;
        self.size("attention.key_length", first.head_dim);
        self.size("rope.dimension_count", rope.dim.unwrap_or(first.head_dim));
        self.set("rope.freq_base", Value::Float(rope.base.into()));
        match (&rope.factors, &rope.long) {
            (Some(short), Some(long)) => {
                self.vector("rope_factors_short.weight", short);
                self.vector("rope_factors_long.weight", &long.factors);
                self.size("rope.scaling.original_context_length", long.original);
            }
            (Some(factors), None) => self.vector("rope_freqs.weight", factors),
            _ => {}
        }
        if rope.length != 1.0 {
            self.set("rope.scaling.attn_factor", Value::Float(rope.length.into()));
        }
        if heads.iter().any(|layer| !layer.turned) {
            self.set("rope.layer_pattern", each(|layer| layer.turned.into()));
        }
        if let Some(scale) = first.scale {
            self.set("attention.scale", Value::Float(scale.into()));
        }
        if first.soft_cap != 0.0 {
            self.set("attn_logit_softcapping", Value::Float(first.soft_cap.into()));
        }
        let same = |layer: &Heads| (layer.scale, layer.soft_cap) == (first.scale, first.soft_cap);
        ensure!(heads.iter().all(same), "layers with different scales or soft caps of attention");
        let mut windows = heads.iter().map(|layer| layer.window).filter(|window| *window > 0);
        if let Some(window) = windows.next() {
            ensure!(windows.all(|other| other == window), "layers with windows of different sizes");
            self.size("attention.sliding_window", window);
            self.set("attention.sliding_window_pattern", each(|layer| (layer.window > 0).into()));
        }
        let grown = decoder.matrices().filter(|weight| weight.grows()).count();
        if grown > 0 {
            self.notes.push(format!(
                "{grown} quantised matrices are kept as floats: 8 bits with zero points, or blocks \
                 that are no multiple of 32 columns"
            ));
        }
        Ok(())
    }

    fn norm(&mut self, name: &str, norm: &Norm) -> Result<()> {
        let (wanted, found) = (self.epsilon, norm.epsilon);
        ensure!(found == wanted, "norms with epsilon {found} and {wanted} are not supported");
        self.vector(&format!("{name}.weight"), &norm.gamma);
        Ok(())
    }

    fn linear(&mut self, name: &str, linear: &Linear) {
        self.matrix(&format!("{name}.weight"), &linear.weight, linear.rows.clone());
        if let Some(bias) = &linear.bias {
            self.vector(&format!("{name}.bias"), bias);
        }
    }

    fn matrix(&mut self, name: &str, weight: &Weight, rows: std::ops::Range<usize>) {
        let start = self.bytes.len();
        weight.write(rows.clone(), &mut self.bytes);
        let data = start..self.bytes.len();
        let tensor = Tensor::new(weight.kind(), rows.len(), weight.cols, data);
        self.tensors.insert(name.to_owned(), tensor);
    }

    fn vector(&mut self, name: &str, values: &[f32]) {
        let start = self.bytes.len();
        self.bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        let tensor = Tensor::new(TensorType::F32, 1, values.len(), start..self.bytes.len());
        self.tensors.insert(name.to_owned(), tensor);
    }
}

/// The family that computes what the graph does.
fn architecture(decoder: &Decoder, config: &Config) -> Result<&'static str> {
    let any = |has: fn(&Layer) -> bool| decoder.layers.iter().any(has);
    let head_norms = any(|layer| layer.queries.norm.is_some());
    let post_norms = any(|layer| layer.post_norm.is_some() || layer.ffn_post_norm.is_some());
    let gelu = any(|layer| layer.activation == Activation::Gelu);
    let interleaved = any(|layer| layer.queries.rotary.is_some_and(|rotary| rotary.interleaved));
    Ok(match (gelu, post_norms, head_norms, interleaved) {
        (false, false, false, false) => "qwen2",
        (false, false, false, true) => "llama",
        (false, false, true, false) => "qwen3",
        (true, false, false, false) => "gemma",
        (true, true, false, false) => "gemma2",
        (true, true, true, false) => "gemma3",
        _ => bail!(
            "{} computes what no known family does; take a GGUF file of this model",
            config.model_type
        ),
    })
}

impl Heads {
    fn of(layer: &Layer, default: usize) -> Result<Heads> {
        let node = layer.attention;
        let count = |name: &str| {
            integer(node, name).and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0)
        };
        let heads = count("num_heads").or(count("q_num_heads")).unwrap_or(default);
        let (rows, kv_rows) = (layer.queries.linear.rows.len(), layer.keys.linear.rows.len());
        ensure!(
            heads > 0 && rows > 0 && rows.is_multiple_of(heads),
            "{rows} rows are not {heads} heads"
        );
        let head_dim = rows / heads;
        ensure!(kv_rows.is_multiple_of(head_dim), "{kv_rows} rows of keys, heads of {head_dim}");
        check_attention(node)?;
        let usual = 1.0 / (head_dim as f32).sqrt();
        let scale = float(node, "scale").filter(|scale| *scale != 0.0);
        Ok(Heads {
            heads,
            kv_heads: kv_rows / head_dim,
            head_dim,
            turned: layer.queries.rotary.is_some(),
            // ONNX Runtime counts those before the token, a plan the token too.
            window: count("local_window_size").map_or(0, |before| before.saturating_add(1)),
            scale: scale.filter(|scale| (scale - usual).abs() > 1e-3 * usual),
            soft_cap: float(node, "softcap").unwrap_or(0.0),
        })
    }
}

/// Attributes and inputs that change what attention computes.
fn check_attention(node: &NodeProto) -> Result<()> {
    let is = |name: &str| integer(node, name).unwrap_or(0) != 0;
    ensure!(!is("smooth_softmax"), "smooth_softmax is not supported");
    if node.op_type == "GroupQueryAttention" {
        ensure!(input(node, 11).is_none(), "attention sinks are not supported");
        let quantised = input(node, 12).is_some() || input(node, 13).is_some();
        ensure!(!quantised, "a quantised cache is not supported");
    }
    // Whether a mask hides what follows cannot be seen here; one that is given is trusted to.
    let mask = match node.op_type.as_str() {
        "Attention" => is("is_causal") || input(node, 3).is_some(),
        "MultiHeadAttention" => {
            is("unidirectional") || input(node, 4).is_some() || input(node, 5).is_some()
        }
        _ => true,
    };
    ensure!(mask, "node {} sees what follows: this is no decoder", node.name);
    Ok(())
}

impl Decoder<'_> {
    fn matrices(&self) -> impl Iterator<Item = &Weight> {
        let each = self.layers.iter().flat_map(|layer| {
            [
                &layer.queries.linear,
                &layer.keys.linear,
                &layer.values,
                &layer.output,
                &layer.gate,
                &layer.up,
                &layer.down,
            ]
        });
        each.chain(&self.output).map(|linear| &*linear.weight).chain([&*self.embedding])
    }
}
