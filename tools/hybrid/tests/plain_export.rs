//! A plain ONNX export against the packed bundle of the same float weights.
//!
//! The graph is in `tests/data/plain-export`; its weights are those of the synthetic GGUF model.

use std::fs;
use std::path::{Path, PathBuf};

use hybrid::bundle::{Bundle, FileRole, GraphKind};
use hybrid::slm::{Output, Rows, Slm, SlmState};
use hybrid::{Cancel, Error};
use prost::Message;
use temp_dir::TempDir;
use tract_onnx::pb::{GraphProto, ModelProto, TensorProto};

#[path = "../../../tests/support/gguf.rs"]
#[allow(dead_code)]
mod gguf;
#[path = "models/synthetic.rs"]
#[allow(dead_code)]
mod models;

/// Packed attention keeps keys and values as f16, the export as f32.
const TOLERANCE: f32 = 5e-3;

struct Pair {
    packed: Bundle,
    plain: Bundle,
    // The bundles' files live as long.
    _temp: TempDir,
}

fn pair() -> Pair {
    let temp = TempDir::new().unwrap();
    let model = gguf::Model::new("qwen2").file();
    let packed = models::packed(gguf::Model::new("qwen2"), 64, temp.path());
    let export = temp.child("export");
    write_export(&model, &packed, &export);
    let plain = models::pack(&export, &temp.child("plain"));
    assert_eq!(plain.manifest().model.graph, GraphKind::Plain);
    keep_for_the_tool(&model, &packed);
    Pair { packed, plain, _temp: temp }
}

/// What `tests/data/plain-export/README.md` needs to make the graph anew.
fn keep_for_the_tool(model: &gguf::File, packed: &Bundle) {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    // Tests run at the same time: none may see half a file.
    let write = |name: &str, bytes: &[u8]| {
        let partial = dir.join(format!("{name}.{}", std::process::id()));
        fs::write(&partial, bytes).unwrap();
        fs::rename(partial, dir.join(name)).unwrap();
    };
    write("plain_export.gguf", &model.bytes());
    write("tokenizer.json", &packed.read(FileRole::Tokenizer).unwrap());
}

fn write_export(model: &gguf::File, packed: &Bundle, dir: &Path) {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/plain-export");
    fs::create_dir(dir).unwrap();
    for name in ["model.onnx", "config.json"] {
        fs::copy(data.join(name), dir.join(name)).unwrap();
    }
    fs::write(dir.join("tokenizer.json"), packed.read(FileRole::Tokenizer).unwrap()).unwrap();
    let graph = ModelProto::decode(&*fs::read(dir.join("model.onnx")).unwrap()).unwrap();
    let mut bytes = Vec::new();
    for tensor in &graph.graph.unwrap().initializer {
        let Some(offset) = external(tensor, "offset") else { continue };
        let values = weights(model, tensor);
        assert_eq!(external(tensor, "length"), Some(values.len()), "{}", tensor.name);
        bytes.resize(bytes.len().max(offset + values.len()), 0);
        bytes[offset..][..values.len()].copy_from_slice(&values);
    }
    fs::write(dir.join("model.onnx_data"), bytes).unwrap();
}

fn external(tensor: &TensorProto, key: &str) -> Option<usize> {
    tensor.external_data.iter().find(|e| e.key == key).map(|e| e.value.parse().unwrap())
}

/// The GGUF tensor of the same name; matmuls of ONNX have their matrix the other way round.
fn weights(model: &gguf::File, tensor: &TensorProto) -> Vec<u8> {
    let found = model.tensors.iter().find(|t| t.name == tensor.name);
    let found = found.unwrap_or_else(|| panic!("the model has no tensor {}", tensor.name));
    let size = |dim: &u64| *dim as usize;
    let turned = match found.shape.iter().map(size).collect::<Vec<_>>()[..] {
        [cols, rows] if tensor.name != "token_embd.weight" => {
            let values = found.data.as_chunks::<4>().0;
            (0..cols * rows).map(|i| values[i % rows * cols + i / rows]).collect()
        }
        _ => found.data.as_chunks::<4>().0.to_vec(),
    };
    turned.concat()
}

fn prompts() -> Vec<Vec<u32>> {
    let prompt = |seed: u32, len: u32| (0..len).map(|i| (i * seed + 5) % 258).collect();
    vec![vec![104], prompt(37, 2), prompt(11, 17), prompt(101, 40)]
}

fn feed(state: &mut dyn SlmState, ids: &[u32], rows: Rows) -> Output {
    state.feed(ids, rows, &Cancel::new()).unwrap()
}

fn assert_close(a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len());
    let far = a.iter().zip(b).find(|(a, b)| a != b && (**a - **b).abs() > TOLERANCE);
    assert!(far.is_none(), "{far:?}");
}

/// The best token, and by how much it leads the second.
fn best(logits: &[f32]) -> (u32, f32) {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
    (order[0] as u32, logits[order[0]] - logits[order[1]])
}

#[test]
fn greedy_text_is_that_of_the_packed_bundle() {
    let pair = pair();
    let [packed, plain] = [&pair.packed, &pair.plain].map(|bundle| Slm::open(bundle, 0).unwrap());
    assert_eq!(plain.vocabulary_size(), packed.vocabulary_size());
    assert_eq!(plain.hidden_size(), packed.hidden_size());
    assert_eq!(plain.context_limit(), packed.context_limit());
    for prompt in prompts() {
        let [mut a, mut b] = [&packed, &plain].map(|slm| slm.spawn(0).unwrap());
        let mut next = prompt.clone();
        for _ in 0..20 {
            let [a, b] = [&mut a, &mut b].map(|state| feed(&mut **state, &next, Rows::Last));
            assert_close(&a.hidden, &b.hidden);
            assert_close(&a.logits, &b.logits);
            let ((id, lead), (other, _)) = (best(&a.logits), best(&b.logits));
            // Two tokens as likely as each other may change places, no others.
            assert!(id == other || lead <= 2.0 * TOLERANCE, "{prompt:?}: {id} {other} {lead}");
            next = vec![id];
        }
    }
}

#[test]
fn chunks_rewind_and_failure_are_as_in_a_packed_bundle() {
    let pair = pair();
    let slm = Slm::open(&pair.plain, 0).unwrap();
    let ids = &prompts()[3];
    let whole = feed(&mut *slm.spawn(0).unwrap(), ids, Rows::All);
    assert_eq!(whole.logits.len(), ids.len() * slm.vocabulary_size());
    for size in [1, 7, 39] {
        let mut state = slm.spawn(0).unwrap();
        let parts = ids.chunks(size).map(|chunk| feed(&mut *state, chunk, Rows::All).logits);
        assert_close(&parts.collect::<Vec<_>>().concat(), &whole.logits);
    }
    let mut state = slm.spawn(50).unwrap();
    for keep in [0, 1, 25, 39] {
        state.rewind(state.len()).unwrap();
        feed(&mut *state, ids, Rows::Last);
        state.rewind(40 - keep).unwrap();
        let raised = Cancel::new();
        raised.raise();
        assert!(matches!(state.feed(&ids[keep..], Rows::All, &raised), Err(Error::Cancelled)));
        let error = state.feed(&[1; 51], Rows::Last, &Cancel::new()).unwrap_err();
        assert!(matches!(error, Error::ContextFull { limit: 50, .. }));
        assert_eq!(state.len(), keep);
        let rest = feed(&mut *state, &ids[keep..], Rows::All).logits;
        assert_close(&rest, &whole.logits[keep * slm.vocabulary_size()..]);
    }
}

/// To the last bit, whatever the state that was forked does, and after a run that was cancelled.
#[test]
fn a_fork_goes_on_alone() {
    let pair = pair();
    for bundle in [&pair.packed, &pair.plain] {
        let slm = Slm::open(bundle, 0).unwrap();
        let (begun, rest) = (&prompts()[3][..20], &prompts()[3][20..]);
        let begin = || {
            let mut state = slm.spawn(50).unwrap();
            feed(&mut *state, begun, Rows::Last);
            state
        };
        let want = feed(&mut *begin(), rest, Rows::All);
        let mut state = begin();
        let raised = Cancel::new();
        raised.raise();
        assert!(state.feed(rest, Rows::All, &raised).is_err());
        let mut fork = state.fork().unwrap();
        assert_eq!((fork.len(), fork.capacity()), (20, 50));
        state.rewind(10).unwrap();
        feed(&mut *state, rest, Rows::Last);
        let got = feed(&mut *fork, rest, Rows::All);
        assert_eq!((got.logits, got.hidden), (want.logits, want.hidden));
    }
}

type Damage = fn(&mut GraphProto);

#[test]
fn damaged_exports_are_errors_that_say_why() {
    let table: &[(Damage, &str)] = &[
        (|g| add_input(g, "use_cache_branch"), "\"use_cache_branch\""),
        (|g| add_input(g, "past_key_values.2.value"), "\"past_key_values.2.value\""),
        (|g| g.input.retain(|i| i.name != "attention_mask"), "without a source"),
        (|g| rename(g, "present.0.key", "elsewhere"), "present.0.key"),
        (|g| rename(g, "logits", "elsewhere"), "logits"),
        (|g| replace_op(g, "MatMul", "Frobnicate"), "Frobnicate"),
        (|g| g.initializer[0].external_data.clear(), "external data"),
        (|g| g.initializer[0].external_data[1].value = "99999999999".into(), "out of bounds"),
        (|g| g.initializer[0].external_data[0].value = "../weights.bin".into(), "inside the model"),
        (|g| g.initializer.truncate(3), "must be a constant"),
        (|g| g.node.truncate(g.node.len() / 2), "logits"),
        (|g| g.node.clear(), "logits"),
    ];
    let pair = pair();
    let temp = TempDir::new().unwrap();
    let model = ModelProto::decode(&*pair.plain.read(FileRole::Graph).unwrap()).unwrap();
    for (ix, (damage, text)) in table.iter().enumerate() {
        let mut damaged = model.clone();
        damage(damaged.graph.as_mut().unwrap());
        let dir = temp.child(ix.to_string());
        let bundle = models::with_graph(&pair.plain, &damaged.encode_to_vec(), |_| {}, &dir);
        match Slm::open(&bundle, 0) {
            Err(error) => assert!(error.to_string().contains(text), "{text:?} not in: {error}"),
            Ok(_) => panic!("{text}: opened"),
        }
    }
}

fn add_input(graph: &mut GraphProto, name: &str) {
    let mut input = graph.input[0].clone();
    input.name = name.into();
    graph.input.push(input);
}

/// What a node makes gets another name, also where it is an output.
fn rename(graph: &mut GraphProto, from: &str, to: &str) {
    let made = graph.node.iter_mut().flat_map(|n| n.input.iter_mut().chain(&mut n.output));
    let outputs = graph.output.iter_mut().map(|output| &mut output.name);
    made.chain(outputs).filter(|name| *name == from).for_each(|name| *name = to.into());
}

fn replace_op(graph: &mut GraphProto, from: &str, to: &str) {
    graph.node.iter_mut().find(|n| n.op_type == from).unwrap().op_type = to.into();
}
