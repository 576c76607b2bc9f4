use tract_onnx::tract_hir::internal::*;

use super::op::{PackedOp, expect_inputs, floats, integers, width_of};
use super::scratch::scratch;

/// `SelectRows(x [1,S,D], rows [T]) -> [1,T,D]`: only the rows whose logits are wanted go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectRows;

impl PackedOp for SelectRows {}

impl Op for SelectRows {
    fn name(&self) -> StaticName {
        "SelectRows".into()
    }

    op_as_typed_op!();
}

impl EvalOp for SelectRows {
    not_out_of_plan!();

    fn eval(&self, context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (x, rows) = args_2!(inputs);
        let rows = integers(&rows)?;
        let &[_, count, width] = x.shape() else { bail!("x must have rank 3") };
        // Generation of one token: nothing to choose.
        if count == 1 && rows == [0] {
            return Ok(tvec!(x));
        }
        let values = floats(&x)?;
        let out = scratch(context)?.outputs.fill(&[1, rows.len(), width], |out| {
            for (to, &row) in out.chunks_exact_mut(width).zip(rows) {
                let row = usize::try_from(row).ok().filter(|row| *row < count);
                let start = row.context("a row outside the tokens fed")? * width;
                to.copy_from_slice(&values[start..start + width]);
            }
            Ok(())
        })?;
        Ok(tvec!(out))
    }
}

impl TypedOp for SelectRows {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        expect_inputs(inputs, 2..=2)?;
        let width = width_of(inputs[0], "x")?;
        let rows = inputs[1];
        ensure!(
            rows.datum_type == i64::datum_type() && rows.rank() == 1,
            "rows must be an i64 vector, got {rows:?}"
        );
        Ok(tvec!(f32::fact([1.to_dim(), rows.shape[0].clone(), width.to_dim()])))
    }
}
