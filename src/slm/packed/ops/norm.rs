use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::op::{PackedOp, expect_inputs, expect_vector, floats, width_of};
use super::scratch::{Scratch, scratch};

/// `RmsNorm(x [1,S,D], gamma [D]) -> [1,S,D]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RmsNorm(Epsilon);

/// `SkipRmsNorm(x, skip [1,S,D], gamma [D]) -> (norm of sum, sum = x + skip)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkipRmsNorm(Epsilon);

/// The bits of a positive f32, so that ops can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epsilon(u32);

impl Epsilon {
    pub fn parse(node: &NodeProto) -> TractResult<Epsilon> {
        let epsilon: f32 = node.get_attr("epsilon")?;
        node.expect_attr("epsilon", epsilon.is_finite() && epsilon >= 0.0, "a number from 0 up")?;
        Ok(Epsilon(epsilon.to_bits()))
    }

    pub fn get(self) -> f32 {
        f32::from_bits(self.0)
    }
}

impl RmsNorm {
    pub fn parse(node: &NodeProto) -> TractResult<RmsNorm> {
        Ok(RmsNorm(Epsilon::parse(node)?))
    }
}

impl SkipRmsNorm {
    pub fn parse(node: &NodeProto) -> TractResult<SkipRmsNorm> {
        Ok(SkipRmsNorm(Epsilon::parse(node)?))
    }
}

impl PackedOp for RmsNorm {}

impl PackedOp for SkipRmsNorm {}

impl Op for RmsNorm {
    fn name(&self) -> StaticName {
        "RmsNorm".into()
    }

    op_as_typed_op!();
}

impl Op for SkipRmsNorm {
    fn name(&self) -> StaticName {
        "SkipRmsNorm".into()
    }

    op_as_typed_op!();
}

impl EvalOp for RmsNorm {
    not_out_of_plan!();

    fn eval(&self, context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let scratch = scratch(context)?;
        let (x, gamma) = args_2!(inputs);
        let out = scratch.outputs.fill(x.shape(), |out| {
            Ok(scratch.kernels.rms_norm(floats(&x)?, floats(&gamma)?, self.0.get(), out)?)
        })?;
        Ok(tvec!(out))
    }
}

impl EvalOp for SkipRmsNorm {
    not_out_of_plan!();

    fn eval(&self, context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let Scratch { kernels, outputs, .. } = scratch(context)?;
        let (x, skip, gamma) = args_3!(inputs);
        let (shape, mut norm) = (x.shape(), None);
        let sum = outputs.fill(shape, |sum| {
            let (x, skip, gamma) = (floats(&x)?, floats(&skip)?, floats(&gamma)?);
            norm = Some(outputs.fill(shape, |norm| {
                Ok(kernels.skip_rms_norm(x, skip, gamma, self.0.get(), norm, sum)?)
            })?);
            Ok(())
        })?;
        Ok(tvec!(norm.context("not computed")?, sum))
    }
}

impl TypedOp for RmsNorm {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        expect_inputs(inputs, 2..=2)?;
        expect_vector(inputs[1], width_of(inputs[0], "x")?, "gamma")?;
        Ok(tvec!(inputs[0].without_value()))
    }
}

impl TypedOp for SkipRmsNorm {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        expect_inputs(inputs, 3..=3)?;
        let [x, skip] = [inputs[0], inputs[1]];
        let width = width_of(x, "x")?;
        ensure!(width_of(skip, "skip")? == width && x.shape == skip.shape, "x and skip differ");
        expect_vector(inputs[2], width, "gamma")?;
        Ok(tvec!(x.without_value(), x.without_value()))
    }
}
