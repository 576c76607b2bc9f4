//! Inputs, outputs and operators of a plain export: whether they are those that the runtime knows.

use anyhow::{Result, bail, ensure};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::dimension;
use tract_onnx::pb::{GraphProto, ValueInfoProto, type_proto};

use super::config::Config;

const INPUTS: &str = "input_ids, attention_mask, position_ids and past_key_values.N.key and .value";
const OUTPUTS: &str = "logits, present.N.key and present.N.value";

/// Checks names, types and shapes. The vocabulary's size, if the shape of the logits says it.
pub fn check(graph: &GraphProto, config: &Config) -> Result<Option<usize>> {
    let constants: Vec<_> = graph.initializer.iter().map(|tensor| &tensor.name).collect();
    let mut inputs: Vec<_> = graph.input.iter().filter(|i| !constants.contains(&&i.name)).collect();
    let mut outputs: Vec<_> = graph.output.iter().collect();
    for name in ["input_ids", "attention_mask"] {
        check_type(take(&mut inputs, "input", name)?, DataType::Int64)?;
    }
    if let Ok(position) = take(&mut inputs, "input", "position_ids") {
        check_type(position, DataType::Int64)?;
    }
    let logits = take(&mut outputs, "output", "logits")?;
    check_type(logits, DataType::Float)?;
    for layer in 0..config.layers {
        for part in ["key", "value"] {
            let past = take(&mut inputs, "input", &format!("past_key_values.{layer}.{part}"))?;
            let present = take(&mut outputs, "output", &format!("present.{layer}.{part}"))?;
            for cache in [past, present] {
                check_type(cache, DataType::Float)?;
                check_cache(cache, config)?;
            }
        }
    }
    if let Some(other) = inputs.first() {
        bail!("input {} is not supported; supported are {INPUTS}", other.name);
    }
    if let Some(other) = outputs.first() {
        bail!("output {} is not supported; supported are {OUTPUTS}", other.name);
    }
    Ok(shape(logits).and_then(|shape| shape.last().copied().flatten()))
}

/// Every operator must be one that the library on the board has, too.
pub fn check_operators(graph: &GraphProto) -> Result<()> {
    for node in &graph.node {
        ensure!(
            hybrid::graph::knows(&node.op_type),
            "operator {} of node {} is not supported",
            node.op_type,
            node.name
        );
    }
    Ok(())
}

/// Values in all constant tensors.
pub fn parameters(graph: &GraphProto) -> u64 {
    let values = |dims: &[i64]| {
        dims.iter().fold(1u64, |product, &dim| product.saturating_mul(dim.max(0) as u64))
    };
    graph.initializer.iter().fold(0, |sum: u64, tensor| sum.saturating_add(values(&tensor.dims)))
}

fn take<'a>(
    list: &mut Vec<&'a ValueInfoProto>,
    what: &str,
    name: &str,
) -> Result<&'a ValueInfoProto> {
    match list.iter().position(|value| value.name == name) {
        Some(at) => Ok(list.swap_remove(at)),
        None => bail!(
            "there is no {what} {name}; export the model with its key-value cache (inputs \
             {INPUTS}; outputs {OUTPUTS})"
        ),
    }
}

fn check_type(value: &ValueInfoProto, expected: DataType) -> Result<()> {
    let found = tensor_type(value).map_or(DataType::Undefined, |tensor| {
        DataType::try_from(tensor.elem_type).unwrap_or(DataType::Undefined)
    });
    ensure!(
        found == expected,
        "{} has type {}, expected {}",
        value.name,
        found.as_str_name(),
        expected.as_str_name()
    );
    Ok(())
}

/// [batch, key-value heads, tokens, head size], where these are given as numbers.
fn check_cache(value: &ValueInfoProto, config: &Config) -> Result<()> {
    let Some(found) = shape(value) else { return Ok(()) };
    let fits = match found[..] {
        [_, heads, _, size] => {
            heads.is_none_or(|n| n == config.kv_heads) && size.is_none_or(|n| n == config.head_dim)
        }
        _ => false,
    };
    ensure!(
        fits,
        "{} has shape {found:?}, but config.json says {} key-value heads of {}",
        value.name,
        config.kv_heads,
        config.head_dim
    );
    Ok(())
}

fn tensor_type(value: &ValueInfoProto) -> Option<&type_proto::Tensor> {
    match value.r#type.as_ref()?.value.as_ref()? {
        type_proto::Value::TensorType(tensor) => Some(tensor),
    }
}

/// The sizes that are numbers; `None` for a symbol.
fn shape(value: &ValueInfoProto) -> Option<Vec<Option<usize>>> {
    let shape = tensor_type(value)?.shape.as_ref()?;
    let size = |dim: &tract_onnx::pb::tensor_shape_proto::Dimension| match dim.value {
        Some(dimension::Value::DimValue(value)) => usize::try_from(value).ok(),
        _ => None,
    };
    Some(shape.dim.iter().map(size).collect())
}
