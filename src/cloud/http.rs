//! One POST and its answer, within a deadline: connections kept alive, failures sorted by cause.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rustls::ClientConfig;
use ureq::Agent;
use ureq::config::Config;
use ureq::http::HeaderValue;
use ureq::http::header::{AUTHORIZATION, CONTENT_TYPE};

use super::endpoint::Endpoint;
use super::socket::{Dialler, Exchange, Stage, Watch};
use super::tls::{NoLookup, TlsConnector};
use crate::cancel::Cancel;
use crate::consult::Failure;
use crate::error::{Error, Result};

/// The largest answer read. A burst of tokens with log-probabilities is a few kilobytes.
const MAX_BODY_BYTES: u64 = 1 << 20;
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
    authorization: Mutex<Option<HeaderValue>>,
    tls: Arc<ClientConfig>,
    dialler: Arc<Dialler>,
    config: Config,
    idle: Mutex<Vec<Line>>,
}

/// A connection that one exchange at a time may use. The agent keeps it alive and replaces it.
struct Line {
    agent: Agent,
    watch: Watch,
}

/// A complete answer, whatever its status.
#[derive(Debug)]
pub(super) struct Reply {
    pub status: u16,
    pub body: Vec<u8>,
}

/// Why there is no complete answer.
#[derive(Debug)]
pub(super) struct Trouble {
    pub failure: Failure,
    /// For people; holds nothing that was sent.
    pub detail: String,
}

/// Bytes on the network, TLS included.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Traffic {
    pub sent: u64,
    pub received: u64,
}

impl Http {
    pub fn new(endpoint: Endpoint, token: Option<&str>, tls: Arc<ClientConfig>) -> Result<Http> {
        let dialler = Arc::new(Dialler::new(endpoint.host.clone(), endpoint.port));
        Ok(Http {
            authorization: Mutex::new(token.map(authorization).transpose()?),
            config: config(),
            idle: Mutex::new(Vec::new()),
            endpoint,
            tls,
            dialler,
        })
    }

    /// For requests from now on. On an error the old one stays.
    pub fn set_token(&self, token: Option<&str>) -> Result<()> {
        let value = token.map(authorization).transpose()?;
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = value;
        Ok(())
    }

    pub fn origin(&self) -> &str {
        &self.endpoint.origin
    }

    /// Sends `body` (JSON) to `path`. Never retries, with one exception: a connection kept alive
    /// that turns out to be closed before a byte of the answer came is replaced once.
    pub fn post(
        &self,
        path: &str,
        body: &[u8],
        deadline: Instant,
        cancel: &Cancel,
    ) -> (std::result::Result<Reply, Trouble>, Traffic) {
        let line = self.take_line();
        line.watch.begin(deadline, cancel);
        let mut result = self.exchange(&line, path, body);
        if result.as_ref().is_err_and(|e| is_stale(e, &line.watch.snapshot())) {
            log::debug!("the server had closed an idle connection; opening a new one");
            line.watch.again();
            result = self.exchange(&line, path, body);
        }
        let exchange = line.watch.snapshot();
        self.give_back(line);
        let traffic = Traffic { sent: exchange.sent, received: exchange.received };
        (result.map_err(|e| Trouble::of(e, &exchange)), traffic)
    }

    fn exchange(
        &self,
        line: &Line,
        path: &str,
        body: &[u8],
    ) -> std::result::Result<Reply, ureq::Error> {
        let mut request = line
            .agent
            .post(format!("{}{path}", self.endpoint.origin))
            .header(CONTENT_TYPE, "application/json");
        let token = self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(value) = token {
            request = request.header(AUTHORIZATION, value);
        }
        let mut response = request.send(body)?;
        let status = response.status().as_u16();
        match response.body_mut().with_config().limit(MAX_BODY_BYTES).read_to_vec() {
            Ok(body) => Ok(Reply { status, body }),
            // The status says all that matters.
            Err(_) if status != 200 => Ok(Reply { status, body: Vec::new() }),
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
    /// What the caller asked for comes first: a cancelled or late exchange is that, however it
    /// ended.
    fn of(error: ureq::Error, exchange: &Exchange) -> Trouble {
        let failure = if exchange.cancel.is_cancelled() {
            Failure::Cancelled
        } else if Instant::now() >= exchange.deadline || matches!(error, ureq::Error::Timeout(_)) {
            Failure::Timeout
        } else {
            match &error {
                ureq::Error::Io(e) if is_tls(e) => Failure::Tls,
                ureq::Error::Io(_) | ureq::Error::ConnectionFailed => Failure::Connect,
                _ => Failure::Protocol,
            }
        };
        let doing = match exchange.stage {
            Stage::Dialling => "connecting",
            Stage::Handshaking => "the TLS handshake",
            Stage::Reused | Stage::Opened => "sending or receiving",
        };
        Trouble { failure, detail: format!("{doing}: {error}") }
    }
}

fn is_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
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

/// No redirects, no proxy, no decompression, no status that becomes an error. ureq looks at the
/// proxy variables of the environment when it makes a `Config`; that happens once per client, here,
/// and what it found is dropped.
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

fn authorization(token: &str) -> Result<HeaderValue> {
    if token.is_empty() {
        return Err(Error::Cloud("the token is empty; leave it out instead".into()));
    }
    if let Some(at) = token.bytes().position(|b| !(0x21..=0x7e).contains(&b)) {
        return Err(Error::Cloud(format!(
            "the token has a character at byte {at} that a header cannot carry (a space or line \
             end?)"
        )));
    }
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| Error::Cloud("the token cannot be sent as a header".into()))?;
    // Debug output shows "Sensitive" instead of the value.
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_that_a_header_cannot_carry() {
        assert!(authorization("sk-abc.DEF_123").is_ok());
        for token in ["", "abc\n", "abc def", "\u{e4}bc", "a\0b"] {
            let error = authorization(token).unwrap_err().to_string();
            assert!(error.contains("token"), "{error}");
            assert!(token.is_empty() || !error.contains(token), "{error}");
        }
    }

    #[test]
    fn a_token_is_not_shown() {
        assert!(!format!("{:?}", authorization("abcdef").unwrap()).contains("abcdef"));
    }

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
