//! A [`Plan`] as an ONNX graph of our ops. Shapes: `S` tokens fed, `T` rows wanted, batch 1.

use anyhow::Result;
use prost::Message;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto,
};

use super::plan::{Attention, Linear, Mixer, Norm, Plan, ShortConv};
use super::proto::{at, float, floats, integer, integers, size, symbol, text, texts, value};
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
    /// RoPE factors that are initializers already.
    factors: Vec<Vec<f32>>,
    /// What every layer has added to so far.
    residual: String,
    /// What is still to be added to it: the next norm does both at once.
    pending: Option<String>,
}

impl Builder {
    fn graph(mut self, plan: &Plan) -> GraphProto {
        let hidden_size = plan.embedding.tensor.cols as i64;
        let vocabulary = plan.output.rows() as i64;
        self.residual = "residual.0".into();
        let embedding = [text("weight", &plan.embedding.name)];
        let embedded = match plan.embedding_scale {
            Some(_) => "embedding",
            None => "residual.0",
        };
        self.node("QuantEmbedding", "embedding", ["input_ids"], [embedded], &embedding);
        self.multiply(plan.embedding_scale, "embedding", "residual.0");
        for index in 0..plan.layers.len() {
            self.layer(plan, index);
        }
        self.norm(
            plan,
            Some(&plan.final_norm),
            "final_norm",
            "hidden",
            &at("residual", plan.layers.len()),
        );
        self.logits(plan);
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
        let last = index + 1 == plan.layers.len();
        let mut shared = None;
        if let Some(mixer) = layer.mixer() {
            let (norm, stem) = (mixer.norm(), name("attention_norm"));
            let normed = self.norm(plan, norm, &stem, &name("normed"), &name("residual"));
            let mut mixed = match mixer {
                Mixer::Attention(attention) => self.attention(plan, attention, index, &normed),
                Mixer::Conv(conv) => self.short_conv(conv, index, &normed),
            };
            shared = layer.parallel.then_some(normed);
            if last {
                // Of a row that nobody wants only what the layer remembers matters, and that is
                // stored by now.
                mixed = self.select_rows(&mixed);
                shared = shared.map(|normed| self.select_rows(&normed));
                self.select_residual();
            }
            let output = name("attention");
            self.linear(&name("output_proj"), mixer.output(), &mixed, &output);
            let post_norm = mixer.post_norm();
            self.pending =
                Some(self.finish(plan, post_norm, &output, &name("attention_post_norm")));
        } else if last {
            self.select_residual();
        }
        let Some(ffn) = &layer.ffn else { return };
        // A parallel network reads what attention has read, and both are added afterwards.
        let before = shared.as_ref().and_then(|_| self.pending.take());
        let (norm, stem) = (ffn.norm.as_ref(), name("ffn_norm"));
        let normed = match shared {
            Some(normed) if norm.is_none() => normed,
            _ => self.norm(plan, norm, &stem, &name("ffn_normed"), &name("middle")),
        };
        self.linear(&name("gate_up_proj"), &ffn.input, &normed, &name("gate_up"));
        let attributes =
            [text("function", ffn.activation.name()), integer("gated", usize::from(ffn.gated))];
        let (gate_up, activated) = (name("gate_up"), name("activated"));
        self.node("Activate", &name("activate"), [gate_up], [&activated], &attributes);
        self.linear(&name("down_proj"), &ffn.down, &activated, &name("down"));
        let post_norm = ffn.post_norm.as_ref();
        let down = self.finish(plan, post_norm, &name("down"), &name("ffn_post_norm"));
        self.pending = Some(match before {
            Some(attention) => {
                let both = name("both");
                self.standard("Add", &both, [&attention, &down], &both, &[]);
                both
            }
            None => down,
        });
    }

    /// The norm of the residual, which becomes `sum` where something is pending; without a norm the
    /// residual itself.
    fn norm(
        &mut self,
        plan: &Plan,
        norm: Option<&Norm>,
        name: &str,
        out: &str,
        sum: &str,
    ) -> String {
        let pending = self.pending.take();
        let before = std::mem::replace(&mut self.residual, sum.to_owned());
        match (pending, norm) {
            (Some(pending), Some(Norm { gamma, bias: None, centred: false })) => {
                let gamma_name = self.gamma(name, gamma);
                let epsilon = [float("epsilon", plan.epsilon)];
                self.node("SkipRmsNorm", name, [pending, before, gamma_name], [out, sum], &epsilon);
                return out.to_owned();
            }
            (Some(pending), _) => self.standard("Add", sum, [pending, before], sum, &[]),
            (None, _) => self.residual = before,
        }
        let residual = self.residual.clone();
        match norm {
            Some(norm) => self.plain_norm(plan, norm, &residual, name, out),
            None => residual,
        }
    }

    /// The norm of one tensor.
    fn plain_norm(&mut self, plan: &Plan, norm: &Norm, x: &str, name: &str, out: &str) -> String {
        let mut x = x.to_owned();
        if norm.centred {
            // What is left without its mean has its variance as mean square.
            let (mean, centred) = (format!("{name}.mean"), format!("{name}.centred"));
            let attributes = [integers("axes", &[2]), integer("keepdims", 1)];
            self.standard("ReduceMean", &mean, [&x], &mean, &attributes);
            self.standard("Sub", &centred, [&x, &mean], &centred, &[]);
            x = centred;
        }
        let gamma = self.gamma(name, &norm.gamma);
        let scaled = match &norm.bias {
            Some(_) => format!("{name}.scaled"),
            None => out.to_owned(),
        };
        self.node("RmsNorm", name, [x, gamma], [&scaled], &[float("epsilon", plan.epsilon)]);
        if let Some(bias) = &norm.bias {
            let bias_name = format!("{name}.bias");
            self.initializer(&bias_name, bias);
            self.standard("Add", &format!("{name}.add"), [scaled, bias_name], out, &[]);
        }
        out.to_owned()
    }

    fn gamma(&mut self, name: &str, values: &[f32]) -> String {
        let gamma = format!("{name}.gamma");
        self.initializer(&gamma, values);
        gamma
    }

    fn attention(
        &mut self,
        plan: &Plan,
        attention: &Attention,
        index: usize,
        normed: &str,
    ) -> String {
        let mut qkv = at("qkv", index);
        self.linear(&at("qkv_proj", index), &attention.qkv, normed, &qkv);
        if let Some(clamp) = attention.clamp {
            for (operator, limit) in [("Max", -clamp), ("Min", clamp)] {
                let limited = format!("{qkv}.{}", operator.to_lowercase());
                self.scalar_operator(operator, &qkv, limit, &limited);
                qkv = limited;
            }
        }
        let Attention { heads, kv_heads, head_dim, rope, .. } = attention;
        if let Some(norm) = &attention.head_norm {
            let (name, out) = (at("head_norm", index), at("qkv_normed", index));
            let [queries, keys] = [("queries", &norm.queries), ("keys", &norm.keys)]
                .map(|(part, gamma)| self.gamma(&format!("{name}.{part}"), gamma));
            let attributes = [
                integer("queries", heads * head_dim),
                integer("keys", kv_heads * head_dim),
                float("epsilon", plan.epsilon),
            ];
            self.node("HeadNorm", &name, [qkv, queries, keys], [&out], &attributes);
            qkv = out;
        }
        let mut attributes = vec![
            integer("heads", *heads),
            integer("kv_heads", *kv_heads),
            integer("head_dim", *head_dim),
            integer("rope_dim", rope.dim),
            float("rope_base", rope.base),
        ];
        if rope.length != 1.0 {
            attributes.push(float("rope_length", rope.length));
        }
        if !attention.scales.is_empty() {
            attributes.push(floats("scales", &attention.scales));
        }
        attributes.extend(attention.window.map(|window| integer("window", window)));
        attributes.extend(attention.soft_cap.map(|cap| float("soft_cap", cap)));
        let factors = rope.factors.as_ref().map(|factors| self.rope_factors(factors));
        let inputs = std::iter::once(qkv).chain(factors);
        let attended = at("attended", index);
        self.node("Attention", &at("attend", index), inputs, [&attended], &attributes);
        attended
    }

    fn short_conv(&mut self, conv: &ShortConv, index: usize, normed: &str) -> String {
        let (bcx, kernel) = (at("bcx", index), at("conv_kernel", index));
        self.linear(&at("bcx_proj", index), &conv.input, normed, &bcx);
        self.initializer(&kernel, &conv.kernel);
        let width = conv.kernel.len() / conv.taps;
        let attributes = [integer("width", width), integer("taps", conv.taps)];
        let convolved = at("convolved", index);
        self.node("ShortConv", &at("conv", index), [bcx, kernel], [&convolved], &attributes);
        convolved
    }

    /// The initializer of these factors, which layers share.
    fn rope_factors(&mut self, factors: &[f32]) -> String {
        let known = self.factors.iter().position(|known| known == factors);
        let index = known.unwrap_or(self.factors.len());
        let name = format!("rope_factors.{index}");
        if known.is_none() {
            self.factors.push(factors.to_vec());
            self.initializer(&name, factors);
        }
        name
    }

    /// What attention or a feed-forward network gives to the residual.
    fn finish(&mut self, plan: &Plan, norm: Option<&Norm>, x: &str, name: &str) -> String {
        let normed = match norm {
            Some(norm) => self.plain_norm(plan, norm, x, name, &format!("{x}.normed")),
            None => x.to_owned(),
        };
        let scaled = format!("{x}.scaled");
        match self.multiply(plan.residual_scale, &normed, &scaled) {
            true => scaled,
            false => normed,
        }
    }

    fn logits(&mut self, plan: &Plan) {
        let mut steps = Vec::new();
        steps.extend(plan.logit_scale.map(|scale| ("Mul", Some(scale))));
        if let Some(cap) = plan.logit_cap {
            steps.extend([("Mul", Some(1.0 / cap)), ("Tanh", None), ("Mul", Some(cap))]);
        }
        let name = |step: usize| match step == steps.len() {
            true => "logits".to_owned(),
            false => at("raw_logits", step),
        };
        self.linear("output", &plan.output, "hidden", &name(0));
        for (step, (operator, factor)) in steps.iter().enumerate() {
            let (from, to) = (name(step), name(step + 1));
            match factor {
                Some(factor) => self.scalar_operator(operator, &from, *factor, &to),
                None => self.standard(operator, &to, [from], &to, &[]),
            }
        }
    }

    fn select_rows(&mut self, tensor: &str) -> String {
        let wanted = format!("{tensor}.wanted");
        self.node("SelectRows", &wanted, [tensor, "rows"], [&wanted], &[]);
        wanted
    }

    fn select_residual(&mut self) {
        let residual = self.residual.clone();
        self.residual = self.select_rows(&residual);
        self.pending = self.pending.take().map(|pending| self.select_rows(&pending));
    }

    /// Whether there was a factor.
    fn multiply(&mut self, factor: Option<f32>, from: &str, to: &str) -> bool {
        if let Some(factor) = factor {
            self.scalar_operator("Mul", from, factor, to);
        }
        factor.is_some()
    }

    /// An ONNX operator on a tensor and a number.
    fn scalar_operator(&mut self, operator: &str, from: &str, number: f32, to: &str) {
        let constant = format!("{to}.by");
        self.initializer(&constant, &[number]);
        self.standard(operator, to, [from, &constant], to, &[]);
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

    /// One of our ops.
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

    /// An operator of ONNX.
    fn standard(
        &mut self,
        op: &str,
        name: &str,
        inputs: impl IntoIterator<Item = impl Into<String>>,
        output: &str,
        attributes: &[AttributeProto],
    ) {
        self.node(op, name, inputs, [output], attributes);
        if let Some(node) = self.nodes.last_mut() {
            node.domain.clear();
        }
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
