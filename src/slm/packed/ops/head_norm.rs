use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::norm::Epsilon;
use super::op::{PackedOp, expect_inputs, floats, width_of};
use super::scratch::scratch;

/// `HeadNorm(qkv [1,S,N], q_gamma, k_gamma) -> [1,S,N]`: RMS norms of the first `queries` columns
/// and of the `keys` columns behind them, over groups as wide as their gamma: a head, or all of
/// them. The other columns stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadNorm {
    queries: usize,
    keys: usize,
    epsilon: Epsilon,
}

impl HeadNorm {
    pub fn parse(node: &NodeProto) -> TractResult<HeadNorm> {
        let (queries, keys) = (node.get_attr("queries")?, node.get_attr("keys")?);
        Ok(HeadNorm { queries, keys, epsilon: Epsilon::parse(node)? })
    }
}

impl PackedOp for HeadNorm {}

impl Op for HeadNorm {
    fn name(&self) -> StaticName {
        "HeadNorm".into()
    }

    op_as_typed_op!();
}

impl EvalOp for HeadNorm {
    not_out_of_plan!();

    fn eval(&self, context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let scratch = scratch(context)?;
        let (qkv, q_gamma, k_gamma) = args_3!(inputs);
        let &[_, _, width] = qkv.shape() else { bail!("qkv must have rank 3") };
        let gammas = [(self.queries, floats(&q_gamma)?), (self.keys, floats(&k_gamma)?)];
        let out = scratch.outputs.fill(qkv.shape(), |out| {
            for (from, to) in floats(&qkv)?.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
                let mut start = 0;
                for (count, gamma) in gammas {
                    let columns = start..start + count;
                    let (x, out) = (&from[columns.clone()], &mut to[columns]);
                    scratch.kernels.rms_norm(x, gamma, self.epsilon.get(), out)?;
                    start += count;
                }
                to[start..].copy_from_slice(&from[start..]);
            }
            Ok(())
        })?;
        Ok(tvec!(out))
    }
}

impl TypedOp for HeadNorm {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        expect_inputs(inputs, 3..=3)?;
        let width = width_of(inputs[0], "qkv")?;
        let fits = self.queries.checked_add(self.keys).is_some_and(|sum| sum <= width);
        ensure!(fits, "{} and {} of {width} columns", self.queries, self.keys);
        for (count, gamma) in [self.queries, self.keys].into_iter().zip(&inputs[1..]) {
            let group = (gamma.datum_type == f32::datum_type() && gamma.rank() == 1)
                .then(|| gamma.shape[0].to_usize().unwrap_or(0));
            let fits = group.is_some_and(|group| group > 0 && count.is_multiple_of(group));
            ensure!(fits, "a gamma for {count} columns is {gamma:?}");
        }
        Ok(tvec!(inputs[0].without_value()))
    }
}
