//! The cloud client, or what stands in for it in a build without the feature `cloud`: the same
//! names, and a client that nothing can make.

#[cfg(feature = "cloud")]
pub(super) use crate::cloud::{ClientIdentity, Cloud, CloudOptions, Exchange, Roots, ServerKind};

#[cfg(not(feature = "cloud"))]
pub(super) use absent::{ClientIdentity, Cloud, CloudOptions, Exchange, Roots, ServerKind};

#[cfg(not(feature = "cloud"))]
#[expect(dead_code, reason = "options that no client reads")]
mod absent {
    use std::path::PathBuf;

    use crate::breaker::BreakerReport;
    use crate::cancel::Cancel;
    use crate::consult::{Answer, Consult, Cost, Failure, Request};
    use crate::error::{Error, Result};
    use crate::tokens::Tokens;

    pub enum Cloud {}

    #[derive(Default)]
    pub struct CloudOptions {
        pub url: String,
        pub server: ServerKind,
        pub model: String,
        pub token: Option<String>,
        pub headers: Vec<(String, String)>,
        pub proxy: Option<String>,
        pub roots: Roots,
        pub system_roots_too: bool,
        pub pins: Vec<String>,
        pub identity: Option<ClientIdentity>,
    }

    pub enum ClientIdentity {
        PemFile(PathBuf),
        Pem(Box<[u8]>),
    }

    #[derive(Default)]
    pub enum Roots {
        #[default]
        System,
        PemFile(PathBuf),
        Pem(Vec<u8>),
    }

    #[derive(Default)]
    pub enum ServerKind {
        #[default]
        Auto,
        OpenAi,
        LlamaCpp,
        SgLang,
        ChatContinue,
        ChatPrefix,
        ChatTrailing,
        Anthropic,
    }

    #[derive(PartialEq, Eq)]
    pub enum Exchange {
        Ids,
        Bytes,
        Messages,
    }

    impl Cloud {
        pub fn new(_options: CloudOptions) -> Result<Cloud> {
            let text = "this build has no cloud client; build libhybrid with the feature `cloud`";
            Err(Error::Unsupported(text.into()))
        }

        pub fn probe(&self, _tokens: &Tokens, _cancel: &Cancel) -> Result<Exchange> {
            match *self {}
        }

        pub fn server(&self) -> ServerKind {
            match *self {}
        }

        pub fn breaker_report(&self) -> BreakerReport {
            match *self {}
        }

        pub fn reset_breaker(&self) {
            match *self {}
        }

        pub fn set_token(&self, _token: Option<&str>) -> Result<()> {
            match *self {}
        }
    }

    impl Consult for Cloud {
        fn consult(&self, _request: &Request) -> (std::result::Result<Answer, Failure>, Cost) {
            match *self {}
        }

        fn shares_vocabulary(&self, _fingerprint: &str) -> bool {
            match *self {}
        }
    }
}
