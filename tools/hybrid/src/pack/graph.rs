//! A [`Plan`] as an ONNX graph of our ops. Shapes: `S` tokens fed, `T` rows wanted, batch 1.

use anyhow::Result;
use prost::Message;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};

use super::plan::{Linear, Plan};
use super::weights::Entry;

const DOMAIN: &str = "org.libhybrid";

/// The encoded graph. `entries` go along as the metadata `weights`.
pub fn encode(plan: &Plan, entries: &[Entry]) -> Result<Vec<u8>> {
    let opset = |domain: &str, version| OperatorSetIdProto { domain: domain.into(), version };
    let weights = serde_json::to_string(entries)?;
    let model = ModelProto {
        ir_version: 8,
        opset_import: vec![opset("", 17), opset(DOMAIN, 1)],
        producer_name: "libhybrid".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        metadata_props: vec![StringStringEntryProto { key: "weights".into(), value: weights }],
        graph: Some(Builder::default().graph(plan)),
        ..ModelProto::default()
    };
    Ok(model.encode_to_vec())
}

#[derive(Default)]
struct Builder {
    nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
}

impl Builder {
    fn graph(mut self, plan: &Plan) -> GraphProto {
        let hidden_size = plan.embedding.tensor.cols as i64;
        let vocabulary = plan.output.rows() as i64;
        if let Some(factors) = &plan.rope.factors {
            self.initializer("rope_factors", factors);
        }
        let embedding = [text("weight", &plan.embedding.name)];
        self.node("QuantEmbedding", "embedding", ["input_ids"], ["residual.0"], &embedding);
        for index in 0..plan.layers.len() {
            self.layer(plan, index);
        }
        let count = plan.layers.len();
        self.norm(plan, "final_norm", &plan.final_norm, count, "hidden");
        self.linear("output", &plan.output, "hidden", "logits");
        GraphProto {
            name: "slm".into(),
            node: self.nodes,
            initializer: self.initializers,
            input: vec![
                value("input_ids", DataType::Int64, &[size(1), symbol("S")]),
                value("rows", DataType::Int64, &[symbol("T")]),
            ],
            output: vec![
                value("hidden", DataType::Float, &[size(1), symbol("T"), size(hidden_size)]),
                value("logits", DataType::Float, &[size(1), symbol("T"), size(vocabulary)]),
            ],
            ..GraphProto::default()
        }
    }

    /// `residual.i` goes into layer i, `middle.i` is the sum between its two halves.
    fn layer(&mut self, plan: &Plan, index: usize) {
        let layer = &plan.layers[index];
        let name = |part: &str| at(part, index);
        self.norm(plan, &name("attention_norm"), &layer.attention_norm, index, &name("normed"));
        self.linear(&name("qkv_proj"), &layer.qkv, &name("normed"), &name("qkv"));
        self.attention(plan, index);
        let (mut attended, mut residual) = (name("attended"), name("residual"));
        if index + 1 == plan.layers.len() {
            // Of a row that nobody wants only the keys and values matter, and they are stored by
            // now.
            attended = self.select_rows(attended);
            residual = self.select_rows(residual);
        }
        self.linear(&name("output_proj"), &layer.attention_output, &attended, &name("attention"));
        self.initializer(&name("ffn_gamma"), &layer.ffn_norm);
        let inputs = [name("attention"), residual, name("ffn_gamma")];
        let outputs = [name("ffn_normed"), name("middle")];
        self.node(
            "SkipRmsNorm",
            &name("ffn_norm"),
            inputs,
            outputs,
            &[float("epsilon", plan.epsilon)],
        );
        self.linear(&name("gate_up_proj"), &layer.gate_up, &name("ffn_normed"), &name("gate_up"));
        self.node("SwiGlu", &name("swiglu"), [name("gate_up")], [name("activated")], &[]);
        self.linear(&name("down_proj"), &layer.down, &name("activated"), &name("down"));
    }

    /// The norm in front of layer `index` (or of the output): adds what the layer before it ends
    /// with to the residual.
    fn norm(&mut self, plan: &Plan, name: &str, gamma: &[f32], index: usize, output: &str) {
        let gamma_name = format!("{name}.gamma");
        self.initializer(&gamma_name, gamma);
        let epsilon = [float("epsilon", plan.epsilon)];
        match index.checked_sub(1) {
            None => self.node("RmsNorm", name, ["residual.0", &gamma_name], [output], &epsilon),
            Some(before) => {
                let inputs = [at("down", before), at("middle", before), gamma_name];
                let outputs = [output.to_owned(), at("residual", index)];
                self.node("SkipRmsNorm", name, inputs, outputs, &epsilon);
            }
        }
    }

    fn attention(&mut self, plan: &Plan, index: usize) {
        let layer = &plan.layers[index];
        let attributes = [
            integer("heads", layer.heads),
            integer("kv_heads", layer.kv_heads),
            integer("head_dim", layer.head_dim),
            integer("rope_dim", plan.rope.dim),
            float("rope_base", plan.rope.base),
        ];
        let factors = plan.rope.factors.iter().map(|_| "rope_factors".to_owned());
        let inputs = std::iter::once(at("qkv", index)).chain(factors);
        self.node("Attention", &at("attend", index), inputs, [at("attended", index)], &attributes);
    }

    fn select_rows(&mut self, tensor: String) -> String {
        let wanted = format!("{tensor}.wanted");
        self.node("SelectRows", &wanted, [&tensor, "rows"], [&wanted], &[]);
        wanted
    }

    fn linear(&mut self, name: &str, linear: &Linear, input: &str, output: &str) {
        let names = linear.matrices.iter().map(|matrix| matrix.name.as_str());
        let attributes = [texts("weights", names)];
        let mut inputs = vec![input.to_owned()];
        if let Some(bias) = &linear.bias {
            let bias_name = format!("{name}.bias");
            self.initializer(&bias_name, bias);
            inputs.push(bias_name);
        }
        self.node("QuantMatMul", name, inputs, [output], &attributes);
    }

    fn node(
        &mut self,
        op: &str,
        name: &str,
        inputs: impl IntoIterator<Item = impl Into<String>>,
        outputs: impl IntoIterator<Item = impl Into<String>>,
        attributes: &[AttributeProto],
    ) {
        self.nodes.push(NodeProto {
            name: name.into(),
            op_type: op.into(),
            domain: DOMAIN.into(),
            input: inputs.into_iter().map(Into::into).collect(),
            output: outputs.into_iter().map(Into::into).collect(),
            attribute: attributes.to_vec(),
            ..NodeProto::default()
        });
    }

    fn initializer(&mut self, name: &str, values: &[f32]) {
        self.initializers.push(TensorProto {
            name: name.into(),
            dims: vec![values.len() as i64],
            data_type: DataType::Float as i32,
            raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            ..TensorProto::default()
        });
    }
}

fn at(name: &str, layer: usize) -> String {
    format!("{name}.{layer}")
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: kind as i32, ..AttributeProto::default() }
}

fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { f: value, ..attribute(name, AttributeType::Float) }
}

fn integer(name: &str, value: usize) -> AttributeProto {
    AttributeProto { i: value as i64, ..attribute(name, AttributeType::Int) }
}

fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto { s: value.into(), ..attribute(name, AttributeType::String) }
}

fn texts<'a>(name: &str, values: impl Iterator<Item = &'a str>) -> AttributeProto {
    let strings = values.map(|value| value.as_bytes().to_vec()).collect();
    AttributeProto { strings, ..attribute(name, AttributeType::Strings) }
}

fn size(value: i64) -> Dimension {
    Dimension { value: Some(dimension::Value::DimValue(value)), ..Dimension::default() }
}

fn symbol(name: &str) -> Dimension {
    Dimension { value: Some(dimension::Value::DimParam(name.into())), ..Dimension::default() }
}

fn value(name: &str, kind: DataType, shape: &[Dimension]) -> ValueInfoProto {
    let tensor = type_proto::Tensor {
        elem_type: kind as i32,
        shape: Some(TensorShapeProto { dim: shape.to_vec() }),
    };
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}
