//! Which server certificates are accepted: those that a trusted CA has signed, and the very ones
//! that the program trusts by name. Where there are pins, they must fit too.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::pins;
use super::roots::{Hash, Trusted, hash};
use crate::error::{Error, Result};

#[derive(Debug)]
pub(super) struct Verifier {
    webpki: Arc<WebPkiServerVerifier>,
    /// Of the program's own certificates.
    own: Vec<Hash>,
    pins: Vec<String>,
}

impl Verifier {
    pub fn new(
        trusted: Trusted,
        pins: Vec<String>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Verifier> {
        let Trusted { store, own } = trusted;
        let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider)
            .build()
            .map_err(|e| Error::Cloud(format!("TLS: {e}")))?;
        Ok(Verifier { webpki, own, pins })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        let judged = self.webpki.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match judged {
            // WebPKI has looked at its dates by then, but not at its names. Nobody needs to vouch
            // for it: it is the certificate that the program named.
            Err(error) if is_self_signed(&error) && self.own.contains(&hash(end_entity)) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            }
            other => {
                other?;
            }
        }
        pins::check(&self.pins, end_entity)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

/// The server shows a CA's certificate as its own, as `openssl req -x509` makes it. rustls has no
/// word of its own for that.
pub(super) fn is_self_signed(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(CertificateError::Other(other)) = error else {
        return false;
    };
    other.to_string().contains("CaUsedAsEndEntity")
}
