//! TLS as ureq's transport: rustls with ring, TLS 1.2 and 1.3, always verified.

use std::fmt;
use std::io::{Read, Write};
use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::ServerName;
use ureq::Error;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

use super::socket::{Dialler, Socket, Stage, Watch};
use crate::error;

/// The provider is named here and nowhere else; the process-wide default is neither read nor set,
/// so that the program around us may use rustls in its own way.
pub(super) fn client_config(roots: RootCertStore) -> error::Result<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|e| error::Error::Cloud(format!("TLS: {e}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Opens TLS connections to the one server a client talks to, whatever the request says.
pub(super) struct TlsConnector {
    pub dialler: Arc<Dialler>,
    pub config: Arc<ClientConfig>,
    pub name: ServerName<'static>,
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
        let output = self.buffers.output();
        let bytes = output.get(..amount).ok_or(Error::ConnectionFailed)?;
        self.stream.write_all(bytes)?;
        Ok(self.stream.flush()?)
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, Error> {
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        self.watch.update(|exchange| exchange.answered |= amount > 0);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.is_idle()
    }

    fn is_tls(&self) -> bool {
        true
    }
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
