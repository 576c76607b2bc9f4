//! The parts of a decoder in a graph of fused operators. Attention nodes are what every layer has:
//! from them the way leads back to queries, keys and values and forward to the feed-forward
//! network. Whatever else is on that way is an error, so nothing is left out unseen.

use std::rc::Rc;

use anyhow::{Context, Result, bail, ensure};
use tract_onnx::pb::{GraphProto, NodeProto};

use super::index::{Index, MAX_STEPS, first, float, input, integer};
use super::linear::{Linear, MATMULS, bias_of};
use super::weights::Weight;

pub const ATTENTION: &[&str] = &["GroupQueryAttention", "MultiHeadAttention", "Attention"];
const NORMS: &[&str] = &["SimplifiedLayerNormalization", "RMSNormalization"];
const SKIP_NORMS: &[&str] = &["SkipSimplifiedLayerNormalization"];

pub struct Decoder<'a> {
    pub embedding: Rc<Weight>,
    pub embedding_scale: Option<f32>,
    pub layers: Vec<Layer<'a>>,
    pub final_norm: Norm<'a>,
    /// `None`: the embedding's.
    pub output: Option<Linear<'a>>,
    pub logits: Logits,
}

/// What becomes of the output's numbers.
#[derive(Default)]
pub struct Logits {
    /// They are multiplied with it.
    pub scale: Option<f32>,
    /// They are kept under it.
    pub cap: Option<f32>,
}

pub struct Layer<'a> {
    pub attention: &'a NodeProto,
    pub norm: Norm<'a>,
    pub queries: Projection<'a>,
    pub keys: Projection<'a>,
    pub values: Linear<'a>,
    pub output: Linear<'a>,
    pub post_norm: Option<Norm<'a>>,
    pub ffn_norm: Norm<'a>,
    pub gate: Linear<'a>,
    pub up: Linear<'a>,
    pub activation: Activation,
    pub down: Linear<'a>,
    pub ffn_post_norm: Option<Norm<'a>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    Silu,
    Gelu,
}

/// What becomes queries or keys.
pub struct Projection<'a> {
    pub linear: Linear<'a>,
    pub norm: Option<Norm<'a>>,
    pub rotary: Option<Rotary<'a>>,
}

/// The tables of a rotary embedding: cosines, sines.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Rotary<'a> {
    pub tables: [&'a str; 2],
    /// Values of a head that are turned, where the node says.
    pub dim: Option<usize>,
    pub interleaved: bool,
}

#[derive(Clone)]
pub struct Norm<'a> {
    pub gamma: Vec<f32>,
    pub epsilon: f32,
    output: &'a str,
}

impl<'a> Decoder<'a> {
    pub fn find(graph: &'a GraphProto, index: &Index<'a>) -> Result<Decoder<'a>> {
        let (embedding, embedding_scale) = embedding(graph, index)?;
        let mut layers = Vec::new();
        let attentions = graph.node.iter().filter(|node| ATTENTION.contains(&&*node.op_type));
        // The norm that follows a layer is the one that the next layer begins with.
        let mut expected: Option<Norm> = None;
        for (at, attention) in attentions.enumerate() {
            let (layer, next) =
                Layer::find(index, attention).with_context(|| format!("layer {at}"))?;
            let fits = expected.is_none_or(|norm| norm.output == layer.norm.output);
            ensure!(fits, "layer {at} does not read what the layer before it makes");
            expected = Some(next);
            layers.push(layer);
        }
        let final_norm = expected.context("there is no attention node")?;
        let logits = graph.output.iter().find(|output| output.name == "logits");
        let logits = logits.context("there is no output logits")?;
        let (logits, value) = Logits::find(index, &logits.name);
        let output = Linear::find(index, value).context("logits")?;
        let read = index.after(final_norm.output);
        let mut reads = output.input;
        // The builder may pick the last token first.
        for _ in 0..MAX_STEPS {
            match index.producer(reads) {
                Ok((node, _)) if ["Gather", "Slice"].contains(&&*node.op_type) => {
                    reads = index.before(first(node)?);
                }
                _ => break,
            }
        }
        ensure!(read.contains(&reads), "the logits are not made of the last layer's norm");
        let tied = output.weight == embedding && output.bias.is_none();
        let output = (!tied).then_some(output);
        Ok(Decoder { embedding, embedding_scale, layers, final_norm, output, logits })
    }
}

impl Logits {
    /// Back over what scales and caps: the value that they were made of.
    fn find<'a>(index: &Index<'a>, value: &'a str) -> (Logits, &'a str) {
        let (mut found, mut value) = (Logits::default(), index.before(value));
        for _ in 0..2 {
            // cap · tanh(x / cap), or x · scale
            let Some((factor, of)) = scaled(index, value, "Mul") else { break };
            let tanh = index.producer(of).ok().filter(|(node, _)| node.op_type == "Tanh");
            let inside = tanh.and_then(|(node, _)| first(node).ok());
            let inside = inside.and_then(|inside| scaled(index, index.before(inside), "Div"));
            match inside {
                Some((divisor, of)) if divisor == factor && found.cap.is_none() => {
                    (found.cap, value) = (Some(factor), of);
                }
                None if tanh.is_none() && found.scale.is_none() => {
                    (found.scale, value) = (Some(factor), of);
                }
                _ => break,
            }
        }
        (found, value)
    }
}

/// The number that a node of this kind joins to another value, and that value.
fn scaled<'a>(index: &Index<'a>, value: &'a str, op: &str) -> Option<(f32, &'a str)> {
    let (node, _) = index.producer(value).ok()?;
    let [a, b] = node.input.as_slice() else { return None };
    let number = |of: &str| scalar(index, node, of);
    let (factor, other) = number(a).map(|n| (n, a)).or(number(b).map(|n| (n, b)))?;
    (node.op_type == op).then(|| (factor, index.before(other)))
}

/// The embedding, and what it is multiplied with.
fn embedding<'a>(graph: &'a GraphProto, index: &Index<'a>) -> Result<(Rc<Weight>, Option<f32>)> {
    let ids = graph.input.iter().find(|input| input.name == "input_ids");
    let ids = &ids.context("there is no input input_ids")?.name;
    let readers = index.readers(ids);
    let found = readers.iter().find(|(node, _)| {
        ["Gather", "GatherBlockQuantized"].contains(&&*node.op_type) && node.input.len() > 1
    });
    let (node, _) = found.context("no Gather reads input_ids")?;
    let weight = match node.op_type.as_str() {
        "Gather" => {
            let (tensor, transposed) =
                index.constant(first(node)?).context("the embedding is computed")?;
            Weight::floats(index.values, tensor, transposed.into())?
        }
        _ => Weight::gather_block_quantized(index, node)?,
    };
    let output = node.output.first().context("Gather has no output")?;
    let scale = index.readers(output).into_iter().find_map(|(node, value)| {
        (node.op_type == "Mul").then(|| scalar(index, node, value)).flatten()
    });
    Ok((Rc::new(weight), scale))
}

/// The constant that a node joins to a value, if it is one number.
fn scalar(index: &Index, node: &NodeProto, value: &str) -> Option<f32> {
    let other = node.input.iter().find(|input| *input != value)?;
    let values = index.vector(other).ok()?;
    (values.len() == 1).then(|| values[0])
}

impl<'a> Layer<'a> {
    /// The layer around an attention node, and the norm behind it.
    fn find(index: &Index<'a>, attention: &'a NodeProto) -> Result<(Layer<'a>, Norm<'a>)> {
        let named = |at, what| input(attention, at).with_context(|| format!("no {what}"));
        let query = named(0, "query")?;
        let (mut queries, mut keys, mut values);
        match (input(attention, 1), input(attention, 2)) {
            (Some(key), Some(value)) => {
                queries = Projection::find(index, query).context("queries")?;
                keys = Projection::find(index, key).context("keys")?;
                values = Linear::find(index, value).context("values")?;
            }
            _ => {
                let all = Projection::find(index, query).context("queries, keys and values")?;
                (queries, keys, values) = all.divide(attention)?;
            }
        }
        if attention.op_type == "MultiHeadAttention"
            && let Some(bias) = input(attention, 3)
        {
            let bias = index.vector(bias)?;
            let linears = [&mut queries.linear, &mut keys.linear, &mut values];
            let mut rest = bias.as_slice();
            for linear in linears {
                let (own, others) =
                    rest.split_at_checked(linear.rows.len()).context("a short bias")?;
                ensure!(linear.bias.is_none(), "queries, keys or values with two biases");
                (linear.bias, rest) = (Some(own.to_vec()), others);
            }
        }
        if attention.op_type == "GroupQueryAttention" && integer(attention, "do_rotary") == Some(1)
        {
            let tables = [named(7, "cos_cache")?, named(8, "sin_cache")?];
            let interleaved = integer(attention, "rotary_interleaved").unwrap_or(0) != 0;
            let rotary = Some(Rotary { tables, dim: None, interleaved });
            (queries.rotary, keys.rotary) = (rotary, rotary);
        }
        for (at, part) in [(14, &mut queries), (15, &mut keys)] {
            let Some(gamma) = input(attention, at) else { continue };
            let epsilon = float(attention, "qk_norm_epsilon").context("no qk_norm_epsilon")?;
            part.norm = Some(Norm { gamma: index.vector(gamma)?, epsilon, output: gamma });
        }
        let norm = Norm::made(index, queries.linear.input)?;
        let same = [&keys.linear, &values].iter().all(|l| l.input == queries.linear.input);
        ensure!(same, "queries, keys and values are not made of the same");
        let result = attention.output.first().context("no output")?;
        let (output, sum) = Linear::behind(index, result).context("output")?;
        let joined = Joined::find(index, sum).context("behind the attention")?;
        let ffn = FeedForward::find(index, joined.norm.output).context("feed-forward network")?;
        let after = Joined::find(index, ffn.sum).context("behind the feed-forward network")?;
        let layer = Layer {
            attention,
            norm,
            queries,
            keys,
            values,
            output,
            post_norm: joined.post_norm,
            ffn_norm: joined.norm,
            gate: ffn.gate,
            up: ffn.up,
            activation: ffn.activation,
            down: ffn.down,
            ffn_post_norm: after.post_norm,
        };
        Ok((layer, after.norm))
    }
}

impl<'a> Projection<'a> {
    fn find(index: &Index<'a>, value: &'a str) -> Result<Projection<'a>> {
        let (mut rotary, mut norm, mut value) = (None, None, value);
        for _ in 0..MAX_STEPS {
            value = index.before(value);
            let (node, _) = index.producer(value)?;
            if node.op_type == "RotaryEmbedding" {
                let first = if node.domain.is_empty() { 1 } else { 2 };
                let table = |at| input(node, at).context("RotaryEmbedding has no tables");
                let dim = integer(node, "rotary_embedding_dim").filter(|dim| *dim > 0);
                rotary = Some(Rotary {
                    tables: [table(first)?, table(first + 1)?],
                    dim: dim.and_then(|dim| usize::try_from(dim).ok()),
                    interleaved: integer(node, "interleaved").unwrap_or(0) != 0,
                });
            } else if NORMS.contains(&&*node.op_type) {
                norm = Some(Norm::of(index, node)?);
            } else {
                break;
            }
            value = first(node)?;
        }
        Ok(Projection { linear: Linear::find(index, value)?, norm, rotary })
    }

    /// Queries, keys and values out of one matrix.
    fn divide(self, attention: &NodeProto) -> Result<(Projection<'a>, Projection<'a>, Linear<'a>)> {
        let count = |name| integer(attention, name).and_then(|n| usize::try_from(n).ok());
        let heads = count("num_heads").context("num_heads is missing")?;
        let kv = count("kv_num_heads").unwrap_or(heads);
        let rows = self.linear.rows.len();
        let parts = heads + 2 * kv;
        ensure!(
            parts > 0 && rows.is_multiple_of(parts) && self.norm.is_none(),
            "{rows} rows are not {heads} queries and {kv} keys and values"
        );
        let dim = rows / parts;
        let part = |from: usize, to: usize| self.linear.part(from * dim..to * dim);
        let plain = |linear| Projection { linear, norm: None, rotary: self.rotary };
        let [q, k, v] =
            [(0, heads), (heads, heads + kv), (heads + kv, parts)].map(|(a, b)| part(a, b));
        Ok((plain(q), plain(k), v))
    }
}

impl<'a> Norm<'a> {
    fn of(index: &Index<'a>, node: &'a NodeProto) -> Result<Norm<'a>> {
        let at = if SKIP_NORMS.contains(&&*node.op_type) { 2 } else { 1 };
        let gamma = input(node, at).with_context(|| format!("{} has no weights", node.name))?;
        Ok(Norm {
            gamma: index.vector(gamma)?,
            epsilon: float(node, "epsilon").unwrap_or(1e-5),
            output: node.output.first().context("no output")?,
        })
    }

    /// The norm that makes a value.
    fn made(index: &Index<'a>, value: &'a str) -> Result<Norm<'a>> {
        let (node, _) = index.producer(index.before(value))?;
        let known = NORMS.contains(&&*node.op_type) || SKIP_NORMS.contains(&&*node.op_type);
        ensure!(known, "node {} ({}) is no RMS norm", node.name, node.op_type);
        Norm::of(index, node)
    }
}

/// How a result is added to the residual.
struct Joined<'a> {
    /// Before that.
    post_norm: Option<Norm<'a>>,
    /// Of the sum.
    norm: Norm<'a>,
}

impl<'a> Joined<'a> {
    fn find(index: &Index<'a>, value: &'a str) -> Result<Joined<'a>> {
        let (mut post_norm, mut value) = (None, value);
        for _ in 0..MAX_STEPS {
            let readers = index.readers(value);
            let [(node, _)] = readers[..] else {
                bail!("{} nodes read {value}, expected one", readers.len());
            };
            let op = node.op_type.as_str();
            if SKIP_NORMS.contains(&op) {
                ensure!(input(node, 3).is_none(), "node {} has a bias", node.name);
                return Ok(Joined { post_norm, norm: Norm::of(index, node)? });
            } else if op == "Add" {
                let sum = node.output.first().context("no output")?;
                let norm =
                    index.readers(sum).into_iter().find_map(|(node, _)| match &*node.op_type {
                        op if NORMS.contains(&op) => Some(node),
                        _ => None,
                    });
                let norm = norm.with_context(|| format!("no RMS norm reads {sum}"))?;
                return Ok(Joined { post_norm, norm: Norm::of(index, norm)? });
            } else if NORMS.contains(&op) && post_norm.is_none() {
                let norm = Norm::of(index, node)?;
                value = norm.output;
                post_norm = Some(norm);
            } else {
                bail!("node {} ({op}) is not supported here", node.name);
            }
        }
        bail!("{value} is not added to anything")
    }
}

struct FeedForward<'a> {
    gate: Linear<'a>,
    up: Linear<'a>,
    activation: Activation,
    down: Linear<'a>,
    sum: &'a str,
}

impl<'a> FeedForward<'a> {
    fn find(index: &Index<'a>, value: &'a str) -> Result<FeedForward<'a>> {
        // The product of an activated value and another one.
        let values = index.after(value);
        let mut matrices = Vec::new();
        for value in &values {
            let readers = index.consumers(value).iter().copied();
            matrices.extend(readers.filter(|node| MATMULS.contains(&&*node.op_type)));
        }
        ensure!(!matrices.is_empty(), "no matrix reads {value}");
        for result in matrices.iter().flat_map(|node| branches(index, node)) {
            let Some((activation, activated)) = Activation::of(index, result)? else { continue };
            let product = index.readers(activated);
            let product = product.iter().find(|(node, _)| node.op_type == "Mul");
            let (product, activated) = product.context("the activation is not multiplied")?;
            let other = product.input.iter().find(|input| input != activated);
            let gate = Linear::find(index, result).context("gate")?;
            let up = Linear::find(index, other.context("a square")?).context("up")?;
            let reads = |linear: &Linear| values.contains(&linear.input);
            ensure!(reads(&gate) && reads(&up), "gate and up do not read {value}");
            let product = product.output.first().context("no output")?;
            let (down, sum) = Linear::behind(index, product).context("down")?;
            return Ok(FeedForward { gate, up, activation, down, sum });
        }
        bail!("no known activation of a gate: SiLU or GELU")
    }
}

/// What a matrix makes, after its bias and where it is split.
fn branches<'a>(index: &Index<'a>, node: &'a NodeProto) -> Vec<&'a str> {
    let mut values: Vec<&str> = node.output.first().map(String::as_str).into_iter().collect();
    let mut at = 0;
    while let Some(value) = values.get(at).copied().filter(|_| at < MAX_STEPS) {
        for (node, _) in index.readers(value) {
            let passes =
                node.op_type == "Split" || node.op_type == "Add" && bias_of(index, node).is_ok();
            if passes {
                values.extend(node.output.iter().map(String::as_str));
            }
        }
        at += 1;
    }
    values
}

impl Activation {
    /// The activation of a value, and the activated value.
    fn of<'a>(index: &Index<'a>, value: &'a str) -> Result<Option<(Activation, &'a str)>> {
        for (node, of) in index.readers(value) {
            let output = node.output.first().context("no output")?;
            match node.op_type.as_str() {
                "Sigmoid" => {
                    let readers = index.readers(output);
                    let product = readers.iter().find(|(node, _)| {
                        node.op_type == "Mul" && node.input.iter().any(|input| input == of)
                    });
                    let (product, _) = product.context("a sigmoid gate is not supported")?;
                    let product = product.output.first().context("no output")?;
                    return Ok(Some((Activation::Silu, product)));
                }
                "QuickGelu" => {
                    let alpha = float(node, "alpha").unwrap_or(1.702);
                    ensure!(alpha == 1.0, "QuickGelu with alpha {alpha} is not supported");
                    return Ok(Some((Activation::Silu, output)));
                }
                "Swish" | "Silu" => return Ok(Some((Activation::Silu, output))),
                "Gelu" | "FastGelu" => return Ok(Some((Activation::Gelu, output))),
                _ => {}
            }
        }
        Ok(None)
    }
}
