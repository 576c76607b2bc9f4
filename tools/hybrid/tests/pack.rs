//! `hybrid pack` and `hybrid check` as a person runs them.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use temp_dir::TempDir;

#[path = "../../../tests/support/gguf.rs"]
#[allow(dead_code)]
mod gguf;

fn hybrid(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hybrid")).args(arguments).output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Exit status, stdout, stderr.
fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = hybrid(arguments);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_bundle_is_signed_and_loses_its_signature_with_a_change() {
    // Of RFC 8410, 10.3 and 10.1.
    const SECRET: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
        -----END PRIVATE KEY-----\n";
    const PUBLIC: &str = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=";
    let temp = TempDir::new().unwrap();
    let (model, bundle) = (temp.child("model.gguf"), temp.child("bundle"));
    let (secret, public) = (temp.child("secret.pem"), temp.child("public.pem"));
    fs::write(&model, gguf::Model::new("llama").file().bytes()).unwrap();
    fs::write(&secret, SECRET).unwrap();
    fs::write(&public, PUBLIC).unwrap();
    let signed = ["pack", text(&model), "-o", text(&bundle), "--sign", text(&secret)];
    assert_eq!(run(&signed), (Some(0), String::new(), String::new()));
    let check = ["check", text(&bundle), "--public-key", text(&public)];
    let (status, out, _) = run(&check);
    assert!(status == Some(0) && out.contains(&format!("signature     by {PUBLIC}")), "{out}");
    assert!(run(&check[..2]).1.contains("signature     not checked"));

    change_manifest(&bundle, |manifest| manifest["model"]["name"] = "other".into());
    let (status, _, err) = run(&check);
    assert_eq!(status, Some(1));
    assert!(err.contains("is not by the program's public key"), "{err}");
    let sign = ["sign", text(&bundle), text(&secret)];
    assert_eq!(run(&sign), (Some(0), format!("{PUBLIC}\n"), String::new()));
    assert_eq!(run(&check).0, Some(0));

    for (arguments, expected) in [
        (["sign", text(&bundle), text(&public)], "is no ed25519 key; make one with"),
        (["sign", text(&bundle), "/nowhere.pem"], "reading /nowhere.pem"),
        (["sign", text(&public), text(&secret)], "a bundle is a directory"),
    ] {
        let (status, out, err) = run(&arguments);
        assert_eq!((status, out.as_str()), (Some(1), ""));
        assert!(err.contains(expected), "{expected:?} not in {err}");
    }
    let (status, _, err) = run(&["check", text(&bundle), "--public-key", text(&secret)]);
    assert!(status == Some(1) && err.contains("no ed25519 key in PEM"), "{err}");
}

#[test]
fn a_model_is_packed_and_checked() {
    let temp = TempDir::new().unwrap();
    let (model, bundle) = (temp.child("model.gguf"), temp.child("bundle"));
    let source = gguf::Model { kind: 3, ..gguf::Model::new("qwen2") };
    fs::write(&model, source.file().bytes()).unwrap();
    let pack = ["pack", text(&model), "-o", text(&bundle)];
    // Without a terminal there is no progress bar, and nothing else to say.
    assert_eq!(run(&pack), (Some(0), String::new(), String::new()));

    let (status, out, err) = run(&["check", text(&bundle)]);
    assert_eq!((status, err.as_str()), (Some(0), ""));
    for fact in [
        "model         synthetic (qwen2)",
        "source        model.gguf sha256 ",
        "parameters    1.3 million",
        "weights       5.02 bits each",
        "context       64 tokens",
        "vocabulary    259 tokens, 258 usable",
        "stop tokens   0",
        "reward head   none",
        "chat template none",
        "signature     none",
        "ok            all hashes are right, and the model runs",
    ] {
        assert!(out.contains(fact), "{fact:?} not in\n{out}");
    }

    let (status, _, err) = run(&pack);
    assert_eq!(status, Some(1));
    assert!(err.contains("exists already; replace it with --force"), "{err}");
    assert_eq!(run(&[&pack[..], &["--force"]].concat()).0, Some(0));

    let weights = bundle.join("weights.bin");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..bytes.len() - 1]).unwrap();
    let (status, out, err) = run(&["check", text(&bundle)]);
    assert_eq!((status, out.as_str()), (Some(1), ""));
    assert!(err.starts_with("error: damaged bundle: ") && err.contains("weights.bin is truncated"));
    let mut damaged = bytes.clone();
    damaged[1000] ^= 1;
    fs::write(&weights, damaged).unwrap();
    let (status, _, err) = run(&["check", text(&bundle)]);
    assert_eq!(status, Some(1));
    assert!(err.contains("weights.bin has BLAKE3 "), "{err}");

    // The hash that is for other tools is checked, too.
    fs::write(&weights, bytes).unwrap();
    change_manifest(&bundle, |manifest| {
        manifest["files"]["weights"]["sha256"] = "0".repeat(64).into();
    });
    let (status, _, err) = run(&["check", text(&bundle)]);
    assert_eq!(status, Some(1));
    assert!(err.contains("weights.bin has SHA-256 "), "{err}");
}

/// Under its right hash.
fn change_manifest(bundle: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    let path = bundle.join("bundle.json");
    let mut manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    manifest.as_object_mut().unwrap().remove("manifest_blake3");
    change(&mut manifest);
    fs::write(&path, hybrid::bundle::seal(&manifest.to_string()).unwrap()).unwrap();
}

/// What would fail on the board fails when it is packed or checked.
#[test]
fn a_chat_template_is_tried_out() {
    let temp = TempDir::new().unwrap();
    let (model, bundle) = (temp.child("model.gguf"), temp.child("bundle"));
    let pack = |template: &str, more: &[&str]| {
        let mut file = gguf::Model::new("llama").file();
        file.set("tokenizer.chat_template", gguf::Value::Text(template.into()));
        fs::write(&model, file.bytes()).unwrap();
        run(&[&["pack", text(&model), "-o", text(&bundle), "--force"], more].concat())
    };
    let broken = "{% for m in messages %}";
    let (status, _, err) = pack(broken, &[]);
    assert_eq!(status, Some(1));
    for part in ["cannot pack", "chat template: ", "pack with --no-chat-template"] {
        assert!(err.contains(part), "{err}");
    }
    assert!(!bundle.exists());
    assert_eq!(pack(broken, &["--no-chat-template"]), (Some(0), String::new(), String::new()));
    assert!(run(&["check", text(&bundle)]).1.contains("chat template none"));

    // This one is right, but refuses a chat that begins with the user.
    let (status, _, err) = pack("{{ raise_exception('system first') }}", &[]);
    assert_eq!(status, Some(0));
    assert!(err.starts_with("note: --chat will fail") && err.contains("system first"), "{err}");
    let (status, out, _) = run(&["check", text(&bundle)]);
    assert!(status == Some(0) && out.contains("note          --chat will fail"), "{out}");

    change_manifest(&bundle, |manifest| manifest["chat_template"] = "{{ (".into());
    let (status, out, err) = run(&["check", text(&bundle)]);
    assert_eq!((status, out.as_str()), (Some(1), ""));
    assert!(err.contains("hashes") && err.contains("does not work; pack the model again"), "{err}");
}

#[test]
fn fewer_bits_say_what_they_cost() {
    let temp = TempDir::new().unwrap();
    let (model, bundle, scored) =
        (temp.child("model.gguf"), temp.child("bundle"), temp.child("text"));
    let source = gguf::Model { kind: 8, ..gguf::Model::new("qwen2") };
    fs::write(&model, source.file().bytes()).unwrap();
    fs::write(&scored, "What a text, and it goes on. ".repeat(40)).unwrap();
    let pack = ["pack", text(&model), "-o", text(&bundle), "--force", "--bits", "4"];
    let (status, out, err) = run(&pack);
    assert_eq!((status, err.as_str()), (Some(0), ""));
    assert!(out.starts_with("weights 0.8 MB; ") && out.contains("--perplexity"), "{out}");
    let (_, facts, _) = run(&["check", text(&bundle)]);
    assert!(facts.contains("weights       5.0"), "{facts}");

    // The synthetic model has room for 64 tokens, the comparison wants windows of 512.
    let scoring = [&pack[..], &["--perplexity", text(&scored)]].concat();
    let (status, _, err) = run(&scoring);
    assert_eq!(status, Some(1));
    assert!(err.contains("the model was made for at most 64"), "{err}");
    assert!(!temp.child("bundle.whole").exists(), "what was for the comparison only is gone");
    let mut file = source.file();
    file.set("qwen2.context_length", gguf::Value::U32(512));
    fs::write(&model, file.bytes()).unwrap();
    let (status, out, err) = run(&scoring);
    assert_eq!((status, err.as_str()), (Some(0), ""));
    assert!(out.starts_with("weights 0.8 MB instead of 1.4, perplexity "), "{out}");
    assert!(out.ends_with("over 1022 tokens\n"), "{out}");
}

#[test]
fn failures_go_to_stderr_and_leave_nothing() {
    let temp = TempDir::new().unwrap();
    let (model, bundle) = (temp.child("model.gguf"), temp.child("bundle"));
    let mut file = gguf::Model::new("llama").file();
    file.set("general.architecture", gguf::Value::Text("mamba\u{1b}[2J".into()));
    fs::write(&model, file.bytes()).unwrap();
    let (status, out, err) = run(&["pack", text(&model), "-o", text(&bundle)]);
    assert_eq!((status, out.as_str()), (Some(1), ""));
    assert!(err.contains("architecture mamba") && err.contains("supported are llama, qwen2"));
    assert!(!err.contains('\u{1b}'));
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);

    let (status, _, err) = run(&["check", text(&bundle)]);
    assert_eq!(status, Some(1));
    assert!(err.contains("no such directory") && err.contains("hybrid pack"), "{err}");
    assert_eq!(err.matches("no such directory").count(), 1, "{err}");
}

#[test]
fn wrong_usage_has_a_status_of_its_own() {
    for arguments in [&["pack"][..], &["pack", "x"], &["check"], &["frobnicate"], &[]] {
        assert_eq!(run(arguments).0, Some(2), "{arguments:?}");
    }
    assert_eq!(run(&["--help"]).0, Some(0));
}
