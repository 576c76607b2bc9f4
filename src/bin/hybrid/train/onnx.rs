//! Writes a fitted head as `reward.onnx`: `sigmoid(Σ input · weight + bias)`.

use hybrid::reward::{HIDDEN, HIDDEN_AFTER, OUTPUT, STATS, statistics};
use prost::Message;
use tract_onnx::pb::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, tensor_proto,
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};

use super::fit::Linear;

const OPSET: i64 = 17;
const IR_VERSION: i64 = 8;

/// The file's bytes. The head reads the state after the candidate when it has weights for it.
pub fn write(head: &Linear, hidden_size: usize) -> Vec<u8> {
    let (stats, hidden) = head.weights.split_at(statistics::COUNT);
    let (before, after) = hidden.split_at(hidden_size);
    let mut graph = GraphProto { name: "reward".into(), ..GraphProto::default() };
    let mut sum = "bias".to_owned();
    graph.initializer.push(tensor("bias", 1, &[head.bias]));
    for (input, weights) in [(HIDDEN, before), (HIDDEN_AFTER, after), (STATS, stats)] {
        if weights.is_empty() {
            continue;
        }
        let [weight, product, next] = ["weight", "product", "sum"].map(|s| format!("{input}.{s}"));
        graph.input.push(value(input, weights.len()));
        graph.initializer.push(tensor(&weight, weights.len(), weights));
        graph.node.push(node("MatMul", &[input, &weight], &product));
        graph.node.push(node("Add", &[&product, &sum], &next));
        sum = next;
    }
    graph.node.push(node("Sigmoid", &[&sum], OUTPUT));
    graph.output.push(value(OUTPUT, 1));
    let model = ModelProto {
        ir_version: IR_VERSION,
        producer_name: "libhybrid".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        metadata_props: vec![StringStringEntryProto {
            key: "statistics_version".into(),
            value: statistics::VERSION.to_string(),
        }],
        graph: Some(graph),
        ..ModelProto::default()
    };
    model.encode_to_vec()
}

/// A column of weights.
fn tensor(name: &str, rows: usize, values: &[f64]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: vec![rows as i64, 1],
        data_type: tensor_proto::DataType::Float as i32,
        raw_data: values.iter().flat_map(|&v| (v as f32).to_le_bytes()).collect(),
        ..TensorProto::default()
    }
}

fn node(operator: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        name: output.into(),
        op_type: operator.into(),
        input: inputs.iter().map(|name| (*name).to_owned()).collect(),
        output: vec![output.into()],
        ..NodeProto::default()
    }
}

/// f32 `[1, size]`
fn value(name: &str, size: usize) -> ValueInfoProto {
    let dim = [1, size as i64]
        .map(|n| Dimension { value: Some(dimension::Value::DimValue(n)), ..Dimension::default() });
    let tensor = type_proto::Tensor {
        elem_type: tensor_proto::DataType::Float as i32,
        shape: Some(TensorShapeProto { dim: dim.to_vec() }),
    };
    let kind =
        TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.into(), r#type: Some(kind), ..ValueInfoProto::default() }
}

#[cfg(test)]
mod tests {
    use hybrid::reward::Head;

    use super::*;
    use crate::train::{fit::sigmoid, testing};

    #[test]
    fn the_written_head_equals_the_fitted_one() {
        const D: usize = 48;
        let data = testing::dataset(50, D, 7);
        for after in [false, true] {
            let mut head = testing::truth(D);
            head.weights.truncate(data.width(after));
            let mut loaded = Head::load(&write(&head, D), D).unwrap();
            assert_eq!(loaded.reads_after(), after);
            for row in 0..data.rows() {
                let features = data.row(row);
                let (stats, hidden) = features.split_first_chunk().unwrap();
                let got = loaded.run(&hidden[..D], Some(&hidden[D..]), stats).unwrap();
                let want = sigmoid(head.log_odds(features));
                assert!((f64::from(got) - want).abs() < 2e-6, "{got} {want}");
            }
        }
    }
}
