//! The cloud client: ureq + rustls.

use std::path::PathBuf;

use crate::bundle::Bundle;
use crate::error::{Error, Result};

/// The wire format of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(i32)]
pub enum ServerKind {
    /// OpenAI-style `/v1/completions` (vLLM, llama.cpp, OpenAI and others).
    #[default]
    OpenAi = 0,
    /// llama.cpp's own `/completion`.
    LlamaCpp = 1,
}

/// Roots of trust. There is no "none": verification cannot be switched off.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Roots {
    /// The system's store.
    #[default]
    System,
    /// A PEM file with one or more CA certificates.
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
    /// Sent as `model` where the wire format has one.
    pub model: String,
    /// Bearer token; never logged, absent from `Debug`.
    pub token: Option<String>,
    pub roots: Roots,
}

/// A client of one cloud LLM, shared by sessions and threads. Implements [`crate::consult::Consult`].
pub struct Cloud {}

impl Cloud {
    /// Checks the options and loads the roots; sends nothing.
    pub fn new(_options: CloudOptions) -> Result<Cloud> {
        Err(Error::Unsupported("not built yet".into()))
    }

    /// Asks the server whether it tokenises as `bundle` does; ids are exchanged only after a yes.
    /// Without this call, or after a no, bytes are exchanged.
    pub fn probe_vocabulary(&self, _bundle: &Bundle) -> Result<bool> {
        Err(Error::Unsupported("not built yet".into()))
    }
}

impl crate::consult::Consult for Cloud {
    fn consult(
        &self,
        _request: &crate::consult::Request,
    ) -> (std::result::Result<crate::consult::Answer, crate::consult::Failure>, crate::consult::Cost)
    {
        (Err(crate::consult::Failure::Connect), Default::default())
    }

    fn shares_vocabulary(&self) -> bool {
        false
    }
}
