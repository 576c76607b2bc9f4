//! Reading ONNX: one fixed set of operators, for the SLM's graph as for the reward head.
//!
//! tract registers over 150 operators, and with each comes its code: megabytes in a program on
//! the board. Here are those that language models and heads are made of. Some are put
//! together from others before tract sees them ([`mod@lower`]), heads and packed graphs need
//! [`operators`], plain exports `exports` too.

use std::collections::HashSet;

use tract_onnx::Onnx;
use tract_onnx::pb::{GraphProto, ModelProto};
use tract_onnx::prelude::{Framework, TractResult};
use tract_onnx::tract_core::internal::{TractErrorContext, ensure};

#[cfg(feature = "plain")]
mod exports;
mod lower;
mod operators;
// They compare all operators, those of plain exports too, with tract's.
#[cfg(all(test, feature = "plain"))]
mod tests;

/// A reader that knows the operators, and no others.
pub fn onnx() -> Onnx {
    let mut onnx = Onnx::default();
    operators::register(&mut onnx.op_register);
    #[cfg(feature = "plain")]
    exports::register(&mut onnx.op_register);
    onnx
}

/// Reads a model as it is written.
pub fn read(onnx: &Onnx, bytes: &[u8]) -> TractResult<ModelProto> {
    onnx.proto_model_for_read(&mut &*bytes)
}

/// Makes of a model that was [`read`] one that [`onnx`] can parse; refuses what tract would panic
/// on.
pub fn lower(proto: &mut ModelProto) -> TractResult<()> {
    let graph = proto.graph.as_mut().context("it has no graph")?;
    check_outputs(graph)?;
    lower::lower(graph)
}

pub fn graph(proto: &ModelProto) -> TractResult<&GraphProto> {
    proto.graph.as_ref().context("it has no graph")
}

/// Whether a graph may have nodes of this operator (of the default domain).
pub fn knows(operator: &str) -> bool {
    lower::OPERATORS.contains(&operator) || onnx().op_register.0.contains_key(operator)
}

/// Every output must be made by something.
fn check_outputs(graph: &GraphProto) -> TractResult<()> {
    let made = graph.node.iter().flat_map(|node| &node.output);
    let given = graph.input.iter().map(|input| &input.name);
    let constant = graph.initializer.iter().map(|tensor| &tensor.name);
    let known: HashSet<&String> = made.chain(given).chain(constant).collect();
    for output in &graph.output {
        ensure!(known.contains(&output.name), "nothing makes the output {:?}", output.name);
    }
    Ok(())
}
