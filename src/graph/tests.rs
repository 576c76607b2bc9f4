//! Every operator against tract's own reading of it.

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, ValueInfoProto, attribute_proto::AttributeType, type_proto,
};
use tract_onnx::prelude::{
    Framework, InferenceModel, InferenceModelExt, IntoRunnable, IntoTValue, IntoTensor, Tensor,
    TractResult, tvec,
};
use tract_onnx::tract_core::internal::Approximation;

use super::*;

/// A node from `x`, f32 [2, 3], to `y`, and constants `c0`, `c1`, … as further inputs.
struct Case {
    operator: &'static str,
    attributes: Vec<AttributeProto>,
    constants: Vec<TensorProto>,
    outputs: usize,
}

fn case(operator: &'static str) -> Case {
    Case { operator, attributes: vec![], constants: vec![], outputs: 1 }
}

impl Case {
    fn int(self, name: &str, value: i64) -> Case {
        self.attribute(name, AttributeType::Int, |a| a.i = value)
    }

    fn ints(self, name: &str, values: &[i64]) -> Case {
        self.attribute(name, AttributeType::Ints, |a| a.ints = values.into())
    }

    fn float(self, name: &str, value: f32) -> Case {
        self.attribute(name, AttributeType::Float, |a| a.f = value)
    }

    fn text(self, name: &str, value: &str) -> Case {
        self.attribute(name, AttributeType::String, |a| a.s = value.into())
    }

    fn attribute(
        mut self,
        name: &str,
        kind: AttributeType,
        set: impl FnOnce(&mut AttributeProto),
    ) -> Case {
        let mut attribute = AttributeProto { name: name.into(), ..Default::default() };
        attribute.set_type(kind);
        set(&mut attribute);
        self.attributes.push(attribute);
        self
    }

    fn floats(mut self, shape: &[i64], values: &[f32]) -> Case {
        self.constants.push(TensorProto {
            float_data: values.into(),
            ..tensor(self.constants.len(), DataType::Float, shape)
        });
        self
    }

    /// A list of int64.
    fn list(mut self, values: &[i64]) -> Case {
        self.constants.push(TensorProto {
            int64_data: values.into(),
            ..tensor(self.constants.len(), DataType::Int64, &[values.len() as i64])
        });
        self
    }

    /// One int64.
    fn scalar(mut self, value: i64) -> Case {
        self.constants.push(TensorProto {
            int64_data: vec![value],
            ..tensor(self.constants.len(), DataType::Int64, &[])
        });
        self
    }

    fn outputs(mut self, outputs: usize) -> Case {
        self.outputs = outputs;
        self
    }

    fn model(&self, opset: i64) -> ModelProto {
        let names = self.constants.iter().map(|constant| constant.name.clone());
        let outputs: Vec<String> = (0..self.outputs).map(|at| format!("y{at}")).collect();
        let node = NodeProto {
            name: "node".into(),
            op_type: self.operator.into(),
            input: std::iter::once("x".to_owned()).chain(names).collect(),
            output: outputs.clone(),
            attribute: self.attributes.clone(),
            ..Default::default()
        };
        let graph = GraphProto {
            node: vec![node],
            initializer: self.constants.clone(),
            input: vec![value("x", Some(&[2, 3]))],
            output: outputs.iter().map(|name| value(name, None)).collect(),
            ..Default::default()
        };
        let version = OperatorSetIdProto { domain: String::new(), version: opset };
        ModelProto { graph: Some(graph), opset_import: vec![version], ..Default::default() }
    }
}

fn tensor(at: usize, kind: DataType, shape: &[i64]) -> TensorProto {
    TensorProto {
        name: format!("c{at}"),
        data_type: kind as i32,
        dims: shape.into(),
        ..Default::default()
    }
}

fn value(name: &str, shape: Option<&[i64]>) -> ValueInfoProto {
    let dim = |size: &i64| Dimension {
        value: Some(dimension::Value::DimValue(*size)),
        ..Default::default()
    };
    let tensor = shape.map(|shape| type_proto::Tensor {
        elem_type: DataType::Float as i32,
        shape: Some(TensorShapeProto { dim: shape.iter().map(dim).collect() }),
    });
    let r#type = tensor.map(|tensor| tract_onnx::pb::TypeProto {
        value: Some(type_proto::Value::TensorType(tensor)),
        ..Default::default()
    });
    ValueInfoProto { name: name.into(), r#type, ..Default::default() }
}

const X: [f32; 6] = [-1.5, 0.25, 2.0, 0.5, -0.125, 1.0];

fn run(model: InferenceModel) -> TractResult<Vec<Tensor>> {
    let plan = model.into_optimized()?.into_runnable()?;
    let x = Tensor::from_shape(&[2, 3], &X)?;
    let outputs = plan.run(tvec![x.into_tvalue()])?;
    outputs.into_iter().map(|output| Ok(output.into_tensor())).collect()
}

fn ours(mut proto: ModelProto) -> TractResult<Vec<Tensor>> {
    lower(&mut proto)?;
    run(onnx().model_for_proto_model(&proto)?)
}

fn check(case: Case, opset: i64) {
    let proto = case.model(opset);
    let what = format!("{} of operator set {opset}", case.operator);
    let theirs = run(tract_onnx::onnx().model_for_proto_model(&proto).unwrap()).unwrap();
    let ours = ours(proto).unwrap_or_else(|error| panic!("{what}: {error:#}"));
    assert_eq!(ours.len(), theirs.len(), "{what}");
    for (ours, theirs) in ours.iter().zip(&theirs) {
        let same = ours.close_enough(theirs, Approximation::Close);
        assert!(same.is_ok(), "{what}: {ours:?} instead of {theirs:?}: {same:?}");
    }
    assert!(knows(case.operator), "{what}");
}

#[test]
fn elementwise() {
    let unary = [
        "Abs",
        "Cos",
        "Elu",
        "Erf",
        "Exp",
        "HardSigmoid",
        "Identity",
        "IsNaN",
        "LeakyRelu",
        "Neg",
        "Reciprocal",
        "Relu",
        "Sigmoid",
        "Sign",
        "Sin",
        "Softplus",
        "Tanh",
    ];
    for operator in unary {
        check(case(operator), 17);
    }
    check(case("Elu").float("alpha", 0.5), 17);
    check(case("HardSigmoid").float("alpha", 0.3).float("beta", 0.25), 17);
    check(case("LeakyRelu").float("alpha", 0.2), 17);
    check(case("Selu").float("alpha", 1.5).float("gamma", 1.1), 17);
    check(case("Gelu"), 20);
    check(case("Gelu").text("approximate", "tanh"), 20);
    for operator in ["Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "PRelu"] {
        check(case(operator).floats(&[3], &[0.5, -1.0, 2.0]), 17);
        check(case(operator).floats(&[1], &[0.75]), 17);
    }
    for operator in ["Max", "Min", "Sum"] {
        check(case(operator), 17);
        check(case(operator).floats(&[3], &[0.5, -1.0, 0.0]).floats(&[1], &[0.25]), 17);
    }
    check(case("Pow").floats(&[], &[2.0]), 17);
    for operator in ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"] {
        check(case(operator).floats(&[3], &[0.5, 0.25, 2.0]), 17);
    }
    check(case("Clip").floats(&[], &[-1.0]).floats(&[], &[1.0]), 17);
    check(case("Clip").floats(&[], &[0.0]), 11);
    // int64 becomes a dimension in both; a float stays one.
    check(case("Cast").int("to", DataType::Double as i64), 17);
    check(case("Cast").int("to", DataType::Bool as i64), 17);
}

#[test]
fn matrices_and_reductions() {
    let weights: Vec<f32> = (0..12).map(|i| i as f32 * 0.25 - 1.0).collect();
    check(case("MatMul").floats(&[3, 4], &weights), 17);
    check(case("Gemm").floats(&[3, 4], &weights), 17);
    check(
        case("Gemm").floats(&[4, 3], &weights).floats(&[4], &[1.0, 2.0, 3.0, 4.0]).int("transB", 1),
        11,
    );
    check(
        case("Gemm")
            .floats(&[2, 4], &weights[..8])
            .floats(&[1], &[2.0])
            .int("transA", 1)
            .float("alpha", 0.5)
            .float("beta", -2.0),
        17,
    );
    for axis in [0, 1, -1] {
        check(case("Softmax").int("axis", axis), 13);
        check(case("LogSoftmax").int("axis", axis), 13);
    }
    check(case("Softmax"), 11);
    check(case("Softmax").int("axis", 0), 11);
    for operator in ["ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"] {
        check(case(operator), 18);
        check(case(operator).ints("axes", &[1]), 11);
        check(case(operator).ints("axes", &[-1]).int("keepdims", 0), 11);
        check(case(operator).list(&[0]), 18);
        check(case(operator).int("noop_with_empty_axes", 1), 18);
    }
    check(case("LayerNormalization").floats(&[3], &[1.0, 2.0, 0.5]), 17);
    check(
        case("LayerNormalization")
            .floats(&[3], &[1.0, 2.0, 0.5])
            .floats(&[3], &[0.0, 1.0, -1.0])
            .float("epsilon", 0.01)
            .int("axis", -1),
        17,
    );
}

#[test]
fn shapes() {
    check(case("Concat").floats(&[1, 3], &[7.0, 8.0, 9.0]).int("axis", 0), 17);
    check(case("Expand").list(&[4, 2, 3]), 17);
    check(case("Flatten"), 17);
    check(case("Flatten").int("axis", 0), 17);
    check(case("Gather").list(&[1, 0, 1]).int("axis", 1), 17);
    check(case("Gather").scalar(1), 17);
    check(case("GatherND").list(&[1, 2]), 17);
    check(case("Reshape").list(&[3, -1]), 17);
    check(case("Reshape").list(&[0, 1, 3]), 17);
    check(case("Shape"), 17);
    check(case("Shape").int("start", 1), 17);
    check(case("Shape").int("end", -1), 17);
    check(case("Slice").list(&[1]).list(&[3]).list(&[1]), 17);
    check(case("Slice").list(&[-2, 0]).list(&[i64::MAX, 1]).list(&[-1, 0]).list(&[1, 1]), 17);
    check(case("Slice").list(&[1]).list(&[-1]), 17);
    check(case("Split").int("axis", 1).ints("split", &[1, 2]).outputs(2), 11);
    check(case("Split").int("axis", 1).list(&[2, 1]).outputs(2), 13);
    check(case("Split").outputs(2), 13);
    check(case("Tile").list(&[2, 1]), 17);
    check(case("Transpose"), 17);
    check(case("Transpose").ints("perm", &[1, 0]), 17);
    check(case("Trilu"), 17);
    check(case("Trilu").int("upper", 0).scalar(1), 17);
    check(case("Unsqueeze").list(&[0, 3]), 17);
    check(case("Unsqueeze").ints("axes", &[1]), 11);
}

/// What goes wrong is said with the node's name.
#[test]
fn errors_name_the_node() {
    let table = [
        (case("Unsqueeze").floats(&[1], &[0.0]), "not a list of int64"),
        (case("Gelu").text("approximate", "other"), "approximation other"),
        (case("LayerNormalization").floats(&[3], &[1.0; 3]).int("axis", 1), "counted from the end"),
        (case("Constant"), "it must have one value"),
        (case("Gemm"), "input 1 is missing"),
        (case("Slice").list(&[2]).list(&[0]).list(&[1]).list(&[-1]), "steps must be 1"),
    ];
    for (case, text) in table {
        let error = format!("{:#}", ours(case.model(17)).unwrap_err());
        assert!(error.contains(text) && error.contains("node"), "{}: {error}", case.operator);
    }
    assert!(!knows("Loop"));
    assert!(ours(case("Loop").model(17)).is_err());
}
