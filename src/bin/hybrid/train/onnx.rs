//! Writes a fitted head as `reward.onnx`: `sigmoid(Σ (input - centre) · weight + bias)`.

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
    let after = statistics::COUNT + hidden_size;
    let inputs = [
        (HIDDEN, statistics::COUNT..after),
        (HIDDEN_AFTER, after..head.weights.len()),
        (STATS, 0..statistics::COUNT),
    ];
    let mut graph = GraphProto { name: "reward".into(), ..GraphProto::default() };
    let mut sum = "bias".to_owned();
    graph.initializer.push(tensor("bias", [1, 1], [head.bias as f32]));
    for (input, columns) in inputs {
        let size = columns.len();
        if size == 0 {
            continue;
        }
        let weights = head.weights[columns.clone()].iter().map(|&w| w as f32);
        let centres = head.centre[columns].iter().copied();
        let [centre, centred, weight, product, next] =
            ["centre", "centred", "weight", "product", "sum"].map(|s| format!("{input}.{s}"));
        graph.input.push(value(input, size));
        graph.initializer.push(tensor(&centre, [1, size], centres));
        graph.initializer.push(tensor(&weight, [size, 1], weights));
        graph.node.push(node("Sub", &[input, &centre], &centred));
        graph.node.push(node("MatMul", &[&centred, &weight], &product));
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

pub fn tensor(name: &str, dims: [usize; 2], values: impl IntoIterator<Item = f32>) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.map(|n| n as i64).to_vec(),
        data_type: tensor_proto::DataType::Float as i32,
        raw_data: values.into_iter().flat_map(f32::to_le_bytes).collect(),
        ..TensorProto::default()
    }
}

pub fn node(operator: &str, inputs: &[&str], output: &str) -> NodeProto {
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
            head.centre = (0..data.width(after)).map(|i| (i as f32 * 0.9).cos()).collect();
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
