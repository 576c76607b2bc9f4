//! What a `reward.onnx` must look like, checked on its protobuf before tract sees it. The text for
//! people is `docs/reward-head.md`.

use half::f16;
use tract_onnx::pb::{
    GraphProto, ModelProto, TensorProto, ValueInfoProto, tensor_proto,
    tensor_shape_proto::dimension, type_proto,
};

use super::statistics;

/// Input: the last hidden state before the candidate, f32 `[1, hidden size]`.
pub const HIDDEN: &str = "hidden";
/// Input: the last hidden state after the SLM has consumed the candidate, f32 `[1, hidden size]`.
pub const HIDDEN_AFTER: &str = "hidden_after";
/// Input: the logit statistics, f32 `[1, statistics::COUNT]`.
pub const STATS: &str = "stats";
/// Output: the calibrated probability that the cloud LLM would choose the candidate, f32 `[1, 1]`.
pub const OUTPUT: &str = "reward";

/// A head's file is not larger.
pub const MAX_BYTES: usize = 64 << 20;

/// Nodes of the graph: far more than any head needs, few enough to bound the work of loading.
const MAX_NODES: usize = 512;

/// Versions of the default operator set that are accepted.
const OPSETS: std::ops::RangeInclusive<i64> = 11..=21;

/// The operators a head may use: no loops, no files, nothing random.
const OPERATORS: [&str; 51] = [
    "Abs",
    "Add",
    "Cast",
    "Clip",
    "Concat",
    "Constant",
    "Div",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Flatten",
    "Gather",
    "Gelu",
    "Gemm",
    "Greater",
    "HardSigmoid",
    "Identity",
    "LayerNormalization",
    "LeakyRelu",
    "Less",
    "Log",
    "LogSoftmax",
    "MatMul",
    "Max",
    "Min",
    "Mul",
    "Neg",
    "PRelu",
    "Pow",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceSum",
    "Relu",
    "Reshape",
    "Selu",
    "Sigmoid",
    "Sign",
    "Slice",
    "Softmax",
    "Softplus",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Sum",
    "Tanh",
    "Transpose",
    "Unsqueeze",
    "Where",
];

/// One input of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    Hidden,
    HiddenAfter,
    Stats,
}

impl Input {
    /// How many values it has.
    pub(super) fn size(self, hidden_size: usize) -> usize {
        match self {
            Input::Hidden | Input::HiddenAfter => hidden_size,
            Input::Stats => statistics::COUNT,
        }
    }
}

/// The inputs in the graph's order, or what is wrong with the model.
pub(super) fn check(model: &ModelProto, hidden_size: usize) -> Result<Vec<Input>, String> {
    let graph = model.graph.as_ref().ok_or("it holds no graph")?;
    check_operators(model, graph)?;
    check_tensors(graph)?;
    let inputs = check_inputs(graph, hidden_size)?;
    check_output(graph)?;
    Ok(inputs)
}

fn check_operators(model: &ModelProto, graph: &GraphProto) -> Result<(), String> {
    if !model.functions.is_empty() {
        return Err("it defines functions of its own".into());
    }
    let default_opset = model.opset_import.iter().find(|o| is_default_domain(&o.domain));
    let version = default_opset.map(|o| o.version).ok_or("it imports no operator set")?;
    if !OPSETS.contains(&version) {
        let (low, high) = (OPSETS.start(), OPSETS.end());
        return Err(format!("its operator set is {version}; {low} to {high} are supported"));
    }
    if graph.node.len() > MAX_NODES {
        return Err(format!("it has {} nodes, at most {MAX_NODES} are allowed", graph.node.len()));
    }
    for node in &graph.node {
        if !is_default_domain(&node.domain) || !OPERATORS.contains(&node.op_type.as_str()) {
            return Err(format!(
                "its operator `{}{}` is not among those a head may use",
                if node.domain.is_empty() { String::new() } else { format!("{}.", node.domain) },
                node.op_type
            ));
        }
    }
    Ok(())
}

fn is_default_domain(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}

/// Every constant must lie inside the file and be finite: tract's sigmoid turns NaN into a number.
fn check_tensors(graph: &GraphProto) -> Result<(), String> {
    let attributes = graph.node.iter().flat_map(|n| &n.attribute).filter_map(|a| a.t.as_ref());
    let external = tensor_proto::DataLocation::External as i32;
    for tensor in graph.initializer.iter().chain(attributes) {
        if tensor.data_location == Some(external) || !tensor.external_data.is_empty() {
            return Err(format!("its tensor `{}` lies in another file", tensor.name));
        }
        if !is_finite(tensor) {
            return Err(format!("its tensor `{}` is not finite", tensor.name));
        }
    }
    Ok(())
}

fn is_finite(tensor: &TensorProto) -> bool {
    let raw = &tensor.raw_data;
    match tensor_proto::DataType::try_from(tensor.data_type) {
        Ok(tensor_proto::DataType::Float) => {
            let mut raw = raw.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
            raw.all(f32::is_finite) && tensor.float_data.iter().all(|v| v.is_finite())
        }
        Ok(tensor_proto::DataType::Float16) => {
            let mut raw = raw.as_chunks::<2>().0.iter().map(|bytes| f16::from_le_bytes(*bytes));
            // Where they are not raw, the bits are the lower ones of integers.
            let mut bits = tensor.int32_data.iter().map(|&bits| f16::from_bits(bits as u16));
            raw.all(f16::is_finite) && bits.all(f16::is_finite)
        }
        _ => true,
    }
}

fn check_inputs(graph: &GraphProto, hidden_size: usize) -> Result<Vec<Input>, String> {
    let mut inputs = Vec::new();
    for value in &graph.input {
        // Files of old ONNX versions list their constants among the inputs.
        if graph.initializer.iter().any(|constant| constant.name == value.name) {
            continue;
        }
        let input = match value.name.as_str() {
            HIDDEN => Input::Hidden,
            HIDDEN_AFTER => Input::HiddenAfter,
            STATS => Input::Stats,
            other => {
                return Err(format!(
                    "its input `{other}` is unknown; the inputs are `{HIDDEN}`, `{HIDDEN_AFTER}` \
                     and `{STATS}`"
                ));
            }
        };
        if inputs.contains(&input) {
            return Err(format!("its input `{}` appears twice", value.name));
        }
        check_shape(value, "input", input.size(hidden_size))?;
        inputs.push(input);
    }
    if inputs.is_empty() {
        return Err(format!(
            "it has none of the inputs `{HIDDEN}`, `{HIDDEN_AFTER}` and `{STATS}`"
        ));
    }
    Ok(inputs)
}

fn check_output(graph: &GraphProto) -> Result<(), String> {
    match graph.output.as_slice() {
        [output] if output.name == OUTPUT => check_shape(output, "output", 1),
        [output] => Err(format!("its output is called `{}`, not `{OUTPUT}`", output.name)),
        outputs => Err(format!("it has {} outputs instead of `{OUTPUT}` alone", outputs.len())),
    }
}

/// f32 `[1, size]`; the first dimension may be a symbol, as tools write it for a batch.
fn check_shape(value: &ValueInfoProto, what: &str, size: usize) -> Result<(), String> {
    let name = &value.name;
    let Some(type_proto::Value::TensorType(tensor)) =
        value.r#type.as_ref().and_then(|t| t.value.as_ref())
    else {
        return Err(format!("its {what} `{name}` is no tensor"));
    };
    if tensor.elem_type != tensor_proto::DataType::Float as i32 {
        return Err(format!("its {what} `{name}` is not f32"));
    }
    let dims = tensor.shape.as_ref().map_or(&[][..], |s| &s.dim[..]);
    let fits = |at: usize, want: usize| match dims.get(at).and_then(|d| d.value.as_ref()) {
        Some(dimension::Value::DimValue(n)) => usize::try_from(*n) == Ok(want),
        _ => at == 0,
    };
    if dims.len() == 2 && fits(0, 1) && fits(1, size) {
        return Ok(());
    }
    let found: Vec<String> = dims.iter().map(|d| show(d.value.as_ref())).collect();
    Err(format!("its {what} `{name}` has the shape [{}], not [1, {size}]", found.join(", ")))
}

fn show(dim: Option<&dimension::Value>) -> String {
    match dim {
        Some(dimension::Value::DimValue(n)) => n.to_string(),
        Some(dimension::Value::DimParam(name)) => name.clone(),
        None => "?".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_may_only_use_what_graphs_are_read_with() {
        for operator in OPERATORS {
            assert!(crate::graph::knows(operator), "{operator}");
        }
    }
}
