//! What our ops have in common.

use tract_onnx::tract_core::dyn_clone;
use tract_onnx::tract_hir::internal::*;

use crate::slm::packed::weights::Weights;

/// A tract op of ours. It names matrices until they are bound.
pub trait PackedOp: TypedOp {
    /// Looks its matrices up; shapes are known from then on.
    fn bind(&mut self, _weights: &Weights) -> crate::Result<()> {
        Ok(())
    }
}

dyn_clone::clone_trait_object!(PackedOp);

/// The last axis of a f32 activation `[1, rows, width]`, checked.
pub fn width_of(fact: &TypedFact, what: &str) -> TractResult<usize> {
    ensure!(
        fact.datum_type == f32::datum_type() && fact.rank() == 3 && fact.shape[0].is_one(),
        "{what} must be f32 [1, rows, width], got {fact:?}"
    );
    let width = fact.shape[2].to_usize().ok().filter(|width| *width > 0);
    width.with_context(|| format!("the width of {what} must be fixed"))
}

/// Checks that a fact is a f32 vector of `len`.
pub fn expect_vector(fact: &TypedFact, len: usize, what: &str) -> TractResult<()> {
    ensure!(
        fact.datum_type == f32::datum_type() && fact.rank() == 1 && fact.shape[0] == len.to_dim(),
        "{what} must be f32 [{len}], got {fact:?}"
    );
    Ok(())
}

pub fn expect_inputs(
    inputs: &[&TypedFact],
    allowed: std::ops::RangeInclusive<usize>,
) -> TractResult<()> {
    ensure!(allowed.contains(&inputs.len()), "expected {allowed:?} inputs, got {}", inputs.len());
    Ok(())
}

pub fn floats(tensor: &Tensor) -> TractResult<&[f32]> {
    tensor.try_as_plain_ram()?.as_slice()
}

pub fn integers(tensor: &Tensor) -> TractResult<&[i64]> {
    tensor.try_as_plain_ram()?.as_slice()
}

/// Rows of a `[1, rows, width]` tensor at run time.
pub fn rows_of(tensor: &Tensor) -> TractResult<usize> {
    tensor.shape().get(1).copied().context("expected a tensor of rank 3")
}
