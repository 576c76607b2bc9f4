//! One POST and its answer, within a deadline: connections kept alive, failures sorted by cause.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use ureq::Agent;
use ureq::config::Config;

use super::endpoint::{Base, Endpoint};
use super::headers::Headers;
use super::proxy::Proxy;
use super::retry_after;
use super::socket::{Dialler, Exchange, Stage, Watch};
use super::tls::{NoLookup, TlsConnector, advice};
use crate::cancel::Cancel;
use crate::consult::Failure;

/// The longest answer header read; ureq takes 128 fields at most.
const MAX_HEADER_BYTES: usize = 16 << 10;
/// More than the longest header, so that an overlong one is seen as such.
const INPUT_BUFFER_BYTES: usize = 2 * MAX_HEADER_BYTES;
const OUTPUT_BUFFER_BYTES: usize = 16 << 10;
/// Connections kept between consults; more are opened when more sessions ask at once.
const MAX_IDLE_LINES: usize = 4;

/// The HTTP client of one server.
pub(super) struct Http {
    endpoint: Endpoint,
    headers: Headers,
    tls: Arc<ClientConfig>,
    proxy: Option<Arc<Proxy>>,
    dialler: Arc<Dialler>,
    config: Config,
    idle: Mutex<Vec<Line>>,
}

/// A connection that one exchange at a time may use. The agent keeps it alive and replaces it.
struct Line {
    agent: Agent,
    watch: Watch,
}

/// A request: JSON to a path.
#[derive(Debug, Clone, Copy)]
pub(super) struct Post<'a> {
    pub base: Base,
    pub path: &'a str,
    pub body: &'a [u8],
    /// The largest answer read.
    pub limit: u64,
}

/// A complete answer, whatever its status.
#[derive(Debug)]
pub(super) struct Reply {
    pub status: u16,
    /// For how long the server asks not to be asked.
    pub quiet: Duration,
    pub body: Vec<u8>,
}

/// Why there is no complete answer.
#[derive(Debug)]
pub(super) struct Trouble {
    pub failure: Failure,
    /// For people, in brackets, perhaps empty; holds nothing that was sent.
    pub detail: String,
}

/// Bytes on the network, TLS included, and requests.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Traffic {
    pub sent: u64,
    pub received: u64,
    pub requests: u32,
}

impl Http {
    pub fn new(
        endpoint: Endpoint,
        headers: Headers,
        tls: Arc<ClientConfig>,
        proxy: Option<Proxy>,
    ) -> Http {
        let (host, port) = match &proxy {
            Some(proxy) => (&proxy.host, proxy.port),
            None => (&endpoint.host, endpoint.port),
        };
        Http {
            dialler: Arc::new(Dialler::new(host.clone(), port)),
            config: config(),
            idle: Mutex::new(Vec::new()),
            endpoint,
            headers,
            tls,
            proxy: proxy.map(Arc::new),
        }
    }

    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    pub fn origin(&self) -> &str {
        &self.endpoint.origin
    }

    /// Never sends it again, with one exception: a connection kept alive that turns out to be
    /// closed before a byte of the answer came is replaced once.
    pub fn post(
        &self,
        post: &Post,
        deadline: Instant,
        cancel: &Cancel,
    ) -> (Result<Reply, Trouble>, Traffic) {
        let line = self.take_line();
        line.watch.begin(deadline, cancel);
        let mut result = self.exchange(&line, post);
        if result.as_ref().is_err_and(|e| is_stale(e, &line.watch.snapshot())) {
            log::debug!("the server had closed an idle connection; opening a new one");
            line.watch.again();
            result = self.exchange(&line, post);
        }
        let exchange = line.watch.snapshot();
        self.give_back(line);
        let Exchange { sent, received, requests, .. } = exchange;
        let traffic = Traffic { sent, received, requests };
        (result.map_err(|e| Trouble::of(e, &exchange)), traffic)
    }

    fn exchange(&self, line: &Line, post: &Post) -> Result<Reply, ureq::Error> {
        let mut request = line.agent.post(self.endpoint.url(post.base, post.path));
        if let Some(headers) = request.headers_mut() {
            self.headers.add_to(headers);
        }
        let mut response = request.send(post.body)?;
        let status = response.status().as_u16();
        let quiet = retry_after::quiet(response.headers());
        match response.body_mut().with_config().limit(post.limit).read_to_vec() {
            Ok(body) => Ok(Reply { status, quiet, body }),
            // The status says all that matters, but to a cancelled call.
            Err(_) if status != 200 && !line.watch.snapshot().cancel.is_raised() => {
                Ok(Reply { status, quiet, body: Vec::new() })
            }
            Err(e) => Err(e),
        }
    }

    fn take_line(&self) -> Line {
        let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.unwrap_or_else(|| {
            let watch = Watch::new();
            let connector = TlsConnector {
                dialler: self.dialler.clone(),
                config: self.tls.clone(),
                name: self.endpoint.name.clone(),
                proxy: self.proxy.clone(),
                watch: watch.clone(),
            };
            Line { agent: Agent::with_parts(self.config.clone(), connector, NoLookup), watch }
        })
    }

    fn give_back(&self, line: Line) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE_LINES {
            idle.push(line);
        }
    }
}

impl Trouble {
    pub fn new(failure: Failure, detail: &str) -> Trouble {
        Trouble { failure, detail: format!(" ({detail})") }
    }

    /// What the caller asked for comes first: a cancelled or late exchange is that, however it
    /// ended.
    fn of(error: ureq::Error, exchange: &Exchange) -> Trouble {
        let failure = if exchange.cancel.is_raised() {
            Failure::Cancelled
        } else if Instant::now() >= exchange.deadline || matches!(error, ureq::Error::Timeout(_)) {
            Failure::Timeout
        } else {
            match (&error, tls_error(&error)) {
                // The first words of something that is no TLS, such as a captive portal's page.
                (_, Some(rustls::Error::InvalidMessage(_)))
                    if exchange.stage == Stage::Handshaking =>
                {
                    Failure::NotTls
                }
                (_, Some(_)) => Failure::Tls,
                (ureq::Error::Io(_) | ureq::Error::ConnectionFailed, _) => Failure::Connect,
                _ => Failure::Protocol,
            }
        };
        let doing = match exchange.stage {
            Stage::Dialling => "connecting",
            Stage::Handshaking => "the TLS handshake",
            Stage::Reused | Stage::Opened => "sending or receiving",
        };
        let advice = tls_error(&error).map(advice).unwrap_or_default();
        Trouble::new(failure, &format!("{doing}: {error}{advice}"))
    }
}

fn tls_error(error: &ureq::Error) -> Option<&rustls::Error> {
    let ureq::Error::Io(error) = error else { return None };
    error.get_ref()?.downcast_ref()
}

/// The connection was one kept alive, and the server had closed it. The server may have seen the
/// request all the same, so this is done once.
fn is_stale(error: &ureq::Error, exchange: &Exchange) -> bool {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof,
    };
    let ureq::Error::Io(e) = error else { return false };
    exchange.stage == Stage::Reused
        && !exchange.answered
        && matches!(
            e.kind(),
            BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof
        )
}

/// No redirects, no proxy of ureq's, no decompression, no status that becomes an error. ureq looks
/// at the proxy variables of the environment when it makes a `Config`; that happens once per
/// client, here, and what it found is dropped.
fn config() -> Config {
    Config::builder()
        .proxy(None)
        .https_only(true)
        .max_redirects(0)
        .http_status_as_error(false)
        .user_agent(concat!("libhybrid/", env!("CARGO_PKG_VERSION")))
        .max_response_header_size(MAX_HEADER_BYTES)
        .input_buffer_size(INPUT_BUFFER_BYTES)
        .output_buffer_size(OUTPUT_BUFFER_BYTES)
        .max_idle_connections(1)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_closed_connection_of_before_is_stale() {
        let mut exchange = Watch::new().snapshot();
        let closed = || ureq::Error::Io(io::ErrorKind::ConnectionReset.into());
        assert!(is_stale(&closed(), &exchange));
        assert!(!is_stale(&ureq::Error::Io(io::ErrorKind::TimedOut.into()), &exchange));
        assert!(!is_stale(&ureq::Error::HostNotFound, &exchange));
        exchange.answered = true;
        assert!(!is_stale(&closed(), &exchange));
        exchange.answered = false;
        exchange.stage = Stage::Opened;
        assert!(!is_stale(&closed(), &exchange));
    }
}
