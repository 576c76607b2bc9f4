//! Synthetic GGUF models packed into bundles: what is in the bundle is what was in the file.

use std::fs;
use std::path::PathBuf;

use hybrid::bundle::{Bundle, FileRole, Verify};
use hybrid::slm::kernels::{Format, Matrix};
use prost::Message;
use temp_dir::TempDir;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto};

use super::testing::gguf::{File, HIDDEN, LAYERS, Model, TYPES, Tensor, VOCABULARY, Value};
use super::*;

pub(super) struct Packed {
    pub bundle: Bundle,
    graph: GraphProto,
    pub entries: Vec<Entry>,
    _temp: TempDir,
}

#[derive(Debug, serde::Deserialize)]
pub(super) struct Entry {
    pub name: String,
    pub format: Format,
    rows: usize,
    cols: usize,
    offset: usize,
    bytes: usize,
}

pub(super) fn pack_file(file: &File) -> Result<Packed> {
    pack_with(file, Bits::AsTheyAre)
}

pub(super) fn pack_with(file: &File, bits: Bits) -> Result<Packed> {
    pack_with_options(file, Options { bits, ..Options::new() })
}

pub(super) fn pack_with_options(file: &File, options: Options) -> Result<Packed> {
    let temp = TempDir::new()?;
    let (model, dir): (PathBuf, PathBuf) = (temp.child("model.gguf"), temp.child("bundle"));
    fs::write(&model, file.bytes())?;
    pack(&model, &dir, options)?;
    let bundle = Bundle::open(&dir, Verify::All)?;
    let proto = ModelProto::decode(&*bundle.read(FileRole::Graph)?)?;
    let weights = proto.metadata_props.iter().find(|entry| entry.key == "weights").unwrap();
    let entries = serde_json::from_str(&weights.value)?;
    Ok(Packed { bundle, graph: proto.graph.unwrap(), entries, _temp: temp })
}

impl Packed {
    /// Row `row` of a packed matrix as floats.
    pub fn row(&self, name: &str, row: usize) -> Vec<f32> {
        let entry = self.entries.iter().find(|entry| entry.name == name).unwrap();
        let map = self.bundle.weights().unwrap();
        let bytes = &map[entry.offset..entry.offset + entry.bytes];
        let matrix = Matrix::new(entry.format, entry.rows, entry.cols, bytes).unwrap();
        let mut values = vec![0.0; entry.cols];
        matrix.dequantise_row(row, &mut values).unwrap();
        values
    }

    pub fn nodes(&self, op: &str) -> Vec<&NodeProto> {
        self.graph.node.iter().filter(|node| node.op_type == op).collect()
    }

    /// Values of a small tensor in the graph.
    pub fn initializer(&self, name: &str) -> Vec<f32> {
        let tensor = self.graph.initializer.iter().find(|tensor| tensor.name == name).unwrap();
        let values = tensor.raw_data.chunks_exact(4);
        values.map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
    }
}

pub(super) fn number(node: &NodeProto, name: &str) -> i64 {
    node.attribute.iter().find(|attribute| attribute.name == name).unwrap().i
}

pub(super) fn weights_of(node: &NodeProto) -> Vec<String> {
    let attribute = node.attribute.iter().find(|a| a.name == "weights").unwrap();
    attribute.strings.iter().map(|name| String::from_utf8(name.clone()).unwrap()).collect()
}

#[test]
fn every_type_family_and_tying_is_packed() {
    for (kind, ..) in TYPES {
        for (architecture, tied) in
            [("llama", true), ("llama", false), ("qwen2", true), ("qwen2", false)]
        {
            let model = Model { kind, tied, ..Model::new(architecture) };
            let packed = pack_file(&model.file()).unwrap();
            let manifest = packed.bundle.manifest();
            assert_eq!(manifest.model.architecture, architecture);
            assert_eq!((manifest.model.layers, manifest.model.hidden_size), (LAYERS, HIDDEN));
            assert_eq!((manifest.model.heads, manifest.model.kv_heads), (4, 2));
            assert_eq!((manifest.model.vocabulary, manifest.tokens.usable), (VOCABULARY, 258));
            assert_eq!(packed.entries.len(), 1 + 7 * LAYERS + usize::from(!tied));
            assert!(packed.entries.iter().all(|entry| entry.offset % 64 == 0));
            let output = weights_of(packed.graph.node.last().unwrap());
            assert_eq!(output, [if tied { "token_embd.weight" } else { "output.weight" }]);
        }
    }
}

#[test]
fn weights_are_the_files_weights_in_our_order() {
    for (kind, ..) in TYPES {
        for (architecture, interleaved) in [("llama", true), ("qwen2", false)] {
            let model = Model { kind, ..Model::new(architecture) };
            let file = model.file();
            let packed = pack_file(&file).unwrap();
            // With F32 weights the packed ones are exactly the file's, so that is the reference;
            // for other types the same rows must be found under the same permutation.
            let bytes = file.bytes();
            let gguf = gguf::Gguf::parse(&bytes).unwrap();
            for name in ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_down"] {
                let full = format!("blk.1.{name}.weight");
                let permuted = interleaved && matches!(name, "attn_q" | "attn_k");
                for row in [0, 1, 31, 32, 63, 64, 127] {
                    // Heads of 64: our row j and j + 32 are the file's neighbours 2j and 2j + 1.
                    let (head, within) = (row / 64 * 64, row % 64);
                    let source = match permuted {
                        true => head + within % 32 * 2 + within / 32,
                        false => row,
                    };
                    let expected = values(&gguf.tensors[&full], &bytes, source);
                    assert_eq!(packed.row(&full, row), expected, "{kind} {full} {row}");
                }
            }
        }
    }
}

/// Whatever the file has, 4 bits are left of it, and rows are where they were.
#[test]
fn four_bits_are_close_to_the_file() {
    for (kind, ..) in TYPES {
        for architecture in ["llama", "qwen2"] {
            let file = Model { kind, ..Model::new(architecture) }.file();
            let (whole, small) = (pack_file(&file).unwrap(), pack_with(&file, Bits::Four).unwrap());
            for entry in &small.entries {
                assert_eq!(entry.format.code_bits(), 4, "{kind} {}", entry.name);
                for row in [0, 1, 63, entry.rows - 1] {
                    let (want, got) = (whole.row(&entry.name, row), small.row(&entry.name, row));
                    let square = |x: &mut dyn Iterator<Item = f32>| x.map(|x| x * x).sum::<f32>();
                    let error = square(&mut want.iter().zip(&got).map(|(a, b)| a - b));
                    let size = square(&mut want.iter().copied());
                    assert!(error <= 0.015 * size, "{kind} {} {row}: {error} {size}", entry.name);
                }
            }
        }
    }
}

/// An output matrix that is the embedding once more is dropped; another one is not.
#[test]
fn four_bits_tie_what_is_equal() {
    let mut file = Model { kind: 0, tied: false, ..Model::new("qwen2") }.file();
    let names = |packed: &Packed| -> Vec<String> {
        packed.entries.iter().map(|entry| entry.name.clone()).collect()
    };
    assert!(names(&pack_with(&file, Bits::Four).unwrap()).contains(&"output.weight".into()));
    let embedding = file.tensor("token_embd.weight").clone();
    *file.tensor("output.weight") = Tensor { name: "output.weight".into(), ..embedding };
    assert!(names(&pack_file(&file).unwrap()).contains(&"output.weight".into()));
    let tied = pack_with(&file, Bits::Four).unwrap();
    assert!(!names(&tied).contains(&"output.weight".into()));
    let used = tied.nodes("QuantMatMul").into_iter().flat_map(weights_of);
    assert_eq!(used.filter(|name| name == "token_embd.weight").count(), 1);
}

/// A row of the source by packing it alone, without any order.
fn values(tensor: &gguf::Tensor, file: &[u8], row: usize) -> Vec<f32> {
    use hybrid::slm::kernels::{RowBuffer, pack_matrix};
    let mut out = Vec::new();
    let mut fill = |_: usize, buffer: &mut RowBuffer| {
        tensor.decode_row(file, row, buffer).map_err(|e| hybrid::Error::Model(e.to_string()))
    };
    let format = tensor.kind.format();
    pack_matrix(format, 1, tensor.cols, &mut fill, &mut out).unwrap();
    let aligned = hybrid::slm::kernels::aligned::Aligned::from_slice(&out);
    let mut values = vec![0.0; tensor.cols];
    let matrix = Matrix::new(format, 1, tensor.cols, &aligned).unwrap();
    matrix.dequantise_row(0, &mut values).unwrap();
    values
}

#[test]
fn the_graph_is_wired_through_all_layers() {
    let packed = pack_file(&Model { biases: true, ..Model::new("llama") }.file()).unwrap();
    let graph = &packed.graph;
    let mut known: Vec<&str> = graph.input.iter().map(|input| input.name.as_str()).collect();
    assert_eq!(known, ["input_ids", "rows"]);
    known.extend(graph.initializer.iter().map(|tensor| tensor.name.as_str()));
    for node in &graph.node {
        assert_eq!(node.domain, "org.libhybrid");
        for input in &node.input {
            assert!(
                known.contains(&input.as_str()),
                "{} reads {input} before it is there",
                node.name
            );
        }
        known.extend(node.output.iter().map(String::as_str));
    }
    let mut unique = known.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), known.len());
    let outputs: Vec<_> = graph.output.iter().map(|output| output.name.as_str()).collect();
    assert_eq!(outputs, ["hidden", "logits"]);
    assert!(outputs.iter().all(|output| known.contains(output)));

    let counts = [
        ("QuantEmbedding", 1),
        ("RmsNorm", 1),
        ("SkipRmsNorm", 2 * LAYERS),
        ("QuantMatMul", 4 * LAYERS + 1),
        ("Attention", LAYERS),
        ("Activate", LAYERS),
        ("SelectRows", 2),
    ];
    for (op, count) in counts {
        assert_eq!(packed.nodes(op).len(), count, "{op}");
    }
    let attention = packed.nodes("Attention")[1];
    for (name, value) in [("heads", 4), ("kv_heads", 2), ("head_dim", 64), ("rope_dim", 64)] {
        assert_eq!(number(attention, name), value, "{name}");
    }
    let qkv = packed.nodes("QuantMatMul")[4];
    assert_eq!(weights_of(qkv), ["q", "k", "v"].map(|part| format!("blk.1.attn_{part}.weight")));
    assert_eq!(qkv.input.len(), 2);
}

#[test]
fn biases_follow_their_rows() {
    for (architecture, interleaved) in [("llama", true), ("qwen2", false)] {
        let mut file = Model { biases: true, ..Model::new(architecture) }.file();
        let ascending = |n: usize| (0..n).flat_map(|i| (i as f32).to_le_bytes()).collect();
        file.tensor("blk.0.attn_q.bias").data = ascending(256);
        file.tensors.retain(|tensor| tensor.name != "blk.0.attn_k.bias");
        file.tensor("blk.0.attn_v.bias").data = ascending(128);
        let packed = pack_file(&file).unwrap();
        let bias = packed.initializer(&packed.nodes("QuantMatMul")[0].input[1]);
        assert_eq!(bias.len(), 256 + 128 + 128);
        let start = if interleaved { [0.0, 2.0, 4.0] } else { [0.0, 1.0, 2.0] };
        assert_eq!(bias[..3], start, "{architecture}");
        assert_eq!(bias[32], if interleaved { 1.0 } else { 32.0 });
        assert_eq!(bias[256..384], [0.0; 128]);
        assert_eq!(bias[384..387], [0.0, 1.0, 2.0]);
    }
}

#[test]
fn rope_scaling_becomes_factors() {
    let mut file = Model::new("llama").file();
    assert!(pack_file(&file).unwrap().nodes("Attention")[0].input.len() == 1);
    file.set("llama.rope.scaling.type", Value::Text("linear".into()));
    file.set("llama.rope.scaling.factor", Value::F32(4.0));
    let packed = pack_file(&file).unwrap();
    assert_eq!(packed.nodes("Attention")[0].input[1], "rope_factors.0");
    assert_eq!(packed.initializer("rope_factors.0"), [4.0; 32]);

    let mut file = Model::new("llama").file();
    let data = (1..=32).flat_map(|i| (i as f32).to_le_bytes()).collect();
    file.tensors.push(Tensor { name: "rope_freqs.weight".into(), shape: vec![32], kind: 0, data });
    let packed = pack_file(&file).unwrap();
    assert_eq!(packed.initializer("rope_factors.0")[..3], [1.0, 2.0, 3.0]);
    // They are no weights of the model.
    let plain = pack_file(&Model::new("llama").file()).unwrap();
    let parameters = |packed: &Packed| packed.bundle.manifest().model.parameters;
    assert_eq!(parameters(&packed), parameters(&plain));
}

#[test]
fn layers_may_differ_in_shape() {
    let mut file = Model::new("llama").file();
    file.set("llama.attention.head_count", Value::I32s(vec![4, 2]));
    file.set("llama.attention.head_count_kv", Value::I32s(vec![2, 1]));
    let narrow = |tensor: &mut Tensor, shape: [u64; 2]| {
        tensor.shape = shape.to_vec();
        tensor.data.truncate((shape[0] * shape[1] * 4) as usize);
    };
    narrow(file.tensor("blk.1.attn_q.weight"), [256, 128]);
    narrow(file.tensor("blk.1.attn_k.weight"), [256, 64]);
    narrow(file.tensor("blk.1.attn_v.weight"), [256, 64]);
    narrow(file.tensor("blk.1.attn_output.weight"), [128, 256]);
    narrow(file.tensor("blk.1.ffn_up.weight"), [256, 96]);
    narrow(file.tensor("blk.1.ffn_gate.weight"), [256, 96]);
    narrow(file.tensor("blk.1.ffn_down.weight"), [96, 256]);
    let packed = pack_file(&file).unwrap();
    let heads: Vec<_> =
        packed.nodes("Attention").iter().map(|node| number(node, "heads")).collect();
    assert_eq!(heads, [4, 2]);
    assert_eq!(packed.bundle.manifest().model.heads, 4);
}

#[test]
fn what_cannot_be_packed_is_named() {
    type Change = fn(&mut File);
    let cases: &[(Change, &str)] = &[
        (
            |f| f.set("general.architecture", Value::Text("mamba".into())),
            "architecture mamba is not supported; supported are llama, qwen2, qwen3",
        ),
        (|f| f.remove("general.architecture"), "general.architecture is missing"),
        (|f| f.set("llama.block_count", Value::U32(0)), "llama.block_count is 0"),
        (|f| f.set("llama.block_count", Value::U32(2000)), "llama.block_count is 2000"),
        (|f| f.set("llama.block_count", Value::U32(3)), "tensor blk.2.attn_norm.weight is missing"),
        (|f| f.set("llama.block_count", Value::U32(1)), "tensor blk.1.attn_k.weight is not known"),
        (|f| f.remove("llama.embedding_length"), "llama.embedding_length is missing"),
        (|f| f.set("llama.embedding_length", Value::U32(128)), "token_embd.weight has 256 columns"),
        (|f| f.set("llama.attention.head_count", Value::U32(3)), "not a multiple of 2 key heads"),
        (|f| f.set("llama.attention.head_count", Value::U32(2)), "attn_q.weight has 256 rows"),
        (|f| f.set("llama.attention.value_length", Value::U32(32)), "value_length is 32"),
        (|f| f.set("llama.rope.dimension_count", Value::U32(63)), "an even number"),
        (|f| f.set("llama.rope.dimension_count", Value::U32(128)), "up to the head dimension 64"),
        (|f| f.set("llama.rope.freq_base", Value::F32(f32::NAN)), "not a finite number"),
        (|f| f.set("llama.rope.freq_base", Value::F32(0.0)), "rope.freq_base is 0"),
        (|f| f.set("llama.rope.scaling.type", Value::Text("dynamic".into())), "scaling dynamic"),
        (|f| f.set("llama.expert_count", Value::U32(8)), "a mixture of experts"),
        (|f| f.set("llama.residual_scale", Value::F32(2.0)), "llama.residual_scale"),
        (|f| f.tensor("output_norm.weight").name = "x".into(), "output_norm.weight is missing"),
        (|f| f.tensor("blk.0.ffn_up.weight").kind = 16, "blk.0.ffn_up.weight: tensor type IQ2_XXS"),
        (|f| f.tensor("output_norm.weight").shape = vec![128], "expected 1 x 256"),
        (
            |f| f.set("tokenizer.ggml.model", Value::Text("bert".into())),
            "model bert is not supported",
        ),
        (|f| f.set("tokenizer.ggml.model", Value::Text("llama".into())), "scores is missing"),
        (|f| f.set("tokenizer.ggml.pre", Value::Text("odd".into())), "pre odd is not supported"),
        (|f| f.set("tokenizer.ggml.tokens", Value::Texts(vec![])), "tokens has 0 entries"),
        (|f| f.set("tokenizer.ggml.token_type", Value::I32s(vec![1])), "1 entries for 259 tokens"),
        (|f| f.set("tokenizer.ggml.token_type", Value::I32s(vec![9; 259])), "token type 9"),
        (
            |f| f.set("tokenizer.ggml.tokens", Value::Texts(vec!["x".into(); 2])),
            "259 entries for 2",
        ),
        (|f| f.set("tokenizer.ggml.eos_token_id", Value::U32(258)), "eos_token_id is 258"),
        (|f| f.set("tokenizer.ggml.merges", Value::Texts(vec!["he".into()])), "has no space"),
        (|f| f.set("tokenizer.ggml.merges", Value::Texts(vec!["h x".into()])), "not a token"),
        (
            |f| {
                f.set("tokenizer.ggml.tokens", Value::Texts(vec!["a".into(); 259]));
            },
            "is there twice",
        ),
        (
            |f| {
                f.set("tokenizer.ggml.token_type", Value::I32s(vec![1; 259]));
                f.remove("tokenizer.ggml.eos_token_id");
                f.pairs.iter_mut().for_each(|(_, value)| match value {
                    Value::Texts(texts) if texts.len() == 259 => texts[0] = "end".into(),
                    _ => {}
                });
            },
            "no token is known to end a text",
        ),
    ];
    for (change, expected) in cases {
        let mut file = Model::new("llama").file();
        change(&mut file);
        match pack_file(&file) {
            Ok(_) => panic!("{expected:?} was packed"),
            Err(error) => {
                let error = format!("{error:#}");
                assert!(error.contains(expected), "{expected:?} not in {error:?}");
            }
        }
    }
}

/// Its numbers would be none on the board either.
#[test]
fn a_model_of_numbers_that_are_none_is_refused() {
    let mut file = Model::new("llama").file();
    file.tensor("output_norm.weight").data = f32::NAN.to_le_bytes().repeat(HIDDEN);
    let error = format!("{:#}", pack_file(&file).err().unwrap());
    assert!(error.contains("computes no usable numbers"), "{error}");
}
