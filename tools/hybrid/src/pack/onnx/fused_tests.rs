//! Exports with fused operators, made by scripts/tools/make_fused_export.py and, with the model
//! builder of onnxruntime-genai, by make_genai_export.py, against what ONNX Runtime answers on the
//! same files.

use std::fs;
use std::path::{Path, PathBuf};

use hybrid::Cancel;
use hybrid::bundle::{Bundle, GraphKind, Verify};
use hybrid::slm::{Rows, Slm};
use temp_dir::TempDir;
use tract_onnx::pb::{AttributeProto, NodeProto, TensorProto};

use super::super::pack;
use super::*;

/// The root mean square of the differences, as a share of the logits' own: 8-bit activations and a
/// cache of halves in a model of two narrow layers. A wrong operator gives 0.5 and more.
const TOLERANCE: f32 = 0.05;

#[derive(serde::Deserialize)]
struct Answer {
    prompt: Vec<u32>,
    /// Of the last two positions.
    logits: [Vec<f32>; 2],
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data")
}

/// A copy of an export, with a tokenizer.
fn export(kind: &str) -> TempDir {
    let temp = TempDir::new().unwrap();
    for entry in fs::read_dir(fixtures().join(kind)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), temp.path().join(entry.file_name())).unwrap();
    }
    fs::write(temp.path().join("tokenizer.json"), tests::tokenizer().to_string()).unwrap();
    temp
}

fn change(dir: &Path, file: &str, change: impl Fn(&mut GraphProto)) {
    let path = dir.join(file);
    let mut model = ModelProto::decode(&*fs::read(&path).unwrap()).unwrap();
    change(model.graph.as_mut().unwrap());
    fs::write(path, model.encode_to_vec()).unwrap();
}

#[test]
fn logits_are_those_of_onnx_runtime() {
    for (kind, architecture, context) in [
        ("fused-exports/genai", "llama", 64),
        ("fused-exports/separate", "qwen2", 64),
        ("fused-exports/tied", "qwen2", 64),
        ("fused-exports/opset23", "qwen2", 64),
        ("fused-exports/longrope", "phi3", 32),
        ("genai-exports/llama-int4", "llama", 64),
        ("genai-exports/gemma-int4", "gemma", 64),
        ("genai-exports/phi3-long", "phi3", 32),
    ] {
        let temp = export(kind);
        let out = temp.child("bundle");
        pack(temp.path(), &out, Options::new()).unwrap();
        let bundle = Bundle::open(&out, Verify::All).unwrap();
        let info = &bundle.manifest().model;
        assert_eq!(info.graph, GraphKind::Packed);
        let found = (info.architecture.as_str(), info.layers, info.context);
        assert_eq!(found, (architecture, 2, context));
        let answer = fs::read(temp.path().join("answer.json")).unwrap();
        let answer: Answer = serde_json::from_slice(&answer).unwrap();
        let slm = Slm::open(&bundle, 0).unwrap();
        let mut state = slm.spawn(0).unwrap();
        let logits = state.feed(&answer.prompt, Rows::All, &Cancel::new()).unwrap().logits;
        let rows = logits.chunks(slm.vocabulary_size()).skip(answer.prompt.len() - 2);
        for (found, expected) in rows.zip(&answer.logits) {
            // Padding behind the tokens is never written.
            let usable = found.iter().zip(expected).take(bundle.manifest().tokens.usable);
            let (wrong, whole) = usable.fold((0.0, 0.0), |(wrong, whole), (a, b)| {
                (wrong + (a - b).powi(2), whole + b.powi(2))
            });
            let share = f32::sqrt(wrong / whole);
            eprintln!("{kind}: {share}");
            assert!(share < TOLERANCE, "{kind}: {share}");
        }
    }
}

/// One of the files of a directory.
#[test]
fn a_graph_may_be_given_itself() {
    let temp = export("fused-exports/separate");
    let onnx = temp.path().join("onnx");
    fs::create_dir(&onnx).unwrap();
    let path = onnx.join("model_q4.onnx");
    fs::rename(temp.path().join("model_q4.onnx"), &path).unwrap();
    assert!(super::open(&path, Options::new()).is_ok());
    assert!(super::open(temp.path(), Options::new()).is_ok());
}

#[test]
fn what_is_no_known_decoder_says_so() {
    type Change = fn(&mut GraphProto);
    let rows: &[(Change, &str)] = &[
        (|graph| *op(graph, "Sigmoid") = "Tanh".to_owned(), "no known activation"),
        (|graph| *op(graph, "MatMulNBits") = "MatMulInteger".to_owned(), "model_q4.onnx"),
        (|graph| set(graph, "MatMulNBits", "bits", 2), "2 bits are not supported"),
        (|graph| set(graph, "MatMulNBits", "N", 100), "are not 100 rows"),
        (|graph| set(graph, "MatMulNBits", "block_size", 64), "are not"),
        (|graph| set(graph, "GroupQueryAttention", "num_heads", 3), "rows are not 3 queries"),
        (|graph| set(graph, "GroupQueryAttention", "smooth_softmax", 1), "smooth_softmax"),
        (
            |graph| {
                let is_attention = |node: &&mut NodeProto| node.op_type == "GroupQueryAttention";
                for node in graph.node.iter_mut().filter(is_attention) {
                    node.attribute.retain(|attribute| attribute.name != "do_rotary");
                }
            },
            "no layer has a rotary embedding",
        ),
        (|graph| graph.initializer.retain(|t| t.name != "cos_cache"), "cos_cache is computed"),
        (|graph| graph.node.retain(|n| n.op_type != "Sigmoid"), "no known activation"),
        (
            |graph| {
                let extra = TensorProto {
                    name: "adapter".into(),
                    dims: vec![64, 64],
                    data_type: 1,
                    raw_data: vec![0; 4 * 64 * 64],
                    ..Default::default()
                };
                graph.initializer.push(extra);
            },
            "weights adapter are no part",
        ),
        (|graph| graph.node.iter_mut().for_each(|node| node.input.clear()), ""),
        (|graph| graph.initializer.iter_mut().for_each(|tensor| tensor.dims.clear()), ""),
    ];
    for (edit, expected) in rows {
        let temp = export("fused-exports/genai");
        change(temp.path(), "model.onnx", edit);
        let error = super::open(temp.path(), Options::new()).err();
        let error = format!("{:#}", error.unwrap_or_else(|| panic!("{expected}: no error")));
        assert!(error.contains(expected), "{expected:?} not in {error:?}");
    }
}

fn node<'a>(graph: &'a mut GraphProto, op: &str) -> &'a mut NodeProto {
    graph.node.iter_mut().find(|node| node.op_type == op).unwrap()
}

fn op<'a>(graph: &'a mut GraphProto, op: &str) -> &'a mut String {
    &mut node(graph, op).op_type
}

fn set(graph: &mut GraphProto, op: &str, name: &str, value: i64) {
    let attributes = &mut node(graph, op).attribute;
    attributes.retain(|attribute| attribute.name != name);
    let (name, r#type) = (name.to_owned(), 2);
    attributes.push(AttributeProto { name, r#type, i: value, ..Default::default() });
}
