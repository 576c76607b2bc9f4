//! The cloud client: ureq + rustls. One request a consult, within one deadline; TLS is always
//! verified.
//!
//! Read in this order: `endpoint` and `roots` check the options; `http` sends a body and sorts
//! failures; `tls` and `socket` are what it sends through; `format` says what an answer must have,
//! `openai` and `llama_cpp` are the two wire formats; `probe` compares vocabularies.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::breaker::{BreakerReport, SharedBreaker};
use crate::cancel::Cancel;
use crate::clock;
use crate::consult::{Answer, Consult, Cost, Failure, Request};
use crate::error::{Error, Result};

use endpoint::Endpoint;
use format::{Parsed, Prompt, Question, Shared};
use http::{Http, Reply};

mod endpoint;
mod format;
mod http;
mod llama_cpp;
mod openai;
mod probe;
mod roots;
mod socket;
mod tls;

pub use probe::Vocabulary;

/// The whole probe of a vocabulary, connection and TLS included.
const PROBE_TIME: Duration = Duration::from_secs(10);

/// The wire format of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(i32)]
pub enum ServerKind {
    /// OpenAI-style `/v1/completions` (vLLM, llama.cpp, OpenAI and others).
    #[default]
    OpenAi = 0,
    /// llama.cpp's own `/completion`. Better for that server: ids are exact also within characters
    /// of several tokens.
    LlamaCpp = 1,
}

/// Roots of trust. There is no "none": verification cannot be switched off.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Roots {
    /// The system's store.
    #[default]
    System,
    /// A PEM file with one or more CA certificates; the system's store is not used.
    PemFile(PathBuf),
    /// The same, in memory.
    Pem(Vec<u8>),
}

/// How to reach the cloud LLM.
#[derive(Clone, Default)]
pub struct CloudOptions {
    /// `https://host[:port]`, without a path. Plain `http` is refused.
    pub url: String,
    pub kind: ServerKind,
    /// Sent as `model` where the wire format has one; empty: left out.
    pub model: String,
    /// Bearer token; never logged, absent from `Debug`.
    pub token: Option<String>,
    pub roots: Roots,
}

impl fmt::Debug for CloudOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloudOptions")
            .field("kind", &self.kind)
            .field("model", &self.model)
            .field("token", &self.token.as_ref().map(|_| "set"))
            .field("roots", &self.roots)
            // The URL is left out: a user may have put a password into it.
            .finish_non_exhaustive()
    }
}

/// A client of one cloud LLM, shared by sessions and threads. Implements [`Consult`].
///
/// It starts no thread of its own, with one exception: a new connection is looked up and opened by
/// a helper thread that ends by itself, since neither can be interrupted. Redirects are not
/// followed and proxy variables are ignored. An idle connection that the server has closed is
/// replaced once; nothing else is tried again.
pub struct Cloud {
    http: Http,
    kind: ServerKind,
    model: String,
    breaker: SharedBreaker,
    /// The vocabularies that the server was found to have: several bundles may use one client.
    shared: Mutex<Vec<Arc<Shared>>>,
}

impl Cloud {
    /// Checks the options and loads the roots; sends nothing.
    ///
    /// # Errors
    /// [`Error::Cloud`] for a URL, token or PEM that cannot be used, [`Error::Io`] for a PEM file
    /// that cannot be read. The texts never hold the token.
    pub fn new(options: CloudOptions) -> Result<Cloud> {
        let endpoint = Endpoint::parse(&options.url)?;
        let tls = tls::client_config(roots::load(&options.roots)?)?;
        Ok(Cloud {
            http: Http::new(endpoint, options.token.as_deref(), tls)?,
            kind: options.kind,
            model: options.model,
            breaker: SharedBreaker::new(),
            shared: Mutex::default(),
        })
    }

    /// Asks the server whether its token ids mean what the bundle's ([`crate::tokens::Tokens`])
    /// mean; sessions with this vocabulary exchange ids only after a yes. Without this call, or
    /// after a no, bytes are exchanged. Sends fixed texts and ids, nothing of a user; takes 10 s at
    /// most, less where `cancel` is raised.
    ///
    /// # Errors
    /// [`Error::Cloud`] when the server cannot be reached, its certificate is not accepted, or it
    /// refuses the token; [`Error::Cancelled`]. A server that cannot tokenise is a no.
    pub fn probe_vocabulary(&self, vocabulary: &dyn Vocabulary, cancel: &Cancel) -> Result<bool> {
        let deadline = Instant::now() + PROBE_TIME;
        let post = |path: &str, body: &[u8]| self.probe_post(path, body, deadline, cancel);
        let shared = probe::compare(vocabulary, &self.model, &post)?;
        let equal = shared.is_some();
        log::info!("the server's vocabulary {} the bundle's", if equal { "is" } else { "is not" });
        let mut all = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|one| one.fingerprint != vocabulary.fingerprint());
        all.extend(shared.map(Arc::new));
        Ok(equal)
    }

    /// Another bearer token, or none, for requests from now on; closes the breaker, which a wrong
    /// token opens.
    ///
    /// # Errors
    /// [`Error::Cloud`] for a token that a header cannot carry; the old one stays.
    pub fn set_token(&self, token: Option<&str>) -> Result<()> {
        self.http.set_token(token)?;
        self.breaker.reset();
        Ok(())
    }

    /// The wire format in use.
    pub fn kind(&self) -> ServerKind {
        self.kind
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

    fn probe_post(
        &self,
        path: &str,
        body: &[u8],
        deadline: Instant,
        cancel: &Cancel,
    ) -> Result<Option<Vec<u8>>> {
        let origin = self.http.origin();
        cancel.check()?;
        if !clock::is_set() {
            return Err(Error::Cloud(format!("{}: set it, then try again", Failure::ClockNotSet)));
        }
        let (reply, _) = self.http.post(path, body, deadline, cancel);
        let reply = reply.map_err(|trouble| match trouble.failure {
            Failure::Cancelled => Error::Cancelled,
            failure => Error::Cloud(format!("{origin}: {failure} ({})", trouble.detail)),
        })?;
        match status(&reply) {
            Ok(()) => Ok(Some(reply.body)),
            Err(Failure::Status) if matches!(reply.status, 400 | 404 | 405 | 422 | 501) => Ok(None),
            Err(failure) => {
                Err(Error::Cloud(format!("{origin}{path}: {failure}, {}", reply.status)))
            }
        }
    }

    fn shared(&self, fingerprint: &str) -> Option<Arc<Shared>> {
        let all = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().find(|one| one.fingerprint == fingerprint).cloned()
    }

    fn ask(&self, request: &Request, cost: &mut Cost) -> std::result::Result<Answer, Failure> {
        if request.cancel.is_cancelled() {
            return Err(Failure::Cancelled);
        }
        if !clock::is_set() {
            return Err(Failure::ClockNotSet);
        }
        let shared = self.shared(request.vocabulary);
        let prompt = match shared {
            Some(_) => Prompt::Ids(request.ids),
            None => Prompt::Text(
                std::str::from_utf8(request.bytes).map_err(|_| Failure::UnsafeBoundary)?,
            ),
        };
        let question =
            Question { model: &self.model, prompt, max_tokens: request.max_tokens.max(1) };
        let (path, body) = match self.kind {
            ServerKind::OpenAi => (openai::PATH, openai::write(&question)),
            ServerKind::LlamaCpp => (llama_cpp::PATH, llama_cpp::write(&question)),
        };
        let body = body.map_err(|_| Failure::Protocol)?;

        let (reply, traffic) = self.http.post(path, &body, request.deadline, request.cancel);
        cost.bytes_sent = traffic.sent;
        cost.bytes_received = traffic.received;
        let reply = reply.map_err(|trouble| {
            log::debug!("consult: {}", trouble.detail);
            trouble.failure
        })?;
        status(&reply)?;
        match self.kind {
            ServerKind::OpenAi => read::<openai::Completion>(&reply, &question, shared, cost),
            ServerKind::LlamaCpp => read::<llama_cpp::Completion>(&reply, &question, shared, cost),
        }
    }
}

impl Consult for Cloud {
    fn consult(&self, request: &Request) -> (std::result::Result<Answer, Failure>, Cost) {
        let begun = Instant::now();
        let mut cost = Cost::default();
        let result = self.ask(request, &mut cost);
        cost.elapsed = begun.elapsed();
        match &result {
            Ok(_) => log::debug!("consult: answered in {:?}", cost.elapsed),
            Err(failure) => log::debug!("consult: {failure} after {:?}", cost.elapsed),
        }
        (result, cost)
    }

    fn shares_vocabulary(&self, fingerprint: &str) -> bool {
        self.shared(fingerprint).is_some()
    }

    fn breaker(&self) -> Option<&SharedBreaker> {
        Some(&self.breaker)
    }
}

/// The body of an error is neither read nor logged: servers like to repeat the prompt in it, and
/// some a part of the token.
fn status(reply: &Reply) -> std::result::Result<(), Failure> {
    let failure = match reply.status {
        200 => return Ok(()),
        401 | 403 => Failure::Unauthorized,
        429 | 503 => Failure::Busy,
        _ => Failure::Status,
    };
    log::debug!("the server answered with status {}", reply.status);
    Err(failure)
}

fn read<P: Parsed + serde::de::DeserializeOwned>(
    reply: &Reply,
    question: &Question,
    shared: Option<Arc<Shared>>,
    cost: &mut Cost,
) -> std::result::Result<Answer, Failure> {
    let unusable = |why: &str| {
        log::debug!("the server's answer cannot be used: {why}");
        Failure::Protocol
    };
    let parsed: P =
        serde_json::from_slice(&reply.body).map_err(|_| unusable("not the JSON expected"))?;
    parsed.count(cost);
    let written = parsed.written().map_err(unusable)?;
    written.accept(question, shared.as_deref()).map_err(unusable)
}

impl fmt::Debug for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cloud")
            .field("origin", &self.http.origin())
            .field("kind", &self.kind)
            .field("model", &self.model)
            .finish_non_exhaustive()
    }
}
