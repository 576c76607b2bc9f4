use tract_onnx::tract_hir::internal::*;

use super::{PackedOp, expect_inputs, floats, rows_of, scratch, width_of};

/// `SwiGlu(gate_up [1,S,2F]) -> [1,S,F]`: silu(gate) · up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwiGlu;

impl PackedOp for SwiGlu {}

impl Op for SwiGlu {
    fn name(&self) -> StaticName {
        "SwiGlu".into()
    }

    op_as_typed_op!();
}

impl EvalOp for SwiGlu {
    not_out_of_plan!();

    fn eval(&self, context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let scratch = scratch(context)?;
        let gate_up = args_1!(inputs);
        let rows = rows_of(&gate_up)?;
        let width = gate_up.shape()[2] / 2;
        let out = scratch.outputs.fill(&[1, rows, width], |out| {
            Ok(scratch.kernels.swiglu(floats(&gate_up)?, width, out, &scratch.pool)?)
        })?;
        Ok(tvec!(out))
    }
}

impl TypedOp for SwiGlu {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        expect_inputs(inputs, 1..=1)?;
        let width = width_of(inputs[0], "gate_up")?;
        ensure!(width.is_multiple_of(2), "gate_up has an odd width of {width}");
        Ok(tvec!(f32::fact([1.to_dim(), inputs[0].shape[1].clone(), (width / 2).to_dim()])))
    }
}
