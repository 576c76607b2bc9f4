//! `hybrid-lab eval` as a person runs it: against a TLS server of our own whose LLM agrees with the
//! SLM exactly where the SLM is sure, and with a bundle in the server's place.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use hybrid::session::{Model, ModelOptions};
use serde_json::{Value, json};
use temp_dir::TempDir;

#[path = "../../common/tests/support/cloud_llm.rs"]
mod cloud_llm;
#[path = "../../../tests/support/gguf.rs"]
#[allow(dead_code)]
mod gguf;
#[path = "../../../tests/support/mod.rs"]
mod support;

use cloud_llm::{limit, pack, server, spawn, text};

fn prompts(splits: &[&str]) -> String {
    let line = |(i, split): (usize, &&str)| {
        let content = format!("tell me {i} {}", "abcdefgh".chars().cycle().nth(i * 3).unwrap());
        let messages = [json!({ "role": "user", "content": content })];
        json!({ "id": format!("p{i}"), "split": split, "messages": messages }).to_string()
    };
    splits.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")
}

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    spawn(env!("CARGO_BIN_EXE_hybrid-lab"), arguments)
}

/// The lines of one kind that `hybrid-lab eval --out` wrote.
fn lines(file: &Path, kind: &str) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    let all = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(|line| line["kind"] == kind).collect()
}

/// The sum of one gate, at one burst.
fn sum(file: &Path, gate: &str, burst: u64) -> Value {
    let sums = lines(file, "sum");
    sums.into_iter().find(|sum| sum["gate"] == gate && sum["burst"] == burst).unwrap()
}

#[test]
fn gates_are_measured_over_tls_and_remembered() {
    let temp = TempDir::new().unwrap();
    let bundle = pack(&temp, "bundle", 2);
    let model = Arc::new(Model::open(&bundle, ModelOptions::default()).unwrap());
    let (file, ca) = (temp.child("prompts.jsonl"), temp.child("ca.pem"));
    let (cache, out) = (temp.child("cache"), temp.child("out.jsonl"));
    fs::write(&file, prompts(&["test", "test", "validation", "test", "train"])).unwrap();
    let server = server(model.clone(), model.slm.context_limit() + 2);
    fs::write(&ca, server.ca_pem()).unwrap();
    let threshold = limit(&model).exp().to_string();

    let common = ["eval", text(&bundle), "--prompts", text(&file), "--cloud-model", "toy"];
    let common = [&common[..], &["--cache", text(&cache), "--out", text(&out)]].concat();
    let common = [&common[..], &["--gates", "max-probability,random"]].concat();
    let at = [&common[..], &["--thresholds", &threshold, "--bursts", "1,4"]].concat();
    let url = server.url();
    let online = ["--cloud-url", &url, "--ca", text(&ca), "--server", "llama-cpp"];
    let (status, stdout, err) = run(&[&at[..], &online].concat());
    assert_eq!((status, err.as_str()), (Some(0), ""), "{stdout}");

    // The LLM's rule is this gate's: it asks where the oracle asks.
    let [slm, llm, oracle] = ["slm", "llm", "oracle"].map(|gate| sum(&out, gate, 1));
    let gate = sum(&out, "max-probability", 1);
    assert_eq!(
        (&slm["prompts"], &slm["consults"], &slm["obtained"]),
        (&json!(3), &json!(0), &json!(0.0))
    );
    assert_eq!((&llm["identical"], &llm["obtained"]), (&json!(3), &json!(1.0)));
    assert!(oracle["consults"].as_u64().unwrap() > 3, "{oracle}");
    for same in ["tokens", "obtained", "identical", "consults", "prompt_tokens"] {
        assert_eq!(gate[same], oracle[same], "{same}: {gate} {oracle}");
    }
    assert_eq!((&gate["identical"], &gate["agreement"]), (&json!(3), &json!(1.0)));
    assert_ne!(sum(&out, "random", 1)["identical"], 3);
    let burst = sum(&out, "max-probability", 4);
    assert_eq!(burst["identical"], 3);
    assert!(burst["obtained"].as_f64() > gate["obtained"].as_f64());
    let figures = lines(&out, "along-answers");
    assert_eq!(figures.iter().find(|row| row["score"] == "max-probability").unwrap()["auc"], 1.0);
    assert_eq!(lines(&out, "session").len(), 3 * 7);
    let first = fs::read(&out).unwrap();

    // What sessions do besides asking: each is another session, and is measured as such.
    let (status, stdout, err) = run(&[&at[..], &online, &["--hand-back"]].concat());
    assert_eq!((status, err.as_str()), (Some(0), ""), "{stdout}");
    let handed = sum(&out, "max-probability", 4);
    assert_eq!((&handed["identical"], &handed["consults"]), (&json!(3), &burst["consults"]));
    assert!(handed["obtained"].as_f64() < burst["obtained"].as_f64(), "{handed} {burst}");
    let (status, stdout, err) = run(&[&at[..], &online, &["--corrections", "1"]].concat());
    assert_eq!((status, err.as_str()), (Some(0), ""), "{stdout}");
    let known = sum(&out, "max-probability", 1);
    assert!(known["consults"].as_u64() < gate["consults"].as_u64(), "{known} {gate}");

    // All of it is remembered: the same again without the cloud, and no gate asks for what another
    // got.
    let asked = server.requests().len();
    assert_eq!(run(&at).0, Some(0));
    assert_eq!(fs::read(&out).unwrap(), first);
    let (status, stdout, err) = run(&[&common[..], &["--shares", "0.2"]].concat());
    assert_eq!(status, Some(1), "random leaves the known ways: {stdout}");
    assert!(err.contains("give --cloud-url or --teacher"), "{err}");
    assert_eq!(server.requests().len(), asked);

    // Each model alone needs no threshold, and U-HLM's own ones need no share.
    let (status, stdout, err) = run(&[&common[..], &["--shares", ""]].concat());
    assert_eq!((status, err.as_str()), (Some(0), ""), "{stdout}");
    assert_eq!((lines(&out, "sum").len(), lines(&out, "way").len()), (3, 3));
    let sampled = ["--gates", "u-hlm", "--shares", "0.2", "--no-sessions"];
    let (status, stdout, err) = run(&[&common[..common.len() - 2], &sampled].concat());
    assert_eq!((status, err.as_str()), (Some(0), ""), "{stdout}");
    let ways = lines(&out, "way").split_off(3);
    let names: Vec<&Value> = ways.iter().map(|way| &way["rule"]).collect();
    assert_eq!(names, [&Value::Null, &json!("risk-averse"), &json!("risk-prone")]);
    assert!(ways[1]["threshold"].as_f64() > ways[2]["threshold"].as_f64(), "{ways:?}");

    // Without the memory the session is the same, and its bytes are real.
    let live = [&at[..], &online, &["--live", "--sample", "1"]].concat();
    let (status, stdout, err) = run(&live);
    assert_eq!((status, err.as_str()), (Some(0), ""), "{stdout}");
    let live = sum(&out, "max-probability", 1);
    assert_eq!((&live["prompts"], &live["identical"]), (&json!(1), &json!(1)));
    assert!(live["bytes"].as_u64() > Some(0) && live["seconds"].as_f64() > Some(0.0), "{live}");
}

#[test]
fn a_teacher_answers_as_it_writes_by_itself() {
    let temp = TempDir::new().unwrap();
    let [slm, teacher] = [("slm", 2), ("teacher", 1)].map(|(name, heads)| pack(&temp, name, heads));
    let (file, out) = (temp.child("prompts.jsonl"), temp.child("out.jsonl"));
    fs::write(&file, prompts(&["test"; 4])).unwrap();
    let cache = temp.child("cache");
    let texts = [&slm, &teacher].map(|bundle| {
        let line = ["eval", text(bundle), "--teacher", text(&teacher), "--prompts", text(&file)];
        let more = ["--cloud-model", "toy", "--cache", text(&cache), "--out", text(&out)];
        let alone = ["--gates", "margin", "--shares", ""];
        let (status, stdout, err) = run(&[&line[..], &more, &alone].concat());
        assert_eq!((status, err.as_str()), (Some(0), ""), "{stdout}");
        ["slm", "llm"].map(|gate| {
            let sessions = lines(&out, "session").into_iter().filter(|line| line["gate"] == gate);
            sessions.map(|line| line["text"].clone()).collect::<Vec<_>>()
        })
    });
    let [[own, answers], [written, _]] = texts;
    assert_eq!(answers, written, "checked guesses change nothing");
    assert_ne!(answers, own, "the guesses were wrong somewhere");
}

#[test]
fn a_bundle_is_the_cloud() {
    let temp = TempDir::new().unwrap();
    let bundle = pack(&temp, "bundle", 2);
    let (file, out) = (temp.child("prompts.jsonl"), temp.child("out.jsonl"));
    fs::write(&file, prompts(&["test", "test", "validation"])).unwrap();
    let common = ["eval", text(&bundle), "--prompts", text(&file), "--cloud-model", "toy"];
    let with = |more: &[&str]| {
        run(&[&common[..], &["--cache", text(&temp.child("cache")), "--out", text(&out)], more]
            .concat())
    };
    let own = ["--teacher", text(&bundle), "--gates", "margin", "--shares", "0.3"];
    let (status, stdout, err) = with(&own);
    assert_eq!((status, err.as_str()), (Some(0), ""), "{stdout}");
    for gate in ["slm", "llm", "margin"] {
        assert_eq!(sum(&out, gate, 1)["identical"], 2, "a model agrees with itself");
    }
    let margin = sum(&out, "margin", 1);
    assert_eq!(with(&[&own[..], &["--no-sessions"]].concat()).0, Some(0));
    let way = lines(&out, "way").pop().unwrap();
    assert_eq!(way["threshold"], margin["threshold"]);
    assert_eq!((lines(&out, "sum").len(), lines(&out, "along-answers").len()), (0, 1));
    let consults = margin["consults"].as_u64().unwrap();
    assert!(consults > 0);
    let (status, stdout, _) = with(&[&own[..], &["--price-prompt-token", "1000000"]].concat());
    assert_eq!(status, Some(0), "{stdout}");
    assert_eq!(sum(&out, "margin", 1)["cost"].as_f64(), margin["prompt_tokens"].as_f64());

    // Draws are seeded by the prompt.
    let uncertain = ["--teacher", text(&bundle), "--gates", "u-hlm", "--live"];
    let runs = [(); 2].map(|()| {
        let (status, stdout, err) = with(&[&uncertain[..], &["--no-sessions"]].concat());
        assert_eq!((status, err.as_str()), (Some(0), ""), "{stdout}");
        fs::remove_dir_all(temp.child("cache")).unwrap();
        fs::read(&out).unwrap()
    });
    assert_eq!(runs[0], runs[1]);
    let (status, _, err) = with(&["--teacher", text(&bundle)]);
    assert_eq!(status, Some(1));
    assert!(err.contains("no reward head"), "{err}");
    let (status, _, err) = with(&["--gates", "margin"]);
    assert_eq!(status, Some(1));
    assert!(err.contains("give --cloud-url or --teacher"), "{err}");
    for (lines, text_of_error) in
        [("train", "no prompt to measure"), ("test", "no prompt to set thresholds on")]
    {
        fs::write(&file, prompts(&[lines])).unwrap();
        let (status, _, err) = with(&own);
        assert_eq!(status, Some(1));
        assert!(err.contains(text_of_error), "{err}");
    }
}
