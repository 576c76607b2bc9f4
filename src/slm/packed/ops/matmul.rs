use std::ops::Range;

use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::op::{PackedOp, expect_inputs, expect_vector, floats, rows_of, width_of};
use super::scratch::scratch;
use crate::slm::packed::weights::{MappedMatrix, Weights};

/// `QuantMatMul(x [1,S,K], bias [N]?) -> [1,S,N]`: matrices of K columns, their rows one after the
/// other. The activations are quantised once for all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuantMatMul {
    names: Vec<String>,
    matrices: Vec<MappedMatrix>,
}

impl QuantMatMul {
    pub fn parse(node: &NodeProto) -> TractResult<QuantMatMul> {
        let names: Vec<String> = node.get_attr_vec("weights")?;
        node.expect_attr("weights", !names.is_empty(), "at least one matrix")?;
        Ok(QuantMatMul { names, matrices: vec![] })
    }

    /// Columns of the output.
    fn width(&self) -> usize {
        self.matrices.iter().map(|m| m.rows).sum()
    }

    /// Every matrix with its columns of the output.
    fn parts(&self) -> impl Iterator<Item = (&MappedMatrix, Range<usize>)> {
        self.matrices.iter().scan(0, |start, matrix| {
            let columns = *start..*start + matrix.rows;
            *start = columns.end;
            Some((matrix, columns))
        })
    }
}

impl PackedOp for QuantMatMul {
    fn bind(&mut self, weights: &Weights) -> crate::Result<()> {
        self.matrices =
            self.names.iter().map(|name| weights.find(name)).collect::<Result<_, _>>()?;
        Ok(())
    }
}

impl Op for QuantMatMul {
    fn name(&self) -> StaticName {
        "QuantMatMul".into()
    }

    op_as_typed_op!();
}

impl EvalOp for QuantMatMul {
    not_out_of_plan!();

    fn eval(&self, context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let x = inputs.first().context("no input")?;
        let bias = inputs.get(1).map(|bias| floats(bias)).transpose()?;
        let (rows, width) = (rows_of(x)?, self.width());
        let scratch = scratch(context)?;
        let out = scratch.outputs.fill(&[1, rows, width], |out| {
            if rows == 0 {
                return Ok(());
            }
            let mut activations = scratch.activations.try_borrow_mut()?;
            let cols = self.matrices.first().context("not bound to its matrices")?.cols;
            scratch.kernels.quantise(floats(x)?, cols, &mut activations, &scratch.pool)?;
            if self.matrices.iter().any(|matrix| !matrix.format.is_quantised()) {
                activations.keep_floats(floats(x)?)?;
            }
            for (matrix, columns) in self.parts() {
                let bias = bias.and_then(|bias| bias.get(columns.clone()));
                let out = &mut out[columns.start..];
                let (matrix, pool) = (matrix.view()?, &scratch.pool);
                scratch.kernels.matmul(&matrix, &activations, bias, out, width, pool)?;
            }
            Ok(())
        })?;
        Ok(tvec!(out))
    }
}

impl TypedOp for QuantMatMul {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        expect_inputs(inputs, 1..=2)?;
        let cols = width_of(inputs[0], "x")?;
        if let Some(matrix) = self.matrices.iter().find(|m| m.cols != cols) {
            bail!("x has {cols} columns, the matrix is {matrix:?}");
        }
        if let Some(bias) = inputs.get(1) {
            expect_vector(bias, self.width(), "bias")?;
        }
        let rows = inputs[0].shape[1].clone();
        Ok(tvec!(f32::fact([1.to_dim(), rows, self.width().to_dim()])))
    }
}
