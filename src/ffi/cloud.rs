//! Cloud
//!
//! A hybrid_cloud is a client of one cloud LLM. It always uses TLS and always verifies the server's
//! certificate. Any number of threads and sessions share one. A build without the feature `cloud`
//! has these functions too; they return HYBRID_ERR_UNSUPPORTED.

use std::ffi::c_char;
use std::sync::Arc;

use super::boundary::{enter, enter_void};
use super::client::{Cloud, CloudOptions, Exchange, Roots, ServerKind};
use super::fault::{Fault, Result, bad};
use super::network::{hybrid_cloud_network, hybrid_cloud_trust};
use super::numbers::{Number, mirror, values};
use super::objects::{self, hybrid_cancel, hybrid_cloud, hybrid_model};
use super::pointers;
use super::sized::{self, SizedStruct, end_of};
use super::stack;
use super::status::hybrid_status;
use crate::breaker::{BreakerReport, BreakerState};
use crate::tokens::Tokens;

/// The wire format of a server.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum hybrid_server {
    /// The one that hybrid_cloud_probe finds; before that, HYBRID_SERVER_OPENAI. The probe does not
    /// try HYBRID_SERVER_ANTHROPIC.
    Auto = 0,
    /// OpenAI-style `/v1/completions`: vLLM, llama.cpp, OpenAI and others.
    Openai = 1,
    /// llama.cpp's own `/completion`: the better choice for that server.
    LlamaCpp = 2,
    /// SGLang's own `/generate`.
    Sglang = 3,
    /// `/v1/chat/completions` with `continue_final_message`: vLLM, SGLang, llama.cpp. Chat formats
    /// need sessions that begin with hybrid_session_chat.
    ChatContinue = 4,
    /// The same with `"prefix": true`: Mistral, DeepSeek.
    ChatPrefix = 5,
    /// The same with a last message of the assistant: OpenRouter, Groq, Ollama, LM Studio.
    ChatTrailing = 6,
    /// Anthropic's `/v1/messages`, for models that continue the assistant's message.
    Anthropic = 7,
}
values!(hybrid_server {
    Auto,
    Openai,
    LlamaCpp,
    Sglang,
    ChatContinue,
    ChatPrefix,
    ChatTrailing,
    Anthropic,
});

impl From<hybrid_server> for ServerKind {
    fn from(server: hybrid_server) -> ServerKind {
        match server {
            hybrid_server::Auto => ServerKind::Auto,
            hybrid_server::Openai => ServerKind::OpenAi,
            hybrid_server::LlamaCpp => ServerKind::LlamaCpp,
            hybrid_server::Sglang => ServerKind::SgLang,
            hybrid_server::ChatContinue => ServerKind::ChatContinue,
            hybrid_server::ChatPrefix => ServerKind::ChatPrefix,
            hybrid_server::ChatTrailing => ServerKind::ChatTrailing,
            hybrid_server::Anthropic => ServerKind::Anthropic,
        }
    }
}

impl From<ServerKind> for hybrid_server {
    fn from(server: ServerKind) -> hybrid_server {
        match server {
            ServerKind::Auto => hybrid_server::Auto,
            ServerKind::OpenAi => hybrid_server::Openai,
            ServerKind::LlamaCpp => hybrid_server::LlamaCpp,
            ServerKind::SgLang => hybrid_server::Sglang,
            ServerKind::ChatContinue => hybrid_server::ChatContinue,
            ServerKind::ChatPrefix => hybrid_server::ChatPrefix,
            ServerKind::ChatTrailing => hybrid_server::ChatTrailing,
            ServerKind::Anthropic => hybrid_server::Anthropic,
        }
    }
}

/// In what form sessions of a model send the context to a server, and get its answer.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum hybrid_exchange {
    /// Not known: no probe has had an answer. Sessions send bytes.
    Unknown = 0,
    /// Token ids: exact, also within a character.
    Ids = 1,
    /// Bytes of text: the server's vocabulary is another one, or it cannot tell.
    Bytes = 2,
    /// The messages of the chat, and the answer so far: a chat format.
    Messages = 3,
}
values!(hybrid_exchange { Unknown, Ids, Bytes, Messages });

impl From<Exchange> for hybrid_exchange {
    fn from(exchange: Exchange) -> hybrid_exchange {
        match exchange {
            Exchange::Ids => hybrid_exchange::Ids,
            Exchange::Bytes => hybrid_exchange::Bytes,
            Exchange::Messages => hybrid_exchange::Messages,
        }
    }
}

/// How to reach a cloud LLM. hybrid_cloud_new copies everything.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct hybrid_cloud_options {
    /// sizeof(hybrid_cloud_options).
    pub struct_size: usize,
    /// Required: `https://host[:port][/path][?query]`. The path is the base path of the API, as the
    /// server's own SDK takes it; without one it is `/v1`. The query is sent with every request.
    pub url: *const c_char,
    /// The model's name, for wire formats that send one. NULL: none. Default: NULL.
    pub model: *const c_char,
    /// Access token, sent as `Authorization: Bearer` (to Anthropic as `x-api-key`), never logged.
    /// NULL: none. Default: NULL.
    pub token: *const c_char,
    /// PEM file with the CA certificates to trust instead of the system's. NULL: `ca_pem`, or the
    /// system's. Default: NULL.
    pub ca_file: *const c_char,
    /// The same in memory. NULL: `ca_file`, or the system's. Default: NULL.
    pub ca_pem: *const c_char,
    /// Bytes of `ca_pem`. Default: 0.
    pub ca_pem_size: usize,
    /// Default: HYBRID_SERVER_AUTO.
    pub server: Number<hybrid_server>,
    /// 0.
    pub reserved: i32,
    /// Headers and a proxy. NULL: none. Default: NULL.
    pub network: *const hybrid_cloud_network,
    /// Pins, and the device's certificate. NULL: none. Default: NULL.
    pub trust: *const hybrid_cloud_trust,
}

// SAFETY: C layout, plain numbers and pointers.
unsafe impl SizedStruct for hybrid_cloud_options {
    const NAME: &'static str = "hybrid_cloud_options";
    const FIRST: usize = end_of!(Self, trust);
    fn neutral() -> Self {
        hybrid_cloud_options {
            struct_size: size_of::<Self>(),
            url: std::ptr::null(),
            model: std::ptr::null(),
            token: std::ptr::null(),
            ca_file: std::ptr::null(),
            ca_pem: std::ptr::null(),
            ca_pem_size: 0,
            server: Number::of(hybrid_server::Auto),
            reserved: 0,
            network: std::ptr::null(),
            trust: std::ptr::null(),
        }
    }
}

/// What a probe found out.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct hybrid_probe {
    /// sizeof(hybrid_probe).
    pub struct_size: usize,
    /// In what form sessions of the model exchange text with the server from now on.
    pub exchange: Number<hybrid_exchange>,
    /// The wire format in use. HYBRID_SERVER_AUTO: not known, since no probe had an answer.
    pub server: Number<hybrid_server>,
}

// SAFETY: C layout, plain numbers.
unsafe impl SizedStruct for hybrid_probe {
    const NAME: &'static str = "hybrid_probe";
    const FIRST: usize = end_of!(Self, server);
    fn neutral() -> Self {
        hybrid_probe {
            struct_size: size_of::<Self>(),
            exchange: Number::of(hybrid_exchange::Unknown),
            server: Number::of(hybrid_server::Auto),
        }
    }
}

/// What the breaker of a cloud does. It opens after three failed consults in a row, or when half of
/// the last ten failed.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum hybrid_breaker_state {
    /// Consults go through.
    Closed = 0,
    /// No session consults until the pause is over.
    Open = 1,
    /// The pause is over. The next consult is a probe, one at a time; its outcome decides.
    HalfOpen = 2,
}
mirror!(hybrid_breaker_state = BreakerState { Closed, Open, HalfOpen });

/// The breaker of a cloud: after failed consults it stops all its sessions from asking for a while.
/// The pause is 1 second and doubles with each failed probe up to 60 seconds. A failure that asking
/// again seldom mends, such as a wrong token or certificate, opens it at once, for 10 seconds
/// doubled up to 10 minutes. A server's `Retry-After` is kept, up to 10 minutes. Each pause is 75
/// to 125 % of that, so that devices do not come back all at once.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct hybrid_breaker {
    /// sizeof(hybrid_breaker).
    pub struct_size: usize,
    /// What it does now.
    pub state: Number<hybrid_breaker_state>,
    /// Consults that failed in a row.
    pub failures: u32,
    /// Milliseconds until the next consult may go through; 0 unless it is open.
    pub retry_in_ms: u64,
}

// SAFETY: C layout, plain numbers.
unsafe impl SizedStruct for hybrid_breaker {
    const NAME: &'static str = "hybrid_breaker";
    const FIRST: usize = end_of!(Self, retry_in_ms);
    fn neutral() -> Self {
        hybrid_breaker {
            struct_size: size_of::<Self>(),
            state: Number::of(hybrid_breaker_state::Closed),
            failures: 0,
            retry_in_ms: 0,
        }
    }
}

/// Sets the defaults. `struct_size` is sizeof(hybrid_cloud_options).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_cloud_options_init(
    options: *mut hybrid_cloud_options,
    struct_size: usize,
) -> hybrid_status {
    // SAFETY: header rule *Structs that grow*.
    enter(|| unsafe { sized::init(options, struct_size, "options") })
}

/// Checks the options and loads the certificates. It sends nothing. `options` is required, since it
/// has the address. `out`: owned; free it with hybrid_cloud_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_cloud_new(
    options: *const hybrid_cloud_options,
    out: *mut *mut hybrid_cloud,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Pointers*.
        let out = unsafe { pointers::out(out, "out", std::ptr::null_mut()) }?;
        // SAFETY: header rule *Structs that grow*.
        let options = unsafe { sized::read_required(options, "options") }?;
        // SAFETY: header rule *Strings*, for the strings of the options.
        let options = unsafe { options.parse() }?;
        stack::check()?;
        *out = objects::give(hybrid_cloud { cloud: Arc::new(Cloud::new(options)?) });
        Ok(())
    })
}

/// Frees the client. Sessions that use it keep it alive. NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_cloud_free(cloud: *mut hybrid_cloud) {
    // SAFETY: header rule *Ownership*.
    enter_void(|| unsafe { objects::free(cloud) });
}

/// Asks the server what it can do: which wire format it has, with HYBRID_SERVER_AUTO; whether it
/// tokenises as `model` does and answers with token ids; of a chat format, whether it continues a
/// message. Where `out->exchange` is HYBRID_EXCHANGE_IDS, sessions of models with this vocabulary
/// send token ids from then on; before this call they send bytes. It sends fixed texts, nothing of
/// yours, and takes 20 seconds at most.
///
/// `cancel` may be NULL; raising it ends the call with HYBRID_ERR_CANCELLED. `out` may be NULL, or
/// set `out->struct_size` before. HYBRID_ERR_CLOUD: the server cannot be reached, refuses the
/// access token, has no format that is known, or begins a new answer where it should continue; the
/// text says which. Sessions work meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_cloud_probe(
    cloud: *mut hybrid_cloud,
    model: *const hybrid_model,
    cancel: *const hybrid_cancel,
    out: *mut hybrid_probe,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Structs that grow*.
        let out = unsafe { sized::optional_out(out, "out") }?;
        // SAFETY: header rule *Pointers*.
        let cloud = unsafe { pointers::reference(cloud, "cloud") }?;
        // SAFETY: header rule *Pointers*.
        let model = unsafe { pointers::reference(model, "model") }?;
        // SAFETY: header rule *Pointers*.
        let cancel = unsafe { pointers::optional_reference(cancel, "cancel") }?;
        let cancel = cancel.map(|cancel| cancel.flag.clone()).unwrap_or_default();
        stack::check()?;
        let tokens: &Tokens = &model.model.tokens;
        let exchange: hybrid_exchange = cloud.cloud.probe(tokens, &cancel)?.into();
        if let Some(out) = out {
            out.set(hybrid_probe {
                exchange: Number::of(exchange),
                server: Number::of(cloud.cloud.server()),
                ..hybrid_probe::neutral()
            });
        }
        Ok(())
    })
}

/// Replaces the access token from the next request on, in every session that uses the cloud, and
/// closes the breaker. NULL: no token. HYBRID_ERR_CLOUD: an HTTP header cannot carry it; the old
/// one stays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_cloud_set_token(
    cloud: *mut hybrid_cloud,
    token: *const c_char,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Pointers*.
        let cloud = unsafe { pointers::reference(cloud, "cloud") }?;
        // SAFETY: header rule *Strings*.
        let token = unsafe { pointers::optional_string(token, "token") }?;
        Ok(cloud.cloud.set_token(token)?)
    })
}

/// Reads the cloud's breaker, which all its sessions share. Set `out->struct_size` before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_cloud_breaker(
    cloud: *const hybrid_cloud,
    out: *mut hybrid_breaker,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Structs that grow*.
        let out = unsafe { sized::out(out, "out") }?;
        // SAFETY: header rule *Pointers*.
        let cloud = unsafe { pointers::reference(cloud, "cloud") }?;
        out.set(cloud.cloud.breaker_report().into());
        Ok(())
    })
}

/// Closes the cloud's breaker and forgets the failures, for example when the network is back.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_cloud_reset_breaker(cloud: *mut hybrid_cloud) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Pointers*.
        let cloud = unsafe { pointers::reference(cloud, "cloud") }?;
        cloud.cloud.reset_breaker();
        Ok(())
    })
}

impl From<BreakerReport> for hybrid_breaker {
    fn from(report: BreakerReport) -> hybrid_breaker {
        let wait = report.retry_in.as_micros().div_ceil(1000);
        hybrid_breaker {
            struct_size: size_of::<hybrid_breaker>(),
            state: Number::of(report.state),
            failures: report.failures,
            retry_in_ms: u64::try_from(wait).unwrap_or(u64::MAX),
        }
    }
}

impl hybrid_cloud_options {
    /// # Safety
    /// Header rules *Strings* and *Pointers*.
    unsafe fn parse(&self) -> Result<CloudOptions> {
        // SAFETY: the caller's rule *Strings*.
        let url = unsafe { pointers::string(self.url, "options.url") }?;
        // SAFETY: the caller's rule *Strings*.
        let model = unsafe { pointers::optional_string(self.model, "options.model") }?;
        // SAFETY: the caller's rule *Strings*.
        let token = unsafe { pointers::optional_string(self.token, "options.token") }?;
        if self.reserved != 0 {
            let text = "options.reserved must be 0; call hybrid_cloud_options_init first";
            return Err(bad(text.into()));
        }
        let mut options = CloudOptions {
            url: url.to_owned(),
            server: self.server.get("options.server")?,
            model: model.unwrap_or_default().to_owned(),
            token: token.map(str::to_owned),
            // SAFETY: the caller's rules *Strings* and *Pointers*.
            roots: unsafe { self.roots() }?,
            ..CloudOptions::default()
        };
        if !self.network.is_null() {
            // SAFETY: the caller's rules *Structs that grow* and *Pointers*.
            let network = unsafe { sized::read_required(self.network, "options.network") }?;
            // SAFETY: the caller's rules *Strings* and *Pointers*.
            unsafe { network.apply(&mut options) }?;
        }
        if !self.trust.is_null() {
            // SAFETY: the caller's rules *Structs that grow* and *Pointers*.
            let trust = unsafe { sized::read_required(self.trust, "options.trust") }?;
            // SAFETY: the caller's rules *Strings* and *Pointers*.
            unsafe { trust.apply(&mut options) }?;
        }
        Ok(options)
    }

    /// # Safety
    /// As [`hybrid_cloud_options::parse`].
    unsafe fn roots(&self) -> Result<Roots> {
        if self.ca_pem.is_null() && self.ca_pem_size > 0 {
            return Err(Fault::Null("options.ca_pem"));
        }
        match (self.ca_file.is_null(), self.ca_pem.is_null()) {
            (true, true) => Ok(Roots::System),
            (false, true) => {
                // SAFETY: the caller's rule *Strings*.
                let file = unsafe { pointers::path(self.ca_file, "options.ca_file") }?;
                Ok(Roots::PemFile(file))
            }
            (true, false) => {
                let pem = self.ca_pem.cast::<u8>();
                // SAFETY: the caller's rule *Pointers*: `ca_pem_size` bytes are readable.
                let pem = unsafe { pointers::slice(pem, self.ca_pem_size, "options.ca_pem") }?;
                Ok(Roots::Pem(pem.to_vec()))
            }
            (false, false) => Err(bad("set one of options.ca_file and options.ca_pem".into())),
        }
    }
}
