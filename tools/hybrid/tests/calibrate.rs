//! `hybrid calibrate` as a person runs it, against a TLS server of our own whose LLM agrees with
//! the SLM exactly where the SLM is sure.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hybrid::bundle::{Bundle, RewardInfo, Verify};
use hybrid::session::{Model, ModelOptions};
use serde_json::json;
use temp_dir::TempDir;

#[path = "../../common/tests/support/cloud_llm.rs"]
mod cloud_llm;
#[path = "../../../tests/support/gguf.rs"]
#[allow(dead_code)]
mod gguf;
#[path = "../../../tests/support/mod.rs"]
mod support;

use cloud_llm::{call, pack, server, spawn, text};
use support::Server;

/// Prompt and answer together.
const LENGTH: usize = 40;

fn prompts(count: usize, name: &str) -> String {
    let line = |i: usize| {
        let split = if i.is_multiple_of(2) { "train" } else { "validation" };
        let content = format!("{name} {i} {}", "abcdefgh".chars().cycle().nth(i * 3).unwrap());
        let messages = [json!({ "role": "user", "content": content })];
        json!({ "id": format!("{name}{i}"), "split": split, "messages": messages }).to_string()
    };
    (0..count).map(line).collect::<Vec<_>>().join("\n")
}

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    spawn(env!("CARGO_BIN_EXE_hybrid"), arguments)
}

fn lab(arguments: &[&str]) -> (Option<i32>, String) {
    call(&hybrid_lab::PROGRAM, arguments)
}

/// Names and contents of a bundle's files, but for the weights.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries.map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())).collect()
}

fn info(bundle: &Path) -> RewardInfo {
    Bundle::open(bundle, Verify::All).unwrap().manifest().reward.clone().unwrap()
}

/// What `calibrate` says that the log-odds are scaled and moved by.
fn scaling(stdout: &str) -> [f64; 2] {
    let line = stdout.lines().find(|line| line.starts_with("log-odds")).expect(stdout);
    let numbers: Vec<f64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
    numbers.try_into().expect(line)
}

/// A bundle with a trained head, a server, and the options that all runs share.
struct Stage {
    temp: TempDir,
    bundle: PathBuf,
    server: Server,
}

impl Stage {
    fn new() -> Stage {
        let temp = TempDir::new().unwrap();
        let bundle = pack(&temp, "bundle", 2);
        let server =
            server(Arc::new(Model::open(&bundle, ModelOptions::default()).unwrap()), LENGTH);
        fs::write(temp.child("ca.pem"), server.ca_pem()).unwrap();
        let stage = Stage { temp, bundle, server };
        stage.collect("train", "training");
        let records = stage.temp.child("training");
        // The LLM's rule is so plain that its disagreements, a fifth of the tokens, all score next
        // to 0: a threshold must lie above them.
        let train = ["train", text(&stage.bundle), "--records", text(&records)];
        let train = [&train[..], &["--heads", "linear", "--share", "0.5"]].concat();
        assert_eq!(lab(&train), (Some(0), String::new()));
        stage
    }

    /// Records of 40 prompts in a folder.
    fn collect(&self, name: &str, folder: &str) {
        let file = self.temp.child(format!("{name}.jsonl"));
        fs::write(&file, prompts(40, name)).unwrap();
        let out = self.temp.child(folder);
        let collect =
            ["collect", text(&self.bundle), "--prompts", text(&file), "--out", text(&out)];
        assert_eq!(self.lab_online(&collect), (Some(0), String::new()));
    }

    fn online(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        self.with_cloud(arguments, run)
    }

    fn lab_online(&self, arguments: &[&str]) -> (Option<i32>, String) {
        self.with_cloud(arguments, lab)
    }

    fn with_cloud<T>(&self, arguments: &[&str], run: fn(&[&str]) -> T) -> T {
        let (url, ca) = (self.server.url(), self.temp.child("ca.pem"));
        let cache = self.temp.child("cache");
        let cloud = ["--cloud-url", &url, "--ca", text(&ca), "--server", "llama-cpp"];
        let kept = ["--cloud-model", "toy", "--cache", text(&cache)];
        run(&[arguments, &cloud, &kept].concat())
    }
}

#[test]
fn own_prompts_make_the_table() {
    let stage = Stage::new();
    let (bundle, file) = (&stage.bundle, stage.temp.child("own.jsonl"));
    let (before, trained) = (files(bundle), info(bundle));
    fs::write(&file, prompts(40, "own")).unwrap();
    let calibrate = |more: &[&str]| {
        stage.online(&[&["calibrate", text(bundle), "--prompts", text(&file)], more].concat())
    };

    let (status, first, err) = calibrate(&["--dry-run", "--sessions"]);
    assert_eq!((status, err.as_str()), (Some(0), ""), "{first}");
    assert!(first.contains("20 prompts, "), "those for training are left out: {first}");
    assert!(first.contains("in sessions") && first.contains("scaled\n"), "{first}");
    assert_eq!(files(bundle), before);

    let (status, out, err) = calibrate(&["--share", "0.3"]);
    assert_eq!((status, err.as_str()), (Some(0), ""), "{out}");
    assert_eq!(scaling(&out), scaling(&first));
    let made = info(bundle);
    let counts = made.measured.unwrap();
    assert_eq!(counts.prompts, 20);
    assert!(made.provenance.starts_with(&trained.provenance), "{}", made.provenance);
    assert!(made.provenance.contains("; calibrated on 20 prompts"), "{}", made.provenance);
    assert!(made.default_threshold < trained.default_threshold, "for a smaller share");
    let after = files(bundle);
    assert_eq!(after["weights.bin"], before["weights.bin"]);
    assert_eq!(after.len(), before.len(), "no file is left behind");

    // The head's scores are now what fits these prompts best: to fit it again changes nothing.
    let (status, out, err) = calibrate(&["--share", "0.3"]);
    assert_eq!((status, err.as_str()), (Some(0), ""), "{out}");
    let [scale, shift] = scaling(&out);
    assert!((scale - 1.0).abs() < 0.01 && shift.abs() < 0.01, "{scale} {shift}");
    let again = info(bundle);
    assert_eq!(again.provenance, made.provenance);
    for (a, b) in again.calibration.iter().zip(&made.calibration) {
        assert!((a.share - b.share).abs() < 0.01 && (a.threshold - b.threshold).abs() < 0.01);
    }

    // A threshold for a share asks for that share of these prompts' tokens.
    let out = stage.temp.child("out.jsonl");
    let threshold = made.default_threshold.to_string();
    let eval = ["eval", text(bundle), "--prompts", text(&file), "--gates", "head"];
    let (status, err) = stage.lab_online(&[&eval[..], &["--thresholds", &threshold]].concat());
    assert_eq!(status, Some(1), "no prompt is for testing");
    assert!(err.contains("no prompt to measure"), "{err}");
    fs::write(&file, prompts(40, "own").replace("validation", "test")).unwrap();
    let more = ["--thresholds", &threshold, "--out", text(&out), "--no-sessions"];
    assert_eq!(stage.lab_online(&[&eval[..], &more].concat()), (Some(0), String::new()));
    let lines = fs::read_to_string(&out).unwrap();
    let scores = lines.lines().find(|line| line.contains(r#""kind":"scores""#)).unwrap();
    let scores: serde_json::Value = serde_json::from_str(scores).unwrap();
    let scores: Vec<f64> = serde_json::from_value(scores["scores"].clone()).unwrap();
    let under = scores.iter().filter(|&&s| s < f64::from(made.default_threshold)).count();
    assert_eq!(scores.len(), counts.tokens as usize);
    assert!((under as f64 / scores.len() as f64 - 0.3).abs() < 0.01, "{under} of {}", scores.len());
}

#[test]
fn records_do_as_well() {
    let stage = Stage::new();
    let bundle = &stage.bundle;
    stage.collect("own", "own");
    let (records, file) = (stage.temp.child("own"), stage.temp.child("own.jsonl"));
    let calibrate =
        |source: &[&str]| run(&[&["calibrate", text(bundle), "--dry-run"], source].concat());
    let of_records = calibrate(&["--records", text(&records)]);
    assert_eq!((of_records.0, of_records.2.as_str()), (Some(0), ""), "{}", of_records.1);
    let of_prompts =
        stage.online(&["calibrate", text(bundle), "--dry-run", "--prompts", text(&file)]);
    assert_eq!((of_prompts.0, of_prompts.2.as_str()), (Some(0), ""), "{}", of_prompts.1);
    // Records hold the hidden states in 16 bits.
    let (a, b) = (scaling(&of_records.1), scaling(&of_prompts.1));
    assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 0.05), "{a:?} {b:?}");
    assert_eq!(of_records.1.lines().next(), of_prompts.1.lines().next());

    let (status, _, _) = calibrate(&["--records", text(&records), "--sessions"]);
    assert_eq!(status, Some(2), "records know no other path");
    let (status, _, err) = calibrate(&["--records", text(&records), "--limit", "3"]);
    assert_eq!(status, Some(1));
    assert!(err.contains("there are 3 prompts"), "{err}");
    for entry in fs::read_dir(&records).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    }
    let (status, _, err) = calibrate(&["--records", text(&records)]);
    assert_eq!(status, Some(1), "{err}");
    assert!(err.contains(".safetensors"), "{err}");
}

#[test]
fn what_cannot_be_calibrated_is_said() {
    let stage = Stage::new();
    let (bundle, file) = (&stage.bundle, stage.temp.child("own.jsonl"));
    fs::write(&file, prompts(8, "own")).unwrap();
    let cache = stage.temp.child("empty");
    let offline = |bundle: &Path, more: &[&str]| {
        let common = ["calibrate", text(bundle), "--prompts", text(&file), "--cache", text(&cache)];
        run(&[&common[..], more].concat())
    };
    assert_eq!(offline(bundle, &[]).0, Some(2), "no cloud LLM is named");
    let (status, _, err) = offline(bundle, &["--cloud-model", "toy"]);
    assert_eq!(status, Some(1));
    assert!(err.contains("give --cloud-url or --teacher"), "{err}");
    let (status, _, err) = offline(bundle, &["--cloud-model", "toy", "--splits", "test"]);
    assert_eq!(status, Some(1));
    assert!(err.contains("there are 0 prompts"), "{err}");
    let bare = pack(&stage.temp, "bare", 2);
    let (status, _, err) = offline(&bare, &["--cloud-model", "toy"]);
    assert_eq!(status, Some(1));
    assert!(err.contains("no reward head"), "{err}");

    // A damaged head is noticed before anything is asked, and stays as it is.
    let head = bundle.join("reward.onnx");
    let mut bytes = fs::read(&head).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&head, &bytes).unwrap();
    let (before, asked) = (files(bundle), stage.server.requests().len());
    let (status, _, err) = stage.online(&["calibrate", text(bundle), "--prompts", text(&file)]);
    assert_eq!(status, Some(1));
    assert!(err.contains("reward.onnx"), "{err}");
    assert_eq!((files(bundle), stage.server.requests().len()), (before, asked));
}
