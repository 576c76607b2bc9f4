//! Our ONNX ops, domain `org.libhybrid`: parsed by tract-onnx, bound to the mapped weights, run by
//! the kernels.
//!
//! All of them take and give f32 with batch 1. Shapes: `S` tokens fed, `T` rows wanted.

use tract_onnx::Onnx;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::weights::Weights;
use crate::error::Error;

mod activate;
mod attention;
mod embedding;
mod head_norm;
mod layers;
mod matmul;
mod norm;
mod op;
mod outputs;
mod rows;
mod scratch;
mod short_conv;
mod state;

pub use layers::{layer, layer_mut};
use op::PackedOp;
pub use scratch::Scratch;
pub use state::LayerState;

/// The domain our nodes carry in `graph.onnx`.
pub const DOMAIN: &str = "org.libhybrid";

type Parsed = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

/// Teaches tract's ONNX parser our ops.
pub fn register(onnx: &mut Onnx) {
    let ops = &mut onnx.op_register;
    ops.insert("QuantEmbedding", |_, node| parsed(node, 1, embedding::QuantEmbedding::parse));
    ops.insert("QuantMatMul", |_, node| parsed(node, 1, matmul::QuantMatMul::parse));
    ops.insert("RmsNorm", |_, node| parsed(node, 1, norm::RmsNorm::parse));
    ops.insert("SkipRmsNorm", |_, node| parsed(node, 2, norm::SkipRmsNorm::parse));
    ops.insert("Attention", |_, node| parsed(node, 1, attention::Attention::parse));
    ops.insert("ShortConv", |_, node| parsed(node, 1, short_conv::ShortConv::parse));
    ops.insert("HeadNorm", |_, node| parsed(node, 1, head_norm::HeadNorm::parse));
    ops.insert("Activate", |_, node| parsed(node, 1, activate::Activate::parse));
    ops.insert("SelectRows", |_, node| parsed(node, 1, |_| Ok(rows::SelectRows)));
}

/// Gives every op of ours its matrices. Must come before shape inference.
pub fn bind(model: &mut InferenceModel, weights: &Weights) -> crate::Result<()> {
    for node in model.nodes_mut() {
        let name = node.name.clone();
        let Some(expansion) = node.op_as_mut::<Box<dyn Expansion>>() else { continue };
        let Some(unbound) = (**expansion).as_any_mut().downcast_mut::<Unbound>() else { continue };
        unbound.op.bind(weights).map_err(|e| match e {
            Error::Bundle(text) => Error::Bundle(format!("graph node {name}: {text}")),
            other => other,
        })?;
    }
    Ok(())
}

/// How many attention layers, each with a cache, a typed model has.
pub fn count_attention(model: &TypedModel) -> usize {
    model.nodes().iter().filter(|node| node.op_is::<attention::Attention>()).count()
}

/// How many short convolutions, each with a cache.
pub fn count_convolutions(model: &TypedModel) -> usize {
    model.nodes().iter().filter(|node| node.op_is::<short_conv::ShortConv>()).count()
}

fn parsed<O: PackedOp>(
    node: &NodeProto,
    outputs: usize,
    parse: fn(&NodeProto) -> TractResult<O>,
) -> Parsed {
    node.expect(node.domain == DOMAIN, || format!("domain {DOMAIN}, got {:?}", node.domain))?;
    node.expect(node.output.len() == outputs, || format!("{outputs} outputs"))?;
    Ok((expand(Unbound { op: Box::new(parse(node)?), outputs }), vec![]))
}

/// One of our ops between parsing and typing.
#[derive(Debug, Clone)]
struct Unbound {
    op: Box<dyn PackedOp>,
    outputs: usize,
}

impl Expansion for Unbound {
    fn name(&self) -> StaticName {
        self.op.name()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.outputs)
    }

    fn runs_out_of_plan(&self) -> bool {
        false
    }

    /// Once all inputs are known, the typed op itself says what comes out.
    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_output_arity(outputs, self.outputs)?;
        solver.given_all(inputs.iter().map(|i| &i.datum_type), move |solver, types| {
            solver.given_all(inputs.iter().map(|i| &i.shape), move |solver, shapes| {
                let facts: Vec<TypedFact> =
                    types.iter().zip(shapes).map(|(t, s)| t.fact(s)).collect();
                let found = self.op.output_facts(&facts.iter().collect::<Vec<_>>())?;
                for (output, fact) in outputs.iter().zip(found) {
                    solver.equals(&output.datum_type, fact.datum_type)?;
                    solver.equals(&output.shape, fact.shape.to_tvec())?;
                }
                Ok(())
            })
        })
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let op: Box<dyn TypedOp> = self.op.clone();
        model.wire_node(prefix, op, inputs)
    }
}
