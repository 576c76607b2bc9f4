//! Platt scaling of a head of any form: nodes behind its output that scale and move the log-odds.

use anyhow::{Context, Result};
use hybrid::reward::OUTPUT;
use prost::Message;
use tract_onnx::pb::{GraphProto, ModelProto, TensorProto};

use hybrid_common::heads::onnx::{node, tensor};
use hybrid_common::heads::platt::sigmoid;

/// The smallest distance from 0 and 1 of a score whose log-odds are taken: one bit below 1 in f32.
const SMALLEST: f32 = f32::EPSILON / 2.0;
const LARGEST: f32 = 1.0 - SMALLEST;

/// All that is added to a graph is called so.
const PREFIX: &str = "scaling.";
const RAW: &str = "scaling.raw";
const SCALE: &str = "scaling.scale";
const SHIFT: &str = "scaling.shift";

/// `sigmoid(scale · log-odds + shift)` of a score. The scale is over 0, so the ranking stays.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scaling {
    pub scale: f64,
    pub shift: f64,
}

impl Scaling {
    pub fn apply(self, score: f64) -> f64 {
        sigmoid(self.scale * log_odds(score) + self.shift)
    }

    /// The score that becomes `scaled`.
    pub fn invert(self, scaled: f64) -> f64 {
        sigmoid((log_odds(scaled) - self.shift) / self.scale)
    }

    /// The head with its output scaled. One that was scaled before keeps its nodes.
    pub fn write(self, onnx: &[u8]) -> Result<Vec<u8>> {
        let mut model = ModelProto::decode(onnx)?;
        let graph = model.graph.as_mut().context("the head holds no graph")?;
        let before = take_constants(graph).unwrap_or_else(|| {
            append(graph);
            Scaling { scale: 1.0, shift: 0.0 }
        });
        let scale = self.scale * before.scale;
        let shift = self.scale * before.shift + self.shift;
        graph.initializer.push(tensor(SCALE, [1, 1], [scale as f32]));
        graph.initializer.push(tensor(SHIFT, [1, 1], [shift as f32]));
        Ok(model.encode_to_vec())
    }
}

pub fn log_odds(score: f64) -> f64 {
    let score = score.clamp(SMALLEST.into(), LARGEST.into());
    (score / (1.0 - score)).ln()
}

/// The nodes. What was the output gets another name.
fn append(graph: &mut GraphProto) {
    for node in &mut graph.node {
        let names = node.output.iter_mut().chain(&mut node.input).chain([&mut node.name]);
        names.filter(|name| *name == OUTPUT).for_each(|name| *name = RAW.into());
    }
    let constants = [("smallest", SMALLEST), ("largest", LARGEST), ("one", 1.0)];
    for (name, value) in constants {
        graph.initializer.push(tensor(&format!("{PREFIX}{name}"), [1, 1], [value]));
    }
    let nodes: [(&str, &[&str], &str); 9] = [
        ("Max", &["raw", "smallest"], "above"),
        ("Min", &["above", "largest"], "score"),
        ("Sub", &["one", "score"], "rest"),
        ("Log", &["score"], "ln_score"),
        ("Log", &["rest"], "ln_rest"),
        ("Sub", &["ln_score", "ln_rest"], "odds"),
        ("Mul", &["odds", "scale"], "scaled"),
        ("Add", &["scaled", "shift"], "moved"),
        ("Sigmoid", &["moved"], ""),
    ];
    for (operator, inputs, output) in nodes {
        let inputs: Vec<String> = inputs.iter().map(|name| format!("{PREFIX}{name}")).collect();
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let output = if output.is_empty() { OUTPUT.into() } else { format!("{PREFIX}{output}") };
        graph.node.push(node(operator, &inputs, &output));
    }
}

/// Removes the constants of a graph that was scaled before; `None` for any other.
fn take_constants(graph: &mut GraphProto) -> Option<Scaling> {
    let value = |name: &str| {
        let constant = graph.initializer.iter().find(|tensor| tensor.name == name)?;
        first(constant)
    };
    let scaling = Scaling { scale: value(SCALE)?, shift: value(SHIFT)? };
    graph.initializer.retain(|tensor| tensor.name != SCALE && tensor.name != SHIFT);
    Some(scaling)
}

fn first(tensor: &TensorProto) -> Option<f64> {
    let bytes = tensor.raw_data.first_chunk::<4>()?;
    Some(f32::from_le_bytes(*bytes).into())
}

#[cfg(test)]
mod tests {
    use hybrid::reward::Head;

    use super::*;
    use hybrid_common::heads::testing;

    #[test]
    fn a_head_is_scaled_as_often_as_one_likes() {
        const D: usize = 8;
        let data = testing::dataset(200, D, 3);
        let plain = testing::truth(D).write(D);
        let [first, second] =
            [Scaling { scale: 0.5, shift: 1.0 }, Scaling { scale: 1.7, shift: -0.3 }];
        let once = first.write(&plain).unwrap();
        let twice = second.write(&once).unwrap();
        assert_eq!(once.len(), twice.len(), "the nodes are there once");
        let mut heads = [&plain, &once, &twice].map(|onnx| Head::load(onnx, D).unwrap());
        for row in 0..data.rows() {
            let (stats, hidden) = data.row(row).split_first_chunk().unwrap();
            let mut scores = heads
                .iter_mut()
                .map(|head| f64::from(head.run(&hidden[..D], Some(&hidden[D..]), stats).unwrap()));
            let [raw, once, twice] = std::array::from_fn(|_| scores.next().unwrap());
            // A score near 1 has few digits of the distance from it.
            let near = |a: f64, b: f64| (a - b).abs() < 1e-5;
            assert!(near(once, first.apply(raw)), "{raw} {once}");
            assert!(near(twice, second.apply(first.apply(raw))), "{raw} {once} {twice}");
            assert!(raw > 0.999 || near(first.invert(first.apply(raw)), raw));
        }
    }

    #[test]
    fn scores_at_the_ends_stay_finite() {
        let steep = Scaling { scale: 3.0, shift: 0.1 };
        for score in [0.0, 1.0, 0.5] {
            let scaled = steep.apply(score);
            assert!((0.0..=1.0).contains(&scaled), "{score}: {scaled}");
        }
        assert!(Scaling { scale: 1.0, shift: 0.0 }.write(b"no model").is_err());
    }
}
