use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::op::{PackedOp, expect_inputs, expect_vector, floats, rows_of, width_of};
use super::scratch::{RopeKey, Scratch, scratch};
use super::state::LayerState;
use crate::slm::kernels::{AttentionRule, AttentionShape, Cache, KvCache, Rope};

/// `Attention(qkv [1,S,(H+2·Hkv)·Dh], rope_factors [rope_dim/2]?) -> [1,S,H·Dh]`: causal attention
/// with RoPE. Stateful: it appends to the KV cache, whose length is the position of the first row.
#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    shape: AttentionShape,
    rope: RopeKey,
    /// The rule's own where there are none.
    scales: Vec<f32>,
    window: Option<usize>,
    soft_cap: Option<f32>,
}

/// The rule refuses NaN.
impl Eq for Attention {}

impl Attention {
    pub fn parse(node: &NodeProto) -> TractResult<Attention> {
        let shape = AttentionShape::new(
            node.get_attr("heads")?,
            node.get_attr("kv_heads")?,
            node.get_attr("head_dim")?,
        )?;
        // Before a table of that size is made.
        let dims: usize = node.get_attr("rope_dim")?;
        node.expect_attr("rope_dim", dims <= shape.head_dim(), "at most head_dim")?;
        let op = Attention {
            shape,
            rope: RopeKey {
                dims,
                base: node.get_attr("rope_base")?,
                length: node.get_attr_opt("rope_length")?.unwrap_or(1.0),
                factors: None,
            },
            scales: node.get_attr_opt_vec("scales")?.unwrap_or_default(),
            window: node.get_attr_opt("window")?,
            soft_cap: node.get_attr_opt("soft_cap")?,
        };
        // Checks the parameters before any state is made of them.
        op.rule(op.rope.table()?)?;
        Ok(op)
    }

    fn rule(&self, rope: Arc<Rope>) -> TractResult<AttentionRule> {
        let mut rule = AttentionRule::new(self.shape, rope)?;
        if !self.scales.is_empty() {
            rule = rule.with_scales(&self.scales)?;
        }
        if let Some(window) = self.window {
            rule = rule.with_window(window)?;
        }
        if let Some(cap) = self.soft_cap {
            rule = rule.with_soft_cap(cap)?;
        }
        Ok(rule)
    }

    /// The layer's table of angles: one of another layer of the sequence where that has the same.
    fn rope(&self, factors: Option<&[f32]>, scratch: &Scratch) -> TractResult<Arc<Rope>> {
        let key = RopeKey { factors: factors.map(<[f32]>::to_vec), ..self.rope.clone() };
        let mut ropes = scratch.ropes.try_borrow_mut()?;
        if let Some((_, rope)) = ropes.iter().find(|(other, _)| *other == key) {
            return Ok(rope.clone());
        }
        let rope = key.table()?;
        ropes.push((key, rope.clone()));
        Ok(rope)
    }
}

impl PackedOp for Attention {}

impl Op for Attention {
    fn name(&self) -> StaticName {
        "Attention".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Attention {
    not_out_of_plan!();

    fn state(&self, _: &EvalContext) -> TractResult<Option<Box<dyn OpState>>> {
        let (shape, window) = (self.shape, self.window);
        Ok(Some(Box::new(AttentionState { shape, window, rule: None, cache: None })))
    }
}

impl TypedOp for Attention {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        expect_inputs(inputs, 1..=2)?;
        let (width, wanted) = (width_of(inputs[0], "qkv")?, self.shape.qkv_width());
        ensure!(width == wanted, "qkv has {width} columns, the heads need {wanted}");
        if let Some(factors) = inputs.get(1) {
            expect_vector(factors, self.rope.dims / 2, "rope_factors")?;
        }
        let rows = inputs[0].shape[1].clone();
        Ok(tvec!(f32::fact([1.to_dim(), rows, self.shape.out_width().to_dim()])))
    }
}

/// One layer of one sequence.
#[derive(Debug, Clone)]
pub struct AttentionState {
    shape: AttentionShape,
    window: Option<usize>,
    /// Made at the first run, when the factors are known.
    rule: Option<AttentionRule>,
    cache: Option<KvCache>,
}

impl LayerState for AttentionState {
    fn allocate(&mut self, capacity: usize) -> crate::Result<()> {
        self.cache = Some(match self.window {
            Some(window) => KvCache::with_window(self.shape, capacity, window)?,
            None => KvCache::new(self.shape, capacity)?,
        });
        Ok(())
    }

    fn cache(&self) -> Option<&dyn Cache> {
        self.cache.as_ref().map(|cache| cache as _)
    }

    fn cache_mut(&mut self) -> Option<&mut dyn Cache> {
        self.cache.as_mut().map(|cache| cache as _)
    }
}

impl OpState for AttentionState {
    fn eval(
        &mut self,
        context: &EvalContext,
        op: &dyn Op,
        inputs: TVec<TValue>,
    ) -> TractResult<TVec<TValue>> {
        let qkv = inputs.first().context("no input")?;
        let cache = self.cache.as_mut().context("the KV cache is not allocated")?;
        let scratch = scratch(context)?;
        let rule = match &mut self.rule {
            Some(rule) => rule,
            empty => {
                let op = op.downcast_ref::<Attention>().context("not an Attention node")?;
                let factors = inputs.get(1).map(|factors| floats(factors)).transpose()?;
                empty.insert(op.rule(op.rope(factors, scratch)?)?)
            }
        };
        let shape = [1, rows_of(qkv)?, self.shape.out_width()];
        let out = scratch.outputs.fill(&shape, |out| {
            let mut buffers = scratch.attention.try_borrow_mut()?;
            let (kernels, pool) = (scratch.kernels, &scratch.pool);
            Ok(kernels.attention(rule, floats(qkv)?, cache, &mut buffers, out, pool)?)
        })?;
        Ok(tvec!(out))
    }

    fn reset_lanes(&mut self, _: &[LaneId]) -> TractResult<()> {
        if let Some(cache) = self.cache_mut() {
            cache.ring_mut().truncate(0);
        }
        Ok(())
    }
}
