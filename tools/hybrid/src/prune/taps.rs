//! A bundle whose hidden states are other tensors of the graph, so that the library itself says
//! what the model computes on the way.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use hybrid::bundle::{Bundle, FileRole, Verify, Writer};
use prost::Message;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto};

use crate::pack::proto::{at, integer};

/// A tensor `[1, S, width]` of a packed graph, as the packer has named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tap {
    pub name: String,
    pub width: usize,
}

/// Writes a bundle to `dir` that gives the `taps`, one beside the other, as its hidden states.
pub fn tapped(bundle: &Bundle, taps: &[Tap], dir: &Path) -> Result<Bundle> {
    let mut model = ModelProto::decode(&*bundle.read(FileRole::Graph)?)?;
    attach(model.graph.as_mut().context("graph.onnx has no graph")?, taps)?;
    let mut writer = Writer::create(dir, true)?;
    writer.add_bytes(FileRole::Graph, &model.encode_to_vec())?;
    writer.add_bytes(FileRole::Weights, &bundle.weights()?)?;
    writer.add_bytes(FileRole::Tokenizer, &bundle.read(FileRole::Tokenizer)?)?;
    let mut manifest = bundle.manifest().clone();
    manifest.model.hidden_size = taps.iter().map(|tap| tap.width).sum();
    writer.finish(manifest)?;
    Ok(Bundle::open(dir, Verify::AllButWeights)?)
}

fn attach(graph: &mut GraphProto, taps: &[Tap]) -> Result<()> {
    let made = |name: &str| graph.node.iter().any(|node| node.output.iter().any(|o| o == name));
    for tap in taps {
        ensure!(made(&tap.name), "graph.onnx has no tensor {}", tap.name);
    }
    let names =
        graph.node.iter_mut().flat_map(|node| node.input.iter_mut().chain(&mut node.output));
    for name in names.filter(|name| *name == "hidden") {
        *name = "hidden.own".to_owned();
    }
    let mut wanted = Vec::new();
    for (index, tap) in taps.iter().enumerate() {
        let name = at("tap", index);
        graph.node.push(NodeProto {
            name: name.clone(),
            op_type: "SelectRows".into(),
            domain: "org.libhybrid".into(),
            input: vec![tap.name.clone(), "rows".into()],
            output: vec![name.clone()],
            ..NodeProto::default()
        });
        wanted.push(name);
    }
    graph.node.push(NodeProto {
        name: "taps".into(),
        op_type: "Concat".into(),
        input: wanted,
        output: vec!["hidden".into()],
        attribute: vec![integer("axis", 2)],
        ..NodeProto::default()
    });
    Ok(())
}
