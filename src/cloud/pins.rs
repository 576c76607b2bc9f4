//! Pins: public keys of which the server must have one, besides a certificate that is trusted.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};

use crate::base64;
use crate::error::{Error, Result};

/// One could never be replaced: devices that know only the old key would be locked out.
const FEWEST: usize = 2;
const MOST: usize = 16;
/// The SHA-256 of a key in base64.
const TEXT_LEN: usize = 44;

/// Texts of pins without their prefix, checked.
pub(super) fn parse(pins: &[String]) -> Result<Vec<String>> {
    let pins: Vec<String> = pins.iter().map(|pin| parse_one(pin)).collect::<Result<_>>()?;
    let mut distinct = pins.clone();
    distinct.sort();
    distinct.dedup();
    if !pins.is_empty() && !(FEWEST..=MOST).contains(&distinct.len()) {
        return Err(Error::Cloud(format!(
            "{} different pins; give {FEWEST} to {MOST}: today's key and the one to replace it",
            distinct.len()
        )));
    }
    Ok(pins)
}

fn parse_one(pin: &str) -> Result<String> {
    let text = ["sha256//", "sha256/"].iter().find_map(|p| pin.strip_prefix(p)).unwrap_or(pin);
    let digits = text.strip_suffix('=').unwrap_or_default();
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
    match text.len() == TEXT_LEN && digits.bytes().all(fits) && !digits.is_empty() {
        true => Ok(text.to_owned()),
        false => Err(Error::Cloud(
            "a pin must be the SHA-256 of a public key in base64, 44 characters; docs/security.md \
             says how to get it"
                .into(),
        )),
    }
}

/// [`WebPkiServerVerifier`], and then the pins.
#[derive(Debug)]
pub(super) struct Pinned {
    pub inner: Arc<WebPkiServerVerifier>,
    pub pins: Vec<String>,
}

impl Pinned {
    /// The server's own key: those above it may be others' certificates, put beside its own.
    fn has(&self, certificate: &CertificateDer<'_>) -> std::result::Result<bool, rustls::Error> {
        let key = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
        let pin = base64::encode(&Sha256::digest(&key));
        Ok(self.pins.contains(&pin))
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        let verified = self.inner.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )?;
        match self.has(end_entity)? {
            true => Ok(verified),
            false => Err(CertificateError::Other(OtherError(Arc::new(NotPinned))).into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the server's key is none of the pins")]
struct NotPinned;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let [a, b] = ["A", "B"].map(|letter| format!("{}=", letter.repeat(43)));
        let rows: &[(&[&str], bool)] = &[
            (&[], true),
            (&[&a, &b], true),
            (&[&format!("sha256/{a}"), &format!("sha256//{b}")], true),
            (&[&a], false),
            (&[&a, &a], false),
            (&[&a, "abc="], false),
            (&[&a, ""], false),
            (&[&a, &"C".repeat(44)], false),
            (&[&a, &format!("{}=", "!".repeat(43))], false),
        ];
        for (pins, good) in rows {
            let pins: Vec<String> = pins.iter().map(|&pin| pin.to_owned()).collect();
            assert_eq!(parse(&pins).is_ok(), *good, "{pins:?}");
        }
        let many: Vec<_> = (0..=MOST).map(|n| format!("{}{n:02}=", "A".repeat(41))).collect();
        assert!(parse(&many).is_err() && parse(&many[1..]).is_ok());
    }
}
