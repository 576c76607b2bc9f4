//! Our ONNX ops, domain `org.libhybrid`: parsed by tract-onnx, bound to the mapped weights, run by
//! the kernels.
//!
//! All of them take and give f32 with batch 1. Shapes: `S` tokens fed, `T` rows wanted.

use std::cell::RefCell;

use tract_onnx::Onnx;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::dyn_clone;
use tract_onnx::tract_hir::internal::*;

use super::weights::Weights;
use crate::error::Error;
use crate::slm::kernels::{Activations, AttentionScratch, Kernels, Pool, Rope};

mod activate;
mod attention;
mod embedding;
mod head_norm;
mod matmul;
mod norm;
mod outputs;
mod rows;
mod short_conv;
mod state;

use attention::RopeKey;
use outputs::Outputs;
pub use state::{LayerState, layer, layer_mut};

/// The domain our nodes carry in `graph.onnx`.
pub const DOMAIN: &str = "org.libhybrid";

/// A tract op of ours. It names matrices until they are bound.
trait PackedOp: TypedOp {
    /// Looks its matrices up; shapes are known from then on.
    fn bind(&mut self, _weights: &Weights) -> crate::Result<()> {
        Ok(())
    }
}

dyn_clone::clone_trait_object!(PackedOp);

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

/// What the ops of one sequence share: the model's kernels and threads, and buffers reused from
/// node to node and run to run.
pub struct Scratch {
    kernels: &'static Kernels,
    pool: Arc<Pool>,
    activations: RefCell<Activations>,
    attention: RefCell<AttentionScratch>,
    outputs: Outputs,
    /// Layers with equal parameters share one table of angles.
    ropes: RefCell<Vec<(RopeKey, Arc<Rope>)>>,
}

impl Scratch {
    pub fn new(kernels: &'static Kernels, pool: Arc<Pool>) -> Scratch {
        Scratch {
            kernels,
            pool,
            activations: RefCell::default(),
            attention: RefCell::default(),
            outputs: Outputs::default(),
            ropes: RefCell::default(),
        }
    }

    /// Empty buffers for another sequence that computes alike.
    pub fn fork(&self) -> Scratch {
        Scratch::new(self.kernels, self.pool.clone())
    }
}

/// The sequence's buffers, which the runner has put into tract's shared resources.
fn scratch<'a>(context: &EvalContext<'a>) -> TractResult<&'a Scratch> {
    context.shared.and_then(|shared| shared.get()).context("run without scratch buffers")
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

/// The last axis of a f32 activation `[1, rows, width]`, checked.
fn width_of(fact: &TypedFact, what: &str) -> TractResult<usize> {
    ensure!(
        fact.datum_type == f32::datum_type() && fact.rank() == 3 && fact.shape[0].is_one(),
        "{what} must be f32 [1, rows, width], got {fact:?}"
    );
    let width = fact.shape[2].to_usize().ok().filter(|width| *width > 0);
    width.with_context(|| format!("the width of {what} must be fixed"))
}

/// Checks that a fact is a f32 vector of `len`.
fn expect_vector(fact: &TypedFact, len: usize, what: &str) -> TractResult<()> {
    ensure!(
        fact.datum_type == f32::datum_type() && fact.rank() == 1 && fact.shape[0] == len.to_dim(),
        "{what} must be f32 [{len}], got {fact:?}"
    );
    Ok(())
}

fn expect_inputs(
    inputs: &[&TypedFact],
    allowed: std::ops::RangeInclusive<usize>,
) -> TractResult<()> {
    ensure!(allowed.contains(&inputs.len()), "expected {allowed:?} inputs, got {}", inputs.len());
    Ok(())
}

fn floats(tensor: &Tensor) -> TractResult<&[f32]> {
    tensor.try_as_plain_ram()?.as_slice()
}

fn integers(tensor: &Tensor) -> TractResult<&[i64]> {
    tensor.try_as_plain_ram()?.as_slice()
}

/// Rows of a `[1, rows, width]` tensor at run time.
fn rows_of(tensor: &Tensor) -> TractResult<usize> {
    tensor.shape().get(1).copied().context("expected a tensor of rank 3")
}
