//! A small export, and what can be wrong with one. Nothing is computed here.

use std::fs;

use hybrid::bundle::{Bundle, Verify};
use hybrid::tokens::Tokens;
use serde_json::{Value, json};
use temp_dir::TempDir;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{
    NodeProto, StringStringEntryProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
    type_proto,
};

use super::super::{assemble, pack};
use super::*;
use crate::try_out::try_out;

const LAYERS: usize = 2;

struct Export {
    model: ModelProto,
    config: Value,
    tokenizer_config: Value,
}

impl Export {
    fn new() -> Export {
        let cache = [-1, 2, -1, 8];
        let mut graph = GraphProto {
            input: vec![
                value("input_ids", DataType::Int64, &[-1, -1]),
                value("attention_mask", DataType::Int64, &[-1, -1]),
                value("position_ids", DataType::Int64, &[-1, -1]),
            ],
            output: vec![value("logits", DataType::Float, &[-1, -1, 270])],
            initializer: vec![
                external("a", "one.data", Some((64, 32))),
                external("b", "two.data", None),
            ],
            node: vec![NodeProto { op_type: "Identity".into(), ..Default::default() }],
            ..Default::default()
        };
        for layer in 0..LAYERS {
            for part in ["key", "value"] {
                let past = format!("past_key_values.{layer}.{part}");
                graph.input.push(value(&past, DataType::Float, &cache));
                let present = format!("present.{layer}.{part}");
                graph.output.push(value(&present, DataType::Float, &cache));
            }
        }
        Export {
            model: ModelProto { graph: Some(graph), ..Default::default() },
            config: json!({
                "model_type": "llama", "num_hidden_layers": LAYERS, "hidden_size": 32,
                "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 270,
                "max_position_embeddings": 128, "eos_token_id": 0,
            }),
            tokenizer_config: json!({"eos_token": {"content": "<|end|>"}, "chat_template": "hi"}),
        }
    }

    fn graph(&mut self) -> &mut GraphProto {
        self.model.graph.as_mut().unwrap()
    }

    fn write(&self, dir: &Path) {
        self.write_with(dir, &tokenizer());
    }

    fn write_with(&self, dir: &Path, tokenizer: &Value) {
        fs::write(dir.join("model.onnx"), self.model.encode_to_vec()).unwrap();
        fs::write(dir.join("config.json"), self.config.to_string()).unwrap();
        fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).unwrap();
        let config = self.tokenizer_config.to_string();
        fs::write(dir.join("tokenizer_config.json"), config).unwrap();
        fs::write(dir.join("one.data"), (0..=127).collect::<Vec<u8>>()).unwrap();
        fs::write(dir.join("two.data"), [7; 32]).unwrap();
    }

    fn pack(&self) -> Result<(TempDir, Bundle)> {
        let temp = TempDir::new()?;
        let (dir, bundle) = (temp.path().join("export"), temp.path().join("bundle"));
        fs::create_dir(&dir)?;
        self.write(&dir);
        // Its graph computes nothing.
        assemble(&dir, &bundle, Options::new())?.put_into_place()?;
        let bundle = Bundle::open(&bundle, Verify::All)?;
        Ok((temp, bundle))
    }
}

fn value(name: &str, kind: DataType, shape: &[i64]) -> ValueInfoProto {
    let dim = |&size: &i64| Dimension {
        value: (size >= 0).then_some(dimension::Value::DimValue(size)),
        ..Default::default()
    };
    let tensor = type_proto::Tensor {
        elem_type: kind as i32,
        shape: Some(TensorShapeProto { dim: shape.iter().map(dim).collect() }),
    };
    let value = Some(type_proto::Value::TensorType(tensor));
    let r#type = Some(TypeProto { value, ..Default::default() });
    ValueInfoProto { name: name.into(), r#type, ..Default::default() }
}

fn external(name: &str, file: &str, place: Option<(u64, u64)>) -> TensorProto {
    let entry = |(key, value): (&str, String)| StringStringEntryProto { key: key.into(), value };
    let place = place
        .map(|(offset, length)| [("offset", offset.to_string()), ("length", length.to_string())]);
    let entries = [("location", file.to_owned())].into_iter().chain(place.into_iter().flatten());
    TensorProto {
        name: name.into(),
        dims: vec![8],
        data_type: DataType::Float as i32,
        data_location: Some(DataLocation::External as i32),
        external_data: entries.map(entry).collect(),
        ..Default::default()
    }
}

/// Every byte, one merge and a control token.
pub fn tokenizer() -> Value {
    let printable = |b: &u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let others = (0..=255).filter(|b| !printable(b)).count() as u32;
    let alphabet = (0..=255).filter(printable).map(u32::from).chain(256..256 + others);
    let mut vocab = json!({"<|end|>": 0, "he": 257});
    for (id, c) in (1..).zip(alphabet) {
        vocab[char::from_u32(c).unwrap().to_string()] = id.into();
    }
    let level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false,
        "use_regex": true});
    json!({
        "version": "1.0", "normalizer": null, "pre_tokenizer": level, "post_processor": null,
        "added_tokens": [{"id": 0, "content": "<|end|>", "special": true, "normalized": false,
            "single_word": false, "lstrip": false, "rstrip": false}],
        "decoder": level, "model": {"type": "BPE", "vocab": vocab, "merges": [["h", "e"]]},
    })
}

#[test]
fn an_export_becomes_a_plain_bundle() {
    let (_temp, bundle) = Export::new().pack().unwrap();
    let manifest = bundle.manifest();
    assert_eq!(manifest.model.graph, GraphKind::Plain);
    assert_eq!((manifest.model.layers, manifest.model.head_dim), (2, 8));
    assert_eq!((manifest.model.vocabulary, manifest.model.parameters), (270, 16));
    assert_eq!((manifest.tokens.usable, &manifest.tokens.stop[..]), (258, &[0][..]));
    assert_eq!(manifest.chat_template.as_deref(), Some("hi"));
    assert_eq!(Tokens::open(&bundle).unwrap().encode("he", true).unwrap(), [257]);

    let graph = ModelProto::decode(&*bundle.read(FileRole::Graph).unwrap()).unwrap().graph.unwrap();
    let weights = bundle.weights().unwrap();
    let data = graph.initializer.iter().map(|tensor| {
        let [location, offset, length] = ["location", "offset", "length"]
            .map(|key| &tensor.external_data.iter().find(|entry| entry.key == key).unwrap().value);
        assert_eq!(location, "weights.bin");
        let offset: usize = offset.parse().unwrap();
        assert_eq!(offset % 64, 0);
        weights[offset..offset + length.parse::<usize>().unwrap()].to_vec()
    });
    assert_eq!(data.collect::<Vec<_>>(), [(64..96).collect::<Vec<u8>>(), vec![7; 32]]);
}

/// All files are right, but the graph is one node that computes nothing.
#[test]
fn a_graph_that_does_not_run_is_neither_packed_nor_checked_as_right() {
    let temp = TempDir::new().unwrap();
    let (dir, target) = (temp.path().join("export"), temp.path().join("bundle"));
    fs::create_dir(&dir).unwrap();
    Export::new().write(&dir);
    let error = format!("{:#}", pack(&dir, &target, Options::new()).unwrap_err());
    assert!(error.contains("graph.onnx: nothing makes \"logits\""), "{error}");
    assert!(!target.exists());

    let (_temp, bundle) = Export::new().pack().unwrap();
    let error = try_out(bundle).unwrap_err().to_string();
    assert!(error.contains("graph.onnx: nothing makes \"logits\""), "{error}");
}

#[test]
fn settings_of_the_tokenizer_are_found() {
    let mut export = Export::new();
    export.config["bos_token_id"] = 5.into();
    export.config["eos_token_id"] = json!([3, 0]);
    export.tokenizer_config =
        json!({"add_bos_token": true, "chat_template": [{"name": "default", "template": "x"}]});
    let (_temp, bundle) = export.pack().unwrap();
    let manifest = bundle.manifest();
    assert_eq!((manifest.tokens.bos, manifest.tokens.add_bos), (Some(5), true));
    assert_eq!(manifest.tokens.stop, [3, 0]);
    assert_eq!(manifest.chat_template.as_deref(), Some("x"));
}

#[test]
fn every_problem_is_named() {
    type Change = fn(&mut Export);
    let cases: &[(Change, &str)] = &[
        (|e| e.graph().node[0].op_type = "Frobnicate".into(), "operator Frobnicate"),
        (|e| drop(e.graph().input.remove(0)), "no input input_ids"),
        (|e| drop(e.graph().input.pop()), "no input past_key_values.1.value"),
        (|e| drop(e.graph().output.remove(0)), "no output logits"),
        (|e| drop(e.graph().output.pop()), "no output present.1.value"),
        (|e| e.graph().input[2].name = "use_cache_branch".into(), "input use_cache_branch is not"),
        (
            |e| e.graph().output.push(value("hidden", DataType::Float, &[])),
            "output hidden is not supported",
        ),
        (
            |e| e.graph().input[0] = value("input_ids", DataType::Int32, &[-1, -1]),
            "input_ids has type INT32",
        ),
        (
            |e| e.graph().output[0] = value("logits", DataType::Float16, &[-1, -1, 270]),
            "logits has type FLOAT16",
        ),
        (|e| e.config["num_key_value_heads"] = 4.into(), "config.json says 4 key-value heads"),
        (|e| e.config["num_hidden_layers"] = 3.into(), "no input past_key_values.2.key"),
        (|e| e.config["num_hidden_layers"] = 1.into(), "input past_key_values.1"),
        (|e| e.config["hidden_size"] = (-1).into(), "hidden_size is -1"),
        (|e| drop(e.config.as_object_mut().unwrap().remove("vocab_size")), "no vocab_size"),
        (|e| e.config = json!([1]), "not a JSON object"),
        (|e| e.model.graph = None, "no graph"),
        (
            |e| e.graph().output[0] = value("logits", DataType::Float, &[-1, -1, 100]),
            "is part of ordinary text, but the model's output has only 100 rows",
        ),
        (|e| e.graph().initializer[0] = external("a", "../x", None), "outside the export"),
        (|e| e.graph().initializer[0] = external("a", "/etc/passwd", None), "outside the export"),
        (|e| e.graph().initializer[0] = external("a", "three.data", None), "three.data cannot"),
        (
            |e| e.graph().initializer[0] = external("a", "two.data", Some((16, 17))),
            "17 bytes at 16 are not inside two.data, which has 32",
        ),
        (
            |e| e.graph().initializer[0] = external("a", "two.data", Some((u64::MAX, 2))),
            "are not inside two.data",
        ),
    ];
    for (change, expected) in cases {
        let mut export = Export::new();
        change(&mut export);
        let error = format!("{:#}", export.pack().err().unwrap());
        assert!(error.contains(expected), "{expected:?} not in {error:?}");
    }
}

#[test]
fn a_control_token_may_end_texts_by_its_name() {
    let mut export = Export::new();
    export.config["eos_token_id"] = Value::Null;
    export.tokenizer_config = json!({});
    let (_temp, bundle) = export.pack().unwrap();
    assert_eq!(bundle.manifest().tokens.stop, [0]);
}

/// An added token without a row is left out; a special one must have a row.
#[test]
fn a_vocabulary_may_be_longer_than_the_output() {
    let mut export = Export::new();
    export.graph().output[0] = value("logits", DataType::Float, &[-1, -1, 258]);
    let mut longer = tokenizer();
    let image = json!({"id": 258, "content": "<image>", "special": true, "normalized": false,
        "single_word": false, "lstrip": false, "rstrip": false});
    longer["added_tokens"].as_array_mut().unwrap().push(image);
    let open = |export: &Export| {
        let temp = TempDir::new().unwrap();
        export.write_with(temp.path(), &longer);
        let path = temp.path().join("model.onnx");
        let model = ModelProto::decode(&*fs::read(&path).unwrap()).unwrap();
        OnnxSource::plain(temp.path(), path, model)
    };
    let source = open(&export).unwrap();
    assert_eq!(source.notes().len(), 1);
    assert_eq!((source.vocabulary, source.tokens.usable), (258, 258));
    let tokens = Tokens::new(&source.tokenizer, source.tokens).unwrap();
    let ids = tokens.encode("<image>", true).unwrap();
    assert_eq!(tokens.bytes_of(&ids), b"<image>", "it is ordinary text now");

    export.tokenizer_config["eos_token"] = "<image>".into();
    let error = format!("{:#}", open(&export).err().unwrap());
    assert!(error.contains("eos_token of tokenizer_config.json is \"<image>\""), "{error}");
}

#[test]
fn what_is_no_export_says_so() {
    let temp = TempDir::new().unwrap();
    let open = || format!("{:#}", super::open(temp.path(), Options::new()).err().unwrap());
    assert!(open().contains("no model.onnx"));
    fs::write(temp.path().join("model.onnx"), "no protobuf").unwrap();
    assert!(open().contains("is not an ONNX model"), "{}", open());
    Export::new().write(temp.path());
    let four = super::open(temp.path(), Options { bits: Bits::Four, ..Options::new() });
    assert!(format!("{:#}", four.err().unwrap()).contains("--bits is for GGUF files"));
    fs::remove_file(temp.path().join("tokenizer.json")).unwrap();
    assert!(open().contains("tokenizer.json cannot be read"), "{}", open());
}
