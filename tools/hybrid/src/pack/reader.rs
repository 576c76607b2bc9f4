//! Reads a GGUF file by its family's row into a [`Plan`].

use std::collections::BTreeSet;

use anyhow::{Result, bail, ensure};
use hybrid::slm::kernels::ConvCache;

use super::family::{
    self, EmbeddingScale, Family, Gate, HeadNorms, LogitScale, NormKind, Pairs, Parallel,
};
use super::gguf::{Gguf, Tensor, Value, required};
use super::plan::{
    Attention, FeedForward, HeadNorm, Layer, Linear, Matrix, Plan, RowOrder, ShortConv,
};
use super::rotary::{self, Ropes};
use super::tensors::Reader;

/// What would change the arithmetic in a way that a [`Plan`] cannot say, and what it is.
const UNSUPPORTED_KEYS: &[(&str, &str)] = &[
    ("expert_count", "a mixture of experts; take a dense model"),
    ("attention.max_alibi_bias", "positions by ALiBi; take a model with RoPE"),
    ("residual_scale", "a scale that this family does not have"),
    ("embedding_scale", "a scale that this family does not have"),
];

/// The numbers of a model, for the manifest.
#[derive(Debug, Clone)]
pub struct Shape {
    pub architecture: String,
    pub context: usize,
    /// That of the model, if the user may choose a longer one.
    pub longest_context: Option<usize>,
    pub hidden: usize,
    pub parameters: u64,
}

/// Reads metadata and tensors of `gguf`, whose bytes are `file`. `context`: that of the bundle, if
/// the user wants another one than the model's.
pub fn plan(gguf: &Gguf, file: &[u8], context: Option<usize>) -> Result<(Plan, Shape)> {
    let family = family::of(&gguf.metadata)?;
    let mut reader = Reader { family, gguf, file, used: BTreeSet::new() };
    reader.check_unsupported()?;
    let (plan, chosen) = reader.plan(context)?;
    reader.check_all_used()?;
    let weights = reader.used.iter().filter(|name| !rotary::TENSORS.contains(&name.as_str()));
    let weights = weights.filter_map(|name| gguf.tensors.get(name));
    let whole = reader.required_size("context_length")?;
    let shape = Shape {
        architecture: family.name.to_owned(),
        context: chosen,
        longest_context: (context.is_none() && chosen < whole).then_some(whole),
        hidden: plan.embedding.tensor.cols,
        parameters: weights.map(|t| t.rows as u64 * t.cols as u64).sum(),
    };
    Ok((plan, shape))
}

/// What all layers of a model have in common.
struct Common {
    hidden: usize,
    head_dim: usize,
    ropes: Ropes,
    /// The window of each layer.
    windows: Vec<Option<usize>>,
    /// As the plan has it.
    scale: Option<f32>,
    soft_cap: Option<f32>,
    clamp: Option<f32>,
    parallel: bool,
}

impl Reader<'_> {
    /// The plan, and the context that it is for.
    fn plan(&mut self, context: Option<usize>) -> Result<(Plan, usize)> {
        let hidden = self.required_size("embedding_length")?;
        let layers = self.required_size("block_count")?;
        ensure!(layers <= 1024, "{} is {layers}, expected 1 to 1024", self.key("block_count"));
        let heads_key = self.key("attention.head_count");
        let heads = required(&heads_key, self.metadata().counts(&heads_key, layers))?;
        let kv_heads = self.metadata().counts(&self.key("attention.head_count_kv"), layers)?;
        let kv_heads = kv_heads.unwrap_or_else(|| heads.clone());
        let ffn = self.metadata().counts(&self.key("feed_forward_length"), layers)?;
        let head_dim = self.head_dim(hidden, &heads)?;
        let ropes = Ropes::read(self, head_dim, context)?;
        let context = ropes.context;
        let scales = self.family.scales;
        if scales.stated {
            for name in ["embedding_scale", "residual_scale", "logit_scale"] {
                let (key, value) = (self.key(name), self.float(name)?);
                ensure!(
                    value.is_some(),
                    "{key} is missing, as in old files: convert the model anew"
                );
            }
        }
        let [attention_cap, logit_cap] = scales.soft_caps;
        let common = Common {
            hidden,
            head_dim,
            ropes,
            windows: self.windows(layers)?,
            scale: self.attention_scale(hidden, &heads)?,
            soft_cap: self.positive("attn_logit_softcapping")?.or(attention_cap),
            clamp: self.positive("attention.clamp_kqv")?,
            parallel: match self.family.parallel {
                Parallel::Key => self.flag("use_parallel_residual")?.unwrap_or(true),
                other => other != Parallel::No,
            },
        };
        let embedding = self.matrix("token_embd", hidden)?;
        let mut plan_layers = Vec::new();
        for (index, heads) in heads.iter().copied().zip(kv_heads).enumerate() {
            let has_ffn = ffn.as_ref().is_none_or(|sizes| sizes.get(index) != Some(&0));
            plan_layers.push(self.layer(index, heads, has_ffn, &common)?);
        }
        let final_norm = self.norm(self.family.places.last, hidden)?;
        let output = self.output(&embedding)?;
        let epsilon_key = self.key(match self.family.norm {
            NormKind::Rms => "attention.layer_norm_rms_epsilon",
            NormKind::Layer | NormKind::Bare => "attention.layer_norm_epsilon",
        });
        let epsilon = required(&epsilon_key, self.metadata().float(&epsilon_key))?;
        let plan = Plan {
            embedding,
            embedding_scale: match scales.embedding {
                EmbeddingScale::None => None,
                EmbeddingScale::Root => Some((hidden as f32).sqrt()),
                EmbeddingScale::Key => self.positive("embedding_scale")?,
            },
            layers: plan_layers,
            residual_scale: if scales.residual { self.positive("residual_scale")? } else { None },
            final_norm,
            output,
            logit_scale: match scales.logits {
                LogitScale::Times => self.positive("logit_scale")?,
                LogitScale::Over => self.positive("logit_scale")?.map(|scale| 1.0 / scale),
            },
            logit_cap: self.positive("final_logit_softcapping")?.or(logit_cap),
            epsilon,
        };
        Ok((plan, context))
    }

    fn layer(
        &mut self,
        index: usize,
        (heads, kv_heads): (usize, usize),
        has_ffn: bool,
        common: &Common,
    ) -> Result<Layer> {
        let is_conv = self.has(&format!("blk.{index}.shortconv.conv.weight"));
        let conv = if is_conv { Some(self.short_conv(index, common)?) } else { None };
        let attention = match heads {
            _ if is_conv => None,
            0 => None,
            _ => Some(self.attention(index, heads, kv_heads, common)?),
        };
        let ffn = if has_ffn { Some(self.ffn(index, common)?) } else { None };
        let is_empty = conv.is_none() && attention.is_none() && ffn.is_none();
        ensure!(!is_empty, "layer {index} has nothing in it");
        let without_norm = ffn.as_ref().is_some_and(|ffn| ffn.norm.is_none());
        let parallel = match self.family.parallel {
            Parallel::WithoutNorm => without_norm,
            _ => common.parallel,
        };
        Ok(Layer { attention, conv, ffn, parallel })
    }

    fn attention(
        &mut self,
        index: usize,
        heads: usize,
        kv_heads: usize,
        common: &Common,
    ) -> Result<Attention> {
        let &Common { hidden, head_dim, .. } = common;
        ensure!(
            kv_heads > 0 && heads.is_multiple_of(kv_heads),
            "layer {index} has {heads} heads, not a multiple of {kv_heads} key heads"
        );
        let name = |part: &str| format!("blk.{index}.{part}");
        let window = common.windows.get(index).copied().flatten();
        let windows = common.windows.iter().any(Option::is_some);
        let rope = common.ropes.of(index, window.is_some(), windows);
        let order = |rows: usize| match self.family.pairs {
            Pairs::Neighbours if rope.dim > 0 => {
                RowOrder::Deinterleave { head_dim, rope_dim: rope.dim, rows }
            }
            _ => RowOrder::AsIs,
        };
        let (q, kv) = (heads * head_dim, kv_heads * head_dim);
        let (q_order, k_order, both) = (order(q), order(kv), order(q + kv));
        let places = self.family.places;
        let norm = self.placed_norm(places.attention, index, hidden)?;
        let qkv = match self.has(&name("attn_qkv.weight")) {
            true => self.linear(&[(name("attn_qkv"), Some(q + 2 * kv), both)], hidden)?,
            false => {
                let parts = [
                    (name("attn_q"), Some(q), q_order),
                    (name("attn_k"), Some(kv), k_order),
                    (name("attn_v"), Some(kv), RowOrder::AsIs),
                ];
                self.linear(&parts, hidden)?
            }
        };
        let mut scales: Vec<f32> = common.scale.into_iter().collect();
        let mut head_norm = None;
        if self.family.head_norm != HeadNorms::None {
            let queries = self.head_gamma(&name("attn_q_norm.weight"), head_dim, q, q_order)?;
            let keys = self.head_gamma(&name("attn_k_norm.weight"), head_dim, kv, k_order)?;
            let mut norm = HeadNorm { queries, keys };
            if self.family.head_norm == HeadNorms::AfterRope {
                // Turning leaves the length as it is, so the norm may come before. What it
                // multiplies with must come after; queries take the keys' part too.
                let fits = norm.queries.len() == head_dim && norm.keys.len() == head_dim;
                ensure!(fits, "the norms of layer {index}'s heads have not {head_dim} values");
                let scale = common.scale.unwrap_or(1.0 / (head_dim as f32).sqrt());
                let products = norm.queries.iter().zip(&norm.keys);
                scales = products.map(|(query, key)| scale * query * key).collect();
                norm = HeadNorm { queries: vec![1.0; head_dim], keys: vec![1.0; head_dim] };
            }
            head_norm = Some(norm);
        }
        let output = self.linear(&[(name("attn_output"), Some(hidden), RowOrder::AsIs)], q)?;
        let post_norm = self.placed_norm(places.attention_post, index, hidden)?;
        let (clamp, soft_cap) = (common.clamp, common.soft_cap);
        Ok(Attention {
            norm,
            qkv,
            clamp,
            head_norm,
            heads,
            kv_heads,
            head_dim,
            rope,
            scales,
            window,
            soft_cap,
            output,
            post_norm,
        })
    }

    fn short_conv(&mut self, index: usize, common: &Common) -> Result<ShortConv> {
        let hidden = common.hidden;
        let name = |part: &str| format!("blk.{index}.shortconv.{part}");
        let taps = self.required_size("shortconv.l_cache")?;
        let most = ConvCache::MAX_TAPS;
        ensure!(taps <= most, "{} is {taps}, at most {most}", self.key("shortconv.l_cache"));
        let norm = self.placed_norm(self.family.places.attention, index, hidden)?;
        let input = self.linear(&[(name("in_proj"), Some(3 * hidden), RowOrder::AsIs)], hidden)?;
        let channels = self.rows(&name("conv.weight"), hidden, taps)?;
        let output = self.linear(&[(name("out_proj"), Some(hidden), RowOrder::AsIs)], hidden)?;
        let taps_of = |tap: usize| channels.iter().skip(tap).step_by(taps).copied();
        let kernel = (0..taps).flat_map(taps_of).collect();
        Ok(ShortConv { norm, input, kernel, taps, output })
    }

    fn ffn(&mut self, index: usize, common: &Common) -> Result<FeedForward> {
        let name = |part: &str| format!("blk.{index}.{part}");
        let (as_is, hidden) = (RowOrder::AsIs, common.hidden);
        let Family { places, gate, activation, .. } = *self.family;
        let optional = self.family.parallel == Parallel::WithoutNorm;
        let place =
            places.ffn.filter(|place| !optional || self.has(&name(&format!("{place}.weight"))));
        let norm = self.placed_norm(place, index, hidden)?;
        let up = (name("ffn_up"), None, as_is);
        let input = match gate {
            Gate::Own => self.linear(&[(name("ffn_gate"), None, as_is), up], hidden)?,
            Gate::InUp | Gate::None => self.linear(&[up], hidden)?,
        };
        let gated = gate != Gate::None;
        if let [gate, up] = input.matrices.as_slice() {
            let (gate, up) = (gate.tensor.rows, up.tensor.rows);
            ensure!(gate == up, "layer {index} has {gate} gate rows but {up} up rows");
        }
        let rows = input.rows();
        ensure!(!gated || rows.is_multiple_of(2), "layer {index} has an odd {rows} up rows");
        let width = if gated { rows / 2 } else { rows };
        let down = self.linear(&[(name("ffn_down"), Some(hidden), as_is)], width)?;
        let post_norm = self.placed_norm(places.ffn_post, index, hidden)?;
        Ok(FeedForward { norm, input, activation, gated, down, post_norm })
    }

    /// A separate output matrix, or the embedding again where the file has none.
    fn output(&mut self, embedding: &Matrix) -> Result<Linear> {
        let Tensor { rows, cols, .. } = embedding.tensor;
        if self.has("output.weight") {
            return self.linear(&[("output".to_owned(), Some(rows), RowOrder::AsIs)], cols);
        }
        Ok(Linear { matrices: vec![embedding.clone()], bias: None })
    }

    /// The window of each layer.
    fn windows(&self, layers: usize) -> Result<Vec<Option<usize>>> {
        let local = self.family.local;
        let window = self.integer("attention.sliding_window")?.filter(|window| *window > 0);
        let window = match window {
            Some(_) => self.size("attention.sliding_window")?,
            None => local.window,
        };
        let key = self.key("attention.sliding_window_pattern");
        let pattern = match self.metadata().get(&key) {
            Some(Value::Integers(pattern)) => {
                let count = pattern.len();
                ensure!(count == layers, "{key} has {count} entries for {layers} layers");
                pattern.iter().map(|layer| *layer != 0).collect()
            }
            _ => {
                let period = self.metadata().size(&key)?.or(local.period);
                let sees_all = |layer: usize| period.is_some_and(|n| (layer + 1).is_multiple_of(n));
                (0..layers).map(|layer| !sees_all(layer)).collect::<Vec<_>>()
            }
        };
        Ok(pattern.into_iter().map(|is_local| window.filter(|_| is_local)).collect())
    }

    fn attention_scale(&self, hidden: usize, heads: &[usize]) -> Result<Option<f32>> {
        let given = self.positive("attention.scale")?;
        let by_hidden = self.family.scales.by_hidden_at == Some(heads.len());
        let first = heads.first().copied().unwrap_or(1).max(1);
        Ok(given.or(by_hidden.then(|| 1.0 / ((hidden / first) as f32).sqrt())))
    }

    fn head_dim(&self, hidden: usize, heads: &[usize]) -> Result<usize> {
        let (key_length, value_length) =
            (self.key("attention.key_length"), self.key("attention.value_length"));
        let explicit = self.metadata().size(&key_length)?;
        let most = heads.iter().copied().max().unwrap_or(0).max(1);
        ensure!(
            explicit.is_some() || hidden.is_multiple_of(most),
            "{hidden} is not a multiple of {most} heads and {key_length} is missing"
        );
        let head_dim = explicit.unwrap_or(hidden / most);
        let values = self.metadata().size(&value_length)?.unwrap_or(head_dim);
        ensure!(values == head_dim, "{value_length} is {values}, but keys have {head_dim}");
        Ok(head_dim)
    }

    fn check_unsupported(&self) -> Result<()> {
        let scales = self.family.scales;
        for (name, what) in UNSUPPORTED_KEYS {
            let known = match *name {
                "residual_scale" => scales.residual,
                "embedding_scale" => scales.embedding == EmbeddingScale::Key,
                _ => false,
            };
            let key = self.key(name);
            // 0 means "not there" for all of them.
            match self.metadata().get(&key) {
                _ if known => {}
                None | Some(Value::Integer(0)) => {}
                Some(Value::Float(value)) if *value == 0.0 => {}
                Some(value) => bail!("{key} = {value:?} is not supported: {what}"),
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
}
