use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::op::{PackedOp, expect_inputs, floats, rows_of, width_of};
use super::scratch::scratch;
use crate::slm::kernels::Activation;

/// `Activate(gate_up [1,S,2F]) -> [1,S,F]`: f(gate) · up; without gates `(x [1,S,F]) -> [1,S,F]`:
/// f(x).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activate {
    function: Activation,
    gated: bool,
}

impl Activate {
    pub fn parse(node: &NodeProto) -> TractResult<Activate> {
        let function = match node.get_attr("function")? {
            "silu" => Activation::Silu,
            "gelu" => Activation::Gelu,
            "relu2" => Activation::ReluSquared,
            other => bail!("the activation {other:?} is not known"),
        };
        let gated: i64 = node.get_attr("gated")?;
        Ok(Activate { function, gated: gated != 0 })
    }

    /// Columns that come out of `width`.
    fn width(&self, width: usize) -> usize {
        if self.gated { width / 2 } else { width }
    }
}

impl PackedOp for Activate {}

impl Op for Activate {
    fn name(&self) -> StaticName {
        "Activate".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Activate {
    not_out_of_plan!();

    fn eval(&self, context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let scratch = scratch(context)?;
        let x = args_1!(inputs);
        let rows = rows_of(&x)?;
        let width = self.width(x.shape()[2]);
        let out = scratch.outputs.fill(&[1, rows, width], |out| {
            Ok(scratch.kernels.activate(self.function, floats(&x)?, width, out, &scratch.pool)?)
        })?;
        Ok(tvec!(out))
    }
}

impl TypedOp for Activate {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        expect_inputs(inputs, 1..=1)?;
        let width = width_of(inputs[0], "gate_up")?;
        ensure!(!self.gated || width.is_multiple_of(2), "gate_up has an odd width of {width}");
        let width = self.width(width).to_dim();
        Ok(tvec!(f32::fact([1.to_dim(), inputs[0].shape[1].clone(), width])))
    }
}
