//! The tool reaches a server behind a proxy, headers, pins and a client's certificate.

use std::fs;
use std::process::Command;

use sha2::{Digest, Sha256};
use temp_dir::TempDir;

#[path = "../../../tests/support/gguf.rs"]
#[allow(dead_code)]
mod gguf;
mod models;
#[path = "../../../tests/support/mod.rs"]
mod support;
#[path = "models/synthetic.rs"]
#[allow(dead_code)]
mod synthetic;

use support::{Identity, Proxy, Reaction, Server};

const ANSWER: &str = r#"{"choices":[{"text":"x","finish_reason":"length"}]}"#;
const OTHER_PIN: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

#[test]
fn what_stands_before_a_server_is_passed() {
    let dir = TempDir::new().unwrap();
    synthetic::packed(gguf::Model::new("llama"), 64, dir.path());
    let identity = Identity::wants_a_client();
    let pin = support::base64(&Sha256::digest(&identity.public_key));
    let server = Server::start(&identity, |_| Reaction::json(200, ANSWER));
    let proxy = Proxy::start("HTTP/1.1 200 Connection established");
    let file = |name: &str, text: &str| {
        fs::write(dir.child(name), text).unwrap();
        dir.child(name).to_str().unwrap().to_owned()
    };
    let url = format!("{}/api/v1?version=2", server.url());
    let proxy_url = format!("http://{}", proxy.address());
    let headers = format!("@{}", file("headers", "api-key: secret\nX-Route: a\n"));
    let (ca, client) = (file("ca", server.ca_pem()), file("client", &identity.client_pem));
    let bundle = dir.child("bundle").to_str().unwrap().to_owned();
    let run = |pins: [&str; 2]| {
        let mut command = Command::new(models::HYBRID);
        command.args(["run", &bundle, "--prompt", "he", "--max-tokens", "2", "--threshold", "2"]);
        command.args(["--cloud-url", &url, "--server", "openai", "--cloud-model", "big"]);
        command.args(["--header", &headers, "--proxy", &proxy_url, "--ca", &ca]);
        command.args(["--client-cert", &client, "--pin", pins[0], "--pin", pins[1]]);
        let output = command.args(["--deadline-ms", "20000"]).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };

    let text = run([&pin, OTHER_PIN]);
    assert!(text.contains("tokens=2 cloud=2 fallback=0 consults=2"), "{text}");
    let target = server.url().replace("https://", "");
    assert!(proxy.requests().iter().all(|r| r.starts_with(&format!("CONNECT {target} "))));
    let requests = server.requests();
    let asked = requests.last().unwrap();
    assert_eq!(asked.path, "/api/v1/completions?version=2");
    let header = asked.header.to_lowercase();
    assert!(header.contains("api-key: secret\r\n") && header.contains("x-route: a\r\n"));
    assert_eq!(asked.json()["model"], "big");

    // Another key: nothing is sent.
    let text = run([&OTHER_PIN.replace('A', "B"), OTHER_PIN]);
    assert!(text.contains("tokens=2 cloud=0 fallback=2"), "{text}");
    assert_eq!(server.requests().len(), requests.len());
}
