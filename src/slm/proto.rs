//! Reads `graph.onnx` as protobuf and refuses what tract would panic on.

use std::collections::HashSet;

use tract_onnx::Onnx;
use tract_onnx::pb::{GraphProto, ModelProto};
use tract_onnx::prelude::{Framework, TractResult};
use tract_onnx::tract_core::internal::{TractErrorContext, ensure};

pub fn read(onnx: &Onnx, bytes: &[u8]) -> TractResult<ModelProto> {
    let proto = onnx.proto_model_for_read(&mut &*bytes)?;
    check_outputs(graph(&proto)?)?;
    Ok(proto)
}

pub fn graph(proto: &ModelProto) -> TractResult<&GraphProto> {
    proto.graph.as_ref().context("it has no graph")
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
