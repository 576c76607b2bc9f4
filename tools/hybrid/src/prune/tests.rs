//! Synthetic models, cut: what goes without a trace, what is made up for, and that the bundles are
//! ordinary ones.

use std::fs;
use std::sync::Arc;

use hybrid::Cancel;
use hybrid::bundle::FileRole;
use hybrid::session::{Model, ModelOptions, Session, SessionOptions};
use hybrid::slm::{Rows, Slm};
use ndarray::Array1;
use temp_dir::TempDir;

use super::moments::Moments;
use super::*;
use crate::pack::testing::gguf::{self, File, HIDDEN, LAYERS, Value};
use crate::pack::testing::lfm2;

const TEXT: &str = "The quick brown fox jumps over the lazy dog, and then it goes home to sleep. ";

/// A model file and what is made of it.
struct Stage {
    temp: TempDir,
}

impl Stage {
    fn new(file: &File) -> Stage {
        let temp = TempDir::new().unwrap();
        fs::write(temp.child("model.gguf"), file.bytes()).unwrap();
        Stage { temp }
    }

    fn task(shares: &[f64]) -> Task {
        let options = Options { replace: true, ..Options::new() };
        Task { options, shares: shares.to_vec(), tokens: 2048, whole: 0, threads: 0 }
    }

    fn source(&self) -> Box<PackedSource> {
        let model = self.temp.child("model.gguf");
        pack::open_packed(&model, Options::new()).unwrap()
    }

    /// The model as it is, and with a share of it gone.
    fn pruned(&self, share: f64) -> [Bundle; 2] {
        self.made(&Stage::task(&[share]), Some(&TEXT.repeat(12)), None).unwrap()
    }

    fn made(&self, task: &Task, text: Option<&str>, corpus: Option<&str>) -> Result<[Bundle; 2]> {
        let [model, whole, dir] = ["model.gguf", "whole", "pruned"].map(|n| self.temp.child(n));
        let source = pack::open(&model, task.options)?;
        pack::write(source, &whole, task.options)?.put_into_place()?;
        task.prune(&model, &dir, text, corpus, None)?;
        assert_eq!(fs::read_dir(self.temp.path())?.count(), 3, "something was left behind");
        Ok([Bundle::open(&whole, Verify::All)?, Bundle::open(&dir, Verify::All)?])
    }
}

fn logits(bundle: &Bundle, text: &str) -> Vec<f32> {
    let ids = Tokens::open(bundle).unwrap().encode(text, false).unwrap();
    let mut state = Slm::open(bundle, 0).unwrap().spawn(0).unwrap();
    state.feed(&ids, Rows::All, &Cancel::new()).unwrap().logits
}

/// Of the tokens of a text, the largest and the mean square.
fn differences(a: &Bundle, b: &Bundle) -> (f32, f32) {
    let text = "Dogs sleep at home, foxes do not";
    let (a, b) = (logits(a, text), logits(b, text));
    assert_eq!(a.len(), b.len());
    let differences = a.iter().zip(&b).filter(|(a, _)| a.is_finite()).map(|(a, b)| (a - b).abs());
    let all: Vec<f32> = differences.collect();
    let largest = all.iter().copied().fold(0.0, f32::max);
    (largest, all.iter().map(|d| d * d).sum::<f32>() / all.len() as f32)
}

fn model(kind: u32) -> File {
    gguf::Model { kind, ..gguf::Model::new("llama") }.file()
}

/// Sets the columns that `gone` names of an F32 matrix to 0.
fn clear_columns(file: &mut File, name: &str, gone: impl Fn(usize) -> bool) {
    let tensor = file.tensor(name);
    let columns = tensor.shape[0] as usize;
    for (at, value) in tensor.data.chunks_exact_mut(4).enumerate() {
        if gone(at % columns) {
            value.fill(0);
        }
    }
}

#[test]
fn no_share_is_the_model_itself() {
    for kind in [0, 3, 8, 12] {
        let stage = Stage::new(&model(kind));
        let [whole, pruned] = stage.pruned(0.0);
        assert_eq!(whole.weights().unwrap()[..], pruned.weights().unwrap()[..]);
        for role in [FileRole::Graph, FileRole::Tokenizer] {
            assert_eq!(whole.read(role).unwrap(), pruned.read(role).unwrap());
        }
        assert_eq!(whole.manifest().model, pruned.manifest().model);
    }
}

/// A convolution loses nothing, also where other parts do.
#[test]
fn a_convolution_stays() {
    let stage = Stage::new(&lfm2());
    let [whole, pruned] = stage.pruned(0.0);
    assert_eq!(whole.weights().unwrap()[..], pruned.weights().unwrap()[..]);
    let [whole, pruned] = stage.pruned(0.1);
    let parameters = |bundle: &Bundle| bundle.manifest().model.parameters;
    assert!(parameters(&pruned) < parameters(&whole));
    let (largest, _) = differences(&whole, &pruned);
    assert!(largest > 0.0 && largest < 2.0, "{largest}");
}

/// A quarter of the channels, and one of two heads in the second layer.
#[test]
fn what_is_dead_goes_without_a_trace() {
    let mut file = model(0);
    let dead = |channel: usize| channel % 4 == 1;
    for layer in 0..LAYERS {
        clear_columns(&mut file, &format!("blk.{layer}.ffn_down.weight"), dead);
    }
    clear_columns(&mut file, "blk.1.attn_output.weight", |column| column < 128);
    let channels = LAYERS * 3 * HIDDEN * 2 * HIDDEN / 4;
    let head = (2 + 2) * 64 * HIDDEN + 2 * 64 * HIDDEN;
    let total = LAYERS * (4 * 64 * HIDDEN * 2 + 2 * 2 * 64 * HIDDEN + 3 * HIDDEN * 2 * HIDDEN);
    let stage = Stage::new(&file);
    let [whole, pruned] = stage.pruned((channels + head) as f64 / total as f64);
    let parameters = |bundle: &Bundle| bundle.manifest().model.parameters as usize;
    assert_eq!(parameters(&whole) - parameters(&pruned), channels + head);
    let (largest, _) = differences(&whole, &pruned);
    assert!(largest < 1e-4, "{largest}");
}

/// By less than the mean alone, and that by less than nothing.
#[test]
fn what_goes_is_made_up_for() {
    let stage = Stage::new(&model(0));
    let source = stage.source();
    let scratch = Scratch::beside(&stage.temp.child("pruned")).unwrap();
    let task = Stage::task(&[0.25]);
    let (ranking, moments) = task.rank(&source, &TEXT.repeat(20), &scratch).unwrap();
    let keep = ranking.keep(&source.plan, 0.25).unwrap();
    let whole = Bundle::open(&scratch.whole, Verify::All).unwrap();
    let error = |change: &dyn Fn(&mut Moments)| {
        let mut moments = moments.clone();
        for layer in &mut moments {
            layer.attention.iter_mut().chain(&mut layer.ffn).for_each(change);
        }
        let (plan, bytes) = cut::cut(&source.plan, &source.file, &keep, &moments).unwrap();
        let pruned = source.changed(plan, bytes, source.tokenizer.clone(), "");
        let dir = stage.temp.child("pruned");
        let bundle = pack::write(Box::new(pruned), &dir, task.options).unwrap();
        bundle.put_into_place().unwrap();
        differences(&whole, &Bundle::open(&dir, Verify::All).unwrap()).1
    };
    let alone = |moments: &mut Moments| {
        let variances = moments.covariance.diag().to_owned();
        moments.covariance = ndarray::Array2::from_diag(&variances);
    };
    let full = error(&|_| {});
    let mean = error(&alone);
    let none = error(&|moments| {
        alone(moments);
        moments.mean = Array1::zeros(moments.mean.len());
    });
    assert!(full < 0.8 * mean && mean < none, "{full} {mean} {none}");
}

#[test]
fn every_type_and_shape_can_lose_something() {
    for (kind, ..) in gguf::TYPES {
        let stage = Stage::new(&model(kind));
        let [whole, pruned] = stage.pruned(0.2);
        let size = |bundle: &Bundle| bundle.weights().unwrap().len();
        assert!(size(&pruned) < size(&whole), "{kind}");
        assert!(logits(&pruned, "any text").iter().all(|logit| !logit.is_nan()), "{kind}");
    }
    for (architecture, heads, kv_heads, head_dim) in
        [("qwen2", 6, 3, 32), ("qwen2", 4, 4, 20), ("llama", 3, 1, 48)]
    {
        let shape = gguf::Model { heads, kv_heads, head_dim, ..gguf::Model::new(architecture) };
        let stage = Stage::new(&shape.file());
        let [whole, pruned] = stage.pruned(0.3);
        let (_, mean) = differences(&whole, &pruned);
        assert!(mean > 0.0 && mean.is_finite(), "{architecture} {heads}");
    }
}

/// Layers at the ends stay whole, and what they leave is not enough for every share.
#[test]
fn limits_are_said() {
    let stage = Stage::new(&model(0));
    let text = TEXT.repeat(12);
    let failed = |task: &Task, text: Option<&str>| {
        let error = stage.made(task, text, None).err().map(|error| format!("{error:#}"));
        error.expect("an error")
    };
    let whole = Task { whole: 1, ..Stage::task(&[0.1]) };
    assert!(failed(&whole, Some(&text)).contains("a share of 0.1 is too much"));
    assert!(failed(&Stage::task(&[0.7]), Some(&text)).contains("can give 0.5"));
    assert!(failed(&Stage::task(&[0.2]), Some("")).contains("no two tokens"));
}

/// Saved, restored, rewound, and with several shares at once.
#[test]
fn a_pruned_model_is_an_ordinary_one() {
    let mut file = model(8);
    file.set("llama.context_length", Value::U32(256));
    let template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}";
    file.set("tokenizer.chat_template", Value::Text(template.into()));
    let stage = Stage::new(&file);
    let dir = stage.temp.child("pruned");
    let text = TEXT.repeat(12);
    let table = Stage::task(&[0.1, 0.25])
        .prune(&stage.temp.child("model.gguf"), &dir, Some(&text), None, Some(text.clone()))
        .unwrap();
    assert_eq!(table.lines().count(), 2 + 3, "{table}");
    for name in ["before", "10 %", "25 %"] {
        assert!(table.contains(&format!("| {name} | ")), "{table}");
    }
    let dir = stage.temp.child("pruned-25");
    let model = Arc::new(Model::open(&dir, ModelOptions::default()).unwrap());
    assert!(model.bundle.manifest().model.name.ends_with("(25 % pruned)"));
    let new = || Session::new(model.clone(), None, SessionOptions::default()).unwrap();
    let steps = |session: &mut Session| {
        let mut ids = Vec::new();
        session
            .run(12, &mut |step| {
                ids.push((step.token, step.score.to_bits()));
                true
            })
            .unwrap();
        ids
    };
    let mut session = new();
    session.prompt("user: Hi").unwrap();
    steps(&mut session);
    let mut state = Vec::new();
    session.save(&mut |piece| state.extend_from_slice(piece));
    let mut other = new();
    other.restore(&state).unwrap();
    let first = steps(&mut session);
    assert_eq!(steps(&mut other), first);
    other.rewind(12).unwrap();
    assert_eq!(steps(&mut other), first);
}
