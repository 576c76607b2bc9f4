//! Where a plain export has its last hidden state.

use tract_onnx::pb::{GraphProto, NodeProto};
use tract_onnx::prelude::TractResult;
use tract_onnx::tract_core::internal::{TractErrorContext, bail};

/// More nodes between output matmul and logits than any export has.
const MAX_STEPS: usize = 16;

/// The name of the tensor that goes into the matmul which makes the logits: the last hidden state
/// after the final norm. Between that matmul and `logits` there may be casts, scales, a bias and
/// reshapes.
pub fn find(graph: &GraphProto) -> TractResult<&str> {
    let mut name = "logits";
    for _ in 0..MAX_STEPS {
        let node = producer(graph, name).with_context(|| format!("nothing makes {name:?}"))?;
        let input = computed_input(graph, node)
            .with_context(|| format!("{:?} is computed of constants", node.name))?;
        match node.op_type.as_str() {
            "MatMul" | "Gemm" => return Ok(input),
            "Cast" | "Identity" | "Add" | "Mul" | "Div" | "Tanh" | "Reshape" | "Transpose"
            | "Squeeze" | "Unsqueeze" => name = input,
            other => bail!("an op {other} makes the logits, expected a MatMul or Gemm"),
        }
    }
    bail!("no MatMul or Gemm makes the logits")
}

fn producer<'a>(graph: &'a GraphProto, name: &str) -> Option<&'a NodeProto> {
    graph.node.iter().find(|node| node.output.iter().any(|output| output == name))
}

/// The first input that is not an initializer or a constant.
fn computed_input<'a>(graph: &GraphProto, node: &'a NodeProto) -> Option<&'a str> {
    let constant = |name: &str| producer(graph, name).is_none_or(|node| node.op_type == "Constant");
    node.input.iter().map(String::as_str).find(|name| !constant(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
        NodeProto {
            op_type: op.into(),
            input: inputs.iter().map(|name| name.to_string()).collect(),
            output: vec![output.into()],
            ..NodeProto::default()
        }
    }

    #[test]
    fn the_hidden_state_goes_into_the_last_matmul() {
        let table = [
            (vec![node("MatMul", &["h", "w"], "logits")], Some("h")),
            (vec![node("MatMul", &["w", "h"], "logits")], Some("h")),
            (vec![node("Gemm", &["h", "w"], "y"), node("Cast", &["y"], "logits")], Some("h")),
            (vec![node("MatMul", &["h", "w"], "y"), node("Mul", &["c", "y"], "logits")], Some("h")),
            (vec![node("Conv", &["h"], "logits")], None),
            (vec![node("Cast", &["logits"], "logits")], None),
            (vec![], None),
        ];
        for (tail, wanted) in table {
            let mut nodes = vec![node("Norm", &["x"], "h"), node("Constant", &[], "c")];
            nodes.push(node("Norm", &["y0"], "x"));
            nodes.extend(tail);
            let graph = GraphProto { node: nodes, ..GraphProto::default() };
            assert_eq!(find(&graph).ok(), wanted);
        }
    }
}
