//! The cloud client: ureq + rustls. One request a consult, within one deadline; TLS is always
//! verified.
//!
//! Read in this order: `options` is what a program says, `endpoint`, `headers` and `roots` check
//! it; `http` sends a body and sorts failures; `tls`, `verifier`, `pins`, `proxy` and `socket` are
//! what it sends through; `format` says what a wire format is and what an answer must have,
//! `openai`, `llama_cpp`, `sglang`, `chat` and `anthropic` are the formats, `formats` is their
//! table; `probe` compares vocabularies, `trial` finds out what a server really does.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::Value;

use crate::breaker::{BreakerReport, SharedBreaker};
use crate::clock;
use crate::consult::{Answer, Consult, Cost, Failure, Request};
use crate::error::Result;

use continuation::{Continues, NEVER_CONTINUES};
use endpoint::Endpoint;
use format::{Prompt, Question, Shared, Wire};
use headers::Headers;
use http::{Http, Post, Reply, Trouble};
use proxy::Proxy;

mod anthropic;
mod chat;
mod continuation;
mod endpoint;
mod format;
mod formats;
mod headers;
mod http;
mod llama_cpp;
mod openai;
mod options;
mod pins;
mod probe;
mod proxy;
mod retry_after;
mod roots;
mod sglang;
mod socket;
mod tls;
mod trial;
mod verifier;

pub use options::{ClientIdentity, CloudOptions, Roots, ServerKind};
pub use probe::Vocabulary;
pub use trial::Exchange;

/// The largest answer read, beyond what is said for each token and for what was sent: some servers
/// repeat the prompt, as ids or with log-probabilities.
const ANSWER_BYTES: u64 = 64 << 10;
const ANSWER_BYTES_PER_TOKEN: u64 = 1 << 10;

/// A client of one cloud LLM, shared by sessions and threads. Implements [`Consult`].
///
/// It starts no thread of its own, with one exception: a new connection is looked up and opened by
/// a helper thread that ends by itself, since neither can be interrupted. Redirects are not
/// followed and proxy variables are ignored. An idle connection that the server has closed is
/// replaced once, and [`Cost::requests`] then counts two; nothing else is tried again.
pub struct Cloud {
    http: Http,
    kind: ServerKind,
    model: String,
    breaker: SharedBreaker,
    found: Mutex<Found>,
}

/// What is known of the server.
#[derive(Clone)]
struct Found {
    kind: ServerKind,
    continues: Continues,
    /// The vocabularies that it was found to have: several bundles may use one client.
    shared: Vec<Arc<Shared>>,
}

impl Cloud {
    /// Checks the options and loads the roots; sends nothing.
    ///
    /// # Errors
    /// [`crate::Error::Cloud`] for a URL, token, header, proxy, pin or PEM that cannot be used,
    /// [`crate::Error::Io`] for a PEM file that cannot be read. The texts never hold a secret.
    pub fn new(options: CloudOptions) -> Result<Cloud> {
        let cloud = Cloud::open(&options);
        options.wipe();
        cloud
    }

    fn open(options: &CloudOptions) -> Result<Cloud> {
        let endpoint = Endpoint::parse(&options.url)?;
        let headers = Headers::new(
            Wire::of(options.server).auth,
            options.token.as_deref(),
            &options.headers,
        )?;
        let server = endpoint.origin.trim_start_matches("https://");
        let proxy = options.proxy.as_deref().map(|url| Proxy::parse(url, server)).transpose()?;
        let tls = tls::client_config(options)?;
        Ok(Cloud {
            http: Http::new(endpoint, headers, tls, proxy),
            kind: options.server,
            model: options.model.clone(),
            breaker: SharedBreaker::new(),
            found: Mutex::new(Found {
                kind: options.server,
                continues: Continues::Unknown,
                shared: Vec::new(),
            }),
        })
    }

    /// Another access token, or none, for requests from now on; closes the breaker, which a wrong
    /// token opens.
    ///
    /// # Errors
    /// [`crate::Error::Cloud`] for a token that a header cannot carry; the old one stays.
    pub fn set_token(&self, token: Option<&str>) -> Result<()> {
        self.http.headers().set_token(token)?;
        self.breaker.reset();
        Ok(())
    }

    /// The wire format in use; [`ServerKind::Auto`] until a probe has found one.
    pub fn server(&self) -> ServerKind {
        self.found().kind
    }

    /// Whether failed consults keep sessions from asking.
    pub fn breaker_report(&self) -> BreakerReport {
        self.breaker.report()
    }

    /// Closes the breaker: the next consult goes through. For a caller who knows that what was
    /// wrong is mended.
    pub fn reset_breaker(&self) {
        self.breaker.reset();
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, request: &Request, cost: &mut Cost) -> std::result::Result<Answer, Trouble> {
        if request.cancel.is_raised() {
            return Err(Failure::Cancelled.into());
        }
        if !clock::is_set() {
            return Err(Failure::ClockNotSet.into());
        }
        let Found { kind, continues, shared } = self.found().clone();
        let wire = Wire::of(kind);
        let shared = shared.into_iter().find(|one| one.fingerprint == request.vocabulary);
        let text = || std::str::from_utf8(request.bytes).map_err(|_| Failure::UnsafeBoundary);
        let prompt = match shared {
            _ if continues == Continues::Never => {
                return Err(Trouble::new(Failure::Protocol, NEVER_CONTINUES));
            }
            _ if wire.takes_messages => {
                text()?;
                Prompt::Chat(request.chat.ok_or(Failure::NeedsMessages)?)
            }
            Some(_) => Prompt::Ids(request.ids),
            None => Prompt::Text(text()?),
        };
        let question =
            Question { model: &self.model, prompt, max_tokens: request.max_tokens.max(1) };
        let body = (wire.write)(&question);
        let limit = ANSWER_BYTES
            + ANSWER_BYTES_PER_TOKEN * u64::from(question.max_tokens)
            + 2 * body.len() as u64;
        let post = Post { base: wire.base, path: wire.path, body: &body, limit };

        let (reply, traffic) = self.http.post(&post, request.deadline, request.cancel);
        cost.bytes_sent = traffic.sent;
        cost.bytes_received = traffic.received;
        cost.requests = traffic.requests;
        let reply = reply?;
        cost.http_status = reply.status;
        cost.quiet = reply.quiet;
        status(&reply)?;
        let unusable = |why: &str| Trouble::new(Failure::Protocol, why);
        let answer: Value = serde_json::from_slice(&reply.body)
            .map_err(|_| unusable("the answer is not the JSON expected"))?;
        wire.count(&answer, cost);
        let written = (wire.read)(&answer).map_err(unusable)?;
        written.accept(&question, shared.as_deref(), continues).map_err(unusable)
    }
}

impl Consult for Cloud {
    fn consult(&self, request: &Request) -> (std::result::Result<Answer, Failure>, Cost) {
        let begun = Instant::now();
        let mut cost = Cost::default();
        let result = self.ask(request, &mut cost);
        cost.elapsed = begun.elapsed();
        let result = result.map_err(|Trouble { failure, detail }| {
            // Nobody need act on these.
            let expected = matches!(failure, Failure::Cancelled | Failure::UnsafeBoundary);
            let level = if expected { log::Level::Debug } else { log::Level::Warn };
            log::log!(level, "consult: {failure} after {:?}{detail}", cost.elapsed);
            failure
        });
        if result.is_ok() {
            log::debug!("consult: answered in {:?}", cost.elapsed);
        }
        (result, cost)
    }

    fn shares_vocabulary(&self, fingerprint: &str) -> bool {
        self.found().shared.iter().any(|one| one.fingerprint == fingerprint)
    }

    fn needs_messages(&self) -> bool {
        Wire::of(self.found().kind).takes_messages
    }

    fn breaker(&self) -> Option<&SharedBreaker> {
        Some(&self.breaker)
    }
}

/// The body of an error is neither read nor logged: servers like to repeat the prompt in it, and
/// some a part of the token.
fn status(reply: &Reply) -> std::result::Result<(), Trouble> {
    let (failure, meaning) = match reply.status {
        200 => return Ok(()),
        401 => (Failure::Unauthorized, ""),
        403 => (Failure::Unauthorized, ": the token may not do this, or something in between"),
        429 | 503 => (Failure::Busy, ""),
        301 | 302 | 303 | 307 | 308 => (Failure::Status, ": a redirect, which is not followed"),
        400 | 422 => (Failure::Status, ": the server does not like the request"),
        402 => (Failure::Status, ": the account needs money"),
        404 | 405 => (Failure::Status, ": wrong path or model"),
        413 => (Failure::Status, ": the context is too long for the server"),
        500..=599 => (Failure::Status, ": the server is in trouble"),
        _ => (Failure::Status, ""),
    };
    Err(Trouble::new(failure, &format!("status {}{meaning}", reply.status)))
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Trouble {
        Trouble { failure, detail: String::new() }
    }
}

impl fmt::Debug for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cloud")
            .field("origin", &self.http.origin())
            .field("kind", &self.server())
            .field("model", &self.model)
            .finish_non_exhaustive()
    }
}
