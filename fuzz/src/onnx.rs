//! ONNX models as protobuf.

use prost::Message;
use tract_onnx::pb::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, tensor_proto::DataType, tensor_shape_proto, type_proto,
};

pub use prost::Message as Protobuf;

/// A reward head of one layer for a hidden size of `size`.
pub fn head(inputs: &[(&str, usize)]) -> Vec<u8> {
    let mut graph = GraphProto { name: "head".into(), ..GraphProto::default() };
    let mut sum = String::new();
    for (number, (name, size)) in inputs.iter().enumerate() {
        let [weight, product, total] = ["w", "p", "t"].map(|letter| format!("{letter}{number}"));
        graph.input.push(value(name, *size));
        graph.initializer.push(tensor(&weight, [*size, 1]));
        graph.node.push(node("MatMul", &[name, &weight], &product));
        if number > 0 {
            graph.node.push(node("Add", &[&sum, &product], &total));
        }
        sum = if number > 0 { total } else { product };
    }
    graph.node.push(node("Sigmoid", &[&sum], hybrid::reward::OUTPUT));
    graph.output.push(value(hybrid::reward::OUTPUT, 1));
    let opset = OperatorSetIdProto { domain: String::new(), version: 17 };
    let model = ModelProto {
        ir_version: 8,
        opset_import: vec![opset],
        graph: Some(graph),
        ..ModelProto::default()
    };
    model.encode_to_vec()
}

fn node(operator: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: operator.into(),
        input: inputs.iter().map(|&name| name.to_owned()).collect(),
        output: vec![output.into()],
        ..NodeProto::default()
    }
}

fn tensor(name: &str, dims: [usize; 2]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.iter().map(|&n| n as i64).collect(),
        data_type: DataType::Float as i32,
        float_data: vec![0.125; dims.iter().product()],
        ..TensorProto::default()
    }
}

fn value(name: &str, size: usize) -> ValueInfoProto {
    let dimension = |n: usize| tensor_shape_proto::Dimension {
        value: Some(tensor_shape_proto::dimension::Value::DimValue(n as i64)),
        ..tensor_shape_proto::Dimension::default()
    };
    let shape = TensorShapeProto { dim: vec![dimension(1), dimension(size)] };
    let tensor = type_proto::Tensor { elem_type: DataType::Float as i32, shape: Some(shape) };
    let r#type =
        TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.into(), r#type: Some(r#type), ..ValueInfoProto::default() }
}
