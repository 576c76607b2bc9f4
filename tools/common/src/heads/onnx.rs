//! What the graphs of heads, `reward.onnx`, are written with.

use half::f16;
use hybrid::reward::{HIDDEN, HIDDEN_AFTER, OUTPUT, STATS, statistics};
use prost::Message;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
    attribute_proto::AttributeType,
    tensor_proto::DataType,
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};

const OPSET: i64 = 17;
const IR_VERSION: i64 = 8;

/// The inputs whose columns are among the first `width`.
pub fn inputs(hidden_size: usize, width: usize) -> Vec<(&'static str, std::ops::Range<usize>)> {
    let after = statistics::COUNT + hidden_size;
    let mut inputs = vec![(HIDDEN, statistics::COUNT..after), (STATS, 0..statistics::COUNT)];
    if width > after {
        inputs.push((HIDDEN_AFTER, after..width));
    }
    inputs
}

/// A graph that grows. Names are of values.
#[derive(Default)]
pub struct Graph(GraphProto);

impl Graph {
    pub fn input(&mut self, name: &str, size: usize) -> String {
        self.0.input.push(value(name, size));
        name.into()
    }

    pub fn constant(
        &mut self,
        name: &str,
        dims: [usize; 2],
        values: impl IntoIterator<Item = f32>,
    ) -> String {
        self.0.initializer.push(tensor(name, dims, values));
        name.into()
    }

    /// The same in half precision, to which the values must have been rounded.
    pub fn half(
        &mut self,
        name: &str,
        dims: [usize; 2],
        values: impl IntoIterator<Item = f32>,
    ) -> String {
        let half = format!("{name}.half");
        let mut tensor = tensor(&half, dims, []);
        tensor.data_type = DataType::Float16 as i32;
        let values = values.into_iter();
        tensor.raw_data = values.flat_map(|v| f16::from_f32(v).to_le_bytes()).collect();
        self.0.initializer.push(tensor);
        self.with("Cast", &[&half], name, ("to", DataType::Float as i64))
    }

    pub fn indices(&mut self, name: &str, values: impl Iterator<Item = usize>) -> String {
        let raw_data: Vec<u8> = values.flat_map(|v| (v as i32).to_le_bytes()).collect();
        self.0.initializer.push(TensorProto {
            name: name.into(),
            dims: vec![raw_data.len() as i64 / 4],
            data_type: DataType::Int32 as i32,
            raw_data,
            ..TensorProto::default()
        });
        name.into()
    }

    pub fn node(&mut self, operator: &str, inputs: &[&str], output: &str) -> String {
        self.0.node.push(node(operator, inputs, output));
        output.into()
    }

    /// A node with an attribute.
    pub fn with(
        &mut self,
        operator: &str,
        inputs: &[&str],
        output: &str,
        (name, i): (&str, i64),
    ) -> String {
        let r#type = AttributeType::Int as i32;
        let attribute =
            AttributeProto { name: name.into(), i, r#type, ..AttributeProto::default() };
        self.0
            .node
            .push(NodeProto { attribute: vec![attribute], ..node(operator, inputs, output) });
        output.into()
    }

    /// The file's bytes, with the sigmoid of `log_odds` as the output.
    pub fn finish(mut self, log_odds: &str) -> Vec<u8> {
        self.node("Sigmoid", &[log_odds], OUTPUT);
        self.0.output.push(value(OUTPUT, 1));
        self.0.name = "reward".into();
        let model = ModelProto {
            ir_version: IR_VERSION,
            producer_name: "libhybrid".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
            metadata_props: vec![StringStringEntryProto {
                key: "statistics_version".into(),
                value: statistics::VERSION.to_string(),
            }],
            graph: Some(self.0),
            ..ModelProto::default()
        };
        model.encode_to_vec()
    }
}

pub fn tensor(name: &str, dims: [usize; 2], values: impl IntoIterator<Item = f32>) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.map(|n| n as i64).to_vec(),
        data_type: DataType::Float as i32,
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
        elem_type: DataType::Float as i32,
        shape: Some(TensorShapeProto { dim: dim.to_vec() }),
    };
    let kind =
        TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.into(), r#type: Some(kind), ..ValueInfoProto::default() }
}
