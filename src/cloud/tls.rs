//! TLS as ureq's transport: rustls with ring, TLS 1.2 and 1.3, always verified.

use std::fmt;
use std::io::{Read, Write};
use std::sync::Arc;

use rustls::{CertificateError, ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;
use ureq::Error;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

use zeroize::Zeroize;

use super::options::CloudOptions;
use super::pins::{self, NotPinned};
use super::proxy::Proxy;
use super::roots;
use super::socket::{Dialler, Socket, Stage, Watch};
use super::verifier::{Verifier, is_self_signed};
use crate::error::{self, Error as Refused};

/// The provider is named here and nowhere else; the process-wide default is neither read nor set,
/// so that the program around us may use rustls in its own way.
pub(super) fn client_config(options: &CloudOptions) -> error::Result<Arc<ClientConfig>> {
    let trusted = roots::load(&options.roots, options.system_roots_too)?;
    let pins = pins::parse(&options.pins)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier::new(trusted, pins, provider.clone())?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|e| Refused::Cloud(format!("TLS: {e}")))?;
    // rustls calls every verifier but its own dangerous, also one that asks for more.
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let config = match &options.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let (chain, key) = roots::identity(identity)?;
            builder.with_client_auth_cert(chain, key).map_err(|e| {
                Refused::Cloud(format!("the client's certificate and key do not fit: {e}"))
            })?
        }
    };
    Ok(Arc::new(config))
}

/// What to do about a certificate that was not accepted.
pub(super) fn advice(error: &rustls::Error) -> &'static str {
    use CertificateError::*;
    let rustls::Error::InvalidCertificate(reason) = error else { return "" };
    match reason {
        UnknownIssuer => "; no CA that is trusted here has signed it: pass its CA as `ca_file`",
        Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. } => {
            "; look at the device's clock, and at the server's certificate"
        }
        Other(other) if other.0.is::<NotPinned>() => {
            "; a CA that is trusted has signed it, but its key is none of the pins"
        }
        _ if is_self_signed(error) => {
            "; the server's certificate is self-signed, and not one of those in `ca_file`: if it \
             is your server's, pass it as `ca_file`"
        }
        _ => "",
    }
}

/// Opens TLS connections to the one server a client talks to, whatever the request says.
pub(super) struct TlsConnector {
    pub dialler: Arc<Dialler>,
    pub config: Arc<ClientConfig>,
    pub name: ServerName<'static>,
    pub proxy: Option<Arc<Proxy>>,
    pub watch: Watch,
}

impl Connector<()> for TlsConnector {
    type Out = TlsTransport;

    fn connect(
        &self,
        details: &ConnectionDetails,
        _: Option<()>,
    ) -> Result<Option<TlsTransport>, Error> {
        self.watch.update(|exchange| exchange.stage = Stage::Dialling);
        let mut socket = self.dialler.dial(&self.watch)?;
        if let Some(proxy) = &self.proxy {
            proxy.open(&mut socket)?;
            socket.begin_records();
        }

        self.watch.update(|exchange| exchange.stage = Stage::Handshaking);
        let client = ClientConnection::new(self.config.clone(), self.name.clone());
        let mut tls = client.map_err(std::io::Error::other)?;
        tls.complete_io(&mut socket)?;

        self.watch.update(|exchange| exchange.stage = Stage::Opened);
        let sizes = (details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(TlsTransport {
            buffers: LazyBuffers::new(sizes.0, sizes.1),
            stream: StreamOwned::new(tls, socket),
            watch: self.watch.clone(),
        }))
    }
}

/// The timeouts ureq hands over are not needed: the socket knows the deadline itself.
pub(super) struct TlsTransport {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, Socket>,
    watch: Watch,
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), Error> {
        self.watch.ask();
        let output = self.buffers.output();
        let bytes = output.get_mut(..amount).ok_or(Error::ConnectionFailed)?;
        let queued = queue(&mut self.stream, bytes);
        // The token is in it.
        bytes.zeroize();
        Ok(queued?)
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, Error> {
        self.stream.flush()?;
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        self.watch.update(|exchange| exchange.answered |= amount > 0);
        Ok(amount > 0)
    }

    /// Bytes that nobody has asked for would be taken for the next answer, wherever on their way
    /// they are.
    fn is_open(&mut self) -> bool {
        let decrypted = self.stream.conn.process_new_packets();
        self.buffers.input().is_empty()
            && decrypted.is_ok_and(|s| s.plaintext_bytes_to_read() == 0 && !s.peer_has_closed())
            && self.stream.sock.is_idle()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

/// Encrypts `bytes` and leaves them to the next flush, as far as there is room: header and body of
/// a request come one by one, but need not travel so.
fn queue(
    stream: &mut StreamOwned<ClientConnection, Socket>,
    mut bytes: &[u8],
) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let queued = stream.conn.writer().write(bytes)?;
        bytes = bytes.get(queued..).unwrap_or_default();
        if queued == 0 {
            stream.flush()?;
        }
    }
    Ok(())
}

/// The dialler looks names up, and only when it opens a connection.
#[derive(Debug)]
pub(super) struct NoLookup;

impl Resolver for NoLookup {
    fn resolve(
        &self,
        _: &ureq::http::Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        Ok(self.empty())
    }
}

impl fmt::Debug for TlsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConnector").field("dialler", &self.dialler).finish_non_exhaustive()
    }
}

impl fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsTransport").field("socket", &self.stream.sock).finish_non_exhaustive()
    }
}
