//! `hybrid-lab collect`, `hybrid-lab train` and `hybrid reward` as a person runs them, against a
//! TLS server of our own whose LLM agrees with the SLM exactly where the SLM is sure.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use hybrid::bundle::{Bundle, Verify};
use hybrid::reward::{ScoreKind, Scorer, load_head};
use hybrid::session::{Model, ModelOptions};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use temp_dir::TempDir;

#[path = "../../common/tests/support/cloud_llm.rs"]
mod cloud_llm;
#[path = "../../../tests/support/gguf.rs"]
#[allow(dead_code)]
mod gguf;
#[path = "../../../tests/support/mod.rs"]
mod support;

use cloud_llm::{call, pack, pack_foreign, server, spawn, text};
use support::{Identity, Reaction, Server};

/// Prompt and answer together.
const LENGTH: usize = 40;

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    spawn(env!("CARGO_BIN_EXE_hybrid-lab"), arguments)
}

fn tool(arguments: &[&str]) -> (Option<i32>, String) {
    call(&hybrid_cli::PROGRAM, arguments)
}

/// Names and contents of a folder's files.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries.map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())).collect()
}

fn prompts(count: usize) -> String {
    let line = |i: usize| {
        let split = if i % 4 == 3 { "validation" } else { "train" };
        let content = format!("tell me {i} {}", "abcdefgh".chars().cycle().nth(i * 3).unwrap());
        json!({ "id": format!("p{i}"), "split": split, "prefill": ">",
            "messages": [{ "role": "user", "content": content }] })
        .to_string()
    };
    (0..count).map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_head_is_trained_over_tls_and_installed() {
    let temp = TempDir::new().unwrap();
    let bundle = pack(&temp, "bundle", 2);
    let (file, ca) = (temp.child("prompts.jsonl"), temp.child("ca.pem"));
    let (cache, records, out) = (temp.child("cache"), temp.child("records"), temp.child("head"));
    fs::write(&file, prompts(40)).unwrap();
    let server = server(Arc::new(Model::open(&bundle, ModelOptions::default()).unwrap()), LENGTH);
    fs::write(&ca, server.ca_pem()).unwrap();

    let prompts = ["--prompts", text(&file), "--cloud-model", "toy", "--cache", text(&cache)];
    let collect = |out: &Path, more: &[&str]| {
        run(&[&["collect", text(&bundle), "--out", text(out)], &prompts[..], more].concat())
    };
    let train = |records: &Path, more: &[&str]| {
        let common = ["train", text(&bundle), "--records", text(records), "--out", text(&out)];
        run(&[&common[..], more].concat())
    };
    let url = server.url();
    let online = ["--cloud-url", &url, "--ca", text(&ca), "--server", "llama-cpp"];
    let (status, stdout, err) = collect(&records, &online);
    assert_eq!((status, err.as_str()), (Some(0), ""), "{stdout}");
    assert!(stdout.contains("40 answers"), "{stdout}");
    let (status, stdout, err) = train(&records, &["--heads", "linear,sparse,mlp64,residual,stack"]);
    assert_eq!((status, err.as_str()), (Some(0), ""), "{stdout}");
    assert!(stdout.contains("train: 30 prompts"), "{stdout}");
    assert!(stdout.contains("not fitted to `soft`"), "only a teacher tells odds: {stdout}");

    // The LLM's rule is a limit on one statistic, which a head can learn.
    let about: Value = serde_json::from_slice(&fs::read(out.join("reward.json")).unwrap()).unwrap();
    let auc = about["training"]["on_validation"]["figures"][0]["auc"].as_f64().unwrap();
    assert!(auc > 0.9, "{auc}\n{stdout}");
    let fitted = |about: &Value| -> Vec<String> {
        let heads = about["training"]["heads"].as_array().unwrap().iter();
        let name =
            |head: &Value| format!("{} {}", head["kind"], head["fitted_to"]).replace('"', "");
        heads.map(name).collect()
    };
    let all = fitted(&about);
    for kind in ["linear", "sparse", "mlp64", "residual"] {
        for loss in ["agree", "both"] {
            assert!(all.contains(&format!("{kind} {loss}")), "{kind} {loss}: {all:?}");
        }
    }
    assert!(all.iter().any(|name| name.starts_with("stack")), "{all:?}");
    let row = &about["training"]["head"];
    assert_eq!(row["bytes"], fs::metadata(out.join("reward.onnx")).unwrap().len());
    assert!(
        stdout.lines().any(|l| l.starts_with("* ") && l.contains(row["kind"].as_str().unwrap()))
    );
    let opened = Bundle::open(&bundle, Verify::All).unwrap();
    let info = opened.manifest().reward.clone().unwrap();
    assert_eq!(info.cloud_model, "toy");
    assert!((0.0..1.0).contains(&info.default_threshold));
    let head = load_head(&opened).unwrap();
    let scorer = Scorer::new(ScoreKind::Auto, head.as_ref(), 0).unwrap();
    assert_eq!((scorer.kind(), scorer.needs_after()), (ScoreKind::Head, info.after));

    // What is fitted can be restricted, and the prompts be taken in parts.
    let few = ["--heads", "mlp64,linear,stack", "--losses", "both", "--after", "never", "--curve"];
    let (status, stdout, err) = train(&records, &few);
    assert_eq!((status, err.as_str()), (Some(0), ""), "{stdout}");
    assert!(stdout.lines().skip_while(|l| !l.starts_with("tokens fitted")).count() > 5);
    let about = serde_json::from_slice(&fs::read(out.join("reward.json")).unwrap()).unwrap();
    assert_eq!(fitted(&about), ["linear both", "mlp64 both", "stack both"]);
    assert_eq!(about["reward"]["after"], false);

    // Everything is kept: the same records and the same head again, without the cloud.
    let onnx = fs::read(out.join("reward.onnx")).unwrap();
    let asked = server.requests().len();
    assert_eq!(collect(&records, &[]).0, Some(0));
    let again = temp.child("again");
    let (status, _, err) = collect(&again, &[]);
    assert_eq!(status, Some(0), "{err}");
    assert_eq!(files(&again), files(&records));
    assert_eq!(train(&again, &few).0, Some(0));
    assert_eq!(fs::read(out.join("reward.onnx")).unwrap(), onnx);
    assert_eq!(server.requests().len(), asked);

    // The folder serves other bundles of the same model, and no others unless told to.
    let same = pack(&temp, "same", 2);
    let renamed = tool(&["reward", text(&same), text(&out)]);
    assert_eq!(renamed, (Some(0), String::new()));
    let other = pack(&temp, "other", 4);
    let (status, err) = tool(&["reward", text(&other), text(&out)]);
    assert_eq!(status, Some(1));
    assert!(err.contains("--any-source"), "{err}");
    assert!(Bundle::open(&other, Verify::All).unwrap().manifest().reward.is_none());
    assert_eq!(tool(&["reward", text(&other), text(&out), "--any-source"]).0, Some(0));
    fs::write(out.join("reward.onnx"), &onnx[..onnx.len() - 1]).unwrap();
    let (status, err) = tool(&["reward", text(&same), text(&out)]);
    assert_eq!(status, Some(1));
    assert!(err.contains("is not the file that reward.json describes"), "{err}");
}

#[test]
fn a_teacher_reads_every_path() {
    let temp = TempDir::new().unwrap();
    let (bundle, teacher) = (pack(&temp, "bundle", 2), pack(&temp, "teacher", 4));
    let file = temp.child("prompts.jsonl");
    let given =
        r#"{"id":"given","messages":[{"role":"user","content":"say"}],"answer":"something else"}"#;
    fs::write(&file, prompts(8) + "\n" + given).unwrap();
    let collect = |name: &str, more: &[&str]| {
        let (cache, out) = (temp.child("cache"), temp.child(name));
        let common = ["collect", text(&bundle), "--prompts", text(&file), "--cloud-model", "toy"];
        let folders = ["--cache", text(&cache), "--out", text(&out), "--splits", "train"];
        let (status, _, err) = run(&[&common[..], &folders, more].concat());
        (status, err, out)
    };
    let limit = ["--teacher", text(&teacher), "--limit", "4"];
    for path in ["llm", "slm"] {
        let (status, err, out) = collect(path, &[&limit[..], &["--path", path]].concat());
        assert_eq!((status, err.as_str()), (Some(0), ""));
        let records: Vec<_> = files(&out).into_values().collect();
        assert_eq!(records.len(), 4);
        let whole = files(&out);
        forget_chosen(&out);
        assert_ne!(files(&out), whole);
        assert_eq!(collect(path, &[&limit[..], &["--path", path]].concat()).0, Some(0));
        assert_eq!(files(&out), whole, "what an earlier version left out is added");
        for bytes in records {
            let record = SafeTensors::deserialize(&bytes).unwrap();
            let ids = |name| record.tensor(name).unwrap().data().as_chunks::<4>().0.to_vec();
            let rows = ids("tokens").len();
            assert!(rows > 0);
            assert_eq!(record.tensor("llm_top_log_p").unwrap().shape(), [rows, 8]);
            chosen_are_of_the_other_token(&record, path);
            // Greedy answers consist of their writer's own choices.
            let writer = if path == "llm" { "choices" } else { "candidates" };
            assert_eq!(ids("tokens"), ids(writer), "{path}");
        }
    }
    let (status, err, _) = collect("answer", &[&limit[..], &["--path", "answer"]].concat());
    assert_eq!(status, Some(1));
    assert!(err.contains("it comes without an answer"), "{err}");
    let (status, err, _) = collect("slm", &["--path", "slm", "--temperature", "0.7"]);
    assert_eq!(status, Some(1));
    assert!(err.contains("only a --teacher"), "{err}");
}

#[test]
fn branches_go_on_behind_the_slms_token() {
    let temp = TempDir::new().unwrap();
    let (bundle, teacher) = (pack(&temp, "bundle", 2), pack(&temp, "teacher", 4));
    let (prompt_file, ca) = (temp.child("prompts.jsonl"), temp.child("ca.pem"));
    fs::write(&prompt_file, prompts(8)).unwrap();
    let server = server(Arc::new(Model::open(&teacher, ModelOptions::default()).unwrap()), LENGTH);
    fs::write(&ca, server.ca_pem()).unwrap();
    let url = server.url();
    let collect = |name: &str, llm: &[&str]| {
        let (out, branches) = (temp.child("records"), temp.child(name));
        let common = ["collect", text(&bundle), "--prompts", text(&prompt_file)];
        let files = ["--out", text(&out), "--branches", text(&branches), "--cloud-model", name];
        let cache = temp.child("cache");
        let (status, _, err) =
            run(&[&common[..], &files, &["--cache", text(&cache)], llm].concat());
        (status, err, fs::read_to_string(&branches).unwrap_or_default())
    };
    let online = ["--cloud-url", &url, "--ca", text(&ca), "--server", "llama-cpp"];
    for (name, llm) in [("here", &["--teacher", text(&teacher)][..]), ("server", &online)] {
        let (status, err, lines) = collect(name, llm);
        assert_eq!((status, err.as_str()), (Some(0), ""));
        let branches: Vec<Value> =
            lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert!(branches.len() > 4, "{lines}");
        for branch in branches {
            let part = |name: &str| branch[name].as_str().unwrap();
            assert_ne!(part("branch"), part("answer"));
            // A token is a byte here, and bytes above 127 are no text of their own.
            let shared = part("answer").chars().take(branch["at"].as_u64().unwrap() as usize);
            let begun = shared.chain(part("candidate").chars()).take_while(char::is_ascii);
            assert!(part("branch").starts_with(&begun.collect::<String>()), "{branch}");
        }
        assert_eq!(collect(name, &[]), (Some(0), String::new(), lines), "all of it is kept");
    }
    let (status, err, _) = collect("slm", &["--teacher", text(&teacher), "--path", "slm"]);
    assert_eq!(status, Some(1));
    assert!(err.contains("--branches leave the LLM's own answers: use --path llm"), "{err}");
}

/// Takes away what records of an earlier version do not have.
fn forget_chosen(dir: &Path) {
    for (name, bytes) in files(dir) {
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let mut tensors = SafeTensors::deserialize(&bytes).unwrap().tensors();
        tensors.retain(|(name, _)| !name.starts_with("chosen"));
        let less = safetensors::serialize(tensors, header.metadata().clone()).unwrap();
        fs::write(dir.join(name), less).unwrap();
    }
}

/// Where the LLM chose another token, its row is of that token: the state after it and its own
/// probability.
fn chosen_are_of_the_other_token(record: &SafeTensors, path: &str) {
    let ids = |name| {
        let words = record.tensor(name).unwrap().data().as_chunks::<4>().0.to_vec();
        words.into_iter().map(u32::from_le_bytes).collect::<Vec<_>>()
    };
    let row = |name, at: usize| {
        let tensor = record.tensor(name).unwrap();
        let bytes = tensor.data().len() / tensor.shape()[0];
        tensor.data()[at * bytes..(at + 1) * bytes].to_vec()
    };
    let (candidates, choices, tokens) = (ids("candidates"), ids("choices"), ids("tokens"));
    let apart: Vec<u32> = (0..)
        .zip(candidates.iter().zip(&choices))
        .filter(|(_, (a, b))| a != b)
        .map(|(at, _)| at)
        .collect();
    assert_eq!(ids("chosen_at"), apart, "{path}");
    assert!(!apart.is_empty(), "{path}: the models are two");
    for (i, at) in apart.iter().map(|&at| at as usize).enumerate() {
        let after = row("chosen_after", i);
        assert_ne!(after, row("hidden_after", at), "{path} {at}");
        if tokens[at] == choices[at] && at + 1 < tokens.len() {
            assert_eq!(after, row("hidden", at + 1), "{path} {at}");
        }
        let (of_choice, of_candidate) = (row("chosen_stats", i), row("stats", at));
        let log_p = |row: &[u8]| f32::from_le_bytes(*row.first_chunk().unwrap());
        assert!(log_p(&of_choice) <= log_p(&of_candidate), "{path} {at}: the candidate is greedy");
        assert_eq!(
            of_choice[32..],
            of_candidate[32..],
            "{path} {at}: top 1 to 8 are the context's"
        );
    }
}

#[test]
fn a_head_is_trained_for_an_llm_of_another_vocabulary() {
    let temp = TempDir::new().unwrap();
    let (bundle, llm) = (pack(&temp, "bundle", 2), pack_foreign(&temp, "llm"));
    let (file, ca) = (temp.child("prompts.jsonl"), temp.child("ca.pem"));
    let (cache, records) = (temp.child("cache"), temp.child("records"));
    fs::write(&file, prompts(40)).unwrap();
    let open = |dir: &Path| Arc::new(Model::open(dir, ModelOptions::default()).unwrap());
    let (slm, llm_model) = (open(&bundle), open(&llm));
    assert_ne!(slm.tokens.fingerprint(), llm_model.tokens.fingerprint());
    let server = server(llm_model, LENGTH);
    fs::write(&ca, server.ca_pem()).unwrap();

    let url = server.url();
    let online = ["--cloud-url", &url, "--ca", text(&ca), "--server", "llama-cpp"];
    let teacher = ["--teacher", text(&llm)];
    let collect = |out: &Path, more: &[&str]| {
        let prompts = ["--prompts", text(&file), "--cloud-model", "toy", "--cache", text(&cache)];
        run(&[&["collect", text(&bundle), "--out", text(out)], &prompts[..], more].concat())
    };
    let (status, stdout, err) = collect(&records, &online);
    assert_eq!((status, err.as_str()), (Some(0), ""), "{stdout}");
    assert!(stdout.contains("40 answers"), "{stdout}");
    labels_are_bytes(&records, &slm);
    let (status, stdout, err) = run(&["train", text(&bundle), "--records", text(&records)]);
    assert_eq!((status, err.as_str()), (Some(0), ""), "{stdout}");
    assert!(stdout.contains("train: 30 prompts"), "{stdout}");
    let calibrate = ["calibrate", text(&bundle), "--cloud-model", "toy", "--dry-run"];
    let of = ["--records", text(&records), "--splits", "validation"];
    assert_eq!(tool(&[&calibrate[..], &of].concat()), (Some(0), String::new()));

    // What was answered is kept, and on this machine the LLM is asked for the same text.
    let asked = server.requests().len();
    let again = temp.child("again");
    assert_eq!(collect(&again, &[]).0, Some(0));
    assert_eq!(files(&again), files(&records));
    assert_eq!(server.requests().len(), asked);
    let local = temp.child("local");
    let (status, _, err) = collect(&local, &[&teacher[..], &["--limit", "8"]].concat());
    assert_eq!((status, err.as_str()), (Some(0), ""));
    labels_are_bytes(&local, &slm);

    // Where the vocabulary matters, it is said.
    for (more, part) in [
        (&[&teacher[..], &online].concat(), "give either --cloud-url or --teacher"),
        (&[&teacher[..], &["--path", "slm"]].concat(), "use --path llm"),
        (&[&teacher[..], &["--branches", "branches.jsonl"]].concat(), "leave out --branches"),
        (&[&online[..], &["--path", "slm"]].concat(), "use --path llm"),
    ] {
        let (status, _, err) = collect(&temp.child("none"), more);
        assert_eq!(status, Some(1));
        assert!(err.contains(part), "{err}");
    }
    let calibrate = ["calibrate", text(&bundle), "--prompts", text(&file), "--cloud-model", "toy"];
    for llm in [&teacher[..], &online] {
        let (status, err) = tool(&[&calibrate[..], &["--cache", text(&cache)], llm].concat());
        assert_eq!(status, Some(1));
        assert!(err.contains("--records"), "{err}");
    }
}

/// A record agrees where the SLM's candidate has the bytes that the path has.
fn labels_are_bytes(records: &Path, slm: &Model) {
    let mut counts = [0; 2];
    for bytes in files(records).into_values() {
        let record = SafeTensors::deserialize(&bytes).unwrap();
        let ids = |name| {
            let words = record.tensor(name).unwrap().data().as_chunks::<4>().0.to_vec();
            words.into_iter().map(u32::from_le_bytes).collect::<Vec<_>>()
        };
        let (path, candidates) = (ids("tokens"), ids("candidates"));
        assert_eq!(ids("choices"), path);
        assert!(record.tensor("llm_log_p").is_err(), "its odds are of other tokens");
        let agrees = record.tensor("agrees").unwrap().data();
        for (at, &agrees) in agrees.iter().enumerate() {
            let (left, candidate) = (slm.tokens.bytes_of(&path[at..]), candidates[at]);
            let ended = slm.tokens.is_stop(candidate) && slm.tokens.is_stop(path[at]);
            let bytes = slm.tokens.bytes(candidate);
            let same = !bytes.is_empty() && left.starts_with(bytes);
            assert_eq!(agrees == 1, ended || same, "{at}");
            counts[usize::from(agrees)] += 1;
        }
    }
    assert!(counts.iter().all(|&count| count > 20), "{counts:?}");
}

#[test]
fn what_cannot_be_trained_is_said() {
    let temp = TempDir::new().unwrap();
    let bundle = pack(&temp, "bundle", 2);
    let (file, ca, cache) =
        (temp.child("prompts.jsonl"), temp.child("ca.pem"), temp.child("cache"));
    fs::write(&file, prompts(8)).unwrap();
    let stranger = Server::start(&Identity::good(), |request| match request.path.as_str() {
        "/tokenize" => Reaction::json(200, r#"{"tokens":[1,2,3]}"#),
        _ => Reaction::json(404, "{}"),
    });
    fs::write(&ca, stranger.ca_pem()).unwrap();
    let url = stranger.url();
    let (records, out) = (temp.child("records"), temp.child("out"));
    let common = ["collect", text(&bundle), "--cloud-model", "toy", "--cache", text(&cache)];
    let common = [&common[..], &["--out", text(&records)]].concat();
    let online = ["--cloud-url", &url, "--ca", text(&ca), "--server", "llama-cpp"];
    let with = |more: &[&str]| run(&[&common[..], more].concat());
    let train = || run(&["train", text(&bundle), "--records", text(&records), "--out", text(&out)]);

    let (status, _, err) = train();
    assert_eq!(status, Some(1));
    assert!(err.contains("records"), "{err}");
    let (status, _, err) = with(&[&["--prompts", text(&file)], &online[..]].concat());
    assert_eq!(status, Some(1));
    assert!(err.contains("the cloud LLM did not answer"), "{err}");
    let (status, _, err) = with(&["--prompts", text(&file)]);
    assert_eq!(status, Some(1));
    assert!(err.contains("prompt p") && err.contains("give --cloud-url or --teacher"), "{err}");
    assert_eq!(with(&[]).0, Some(2), "no prompts at all");
    let (status, _, err) = train();
    assert_eq!(status, Some(1));
    assert!(err.contains("there are no records"), "{err}");

    for (lines, text_of_error) in [
        ("", "there are no prompts for train"),
        ("{}", "prompts.jsonl:1: missing field"),
        (
            r#"{"id":"a","messages":[{"role":"user","content":"a"}],"split":"test"}"#,
            "there are no prompts for train",
        ),
        (r#"{"id":"a","messages":[],"split":"all"}"#, "prompts.jsonl:1: unknown variant `all`"),
    ] {
        fs::write(&file, lines).unwrap();
        let (status, _, err) = with(&["--prompts", text(&file)]);
        assert_eq!(status, Some(1));
        assert!(err.contains(text_of_error), "{err}");
    }
    let long = format!(
        r#"{{"id":"a","messages":[{{"role":"user","content":"{}"}}],"split":"train"}}
{{"id":"b","messages":[{{"role":"user","content":"b"}}],"split":"validation"}}"#,
        "a".repeat(70)
    );
    fs::write(&file, long).unwrap();
    let (_, _, err) = with(&["--prompts", text(&file)]);
    assert!(err.contains("prompt a: it has 70 tokens"), "{err}");
}
