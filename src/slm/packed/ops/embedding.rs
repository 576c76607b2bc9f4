use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::op::{PackedOp, expect_inputs, integers};
use super::scratch::scratch;
use crate::slm::packed::weights::{MappedMatrix, Weights};

/// `QuantEmbedding(input_ids [1,S]) -> [1,S,D]`: rows of a packed matrix as floats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuantEmbedding {
    name: String,
    matrix: Option<MappedMatrix>,
}

impl QuantEmbedding {
    pub fn parse(node: &NodeProto) -> TractResult<QuantEmbedding> {
        Ok(QuantEmbedding { name: node.get_attr("weight")?, matrix: None })
    }

    fn matrix(&self) -> TractResult<&MappedMatrix> {
        self.matrix.as_ref().context("not bound to its matrix")
    }
}

impl PackedOp for QuantEmbedding {
    fn bind(&mut self, weights: &Weights) -> crate::Result<()> {
        self.matrix = Some(weights.find(&self.name)?);
        Ok(())
    }
}

impl Op for QuantEmbedding {
    fn name(&self) -> StaticName {
        "QuantEmbedding".into()
    }

    op_as_typed_op!();
}

impl EvalOp for QuantEmbedding {
    not_out_of_plan!();

    fn eval(&self, context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let ids = args_1!(inputs);
        let ids = integers(&ids)?;
        let matrix = self.matrix()?.view()?;
        let out = scratch(context)?.outputs.fill(&[1, ids.len(), matrix.cols()], |out| {
            for (row, &id) in out.chunks_exact_mut(matrix.cols()).zip(ids) {
                matrix.dequantise_row(usize::try_from(id)?, row)?;
            }
            Ok(())
        })?;
        Ok(tvec!(out))
    }
}

impl TypedOp for QuantEmbedding {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        expect_inputs(inputs, 1..=1)?;
        let ids = inputs[0];
        ensure!(
            ids.datum_type == i64::datum_type() && ids.rank() == 2 && ids.shape[0].is_one(),
            "input_ids must be i64 [1,S], got {ids:?}"
        );
        let width = self.matrix()?.cols.to_dim();
        Ok(tvec!(f32::fact([1.to_dim(), ids.shape[1].clone(), width])))
    }
}
