//! Cloud
//!
//! A hybrid_cloud is a client of one cloud LLM, always over TLS with the server's certificate
//! verified. Any number of threads and sessions share one. A build without the feature `cloud`
//! has these functions too; they return HYBRID_ERR_UNSUPPORTED.

use std::ffi::c_char;
use std::sync::Arc;

use super::boundary::{Result, enter, enter_void};
use super::objects::{self, hybrid_cloud, hybrid_model};
use super::pointers;
use super::sized::{self, SizedStruct, end_of};
use super::status::hybrid_status;
use crate::tokens::Tokens;

/// The wire format of a server.
pub type hybrid_server = i32;

/// OpenAI-style `/v1/completions`: vLLM, llama.cpp, OpenAI and others.
pub const HYBRID_SERVER_OPENAI: hybrid_server = 0;
/// llama.cpp's own `/completion`: the better choice for that server.
pub const HYBRID_SERVER_LLAMA_CPP: hybrid_server = 1;

/// How to reach a cloud LLM. Everything is copied by hybrid_cloud_new.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct hybrid_cloud_options {
    pub struct_size: usize,
    /// Required: `https://host` or `https://host:port`, without a path.
    pub url: *const c_char,
    /// Sent as the model's name where the wire format has one; NULL for none.
    pub model: *const c_char,
    /// Access token, sent as `Authorization: Bearer`; never logged. NULL for none.
    pub token: *const c_char,
    /// PEM file with the CA certificates to trust in place of the system's; NULL for `ca_pem` or the
    /// system's.
    pub ca_file: *const c_char,
    /// The same in memory, `ca_pem_size` bytes; NULL for `ca_file` or the system's.
    pub ca_pem: *const c_char,
    pub ca_pem_size: usize,
    /// Default: HYBRID_SERVER_OPENAI.
    pub server: hybrid_server,
    /// 0.
    pub reserved: i32,
}

// SAFETY: C layout, plain numbers and pointers.
unsafe impl SizedStruct for hybrid_cloud_options {
    const NAME: &'static str = "hybrid_cloud_options";
    const FIRST: usize = end_of!(Self, reserved);
    fn neutral() -> Self {
        hybrid_cloud_options {
            struct_size: size_of::<Self>(),
            url: std::ptr::null(),
            model: std::ptr::null(),
            token: std::ptr::null(),
            ca_file: std::ptr::null(),
            ca_pem: std::ptr::null(),
            ca_pem_size: 0,
            server: HYBRID_SERVER_OPENAI,
            reserved: 0,
        }
    }
}

/// Sets the defaults. `struct_size` is `sizeof(hybrid_cloud_options)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_cloud_options_init(
    options: *mut hybrid_cloud_options,
    struct_size: usize,
) -> hybrid_status {
    // SAFETY: header rule *Structs that grow*.
    enter(|| unsafe { sized::init(options, struct_size, "options") })
}

/// Checks the options and loads the certificates; sends nothing. `options` is required, since it
/// has the address. `out`: owned, free it with hybrid_cloud_free.
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
        let cloud = unsafe { client::open(&options) }?;
        *out = objects::give(hybrid_cloud { cloud });
        Ok(())
    })
}

/// Frees the client; sessions that use it keep it alive. NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_cloud_free(cloud: *mut hybrid_cloud) {
    // SAFETY: header rule *Ownership*.
    enter_void(|| unsafe { objects::free(cloud) });
}

/// Asks the server whether it tokenises as `model` does. `shared` (may be NULL) gets 1 for yes: from
/// then on tokens cross the wire as ids. Without this call, or after a no (0), bytes are exchanged.
/// Sends fixed texts and nothing of yours; takes 10 seconds at most. HYBRID_ERR_CLOUD: the server
/// cannot be reached or does not let us in; try again later, sessions work meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_cloud_probe_vocabulary(
    cloud: *const hybrid_cloud,
    model: *const hybrid_model,
    shared: *mut i32,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Pointers*.
        let shared = unsafe { pointers::optional_out(shared, "shared", 0) }?;
        // SAFETY: header rule *Pointers*.
        let cloud = unsafe { pointers::reference(cloud, "cloud") }?;
        // SAFETY: header rule *Pointers*.
        let model = unsafe { pointers::reference(model, "model") }?;
        let tokens: &Tokens = &model.model.tokens;
        let answer = cloud.cloud.probe_vocabulary(tokens)?;
        if let Some(shared) = shared {
            *shared = answer.into();
        }
        Ok(())
    })
}

#[cfg(feature = "cloud")]
pub(super) mod client {
    use super::*;
    pub(in crate::ffi) use crate::cloud::Cloud;
    use crate::cloud::{CloudOptions, Roots, ServerKind};

    /// # Safety
    /// Header rule *Strings*: the pointers in `options` are NULL or as documented there.
    pub(super) unsafe fn open(options: &hybrid_cloud_options) -> Result<Arc<Cloud>> {
        // SAFETY: header rule *Strings*.
        let url = unsafe { pointers::string(options.url, "options.url") }?;
        // SAFETY: header rule *Strings*.
        let model = unsafe { pointers::optional_string(options.model, "options.model") }?;
        // SAFETY: header rule *Strings*.
        let token = unsafe { pointers::optional_string(options.token, "options.token") }?;
        Ok(Arc::new(Cloud::new(CloudOptions {
            url: url.to_owned(),
            kind: kind(options.server)?,
            model: model.unwrap_or_default().to_owned(),
            token: token.map(str::to_owned),
            // SAFETY: header rules *Strings* and *Pointers*.
            roots: unsafe { roots(options) }?,
        })?))
    }

    /// # Safety
    /// As [`open`].
    unsafe fn roots(options: &hybrid_cloud_options) -> Result<Roots> {
        match (options.ca_file.is_null(), options.ca_pem.is_null()) {
            (true, true) => Ok(Roots::System),
            (false, true) => {
                // SAFETY: header rule *Strings*.
                let path = unsafe { pointers::path(options.ca_file, "options.ca_file") }?;
                Ok(Roots::PemFile(path))
            }
            (true, false) => {
                let (pem, size) = (options.ca_pem.cast::<u8>(), options.ca_pem_size);
                // SAFETY: header rule *Pointers*: `ca_pem_size` bytes are readable.
                Ok(Roots::Pem(unsafe { pointers::slice(pem, size, "options.ca_pem") }?.to_vec()))
            }
            (false, false) => {
                Err(pointers::bad("set one of options.ca_file and options.ca_pem".into()))
            }
        }
    }

    fn kind(server: hybrid_server) -> Result<ServerKind> {
        match server {
            HYBRID_SERVER_OPENAI => Ok(ServerKind::OpenAi),
            HYBRID_SERVER_LLAMA_CPP => Ok(ServerKind::LlamaCpp),
            other => Err(pointers::bad(format!("options.server is {other}; see HYBRID_SERVER_"))),
        }
    }
}

/// What stands in for the client in a build without it: a type that has no values.
#[cfg(not(feature = "cloud"))]
pub(super) mod client {
    use super::*;
    use crate::consult::{Answer, Consult, Cost, Failure, Request};
    use crate::error::Error;
    use crate::tokens::Tokens;

    pub(in crate::ffi) enum Cloud {}

    /// # Safety
    /// None is needed; the signature is that of the real one.
    pub(super) unsafe fn open(_options: &hybrid_cloud_options) -> Result<Arc<Cloud>> {
        let text = "this build has no cloud client; build libhybrid with the feature `cloud`";
        Err(Error::Unsupported(text.into()).into())
    }

    impl Cloud {
        pub(super) fn probe_vocabulary(&self, _tokens: &Tokens) -> crate::error::Result<bool> {
            match *self {}
        }
    }

    impl Consult for Cloud {
        fn consult(&self, _request: &Request) -> (std::result::Result<Answer, Failure>, Cost) {
            match *self {}
        }

        fn shares_vocabulary(&self) -> bool {
            match *self {}
        }
    }
}
