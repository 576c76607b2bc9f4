//! What a consult costs besides the network and the server: the client on a kept connection, in
//! turns with a bare TLS socket that sends the same bytes, to a server of our own on this machine.
//!
//!     consult_overhead [TURNS]
//!
//! Prints the median of each, and of their difference.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hybrid::Cancel;
use hybrid::cloud::{Cloud, CloudOptions, ServerKind};
use hybrid::consult::{Consult, Request};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

#[path = "../tests/support/mod.rs"]
mod support;
use support::{Identity, Reaction, Server};

const ANSWER: &str = r#"{"choices":[{"text":" Paris","index":0,"finish_reason":"length"}],
    "usage":{"prompt_tokens":200,"completion_tokens":1}}"#;

fn main() -> Result<()> {
    let turns = std::env::args().nth(1).map_or(Ok(2000), |turns| turns.parse())?;
    let server = Server::start(&Identity::good(), |_| Reaction::json(200, ANSWER));
    let cloud = Cloud::new(CloudOptions {
        url: server.url(),
        server: ServerKind::OpenAi,
        roots: server.roots(),
        ..CloudOptions::default()
    })?;
    let context = "The capital of France is the city of ".repeat(20);
    consult(&cloud, &context)?;
    let bytes = request(&server)?;
    let mut bare = Bare::connect(&server)?;
    let (mut ours, mut theirs, mut more) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..turns {
        let client = time(|| consult(&cloud, &context))?;
        let socket = time(|| bare.exchange(&bytes))?;
        ours.push(client);
        theirs.push(socket);
        more.push(client - socket);
    }
    let [ours, theirs, more] = [ours, theirs, more].map(median);
    println!("client {ours:.3} ms, bare TLS socket {theirs:.3} ms, difference {more:.3} ms");
    Ok(())
}

fn consult(cloud: &Cloud, context: &str) -> Result<()> {
    let (answer, _) = cloud.consult(&Request {
        ids: &[],
        vocabulary: "",
        bytes: context.as_bytes(),
        chat: None,
        max_tokens: 1,
        deadline: Instant::now() + Duration::from_secs(20),
        cancel: &Cancel::new(),
    });
    answer.map(drop).context("the server of our own did not answer")
}

/// The bytes that the client has sent, under TLS.
fn request(server: &Server) -> Result<Vec<u8>> {
    let requests = server.requests();
    let request = requests.last().context("no request came")?;
    let head = format!("POST {} HTTP/1.1\r\n{}", request.path, request.header);
    Ok([head.as_bytes(), &request.body].concat())
}

/// A TLS connection and nothing else.
struct Bare(StreamOwned<ClientConnection, TcpStream>);

impl Bare {
    fn connect(server: &Server) -> Result<Bare> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(server.ca_pem().as_bytes())?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tls = ClientConnection::new(Arc::new(config), ServerName::try_from("127.0.0.1")?)?;
        let stream = TcpStream::connect(server.url().trim_start_matches("https://"))?;
        stream.set_nodelay(true)?;
        Ok(Bare(StreamOwned::new(tls, stream)))
    }

    fn exchange(&mut self, request: &[u8]) -> Result<()> {
        self.0.write_all(request)?;
        self.0.flush()?;
        let mut answer = Vec::new();
        while !answer.ends_with(ANSWER.as_bytes()) {
            let mut buffer = [0; 16 << 10];
            let n = self.0.read(&mut buffer)?;
            ensure!(n > 0, "the server has closed the connection");
            answer.extend_from_slice(&buffer[..n]);
        }
        Ok(())
    }
}

/// Milliseconds.
fn time(act: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    act()?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}
