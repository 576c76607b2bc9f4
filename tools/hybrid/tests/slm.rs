//! The SLM on packed graphs: chunks, rewind, independence, cancel, context limit, damaged graphs.

use std::thread;
use std::time::Duration;

use hybrid::bundle::{Bundle, FileRole, Manifest};
use hybrid::slm::kernels::Kernels;
use hybrid::slm::{Output, Rows, Slm, SlmState, perplexity};
use hybrid::{Cancel, Error};
use hybrid_common::records::reader::Reader;
use prost::Message;
use temp_dir::TempDir;
use tract_onnx::pb::{ModelProto, NodeProto};

#[path = "../../../tests/support/gguf.rs"]
#[allow(dead_code)]
mod gguf;
#[path = "models/synthetic.rs"]
mod models;

const CONTEXT: usize = 500;

/// Spans several chunks.
fn prompt(len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| (i * 37 + i / 7) % 258).collect()
}

fn open(model: gguf::Model) -> Slm {
    open_with_threads(model, 0)
}

fn open_with_threads(model: gguf::Model, threads: usize) -> Slm {
    let temp = TempDir::new().unwrap();
    // The map outlives the file's name.
    Slm::open(&models::packed(model, CONTEXT as u32, temp.path()), threads).unwrap()
}

fn feed(state: &mut dyn SlmState, ids: &[u32], rows: Rows) -> Output {
    state.feed(ids, rows, &Cancel::new()).unwrap()
}

#[test]
fn chunks_of_any_size_give_the_same_bits() {
    let ids = prompt(300);
    for kind in gguf::TYPES.map(|t| t.0) {
        for model in [
            gguf::Model { kind, ..gguf::Model::new("llama") },
            gguf::Model { kind, tied: true, kv_heads: 4, ..gguf::Model::new("qwen2") },
        ] {
            let slm = open(model);
            let whole = feed(&mut *slm.spawn(0).unwrap(), &ids, Rows::All);
            assert_eq!(whole.logits.len(), ids.len() * slm.vocabulary_size());
            assert_eq!(whole.hidden.len(), ids.len() * slm.hidden_size());
            assert!(whole.hidden.iter().all(|x| x.is_finite()));
            for size in [1, 7, 129, 299] {
                let mut state = slm.spawn(0).unwrap();
                let mut parts = Output::default();
                for chunk in ids.chunks(size) {
                    let part = feed(&mut *state, chunk, Rows::All);
                    parts.logits.extend(part.logits);
                    parts.hidden.extend(part.hidden);
                }
                let what = format!("{model:?} in chunks of {size}");
                assert!(parts.hidden == whole.hidden && parts.logits == whole.logits, "{what}");
            }
        }
    }
}

#[test]
fn the_last_row_is_the_last_of_all_rows() {
    let slm = open(gguf::Model::new("qwen2"));
    for len in [1, 2, 128, 129, 300] {
        let ids = prompt(len);
        let all = feed(&mut *slm.spawn(0).unwrap(), &ids, Rows::All);
        let last = feed(&mut *slm.spawn(0).unwrap(), &ids, Rows::Last);
        let (vocabulary, hidden) = (slm.vocabulary_size(), slm.hidden_size());
        assert_eq!(last.logits, all.logits[(len - 1) * vocabulary..]);
        assert_eq!(last.hidden, all.hidden[(len - 1) * hidden..]);
        assert_eq!(last.logits[258], f32::NEG_INFINITY);
    }
}

#[test]
fn what_is_rewound_is_forgotten() {
    let slm = open(gguf::Model { kind: 2, ..gguf::Model::new("llama") });
    let ids = prompt(200);
    let mut state = slm.spawn(0).unwrap();
    feed(&mut *state, &ids[..150], Rows::Last);
    let first = feed(&mut *state, &ids[150..], Rows::All);
    for n in [50, 0, 200, 1] {
        state.rewind(n).unwrap();
        let at = state.len();
        assert_eq!(at, 200 - n);
        feed(&mut *state, &[3, 1, 4, 1, 5], Rows::Last);
        state.rewind(5).unwrap();
        // In the same chunks as at first every bit is the same.
        let again = match n {
            50 => feed(&mut *state, &ids[at..], Rows::All),
            _ => {
                state.rewind(at).unwrap();
                feed(&mut *state, &ids[..150], Rows::Last);
                feed(&mut *state, &ids[150..], Rows::All)
            }
        };
        assert_eq!(again.logits, first.logits);
        assert_eq!(again.hidden, first.hidden);
    }
    assert!(matches!(state.rewind(201), Err(Error::InvalidArgument(_))));
    assert_eq!(state.len(), 200);
}

/// The first of its layers has a window, the second sees everything.
fn windowed() -> Slm {
    let temp = TempDir::new().unwrap();
    let mut file = gguf::Model::new("llama").file();
    file.set("llama.context_length", gguf::Value::U32(2000));
    file.set("llama.attention.sliding_window", gguf::Value::U32(100));
    file.set("llama.attention.sliding_window_pattern", gguf::Value::U32(2));
    std::fs::write(temp.child("model.gguf"), file.bytes()).unwrap();
    let bundle = models::pack(&temp.child("model.gguf"), &temp.child("bundle"));
    Slm::open(&bundle, 0).unwrap()
}

/// The tools' reader goes from text to text, also back to what is out of reach.
#[test]
fn a_reader_reads_again_what_a_window_has_forgotten() {
    let slm = windowed();
    let mut reader = Reader::new(&slm).unwrap();
    for (text, more) in [(900, 5), (100, 9), (900, 0), (899, 3), (50, 1)] {
        let text = prompt(text);
        let mut fresh = Reader::new(&slm).unwrap();
        let more = prompt(more);
        let (found, wanted) = (reader.after_each(&text, &more), fresh.after_each(&text, &more));
        let (found, wanted) = (found.unwrap(), wanted.unwrap());
        assert_eq!(found.logits, wanted.logits);
        assert_eq!(found.hidden, wanted.hidden);
        assert_eq!(reader.after(&text).unwrap().logits, fresh.after(&text).unwrap().logits);
    }
}

/// What is out of a window's reach must be fed again, and then every bit is the same.
#[test]
fn a_window_keeps_what_it_needs_and_some_more() {
    let slm = windowed();
    let ids = prompt(1500);
    let mut state = slm.spawn(0).unwrap();
    let whole = feed(&mut *state, &ids, Rows::All);
    let position = 2 * 2 * 2 * 64;
    assert_eq!(state.cache_bytes(1500), Some((1500 + 99) * position));
    assert_eq!(state.cache_bytes(50), Some((50 + 50) * position));
    let mut bytes = Vec::new();
    state.write_cache(1400, &mut |part| bytes.extend_from_slice(part));
    let mut kept_outside = slm.spawn(1600).unwrap();
    kept_outside.read_cache(1400, &bytes).unwrap();
    let mut fork = state.fork().unwrap();
    // For each state the rewinds to some lengths, and where they lead.
    for (state, rewinds) in [
        (&mut state, [(1300, 1300), (900, 0), (900, 900), (899, 0), (900, 899)]),
        // The prompt's end is marked, but nothing under it.
        (&mut fork, [(1499, 1499), (1244, 1244), (10, 0), (10, 10), (0, 0)]),
        (&mut kept_outside, [(1400, 1400), (1399, 0), (1399, 1399), (1300, 1300), (1, 0)]),
    ] {
        for (to, found) in rewinds {
            state.rewind(state.len() - to).unwrap();
            assert_eq!(state.len(), found, "rewound to {to}");
            let again = feed(&mut **state, &ids[found..], Rows::All);
            assert!(whole.logits.ends_with(&again.logits), "from {found}");
            assert!(whole.hidden.ends_with(&again.hidden), "from {found}");
        }
    }
}

#[test]
fn states_of_one_model_are_independent() {
    let slm = open(gguf::Model { kind: 8, ..gguf::Model::new("qwen2") });
    let (one, other) = (prompt(40), vec![9; 40]);
    let alone = feed(&mut *slm.spawn(0).unwrap(), &one, Rows::All);
    let (mut a, mut b) = (slm.spawn(0).unwrap(), slm.spawn(50).unwrap());
    let mut mixed = Vec::new();
    for (id, noise) in one.iter().zip(&other) {
        mixed.extend(feed(&mut *a, &[*id], Rows::Last).logits);
        feed(&mut *b, &[*noise], Rows::Last);
    }
    assert_eq!(mixed, alone.logits, "interleaved");
    // The model may go before its states.
    drop(slm);
    feed(&mut *b, &[1], Rows::Last);
}

#[test]
fn threads_do_not_change_a_bit() {
    let ids = prompt(300);
    for kind in gguf::TYPES.map(|t| t.0) {
        let model = gguf::Model { kind, ..gguf::Model::new("qwen2") };
        let temp = TempDir::new().unwrap();
        let bundle = models::packed(model, CONTEXT as u32, temp.path());
        let run = |slm: &Slm| {
            let mut state = slm.spawn(0).unwrap();
            let mut all = feed(&mut *state, &ids, Rows::All);
            for id in 0..20 {
                let one = feed(&mut *state, &[id], Rows::Last);
                all.logits.extend(one.logits);
                all.hidden.extend(one.hidden);
            }
            all
        };
        let alone = run(&Slm::open(&bundle, 0).unwrap());
        for threads in [1, 2, 5] {
            let slm = Slm::open(&bundle, threads).unwrap();
            // Two states at once: one has the threads, the other computes alone.
            let both = thread::scope(|scope| {
                let states = [(); 2].map(|()| scope.spawn(|| run(&slm)));
                states.map(|state| state.join().unwrap())
            });
            for output in both {
                assert_eq!(output.logits, alone.logits, "type {kind} on {threads} threads");
                assert_eq!(output.hidden, alone.hidden, "type {kind} on {threads} threads");
            }
        }
    }
}

/// The length of the difference, as a share of the length of `b`; logits of tokens that are no
/// tokens are minus infinity in both.
fn distance(a: &[f32], b: &[f32]) -> f32 {
    let pairs = || a.iter().zip(b).filter(|(a, b)| a.is_finite() || b.is_finite());
    let difference: f32 = pairs().map(|(a, b)| (a - b).powi(2)).sum();
    let length: f32 = pairs().map(|(_, b)| b.powi(2)).sum();
    (difference / length).sqrt()
}

#[test]
fn every_kernel_gives_the_same_logits() {
    let ids = prompt(40);
    for kind in gguf::TYPES.map(|t| t.0) {
        let mut slm = open(gguf::Model { kind, ..gguf::Model::new("qwen2") });
        let run = |slm: &Slm| feed(&mut *slm.spawn(0).unwrap(), &ids, Rows::All);
        let best = run(&slm);
        for kernels in Kernels::available() {
            slm.set_kernels(kernels);
            let output = run(&slm);
            // Where an activation is rounded to the next int8, single logits move by more.
            let distance = distance(&output.logits, &best.logits);
            assert!(distance < 0.02, "type {kind} with {kernels:?}: {distance} apart");
        }
        // The last one, portable, rounds products by themselves: the others were not it.
        let differ = run(&slm).logits != best.logits;
        assert!(differ || Kernels::available().count() == 1, "type {kind}: one kernel for all");
    }
}

#[test]
fn a_number_of_threads_out_of_range_is_an_error() {
    let temp = TempDir::new().unwrap();
    let bundle = models::packed(gguf::Model::new("llama"), 64, temp.path());
    let error = Slm::open(&bundle, 65).err().expect("too many");
    assert!(matches!(error, Error::InvalidArgument(_)), "{error:?}");
    assert!(error.to_string().contains("threads is 65, but must be 0 to 64"), "{error}");
}

#[test]
fn a_cancelled_feed_leaves_the_state_as_it_was() {
    for threads in [0, 3] {
        cancelled_feeds(threads);
    }
}

fn cancelled_feeds(threads: usize) {
    let slm = open_with_threads(gguf::Model { kind: 2, ..gguf::Model::new("llama") }, threads);
    let ids = prompt(400);
    let mut state = slm.spawn(0).unwrap();
    feed(&mut *state, &ids[..20], Rows::Last);
    let wanted = {
        let mut fresh = slm.spawn(0).unwrap();
        feed(&mut *fresh, &ids[..20], Rows::Last);
        feed(&mut *fresh, &ids[20..25], Rows::All)
    };
    let mut cancelled = 0;
    for try_ in 0..50 {
        let cancel = Cancel::new();
        let result = thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_micros(200 * try_));
                cancel.raise();
            });
            state.feed(&ids[20..], Rows::Last, &cancel)
        });
        match result {
            Err(Error::Cancelled) => cancelled += 1,
            Err(error) => panic!("{error}"),
            Ok(_) => state.rewind(380).unwrap(),
        }
        assert_eq!(state.len(), 20);
        assert_eq!(feed(&mut *state, &ids[20..25], Rows::All).logits, wanted.logits);
        state.rewind(5).unwrap();
    }
    assert!(cancelled > 0);
}

#[test]
fn a_full_context_is_an_error_before_anything_is_lost() {
    let slm = open(gguf::Model::new("llama"));
    assert_eq!(slm.context_limit(), CONTEXT);
    assert!(matches!(slm.spawn(CONTEXT + 1).err(), Some(Error::InvalidArgument(_))));
    assert_eq!(slm.spawn(0).unwrap().capacity(), CONTEXT);
    let mut state = slm.spawn(30).unwrap();
    feed(&mut *state, &prompt(29), Rows::Last);
    let error = state.feed(&[1, 2], Rows::Last, &Cancel::new()).unwrap_err();
    assert!(matches!(error, Error::ContextFull { used: 29, needed: 2, limit: 30 }));
    assert!(matches!(
        state.feed(&[259], Rows::Last, &Cancel::new()),
        Err(Error::InvalidArgument(_))
    ));
    feed(&mut *state, &[1], Rows::Last);
    assert_eq!(state.len(), 30);
}

#[test]
fn perplexity_is_that_of_the_logits() {
    let slm = open(gguf::Model::new("qwen2"));
    let ids = prompt(70);
    let mut seen = Vec::new();
    let found = perplexity(&slm, &ids, 32, &Cancel::new(), |done| seen.push(done)).unwrap();
    assert_eq!((found.tokens, seen), (62, vec![32, 64]));
    let mut nll = 0.0;
    for window in ids.chunks_exact(32) {
        let logits = feed(&mut *slm.spawn(0).unwrap(), window, Rows::All).logits;
        for (row, next) in logits.chunks_exact(slm.vocabulary_size()).zip(&window[1..]) {
            let sum: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
            nll += sum.ln() - f64::from(row[*next as usize]);
        }
    }
    assert!((found.nll - nll).abs() < 1e-3, "{} {nll}", found.nll);
    // Random weights know nothing: about as many choices as tokens.
    assert!((100.0..600.0).contains(&found.value()), "{}", found.value());
    assert!(perplexity(&slm, &ids, 71, &Cancel::new(), |_| ()).is_err());
    assert!(perplexity(&slm, &ids, 1, &Cancel::new(), |_| ()).is_err());
}

/// A way to damage a graph, and what the error must say.
type Damage = (fn(&mut ModelProto), &'static str);

#[test]
fn damaged_graphs_are_errors_that_say_why() {
    let table: &[Damage] = &[
        (|m| m.metadata_props.clear(), "no table of weights"),
        (|m| m.metadata_props[0].value.truncate(50), "table of weights"),
        (|m| edit_table(m, "\"f32\"", "\"q3\""), "unknown variant `q3`"),
        (|m| edit_table(m, "\"f32\"", "\"q8\""), "bytes instead of"),
        (|m| edit_table(m, "\"rows\":259", "\"rows\":260"), "bytes instead of"),
        (|m| edit_table(m, "\"rows\":259", "\"rows\":0"), "rows and columns must be at least 1"),
        (|m| edit_table(m, "\"offset\":0", "\"offset\":7"), "64-byte aligned"),
        (|m| edit_table(m, "\"offset\":0", "\"offset\":64000000"), "outside the weights file"),
        (|m| edit_table(m, "\"offset\":0", "\"offset\":18446744073709551000"), "outside the"),
        (|m| edit_table(m, "\"offset\":0", "\"offset\":-1"), "table of weights"),
        (|m| edit_table(m, "token_embd.weight", "other"), "no matrix \"token_embd.weight\""),
        (|m| strings(node(m, "QuantMatMul"), 0, "ghost"), "no matrix \"ghost\""),
        (|m| strings(node(m, "QuantMatMul"), 0, "blk.0.ffn_down.weight"), "columns"),
        (|m| node(m, "QuantMatMul").attribute.clear(), "attribute 'weights'"),
        (|m| node(m, "QuantMatMul").attribute[0].strings.clear(), "at least one matrix"),
        (|m| integer(node(m, "Attention"), "heads", 3), "attention with 3 heads"),
        (|m| integer(node(m, "Attention"), "heads", 2), "the heads need"),
        (|m| integer(node(m, "Attention"), "heads", -4), "non-negative"),
        (|m| integer(node(m, "Attention"), "head_dim", 1 << 40), "attention with"),
        (|m| integer(node(m, "Attention"), "rope_dim", 66), "rope_dim"),
        (|m| integer(node(m, "Attention"), "rope_dim", 1 << 40), "rope_dim"),
        (|m| integer(node(m, "Attention"), "rope_dim", 7), "RoPE over 7 dimensions"),
        (|m| node(m, "Attention").op_type = "Frobnicate".into(), "Frobnicate"),
        (|m| node(m, "Attention").domain.clear(), "domain org.libhybrid"),
        (|m| node(m, "RmsNorm").attribute[0].f = f32::NAN, "epsilon"),
        (|m| node(m, "RmsNorm").input[1] = "rope".into(), "rope"),
        (|m| node(m, "Activate").input.clear(), "inputs"),
        (|m| node(m, "Activate").input[0] = "normed.0".into(), "columns"),
        (|m| node(m, "SkipRmsNorm").output.truncate(1), "2 outputs"),
        (|m| node(m, "SelectRows").input[1] = "input_ids".into(), "rows must be an i64 vector"),
        (|m| shorten_initializer(m, "final_norm.gamma"), "gamma must be f32 [256]"),
        (|m| m.graph.as_mut().unwrap().output[1].name = "other".into(), "the output \"other\""),
        (|m| m.graph.as_mut().unwrap().input[0].name = "ids".into(), "input_ids"),
        (|m| drop(m.graph.take()), "graph"),
    ];
    let temp = TempDir::new().unwrap();
    let good = models::packed(gguf::Model::new("llama"), 64, temp.path());
    let graph = good.read(FileRole::Graph).unwrap();
    for (ix, (damage, text)) in table.iter().enumerate() {
        let mut model = ModelProto::decode(&*graph).unwrap();
        damage(&mut model);
        let bundle = rewritten(&good, &model.encode_to_vec(), |_| {}, &temp, ix);
        expect_error(&bundle, text);
    }
    for (ix, bytes) in [&graph[..graph.len() / 2], b"\n", b"not a graph"].into_iter().enumerate() {
        expect_error(&rewritten(&good, bytes, |_| {}, &temp, 1000 + ix), "graph.onnx");
    }
}

type Change = fn(&mut Manifest);

#[test]
fn a_manifest_of_another_model_is_an_error() {
    let table: &[(Change, &str)] = &[
        (|m| m.model.layers = 1, "2 attention nodes"),
        (|m| m.model.hidden_size = 255, "output `hidden`"),
        (|m| m.model.vocabulary = 260, "output `logits`"),
    ];
    let temp = TempDir::new().unwrap();
    let good = models::packed(gguf::Model::new("llama"), 64, temp.path());
    let graph = good.read(FileRole::Graph).unwrap();
    for (ix, (change, text)) in table.iter().enumerate() {
        expect_error(&rewritten(&good, &graph, change, &temp, ix), text);
    }
}

fn rewritten(
    good: &Bundle,
    graph: &[u8],
    change: impl FnOnce(&mut Manifest),
    temp: &TempDir,
    ix: usize,
) -> Bundle {
    models::with_graph(good, graph, change, &temp.child(format!("damaged-{ix}")))
}

fn expect_error(bundle: &Bundle, text: &str) {
    match Slm::open(bundle, 0) {
        Err(error @ (Error::Bundle(_) | Error::Model(_))) => {
            assert!(error.to_string().contains(text), "{text:?} not in: {error}")
        }
        Err(error) => panic!("{text}: {error:?}"),
        Ok(_) => panic!("{text}: opened"),
    }
}

fn node<'a>(model: &'a mut ModelProto, op: &str) -> &'a mut NodeProto {
    model.graph.as_mut().unwrap().node.iter_mut().find(|n| n.op_type == op).unwrap()
}

fn edit_table(model: &mut ModelProto, from: &str, to: &str) {
    let table = &mut model.metadata_props[0].value;
    assert!(table.contains(from), "{from} not in {table}");
    *table = table.replacen(from, to, 1);
}

fn strings(node: &mut NodeProto, ix: usize, value: &str) {
    node.attribute[0].strings[ix] = value.into();
}

fn integer(node: &mut NodeProto, name: &str, value: i64) {
    node.attribute.iter_mut().find(|a| a.name == name).unwrap().i = value;
}

fn shorten_initializer(model: &mut ModelProto, name: &str) {
    let tensors = &mut model.graph.as_mut().unwrap().initializer;
    let tensor = tensors.iter_mut().find(|t| t.name == name).unwrap();
    tensor.dims[0] -= 1;
    tensor.raw_data.truncate(4 * tensor.dims[0] as usize);
}
