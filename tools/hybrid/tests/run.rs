//! `hybrid run` and a long `hybrid pack` when somebody stops them or no longer reads.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use temp_dir::TempDir;

#[path = "../../../tests/support/gguf.rs"]
#[allow(dead_code)]
mod gguf;
mod models;

const HYBRID: &str = env!("CARGO_BIN_EXE_hybrid");

/// A synthetic model that writes for many seconds.
fn bundle(temp: &TempDir) -> String {
    let mut file = gguf::Model::new("llama").file();
    file.set("llama.context_length", gguf::Value::U32(1 << 16));
    let model = temp.child("model.gguf");
    fs::write(&model, file.bytes()).unwrap();
    let bundle = temp.child("bundle").to_str().unwrap().to_owned();
    let packed = Command::new(HYBRID).arg("pack").arg(&model).args(["-o", &bundle]).status();
    assert!(packed.unwrap().success());
    bundle
}

fn start(arguments: &[&str]) -> Child {
    let mut command = Command::new(HYBRID);
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn signal(child: &Child, name: &str) {
    let kill = format!("kill -{name} {}", child.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// The first byte of its text has been written.
fn wait_for_text(child: &mut Child) {
    child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
}

#[test]
fn a_signal_stops_the_text_and_the_summary_follows() {
    let temp = TempDir::new().unwrap();
    let bundle = bundle(&temp);
    for (name, status) in [("INT", 130), ("TERM", 143)] {
        let mut child = start(&["run", &bundle, "--prompt", "he", "--max-tokens", "60000"]);
        wait_for_text(&mut child);
        signal(&child, name);
        let Output { status: ended, stdout, stderr } = child.wait_with_output().unwrap();
        assert_eq!(ended.code(), Some(status), "{name}");
        assert!(stdout.ends_with(b"\n"));
        let stderr = text(stderr);
        let lines: Vec<&str> = stderr.lines().collect();
        assert_eq!(lines.len(), 4, "{stderr}");
        assert!(lines[0].starts_with("prompt   1 tokens in "), "{stderr}");
        assert!(lines[1].starts_with("tokens   "), "{stderr}");
        assert!(lines[2].starts_with("tokens=") && lines[2].contains(" cloud=0 "), "{stderr}");
        assert_eq!(lines[3], "interrupted");
    }
}

#[test]
fn nobody_reads_the_text() {
    let temp = TempDir::new().unwrap();
    let bundle = bundle(&temp);
    let mut child = start(&["run", &bundle, "--prompt", "he", "--max-tokens", "60000"]);
    wait_for_text(&mut child);
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(output.stderr).as_str()), (Some(141), ""));
}

#[test]
fn without_a_cloud_nothing_is_said_of_one() {
    let temp = TempDir::new().unwrap();
    let bundle = bundle(&temp);
    let run = |more: &[&str]| {
        let arguments = [&["run", &bundle, "--prompt", "he", "--max-tokens", "3"], more].concat();
        let output = start(&arguments).wait_with_output().unwrap();
        (output.status.code(), text(output.stderr))
    };
    let (status, err) = run(&[]);
    assert_eq!((status, err.lines().count()), (Some(0), 4), "{err}");
    assert!(!err.contains("score") && !err.contains("consults 0"), "{err}");
    assert!(err.contains("stopped  after --max-tokens 3\n"), "{err}");
    let (status, err) = run(&["--burst", "2"]);
    assert_eq!(status, Some(0));
    assert!(err.starts_with("note: --burst has no effect without --cloud-url\n"), "{err}");
    let (status, err) = run(&["--context", "3"]);
    assert_eq!(status, Some(0));
    assert!(err.contains("stopped  the context of 3 tokens is full; --context"), "{err}");
    let long = ["run", &bundle, "--prompt", "a longer prompt", "--context", "2"];
    let output = start(&long).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let err = text(output.stderr);
    assert!(err.contains("error: the prompt has 15 tokens, the context 2; shorten"), "{err}");
}

#[test]
fn perplexity_is_one_line_of_json() {
    let temp = TempDir::new().unwrap();
    let (bundle, scored) = (bundle(&temp), temp.child("text"));
    fs::write(&scored, "hello ".repeat(20)).unwrap();
    let run = |context: &str| {
        let file = scored.to_str().unwrap();
        let arguments = ["perplexity", &bundle, "--text", file, "--context", context];
        start(&arguments).wait_with_output().unwrap()
    };
    let output = run("40");
    let line: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let (mean, value) = (line["mean_nll"].as_f64().unwrap(), line["perplexity"].as_f64().unwrap());
    assert!((mean.exp() / value - 1.0).abs() < 1e-6 && line["tokens"] == 78, "{line}");
    let error = text(run("512").stderr);
    assert!(error.contains("tokens to score, but a window has 512; use a longer text"), "{error}");
}

/// Waits until a pack of `target` writes, ten seconds at most.
fn wait_for_files(folder: &Path) {
    for _ in 0..10_000 {
        if fs::read_dir(folder).unwrap().count() > 0 {
            return;
        }
        sleep(Duration::from_millis(1));
    }
    panic!("nothing is written");
}

fn names(folder: &Path) -> Vec<String> {
    let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
    fs::read_dir(folder).unwrap().flatten().map(name).collect()
}

#[test]
fn a_pack_that_is_stopped_leaves_nothing() {
    let temp = TempDir::new().unwrap();
    let model = models::gguf("smollm2");
    let target = temp.child("bundle");
    let pack = ["pack", model.to_str().unwrap(), "-o", target.to_str().unwrap()];
    for (name, status) in [("INT", Some(130)), ("TERM", Some(143)), ("KILL", None)] {
        let child = start(&pack);
        wait_for_files(temp.path());
        signal(&child, name);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), status, "{name}");
        let left = if name == "KILL" { 1 } else { 0 };
        assert_eq!(names(temp.path()).len(), left, "{name}: {:?}", names(temp.path()));
        assert_eq!(text(output.stderr), if left == 0 { "interrupted\n" } else { "" });
    }
    // The next one removes what the killed one could not.
    assert!(start(&pack).wait_with_output().unwrap().status.success());
    assert_eq!(names(temp.path()), ["bundle"]);
}
