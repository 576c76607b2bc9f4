//! Writes fitted heads as `reward.onnx`.

use half::f16;
use hybrid::reward::{HIDDEN, HIDDEN_AFTER, OUTPUT, STATS, statistics};
use ndarray::{Array2, ArrayView2, Axis, Slice};
use prost::Message;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
    attribute_proto::AttributeType,
    tensor_proto::DataType,
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};

use super::linear::Linear;
use super::net::{Net, is_large};

const OPSET: i64 = 17;
const IR_VERSION: i64 = 8;

/// `sigmoid(Σ (input - centre) · weight + bias)`. Only inputs, and of sparse heads only columns, that have a weight are
/// read.
pub fn write_linear(head: &Linear, hidden_size: usize) -> Vec<u8> {
    let mut graph = Graph::default();
    let mut sum = graph.constant("bias", [1, 1], [head.bias as f32]);
    for (input, columns) in inputs(hidden_size, head.weights.len()) {
        let first = columns.start;
        let all: Vec<usize> = columns.collect();
        let used: Vec<usize> =
            all.iter().copied().filter(|&column| head.weights[column] != 0.0).collect();
        if used.is_empty() {
            continue;
        }
        let mut x = graph.input(input, all.len());
        // An index, a centre and a weight each, instead of centre and weight of all.
        let columns = if used.len() * 3 < all.len() * 2 {
            let indices = graph.indices(&format!("{input}.used"), used.iter().map(|c| c - first));
            x = graph.with("Gather", &[&x, &indices], &format!("{input}.few"), ("axis", 1));
            used
        } else {
            all
        };
        let name = |part: &str| format!("{input}.{part}");
        let (centres, weights) = (
            columns.iter().map(|&c| head.centre[c]),
            columns.iter().map(|&c| head.weights[c] as f32),
        );
        let centre = graph.constant(&name("centre"), [1, columns.len()], centres);
        let weight = graph.constant(&name("weight"), [columns.len(), 1], weights);
        let centred = graph.node("Sub", &[&x, &centre], &name("centred"));
        let product = graph.node("MatMul", &[&centred, &weight], &name("product"));
        sum = graph.node("Add", &[&product, &sum], &name("sum"));
    }
    graph.finish(&sum)
}

/// The line and the net of [`Net`]. Matrices are written in half precision.
pub fn write_net(net: &Net, hidden_size: usize) -> Vec<u8> {
    let mut graph = Graph::default();
    let [v, c] = net.last();
    let mut line = graph.constant("line.bias", [1, 1], [net.bias]);
    let mut h = graph.parameter("first.bias", &net.parameters[1]);
    for (input, columns) in inputs(hidden_size, net.width()) {
        let size = columns.len();
        let name = |part: &str| format!("{input}.{part}");
        let x = graph.input(input, size);
        let [centre, scale] = [("centre", &net.scaling.centre), ("scale", &net.scaling.scale)]
            .map(|(part, of)| graph.constant(&name(part), [1, size], of[columns.clone()].to_vec()));
        let centred = graph.node("Sub", &[&x, &centre], &name("centred"));
        let scaled = graph.node("Mul", &[&centred, &scale], &name("scaled"));
        let rows = Slice::from(columns.start as isize..columns.end as isize);
        let [of_line, of_net] = [("line", &net.line), ("weight", &net.parameters[0])]
            .map(|(part, of)| graph.view(&name(part), of.slice_axis(Axis(0), rows)));
        let product = graph.node("MatMul", &[&scaled, &of_line], &name("line.product"));
        line = graph.node("Add", &[&product, &line], &name("line.sum"));
        let product = graph.node("MatMul", &[&scaled, &of_net], &name("product"));
        h = graph.node("Add", &[&product, &h], &name("sum"));
    }
    h = graph.node("Relu", &[&h], "first");
    for block in 0..net.shape.blocks {
        let name = |part: &str| format!("block{block}.{part}");
        let p = &net.parameters[2 + 4 * block..];
        let inner = graph.layer(&name("inner"), &h, &p[0], &p[1]);
        let inner = graph.node("Relu", &[&inner], &name("relu"));
        let outer = graph.layer(&name("outer"), &inner, &p[2], &p[3]);
        h = graph.node("Add", &[&h, &outer], &name("sum"));
    }
    let last = graph.layer("last", &h, v, c);
    let sum = graph.node("Add", &[&last, &line], "sum");
    graph.finish(&sum)
}

/// The inputs whose columns are among the first `width`.
fn inputs(hidden_size: usize, width: usize) -> Vec<(&'static str, std::ops::Range<usize>)> {
    let after = statistics::COUNT + hidden_size;
    let mut inputs = vec![(HIDDEN, statistics::COUNT..after), (STATS, 0..statistics::COUNT)];
    if width > after {
        inputs.push((HIDDEN_AFTER, after..width));
    }
    inputs
}

/// A graph that grows. Names are of values.
#[derive(Default)]
struct Graph(GraphProto);

impl Graph {
    fn input(&mut self, name: &str, size: usize) -> String {
        self.0.input.push(value(name, size));
        name.into()
    }

    fn constant(
        &mut self,
        name: &str,
        dims: [usize; 2],
        values: impl IntoIterator<Item = f32>,
    ) -> String {
        self.0.initializer.push(tensor(name, dims, values));
        name.into()
    }

    fn parameter(&mut self, name: &str, values: &Array2<f32>) -> String {
        self.view(name, values.view())
    }

    /// Matrices in half precision, to which they were rounded; vectors as they are.
    fn view(&mut self, name: &str, values: ArrayView2<f32>) -> String {
        let dims = [values.nrows(), values.ncols()];
        if !is_large(&values) {
            return self.constant(name, dims, values.iter().copied());
        }
        let half = format!("{name}.half");
        let mut tensor = tensor(&half, dims, []);
        tensor.data_type = DataType::Float16 as i32;
        tensor.raw_data = values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect();
        self.0.initializer.push(tensor);
        self.with("Cast", &[&half], name, ("to", DataType::Float as i64))
    }

    fn indices(&mut self, name: &str, values: impl Iterator<Item = usize>) -> String {
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

    fn node(&mut self, operator: &str, inputs: &[&str], output: &str) -> String {
        self.0.node.push(node(operator, inputs, output));
        output.into()
    }

    /// A node with an attribute.
    fn with(
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

    /// `x·weight + bias`
    fn layer(&mut self, name: &str, x: &str, weight: &Array2<f32>, bias: &Array2<f32>) -> String {
        let weight = self.parameter(&format!("{name}.weight"), weight);
        let bias = self.parameter(&format!("{name}.bias"), bias);
        let product = self.node("MatMul", &[x, &weight], &format!("{name}.product"));
        self.node("Add", &[&product, &bias], name)
    }

    /// The file's bytes, with the sigmoid of `log_odds` as the output.
    fn finish(mut self, log_odds: &str) -> Vec<u8> {
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

#[cfg(test)]
mod tests {
    use hybrid::reward::Head as Loaded;

    use super::*;
    use crate::train::head::Head;
    use crate::train::linear::Fitted;
    use crate::train::net::Shape;
    use crate::train::platt::sigmoid;
    use crate::train::standardised::Standardised;
    use crate::train::testing;

    const D: usize = 48;

    /// Every kind, without and with the state after.
    fn heads() -> Vec<(Head, bool)> {
        let data = testing::dataset(50, D, 7);
        let scaling = Standardised::new(&data).scaling;
        let mut heads = Vec::new();
        for after in [false, true] {
            let width = data.width(after);
            let mut dense = testing::truth(D);
            dense.weights.truncate(width);
            dense.centre = (0..width).map(|i| (i as f32 * 0.9).cos()).collect();
            let mut sparse = dense.clone();
            (0..width).filter(|i| i % 5 != 0).for_each(|i| sparse.weights[i] = 0.0);
            heads.extend([dense, sparse].map(|head| (Head::Linear(head), after)));
            for blocks in [0, 2] {
                let weights = testing::truth(D).weights[..width].to_vec();
                let line = Fitted { bias: 0.3, weights };
                let mut net = Net::new(Shape { units: 8, blocks }, &scaling, &line, 1);
                net.parameters.iter_mut().for_each(|p| p.mapv_inplace(|v| v + 0.02));
                net.round();
                heads.push((Head::Net(net), after));
            }
        }
        heads
    }

    #[test]
    fn written_heads_equal_the_fitted_ones() {
        let data = testing::dataset(50, D, 7);
        for (head, after) in heads() {
            let mut loaded = Loaded::load(&head.write(D), D).unwrap();
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

    #[test]
    fn what_has_no_weight_is_not_read() {
        let mut head = testing::truth(D);
        let before = statistics::COUNT + D;
        head.weights[before..].fill(0.0);
        let dense = write_linear(&head, D);
        assert!(!Loaded::load(&dense, D).unwrap().reads_after());
        head.weights[statistics::COUNT + 3..].fill(0.0);
        let sparse = write_linear(&head, D);
        assert!(sparse.len() + 250 < dense.len(), "{} of {}", sparse.len(), dense.len());
    }
}
