//! Pins: public keys of which the server must have one, besides a certificate that is trusted.

use std::sync::Arc;

use rustls::server::ParsedCertificate;
use rustls::{CertificateError, OtherError};
use rustls_pki_types::CertificateDer;
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

/// The server's own key is one of the pins, or there are none. The keys above it do not count: they
/// may be others' certificates, put beside its own.
pub(super) fn check(
    pins: &[String],
    certificate: &CertificateDer<'_>,
) -> std::result::Result<(), rustls::Error> {
    if pins.is_empty() {
        return Ok(());
    }
    let key = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
    match pins.contains(&base64::encode(&Sha256::digest(&key))) {
        true => Ok(()),
        false => Err(CertificateError::Other(OtherError(Arc::new(NotPinned))).into()),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the server's key is none of the pins")]
pub(super) struct NotPinned;

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
