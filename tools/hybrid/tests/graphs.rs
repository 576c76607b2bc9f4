//! A graph that opens also runs: every attribute, input, constant and output of a packed graph is
//! damaged in turn, under right hashes. What cannot be computed is found when the model is opened.

use hybrid::bundle::{Bundle, FileRole};
use hybrid::slm::{Rows, Slm};
use hybrid::{Cancel, Error};
use prost::Message;
use temp_dir::TempDir;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::{AttributeProto, ModelProto, NodeProto, TensorProto};

#[path = "../../../tests/support/gguf.rs"]
#[allow(dead_code)]
mod gguf;
#[path = "models/synthetic.rs"]
#[allow(dead_code)]
mod models;

/// Graphs with one thing damaged, and what that is.
type Damaged = Vec<(String, ModelProto)>;

/// What is done to a constant.
type Change = (&'static str, fn(&mut TensorProto));

#[test]
fn attributes_are_checked() {
    opens_only_what_runs(attributes);
}

#[test]
fn inputs_are_checked() {
    opens_only_what_runs(inputs);
}

#[test]
fn constants_and_nodes_are_checked() {
    opens_only_what_runs(|graph| [constants(graph), nodes(graph)].concat());
}

fn opens_only_what_runs(damage: fn(&ModelProto) -> Damaged) {
    let temp = TempDir::new().unwrap();
    let good = models::packed(gguf::Model::new("llama"), 64, temp.path());
    let graph = ModelProto::decode(&*good.read(FileRole::Graph).unwrap()).unwrap();
    let damaged = damage(&graph);
    let (mut opened, mut wrong) = (0, Vec::new());
    for (ix, (what, model)) in damaged.iter().enumerate() {
        let dir = temp.child(format!("damaged-{ix}"));
        let bundle = models::with_graph(&good, &model.encode_to_vec(), |_| {}, &dir);
        match outcome(&bundle) {
            Ok(ran) => opened += usize::from(ran),
            Err(error) => wrong.push(format!("{what}: {error}")),
        }
        std::fs::remove_dir_all(dir).unwrap();
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), damaged.len(), wrong.join("\n"));
    // Some of it is refused, and what may differ from one model to the next is not.
    assert!(damaged.len() > 80 && (1..damaged.len()).contains(&opened), "{opened}");
}

/// Whether the model opened and ran. An error: it opened and did not run, or the code is wrong.
fn outcome(bundle: &Bundle) -> Result<bool, String> {
    let slm = match Slm::open(bundle, 0) {
        Ok(slm) => slm,
        Err(Error::Bundle(_) | Error::Model(_) | Error::Unsupported(_)) => return Ok(false),
        Err(error) => return Err(format!("not opened, but: {error:?}")),
    };
    let mut state = slm.spawn(0).map_err(|error| format!("no state: {error:?}"))?;
    for (ids, rows) in [(&[1, 2, 3][..], Rows::Last), (&[4], Rows::Last), (&[5, 6], Rows::All)] {
        let wanted = if rows == Rows::All { ids.len() } else { 1 };
        let output = state.feed(ids, rows, &Cancel::new());
        let output = output.map_err(|error| format!("opened, and then: {error:?}"))?;
        let got = (output.logits.len(), output.hidden.len());
        if got != (wanted * slm.vocabulary_size(), wanted * slm.hidden_size()) {
            return Err(format!("{got:?} values for {wanted} rows"));
        }
    }
    Ok(true)
}

fn nodes_of(model: &mut ModelProto) -> &mut Vec<NodeProto> {
    &mut model.graph.as_mut().unwrap().node
}

fn attributes(good: &ModelProto) -> Damaged {
    let mut damaged = Damaged::new();
    for (n, node) in good.graph.as_ref().unwrap().node.iter().enumerate() {
        for (a, attribute) in node.attribute.iter().enumerate() {
            for value in values(attribute) {
                let what = format!("{} {}: {value:?}", node.name, attribute.name);
                let mut model = good.clone();
                nodes_of(&mut model)[n].attribute[a] = value;
                damaged.push((what, model));
            }
            let mut model = good.clone();
            nodes_of(&mut model)[n].attribute.remove(a);
            damaged.push((format!("{} without {}", node.name, attribute.name), model));
        }
    }
    damaged
}

fn values(good: &AttributeProto) -> Vec<AttributeProto> {
    let with = |change: &dyn Fn(&mut AttributeProto)| {
        let mut attribute = good.clone();
        change(&mut attribute);
        attribute
    };
    let integers = [0, 1, 2, 3, 64, 1 << 20, 1 << 40, -1, i64::MIN, i64::MAX];
    let floats = [0.0, -1.0, 1e-30, 1e30, f32::NAN, f32::INFINITY];
    match AttributeType::try_from(good.r#type) {
        Ok(AttributeType::Int) => integers.map(|i| with(&|a| a.i = i)).to_vec(),
        Ok(AttributeType::Float) => floats.map(|f| with(&|a| a.f = f)).to_vec(),
        Ok(AttributeType::Ints) => {
            integers.map(|i| with(&|a| a.ints.iter_mut().for_each(|x| *x = i))).to_vec()
        }
        Ok(AttributeType::Floats) => {
            floats.map(|f| with(&|a| a.floats.iter_mut().for_each(|x| *x = f))).to_vec()
        }
        _ => vec![
            with(&|a| a.strings.clear()),
            with(&|a| a.strings.truncate(1)),
            with(&|a| a.strings.reverse()),
            with(&|a| a.strings.extend_from_slice(&good.strings)),
            with(&|a| a.s.clear()),
        ],
    }
}

/// Every input of every node becomes another tensor of the graph, or goes.
fn inputs(good: &ModelProto) -> Damaged {
    let graph = good.graph.as_ref().unwrap();
    let mut others: Vec<String> = graph.input.iter().map(|input| input.name.clone()).collect();
    others.extend(graph.initializer.first().map(|tensor| tensor.name.clone()));
    let made: Vec<String> = graph.node.iter().flat_map(|node| node.output.clone()).collect();
    // What the first layer makes, and the logits.
    others.extend(made.iter().take(7).chain(made.last()).cloned());
    let mut damaged = Damaged::new();
    for (n, node) in graph.node.iter().enumerate() {
        for i in 0..node.input.len() {
            for other in others.iter().filter(|other| **other != node.input[i]) {
                let mut model = good.clone();
                nodes_of(&mut model)[n].input[i] = other.clone();
                damaged.push((format!("input {i} of {} is {other}", node.name), model));
            }
            let mut model = good.clone();
            nodes_of(&mut model)[n].input.truncate(i);
            damaged.push((format!("{} with {i} inputs", node.name), model));
        }
    }
    damaged
}

/// Every constant has odd numbers in it, or another shape.
fn constants(good: &ModelProto) -> Damaged {
    let mut damaged = Damaged::new();
    for (t, tensor) in good.graph.as_ref().unwrap().initializer.iter().enumerate() {
        let changes: [Change; 7] = [
            ("zeros", |t| t.raw_data.fill(0)),
            ("NaN", |t| fill(t, f32::NAN)),
            ("infinite", |t| fill(t, f32::INFINITY)),
            ("negative", |t| fill(t, -1.0)),
            ("flat", |t| t.dims = vec![t.dims.iter().product(), 1]),
            ("short", |t| t.raw_data.truncate(4)),
            ("integers", |t| t.data_type = 6),
        ];
        for (what, change) in changes {
            let mut model = good.clone();
            change(&mut model.graph.as_mut().unwrap().initializer[t]);
            damaged.push((format!("{} with {what}", tensor.name), model));
        }
    }
    damaged
}

fn fill(tensor: &mut TensorProto, value: f32) {
    tensor.raw_data.chunks_exact_mut(4).for_each(|to| to.copy_from_slice(&value.to_le_bytes()));
}

/// Every node is gone, is there twice, or takes the place of an output.
fn nodes(good: &ModelProto) -> Damaged {
    let graph = good.graph.as_ref().unwrap();
    let mut damaged = Damaged::new();
    for (n, node) in graph.node.iter().enumerate() {
        let mut without = good.clone();
        nodes_of(&mut without).remove(n);
        damaged.push((format!("without {}", node.name), without));
        let mut twice = good.clone();
        nodes_of(&mut twice).insert(n, node.clone());
        damaged.push((format!("{} twice", node.name), twice));
        for output in ["hidden", "logits"] {
            let mut renamed = good.clone();
            for other in nodes_of(&mut renamed).iter_mut() {
                let names = other.output.iter_mut().chain(&mut other.input);
                names.filter(|name| **name == output).for_each(|name| name.insert(0, 'x'));
            }
            nodes_of(&mut renamed)[n].output[0] = output.to_owned();
            damaged.push((format!("{output} is that of {}", node.name), renamed));
        }
    }
    damaged
}
