//! How a cloud LLM is reached, and whom the client trusts: checked when a client is made.

use std::fmt;
use std::path::PathBuf;

use zeroize::{Zeroize, Zeroizing};

/// The wire format of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(i32)]
pub enum ServerKind {
    /// What [`super::Cloud::probe`] finds; before that, [`ServerKind::OpenAi`]. The probe does not
    /// try [`ServerKind::Anthropic`].
    #[default]
    Auto = 0,
    /// OpenAI-style `/v1/completions`: vLLM, SGLang, llama.cpp, TGI, Fireworks, Together and
    /// others.
    OpenAi = 1,
    /// llama.cpp's own `/completion`. Better for that server: ids are exact also within characters
    /// of several tokens.
    LlamaCpp = 2,
    /// SGLang's own `/generate`, with exact ids.
    SgLang = 3,
    /// `/v1/chat/completions` with `"add_generation_prompt": false` and
    /// `"continue_final_message": true`: vLLM, SGLang, llama.cpp.
    ChatContinue = 4,
    /// The same with `"prefix": true` in the last message: Mistral, DeepSeek (under `/beta`).
    ChatPrefix = 5,
    /// The same, and the last message is the assistant's: OpenRouter, Groq, Ollama, LM Studio.
    ChatTrailing = 6,
    /// Anthropic's `/v1/messages`, for models that continue an assistant's message.
    Anthropic = 7,
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

/// A certificate chain and its private key, as PEM in any order.
#[derive(Clone, PartialEq, Eq)]
pub enum ClientIdentity {
    PemFile(PathBuf),
    Pem(Zeroizing<Vec<u8>>),
}

/// How to reach the cloud LLM.
#[derive(Clone, Default)]
pub struct CloudOptions {
    /// `https://host[:port][/path][?query]`. Plain `http` is refused.
    ///
    /// The path is the API's base path, as the server's SDKs take it; none is `/v1`. The query is
    /// sent with every request.
    pub url: String,
    pub server: ServerKind,
    /// Sent as `model` where the wire format has one; empty: left out.
    pub model: String,
    /// Access token, a bearer token but for Anthropic; never logged, absent from `Debug`.
    pub token: Option<String>,
    /// Sent with every request, each a name and a value; never logged, absent from `Debug`.
    pub headers: Vec<(String, String)>,
    /// `http://[user:password@]host[:port]`: a proxy that opens a tunnel to the server (`CONNECT`).
    pub proxy: Option<String>,
    pub roots: Roots,
    /// Trust the system's store too, besides the roots' own certificates.
    pub system_roots_too: bool,
    /// SHA-256 of public keys (SubjectPublicKeyInfo), in base64, of which the server's certificate
    /// must have one, besides being trusted: none, or two and more, so that a key can be replaced.
    pub pins: Vec<String>,
    /// Shown to servers that ask for a client's certificate.
    pub identity: Option<ClientIdentity>,
}

impl fmt::Debug for CloudOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloudOptions")
            .field("kind", &self.server)
            .field("model", &self.model)
            .field("token", &self.token.as_ref().map(|_| "set"))
            .field("roots", &self.roots)
            .field("pins", &self.pins)
            // URL, proxy and headers are left out: there may be a password in them.
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientIdentity::PemFile(path) => f.debug_tuple("PemFile").field(path).finish(),
            ClientIdentity::Pem(_) => f.write_str("Pem"),
        }
    }
}

impl CloudOptions {
    /// Overwrites what is secret.
    pub(super) fn wipe(mut self) {
        self.token.zeroize();
        self.proxy.zeroize();
        self.headers.iter_mut().for_each(|(_, value)| value.zeroize());
    }
}
