//! The reward head against its contract: good heads equal the formula, bad ones are errors.

use std::fs;
use std::path::Path;

use hybrid::Error;
use hybrid::bundle::{RewardInfo, sha256};
use hybrid::reward::{
    Features, HIDDEN, HIDDEN_AFTER, Head, OUTPUT, STATS, ScoreKind, Scorer, statistics,
};
use hybrid::sampler::LogitStats;
use prost::Message;
use serde_json::Value;
use tract_onnx::pb::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, tensor_proto, tensor_shape_proto, type_proto,
};

/// Hidden size of the SLM these heads are for.
const D: usize = 24;

#[test]
fn a_head_equals_the_formula() {
    for names in [&[HIDDEN, STATS][..], &[HIDDEN, HIDDEN_AFTER, STATS], &[STATS], &[HIDDEN_AFTER]] {
        let head = Linear::new(names);
        let mut loaded = Head::load(&head.bytes(), D).unwrap();
        assert_eq!(loaded.reads_after(), names.contains(&HIDDEN_AFTER));
        for seed in 0..20 {
            let (hidden, after) = (noise(D, seed), noise(D, seed + 100));
            let stats: [f32; statistics::COUNT] =
                noise(statistics::COUNT, seed + 200).try_into().unwrap();
            let got = loaded.run(&hidden, Some(&after), &stats).unwrap();
            let want = head.formula(&hidden, &after, &stats);
            assert!((f64::from(got) - want).abs() < 1e-6, "{names:?}: {got} != {want}");
        }
    }
}

#[test]
fn a_scorer_passes_the_statistics_of_the_candidate() {
    let head = Linear::new(&[HIDDEN, HIDDEN_AFTER, STATS]);
    let mut scorer = Scorer::from_head(Head::load(&head.bytes(), D).unwrap());
    assert_eq!(scorer.kind(), ScoreKind::Head);
    assert!(scorer.needs_after());
    let (hidden, after) = (noise(D, 1), noise(D, 2));
    let stats = LogitStats {
        log_p: -0.7,
        top: [-0.7, -1.2, -4.0, -5.0, -6.0, -7.0, -8.0, -9.0],
        entropy: 1.1,
    };
    let features = Features {
        hidden: &hidden,
        hidden_after: Some(&after),
        stats: &stats,
        logits: &[],
        candidate: 7,
    };
    let got = scorer.score(&features).unwrap();
    let want = head.formula(&hidden, &after, &statistics::values(&stats));
    assert!((f64::from(got) - want).abs() < 1e-6);
}

#[test]
fn wrong_features_are_errors() {
    let head = Linear::new(&[HIDDEN, HIDDEN_AFTER, STATS]);
    let mut scorer = Scorer::from_head(Head::load(&head.bytes(), D).unwrap());
    let (good, short) = (noise(D, 1), noise(D - 1, 1));
    let stats = LogitStats::default();
    let infinite = [f32::NAN; D];
    let cases = [
        (&good, None, &stats),
        (&short, Some(&good[..]), &stats),
        (&good, Some(&short[..]), &stats),
        (&good, Some(&infinite[..]), &stats),
    ];
    for (hidden, hidden_after, stats) in cases {
        let features = Features { hidden, hidden_after, stats, logits: &[], candidate: 0 };
        let error = scorer.score(&features).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument(_) | Error::Model(_)), "{error}");
    }
    let features = Features {
        hidden: &good,
        hidden_after: Some(&good),
        stats: &stats,
        logits: &[],
        candidate: 0,
    };
    assert!((0.0..=1.0).contains(&scorer.score(&features).unwrap()), "still usable");
}

#[test]
fn statistics_that_are_no_numbers_score_zero() {
    let head = Linear::new(&[HIDDEN, STATS]);
    let mut scorer = Scorer::from_head(Head::load(&head.bytes(), D).unwrap());
    let hidden = noise(D, 1);
    for stats in [
        LogitStats { log_p: f32::NAN, ..LogitStats::default() },
        LogitStats { entropy: f32::NAN, ..LogitStats::default() },
        LogitStats { top: [f32::NAN; 8], ..LogitStats::default() },
    ] {
        let features = Features {
            hidden: &hidden,
            hidden_after: None,
            stats: &stats,
            logits: &[],
            candidate: 0,
        };
        assert_eq!(scorer.score(&features).unwrap(), 0.0);
    }
}

#[test]
fn broken_contracts_are_named() {
    type Damage = fn(&mut GraphProto);
    let table: &[(&str, Damage)] = &[
        ("none of the inputs", |g| {
            *g = Linear::new(&[]).graph();
        }),
        ("`hidden_before` is unknown", |g| g.input[0].name = "hidden_before".into()),
        ("appears twice", |g| g.input[1] = g.input[0].clone()),
        ("[1, 25], not [1, 24]", |g| g.input[0] = value("hidden", &[1, D as i64 + 1])),
        ("[24], not [1, 24]", |g| g.input[0] = value("hidden", &[D as i64])),
        ("[2, 24], not [1, 24]", |g| g.input[0] = value("hidden", &[2, D as i64])),
        ("[1, 15], not [1, 16]", |g| g.input[1] = value("stats", &[1, 15])),
        ("`hidden` is not f32", |g| {
            let Some(type_proto::Value::TensorType(t)) =
                &mut g.input[0].r#type.as_mut().unwrap().value
            else {
                panic!("a tensor")
            };
            t.elem_type = tensor_proto::DataType::Double as i32;
        }),
        ("`hidden` is no tensor", |g| g.input[0].r#type = None),
        ("not `reward`", |g| g.output[0].name = "score".into()),
        ("2 outputs", |g| g.output.push(value("logit", &[1, 1]))),
        ("[1, 2], not [1, 1]", |g| g.output[0] = value(OUTPUT, &[1, 2])),
        ("`Loop` is not among", |g| g.node[0].op_type = "Loop".into()),
        ("`org.libhybrid.Attention` is not among", |g| {
            g.node[0].op_type = "Attention".into();
            g.node[0].domain = "org.libhybrid".into();
        }),
        ("in another file", |g| {
            g.initializer[0].data_location = Some(tensor_proto::DataLocation::External as i32);
        }),
        ("at most 512", |g| g.node = vec![g.node[0].clone(); 600]),
        ("`bias` is not finite", |g| constant(g, "bias").float_data[0] = f32::NAN),
        ("`half` is not finite", |g| {
            g.initializer.push(TensorProto {
                name: "half".into(),
                dims: vec![1, 1],
                data_type: tensor_proto::DataType::Float16 as i32,
                raw_data: half::f16::INFINITY.to_le_bytes().to_vec(),
                ..TensorProto::default()
            });
        }),
        ("trial run", |g| {
            let last = g.node.last_mut().unwrap();
            last.op_type = "Identity".into();
            constant(g, "bias").float_data[0] = 1.5;
        }),
        ("reward head", |g| {
            constant(g, "hidden_weight").dims = vec![1, D as i64];
        }),
        ("reward head", |g| {
            constant(g, "hidden_weight").float_data.truncate(3);
        }),
        ("reward head", |g| g.node[0].input.clear()),
        ("reward head", |g| g.node[1].input[0] = "nowhere".into()),
        ("reward head", |g| g.node.clear()),
    ];
    for (i, (text, damage)) in table.iter().enumerate() {
        let mut model = Linear::new(&[HIDDEN, STATS]).model();
        damage(model.graph.as_mut().unwrap());
        match Head::load(&model.encode_to_vec(), D) {
            Err(Error::Bundle(message)) => assert!(message.contains(text), "{i}: {message}"),
            Err(error) => panic!("{i}: {error}"),
            Ok(_) => panic!("{i}: accepted, expected {text}"),
        }
    }
}

#[test]
fn models_that_are_no_heads_are_errors() {
    let good = Linear::new(&[HIDDEN, HIDDEN_AFTER, STATS]);
    let mut without_graph = good.model();
    without_graph.graph = None;
    let mut without_opset = good.model();
    without_opset.opset_import.clear();
    let mut old_opset = good.model();
    old_opset.opset_import[0].version = 7;
    for model in [without_graph, without_opset, old_opset, ModelProto::default()] {
        assert!(matches!(Head::load(&model.encode_to_vec(), D), Err(Error::Bundle(_))));
    }
    let bytes = good.bytes();
    assert!(matches!(Head::load(&bytes, D + 1), Err(Error::Bundle(_))), "another hidden size");
    assert!(matches!(Head::load(&[], D), Err(Error::Bundle(_))));
    assert!(matches!(Head::load(&vec![0; (64 << 20) + 1], D), Err(Error::Bundle(_))));
}

#[test]
fn cut_and_flipped_files_never_panic() {
    let bytes = Linear::new(&[HIDDEN, HIDDEN_AFTER, STATS]).bytes();
    for cut in (0..bytes.len()).step_by(7) {
        assert!(matches!(Head::load(&bytes[..cut], D), Err(Error::Bundle(_))), "cut at {cut}");
    }
    let mut random = Random(5);
    for round in 0..200 {
        let mut flipped = bytes.clone();
        for _ in 0..1 + round % 8 {
            let at = random.below(flipped.len());
            flipped[at] ^= 1 << random.below(8);
        }
        // A flip inside a weight may leave a good head; all else is an error of the bundle.
        if let Err(error) = Head::load(&flipped, D) {
            assert!(matches!(error, Error::Bundle(_)), "{error}");
        }
        let noise: Vec<u8> = (0..round * 3).map(|_| random.below(256) as u8).collect();
        assert!(Head::load(&noise, D).is_err());
    }
}

/// The heads in `heads/` are whole and described rightly. That they score as they were fitted
/// `hybrid-lab train` checks when it writes them.
#[test]
fn shipped_heads_keep_the_contract() {
    let heads = Path::new(env!("CARGO_MANIFEST_DIR")).join("heads");
    let entries = fs::read_dir(heads).unwrap().map(|entry| entry.unwrap().path());
    let shipped: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    assert_eq!(shipped.len(), 2, "{shipped:?}");
    for dir in shipped {
        let onnx = fs::read(dir.join("reward.onnx")).unwrap();
        let about: Value =
            serde_json::from_slice(&fs::read(dir.join("reward.json")).unwrap()).unwrap();
        assert_eq!(about["onnx_sha256"], sha256(&onnx));
        let info: RewardInfo = serde_json::from_value(about["reward"].clone()).unwrap();
        let hidden_size = about["slm"]["hidden_size"].as_u64().unwrap() as usize;
        let mut head = Head::load(&onnx, hidden_size).unwrap();
        assert_eq!(head.reads_after(), info.after);
        assert!(info.calibration.is_sorted_by(|a, b| a.threshold < b.threshold
            && a.share <= b.share
            && a.recall <= b.recall));

        let mut scores = Vec::new();
        for seed in 0..20 {
            let (hidden, after) = (noise(hidden_size, seed), noise(hidden_size, seed + 50));
            let stats: [f32; statistics::COUNT] =
                noise(statistics::COUNT, seed + 99).try_into().unwrap();
            scores.push(head.run(&hidden, Some(&after), &stats).unwrap());
        }
        assert!(scores.iter().all(|score| (0.0..=1.0).contains(score)), "{scores:?}");
        assert!(scores.iter().any(|&score| score != scores[0]), "it reads its inputs");
    }
}

/// `sigmoid(Σ input · weight + bias)` over the named inputs, as ONNX and as a formula.
struct Linear {
    names: Vec<&'static str>,
    weights: Vec<Vec<f32>>,
    bias: f32,
}

impl Linear {
    fn new(names: &[&'static str]) -> Linear {
        let weights = names.iter().zip(7..).map(|(n, seed)| noise(size(n), seed)).collect();
        Linear { names: names.to_vec(), weights, bias: 0.25 }
    }

    fn formula(&self, hidden: &[f32], after: &[f32], stats: &[f32]) -> f64 {
        let mut z = f64::from(self.bias);
        for (name, weights) in self.names.iter().zip(&self.weights) {
            let input = match *name {
                HIDDEN => hidden,
                HIDDEN_AFTER => after,
                _ => stats,
            };
            z += input.iter().zip(weights).map(|(&x, &w)| f64::from(x) * f64::from(w)).sum::<f64>();
        }
        1.0 / (1.0 + (-z).exp())
    }

    fn graph(&self) -> GraphProto {
        let mut graph = GraphProto { name: "head".into(), ..GraphProto::default() };
        let mut sum = "bias".to_string();
        for (name, weights) in self.names.iter().zip(&self.weights) {
            let (weight, product, next) =
                (format!("{name}_weight"), format!("{name}_product"), format!("{name}_sum"));
            graph.input.push(value(name, &[1, weights.len() as i64]));
            graph.initializer.push(tensor(&weight, &[weights.len() as i64, 1], weights));
            graph.node.push(node("MatMul", &[name, &weight], &product));
            graph.node.push(node("Add", &[&product, &sum], &next));
            sum = next;
        }
        graph.initializer.push(tensor("bias", &[1, 1], &[self.bias]));
        graph.node.push(node("Sigmoid", &[&sum], OUTPUT));
        graph.output.push(value(OUTPUT, &[1, 1]));
        graph
    }

    fn model(&self) -> ModelProto {
        ModelProto {
            ir_version: 8,
            opset_import: vec![OperatorSetIdProto { version: 17, ..OperatorSetIdProto::default() }],
            graph: Some(self.graph()),
            ..ModelProto::default()
        }
    }

    fn bytes(&self) -> Vec<u8> {
        self.model().encode_to_vec()
    }
}

fn size(name: &str) -> usize {
    if name == STATS { statistics::COUNT } else { D }
}

fn constant<'a>(graph: &'a mut GraphProto, name: &str) -> &'a mut TensorProto {
    graph.initializer.iter_mut().find(|t| t.name == name).unwrap()
}

fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: op.into(),
        name: output.into(),
        input: inputs.iter().map(|s| s.to_string()).collect(),
        output: vec![output.into()],
        ..NodeProto::default()
    }
}

fn tensor(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: tensor_proto::DataType::Float as i32,
        float_data: values.to_vec(),
        ..TensorProto::default()
    }
}

fn value(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = |&n| tensor_shape_proto::Dimension {
        value: Some(tensor_shape_proto::dimension::Value::DimValue(n)),
        ..tensor_shape_proto::Dimension::default()
    };
    let tensor = type_proto::Tensor {
        elem_type: tensor_proto::DataType::Float as i32,
        shape: Some(TensorShapeProto { dim: dims.iter().map(dim).collect() }),
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

/// Values in -1..1.
fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut random = Random(seed);
    (0..n).map(|_| random.below(2001) as f32 / 1000.0 - 1.0).collect()
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) % n as u64) as usize
    }
}
