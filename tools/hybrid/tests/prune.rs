//! `hybrid prune` as a person runs it, and a reward head that is fitted to what it made: the LLM is
//! the model before it was pruned.

use std::fs;
use std::path::Path;
use std::process::Command;

use hybrid::bundle::{Bundle, Verify};
use hybrid::reward::ScoreKind;
use hybrid::session::{Gate, Model, ModelOptions, Session, SessionOptions};
use serde_json::json;
use temp_dir::TempDir;

#[path = "../../../tests/support/gguf.rs"]
#[allow(dead_code)]
mod gguf;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Exit status, stdout, stderr.
fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_hybrid")).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn lab(arguments: &[&str]) {
    hybrid_lab::PROGRAM.run(arguments).unwrap();
}

fn model(temp: &TempDir) -> std::path::PathBuf {
    let path = temp.child("model.gguf");
    let mut file = gguf::Model::new("qwen2").file();
    let template = "{% for message in messages %}{{ message.content }}{% endfor %}";
    file.set("tokenizer.chat_template", gguf::Value::Text(template.into()));
    fs::write(&path, file.bytes()).unwrap();
    path
}

#[test]
fn a_model_is_pruned_and_gets_a_head() {
    let temp = TempDir::new().unwrap();
    let (model, words) = (model(&temp), temp.child("words.txt"));
    let [whole, pruned] = ["whole", "pruned"].map(|name| temp.child(name));
    fs::write(&words, "All the words that he has, and then some more.\n".repeat(40)).unwrap();
    assert_eq!(run(&["pack", text(&model), "-o", text(&whole)]).0, Some(0));
    let prune = ["prune", text(&model), "-o", text(&pruned), "--text", text(&words)];
    let prune = [&prune[..], &["--share", "0.2", "--whole", "0"]].concat();
    let (status, out, err) = run(&prune);
    assert_eq!((status, err.as_str()), (Some(0), ""), "{out}");
    assert!(out.contains("| before | 5.") && out.contains("\n| 20 % | 4."), "{out}");
    let (status, out, _) = run(&["check", text(&pruned)]);
    assert_eq!(status, Some(0));
    for fact in ["synthetic (20 % pruned) (qwen2)", "source        model.gguf", "template yes"] {
        assert!(out.contains(fact), "{fact:?} not in\n{out}");
    }
    let (status, _, err) = run(&prune);
    assert!(status == Some(1) && err.contains("replace it with --force"), "{err}");

    let prompts = temp.child("prompts.jsonl");
    let line = |i: usize| {
        let split = if i % 4 == 3 { "validation" } else { "train" };
        let content = format!("tell me {i} {}", "abcdefgh".chars().cycle().nth(i * 3).unwrap());
        let messages = [json!({ "role": "user", "content": content })];
        json!({ "id": format!("p{i}"), "split": split, "messages": messages }).to_string()
    };
    fs::write(&prompts, (0..24).map(line).collect::<Vec<_>>().join("\n")).unwrap();
    let [cache, records] = ["cache", "records"].map(|name| temp.child(name));
    lab(&[
        "collect",
        text(&pruned),
        "--prompts",
        text(&prompts),
        "--teacher",
        text(&whole),
        "--cloud-model",
        "whole",
        "--cache",
        text(&cache),
        "--out",
        text(&records),
    ]);
    lab(&["train", text(&pruned), "--records", text(&records), "--heads", "linear"]);

    let bundle = Bundle::open(&pruned, Verify::All).unwrap();
    assert_eq!(bundle.manifest().reward.as_ref().unwrap().cloud_model, "whole");
    let model = Model::open(&pruned, ModelOptions::default()).unwrap();
    let mut session = Session::new(model.into(), None, SessionOptions::default()).unwrap();
    session.set_gate(Gate { score: ScoreKind::Head, ..Gate::default() }).unwrap();
    session.prompt("tell me").unwrap();
    let mut scores = Vec::new();
    session
        .run(10, &mut |step| {
            scores.push(step.score);
            true
        })
        .unwrap();
    assert!(scores.iter().all(|score| (0.0..=1.0).contains(score)), "{scores:?}");
    assert!(scores.iter().any(|score| *score != scores[0]), "{scores:?}");
}

#[test]
fn what_cannot_be_pruned_is_said() {
    let temp = TempDir::new().unwrap();
    let (model, words, pruned) = (model(&temp), temp.child("words.txt"), temp.child("pruned"));
    fs::write(&words, "words ".repeat(200)).unwrap();
    let prune = |model: &Path, more: &[&str]| {
        run(&[&["prune", text(model), "-o", text(&pruned)][..], more].concat())
    };
    let words = ["--text", text(&words)];
    for (source, more, status, part) in [
        (&model, &[][..], 2, "--text <FILE>"),
        (&model, &["--share", "0.2"], 2, "--text <FILE>"),
        (&model, &[&words[..], &["--share", "1.5"]].concat(), 1, "expected 0 to less than 1"),
        (&model, &words, 1, "a share of 0.2 is too much"),
        (&model, &["--text", "nowhere"], 1, "cannot read nowhere"),
        (&words_file(&temp), &words, 1, "cannot prune"),
    ] {
        let (found, _, err) = prune(source, more);
        assert_eq!(found, Some(status), "{err}");
        assert!(err.contains(part), "{part:?} not in {err}");
        assert!(!pruned.exists());
    }
}

fn words_file(temp: &TempDir) -> std::path::PathBuf {
    temp.child("words.txt")
}
