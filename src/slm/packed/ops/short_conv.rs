use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::op::{PackedOp, expect_inputs, expect_vector, floats, rows_of, width_of};
use super::scratch::scratch;
use super::state::LayerState;
use crate::slm::kernels::{Cache, ConvCache, short_conv};

/// `ShortConv(bcx [1,S,3·D], kernel [taps·D]) -> [1,S,D]`: the gated convolution over the last
/// `taps` tokens. Stateful: it appends to the layer's columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShortConv {
    width: usize,
    taps: usize,
}

impl ShortConv {
    pub fn parse(node: &NodeProto) -> TractResult<ShortConv> {
        let op = ShortConv { width: node.get_attr("width")?, taps: node.get_attr("taps")? };
        // Checks the sizes before any state is made of them.
        ConvCache::new(op.width, op.taps, 1)?;
        Ok(op)
    }
}

impl PackedOp for ShortConv {}

impl Op for ShortConv {
    fn name(&self) -> StaticName {
        "ShortConv".into()
    }

    op_as_typed_op!();
}

impl EvalOp for ShortConv {
    not_out_of_plan!();

    fn state(&self, _: &EvalContext) -> TractResult<Option<Box<dyn OpState>>> {
        Ok(Some(Box::new(ShortConvState { op: self.clone(), cache: None })))
    }
}

impl TypedOp for ShortConv {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        expect_inputs(inputs, 2..=2)?;
        let (width, wanted) = (width_of(inputs[0], "bcx")?, 3 * self.width);
        ensure!(width == wanted, "bcx has {width} columns, the convolution needs {wanted}");
        expect_vector(inputs[1], self.taps * self.width, "kernel")?;
        let rows = inputs[0].shape[1].clone();
        Ok(tvec!(f32::fact([1.to_dim(), rows, self.width.to_dim()])))
    }
}

/// One layer of one sequence.
#[derive(Debug, Clone)]
pub struct ShortConvState {
    op: ShortConv,
    cache: Option<ConvCache>,
}

impl LayerState for ShortConvState {
    fn allocate(&mut self, capacity: usize) -> crate::Result<()> {
        self.cache = Some(ConvCache::new(self.op.width, self.op.taps, capacity)?);
        Ok(())
    }

    fn cache(&self) -> Option<&dyn Cache> {
        self.cache.as_ref().map(|cache| cache as _)
    }

    fn cache_mut(&mut self) -> Option<&mut dyn Cache> {
        self.cache.as_mut().map(|cache| cache as _)
    }
}

impl OpState for ShortConvState {
    fn eval(
        &mut self,
        context: &EvalContext,
        _: &dyn Op,
        inputs: TVec<TValue>,
    ) -> TractResult<TVec<TValue>> {
        let (bcx, kernel) = args_2!(inputs);
        let cache = self.cache.as_mut().context("the cache is not allocated")?;
        let shape = [1, rows_of(&bcx)?, self.op.width];
        let out = scratch(context)?
            .outputs
            .fill(&shape, |out| Ok(short_conv(floats(&kernel)?, floats(&bcx)?, cache, out)?))?;
        Ok(tvec!(out))
    }

    fn reset_lanes(&mut self, _: &[LaneId]) -> TractResult<()> {
        if let Some(cache) = self.cache_mut() {
            cache.ring_mut().truncate(0);
        }
        Ok(())
    }
}
