//! Operators that are made of others, and lists that moved from attributes to inputs over the
//! versions of ONNX and move back here. After it, [`super::operators`] knows every node.

use std::collections::HashMap;

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto};
use tract_onnx::prelude::TractResult;
use tract_onnx::tract_core::internal::{TractErrorContext, bail, ensure};

/// What is put together from other operators.
pub const OPERATORS: [&str; 9] = [
    "Clip",
    "Constant",
    "Gelu",
    "Gemm",
    "LayerNormalization",
    "LogSoftmax",
    "PRelu",
    "Relu",
    "Sum",
];

/// Rewrites the nodes of a graph.
pub fn lower(graph: &mut GraphProto) -> TractResult<()> {
    let constants = std::mem::take(&mut graph.initializer);
    let index = constants.iter().enumerate().map(|(at, tensor)| (tensor.name.clone(), at));
    let mut lowering = Lowering { nodes: Vec::new(), index: index.collect(), constants, made: 0 };
    for node in std::mem::take(&mut graph.node) {
        let name = node.name.clone();
        let operator = node.op_type.clone();
        lowering.node(node).with_context(|| format!("node {name} ({operator})"))?;
    }
    graph.node = lowering.nodes;
    graph.initializer = lowering.constants;
    Ok(())
}

struct Lowering {
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
    /// Where in `constants` a name is.
    index: HashMap<String, usize>,
    made: usize,
}

impl Lowering {
    fn node(&mut self, node: NodeProto) -> TractResult<()> {
        match node.op_type.as_str() {
            "Clip" => self.clip(&node),
            "Constant" => self.constant(node),
            "Gelu" => self.gelu(&node),
            "Gemm" => self.gemm(&node),
            "LayerNormalization" => self.layer_norm(&node),
            "LogSoftmax" => self.log_softmax(&node),
            "Max" | "Min" => self.fold(&node, &node.op_type),
            "PRelu" => self.prelu(&node),
            "ReduceMax" | "ReduceMean" | "ReduceMin" | "ReduceSum" => self.reduce(node),
            "Relu" => self.relu(&node),
            "Shape" => self.shape(node),
            "Slice" => self.slice(node),
            "Split" => self.list(node, "split"),
            "Squeeze" | "Unsqueeze" => self.list(node, "axes"),
            "Sum" => self.fold(&node, "Add"),
            _ => self.keep(node),
        }
    }

    fn keep(&mut self, node: NodeProto) -> TractResult<()> {
        self.nodes.push(node);
        Ok(())
    }

    /// Adds a node; the name of what it makes.
    fn op(&mut self, operator: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let output = self.fresh();
        self.op_as(&output, operator, inputs, attributes);
        output
    }

    fn op_as(
        &mut self,
        out: &str,
        operator: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
    ) {
        self.nodes.push(NodeProto {
            name: out.into(),
            op_type: operator.into(),
            input: inputs.iter().map(|input| input.to_string()).collect(),
            output: vec![out.into()],
            attribute: attributes,
            ..NodeProto::default()
        });
    }

    fn fresh(&mut self) -> String {
        self.made += 1;
        format!("lowered.{}", self.made)
    }

    fn number(&mut self, value: f32) -> String {
        let tensor = TensorProto { float_data: vec![value], ..tensor(DataType::Float, &[]) };
        self.add_constant(tensor)
    }

    fn numbers(&mut self, values: &[i64]) -> String {
        let shape = [values.len() as i64];
        self.add_constant(TensorProto {
            int64_data: values.into(),
            ..tensor(DataType::Int64, &shape)
        })
    }

    fn add_constant(&mut self, mut tensor: TensorProto) -> String {
        let name = self.fresh();
        tensor.name.clone_from(&name);
        self.insert(tensor);
        name
    }

    fn insert(&mut self, tensor: TensorProto) {
        self.index.insert(tensor.name.clone(), self.constants.len());
        self.constants.push(tensor);
    }

    /// `min ≤ x ≤ max`, both optional.
    fn clip(&mut self, node: &NodeProto) -> TractResult<()> {
        ensure!(node.attribute.is_empty(), "the bounds must be inputs, as from operator set 11 on");
        let x = input(node, 0)?;
        let low = optional(node, 1).map(|min| self.op("Max", &[x, min], vec![]));
        let x = low.as_deref().unwrap_or(x);
        match optional(node, 2) {
            Some(max) => self.op_as(output(node)?, "Min", &[x, max], vec![]),
            None => self.op_as(output(node)?, "Identity", &[x], vec![]),
        }
        Ok(())
    }

    fn constant(&mut self, node: NodeProto) -> TractResult<()> {
        let name = output(&node)?.to_owned();
        let [attribute] = node.attribute.as_slice() else {
            bail!("it must have one value, it has {} attributes", node.attribute.len());
        };
        let mut made = match attribute.name.as_str() {
            "value" => attribute.t.clone().context("it has no tensor")?,
            "value_float" => {
                TensorProto { float_data: vec![attribute.f], ..tensor(DataType::Float, &[]) }
            }
            "value_int" => {
                TensorProto { int64_data: vec![attribute.i], ..tensor(DataType::Int64, &[]) }
            }
            "value_floats" => {
                let values = attribute.floats.clone();
                let shape = [values.len() as i64];
                TensorProto { float_data: values, ..tensor(DataType::Float, &shape) }
            }
            "value_ints" => {
                let values = attribute.ints.clone();
                let shape = [values.len() as i64];
                TensorProto { int64_data: values, ..tensor(DataType::Int64, &shape) }
            }
            other => bail!("constants of the kind {other} are not supported"),
        };
        made.name = name;
        self.insert(made);
        Ok(())
    }

    /// x · Φ(x), with the error function or its tanh approximation.
    fn gelu(&mut self, node: &NodeProto) -> TractResult<()> {
        let x = input(node, 0)?;
        let curve = match node.get_attr_opt("approximate")?.unwrap_or("none") {
            "none" => {
                let factor = self.number(std::f32::consts::FRAC_1_SQRT_2);
                let scaled = self.op("Mul", &[x, &factor], vec![]);
                self.op("Erf", &[&scaled], vec![])
            }
            "tanh" => {
                let cube = self.op("Mul", &[x, x], vec![]);
                let cube = self.op("Mul", &[&cube, x], vec![]);
                let factor = self.number(0.044_715);
                let cube = self.op("Mul", &[&cube, &factor], vec![]);
                let sum = self.op("Add", &[x, &cube], vec![]);
                let factor = self.number((2.0 / std::f32::consts::PI).sqrt());
                let scaled = self.op("Mul", &[&sum, &factor], vec![]);
                self.op("Tanh", &[&scaled], vec![])
            }
            other => bail!("the approximation {other} is not supported"),
        };
        let (one, half) = (self.number(1.0), self.number(0.5));
        let curve = self.op("Add", &[&curve, &one], vec![]);
        let product = self.op("Mul", &[x, &curve], vec![]);
        self.op_as(output(node)?, "Mul", &[&product, &half], vec![]);
        Ok(())
    }

    /// alpha · A · B + beta · C, where A and B may be transposed.
    fn gemm(&mut self, node: &NodeProto) -> TractResult<()> {
        let a = self.transposed(node, 0, "transA")?;
        let b = self.transposed(node, 1, "transB")?;
        let product = self.op("MatMul", &[&a, &b], vec![]);
        let product = self.scaled(node, &product, "alpha")?;
        match optional(node, 2) {
            Some(c) => {
                let c = self.scaled(node, c, "beta")?;
                self.op_as(output(node)?, "Add", &[&product, &c], vec![]);
            }
            None => self.op_as(output(node)?, "Identity", &[&product], vec![]),
        }
        Ok(())
    }

    fn transposed(&mut self, node: &NodeProto, at: usize, flag: &str) -> TractResult<String> {
        let matrix = input(node, at)?;
        Ok(match node.get_attr_opt::<i64>(flag)?.unwrap_or(0) {
            0 => matrix.into(),
            _ => self.op("Transpose", &[matrix], vec![ints("perm", &[1, 0])]),
        })
    }

    fn scaled(&mut self, node: &NodeProto, x: &str, factor: &str) -> TractResult<String> {
        let factor = node.get_attr_opt::<f32>(factor)?.unwrap_or(1.0);
        if factor == 1.0 {
            return Ok(x.into());
        }
        let factor = self.number(factor);
        Ok(self.op("Mul", &[x, &factor], vec![]))
    }

    /// (x − mean) / sqrt(variance + epsilon) · scale + bias over the last axes.
    fn layer_norm(&mut self, node: &NodeProto) -> TractResult<()> {
        let (x, scale) = (input(node, 0)?, input(node, 1)?);
        let first = node.get_attr_opt::<i64>("axis")?.unwrap_or(-1);
        ensure!(first < 0, "the axis must be counted from the end, as in -1; it is {first}");
        ensure!(first >= -8, "axis {first}");
        ensure!(node.output.iter().skip(1).all(String::is_empty), "it may have one output only");
        let axes: Vec<i64> = (first..0).collect();
        let mean = self.op("ReduceMean", &[x], vec![ints("axes", &axes)]);
        let centred = self.op("Sub", &[x, &mean], vec![]);
        let squares = self.op("Mul", &[&centred, &centred], vec![]);
        let variance = self.op("ReduceMean", &[&squares], vec![ints("axes", &axes)]);
        let epsilon = self.number(node.get_attr_opt("epsilon")?.unwrap_or(1e-5));
        let variance = self.op("Add", &[&variance, &epsilon], vec![]);
        let deviation = self.op("Sqrt", &[&variance], vec![]);
        let normal = self.op("Div", &[&centred, &deviation], vec![]);
        match optional(node, 2) {
            Some(bias) => {
                let scaled = self.op("Mul", &[&normal, scale], vec![]);
                self.op_as(output(node)?, "Add", &[&scaled, bias], vec![]);
            }
            None => self.op_as(output(node)?, "Mul", &[&normal, scale], vec![]),
        }
        Ok(())
    }

    fn log_softmax(&mut self, node: &NodeProto) -> TractResult<()> {
        let softmax = self.op("Softmax", &[input(node, 0)?], node.attribute.clone());
        self.op_as(output(node)?, "Log", &[&softmax], vec![]);
        Ok(())
    }

    /// An operator of any number of inputs, by one of two.
    fn fold(&mut self, node: &NodeProto, operator: &str) -> TractResult<()> {
        let mut all = input(node, 0)?.to_owned();
        let Some((last, middle)) = node.input[1..].split_last() else {
            self.op_as(output(node)?, "Identity", &[&all], vec![]);
            return Ok(());
        };
        for next in middle {
            all = self.op(operator, &[&all, next], vec![]);
        }
        self.op_as(output(node)?, operator, &[&all, last], vec![]);
        Ok(())
    }

    /// x where it is positive, slope · x elsewhere.
    fn prelu(&mut self, node: &NodeProto) -> TractResult<()> {
        let (x, slope) = (input(node, 0)?, input(node, 1)?);
        let zero = self.number(0.0);
        let above = self.op("Max", &[x, &zero], vec![]);
        let below = self.op("Min", &[x, &zero], vec![]);
        let below = self.op("Mul", &[&below, slope], vec![]);
        self.op_as(output(node)?, "Add", &[&above, &below], vec![]);
        Ok(())
    }

    fn relu(&mut self, node: &NodeProto) -> TractResult<()> {
        let zero = self.number(0.0);
        self.op_as(output(node)?, "Max", &[input(node, 0)?, &zero], vec![]);
        Ok(())
    }

    /// Without axes all of them are reduced, or none where the node says so.
    fn reduce(&mut self, mut node: NodeProto) -> TractResult<()> {
        let none = node.get_attr_opt::<i64>("noop_with_empty_axes")?.unwrap_or(0) != 0;
        self.list_to_attribute(&mut node, "axes")?;
        let axes = node.attribute.iter().position(|attribute| attribute.name == "axes");
        if let Some(at) = axes.filter(|at| node.attribute[*at].ints.is_empty()) {
            node.attribute.remove(at);
        }
        let empty = !node.attribute.iter().any(|attribute| attribute.name == "axes");
        if empty && none {
            self.op_as(output(&node)?, "Identity", &[input(&node, 0)?], vec![]);
            return Ok(());
        }
        self.keep(node)
    }

    /// The shape, or the part of it between `start` and `end`.
    fn shape(&mut self, node: NodeProto) -> TractResult<()> {
        let start = node.get_attr_opt::<i64>("start")?.unwrap_or(0);
        let end = node.get_attr_opt::<i64>("end")?;
        if start == 0 && end.is_none() {
            return self.keep(node);
        }
        let shape = self.op("Shape", &[input(&node, 0)?], vec![]);
        let (start, end) = (self.numbers(&[start]), self.numbers(&[end.unwrap_or(i64::MAX)]));
        self.op_as(output(&node)?, "Slice", &[&shape, &start, &end], vec![]);
        Ok(())
    }

    /// Axes become an attribute; steps must be one.
    fn slice(&mut self, mut node: NodeProto) -> TractResult<()> {
        ensure!(node.input.len() >= 3, "starts and ends must be inputs");
        if let Some(steps) = optional(&node, 4) {
            ensure!(self.list_of(steps)?.iter().all(|step| *step == 1), "its steps must be 1");
        }
        if let Some(axes) = optional(&node, 3) {
            let axes = ints("axes", &self.list_of(axes)?);
            node.attribute.push(axes);
        }
        node.input.truncate(3);
        self.keep(node)
    }

    fn list(&mut self, mut node: NodeProto, name: &str) -> TractResult<()> {
        self.list_to_attribute(&mut node, name)?;
        self.keep(node)
    }

    /// Makes a constant second input an attribute.
    fn list_to_attribute(&self, node: &mut NodeProto, name: &str) -> TractResult<()> {
        if let Some(constant) = optional(node, 1) {
            let list = ints(name, &self.list_of(constant)?);
            node.attribute.push(list);
        }
        node.input.truncate(1);
        Ok(())
    }

    /// The values of a constant list.
    fn list_of(&self, name: &str) -> TractResult<Vec<i64>> {
        let at = self.index.get(name).with_context(|| format!("{name} must be a constant"))?;
        int64s(&self.constants[*at])
    }
}

fn input(node: &NodeProto, at: usize) -> TractResult<&str> {
    optional(node, at).with_context(|| format!("input {at} is missing"))
}

fn optional(node: &NodeProto, at: usize) -> Option<&str> {
    node.input.get(at).map(String::as_str).filter(|name| !name.is_empty())
}

fn output(node: &NodeProto) -> TractResult<&str> {
    node.output.first().map(String::as_str).context("it has no output")
}

fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Ints as i32,
        ints: values.into(),
        ..AttributeProto::default()
    }
}

fn tensor(kind: DataType, shape: &[i64]) -> TensorProto {
    TensorProto { data_type: kind as i32, dims: shape.into(), ..TensorProto::default() }
}

/// The values of a constant list inside the file.
fn int64s(tensor: &TensorProto) -> TractResult<Vec<i64>> {
    ensure!(tensor.data_type == DataType::Int64 as i32, "{} is not a list of int64", tensor.name);
    ensure!(tensor.external_data.is_empty(), "{} lies in another file", tensor.name);
    if !tensor.int64_data.is_empty() {
        return Ok(tensor.int64_data.clone());
    }
    let (values, rest) = tensor.raw_data.as_chunks::<8>();
    ensure!(rest.is_empty(), "{} is cut off", tensor.name);
    Ok(values.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect())
}
