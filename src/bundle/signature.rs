//! `bundle.sig`: an ed25519 signature (RFC 8032) over every byte of `bundle.json`, and so, by the
//! hashes in it, over all files. It is the 64 bytes that `openssl pkeyutl -sign -rawin` writes.

use std::fmt;

use ring::signature::{ED25519, UnparsedPublicKey};

use super::MANIFEST_NAME;
use crate::base64;
use crate::error::{Error, Result};

/// The signature's file name.
pub const SIGNATURE_NAME: &str = "bundle.sig";
pub(super) const SIGNATURE_LEN: usize = 64;

/// What stands before the key in the base64 of a SubjectPublicKeyInfo: its 12 bytes of DER.
const BEFORE_KEY: &str = "MCowBQYDK2VwAyEA";

/// The public key of whoever signs the bundles of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// `text` is what `openssl pkey -pubout` prints of an ed25519 key, the whole PEM or its one
    /// line of 60 characters.
    ///
    /// Errors: [`Error::InvalidArgument`] for anything else.
    pub fn parse(text: &str) -> Result<PublicKey> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let key = match (lines.next(), lines.next(), lines.next(), lines.next()) {
            (
                Some("-----BEGIN PUBLIC KEY-----"),
                Some(line),
                Some("-----END PUBLIC KEY-----"),
                None,
            ) => Some(line),
            (Some(line), None, ..) => Some(line),
            _ => None,
        };
        key.and_then(|line| line.strip_prefix(BEFORE_KEY)?.strip_suffix('='))
            .and_then(base64::decode)
            .map(PublicKey)
            .ok_or_else(|| {
                Error::InvalidArgument(format!(
                    "the public key is no ed25519 key in PEM; give what `openssl pkey -pubout` \
                     prints, or its line of 60 characters that begins with {BEFORE_KEY}"
                ))
            })
    }

    /// Whether `signature`, the content of [`SIGNATURE_NAME`] if there is one, is by this key over
    /// the bytes of `bundle.json`.
    pub(super) fn check(&self, json: &[u8], signature: Option<&[u8]>) -> Result<()> {
        let signature = signature.ok_or_else(|| {
            Error::Bundle(format!(
                "the bundle has no {SIGNATURE_NAME}, and the program asks for a signature; sign \
                 the bundle with `hybrid sign` or `hybrid pack --sign`"
            ))
        })?;
        if signature.len() != SIGNATURE_LEN {
            return Err(Error::Bundle(format!(
                "{SIGNATURE_NAME} is no signature of {SIGNATURE_LEN} bytes; copy the bundle again, \
                 or sign it again"
            )));
        }
        UnparsedPublicKey::new(&ED25519, &self.0).verify(json, signature).map_err(|_| {
            Error::Bundle(format!(
                "{SIGNATURE_NAME} is not by the program's public key over this {MANIFEST_NAME}: \
                 one of the two was changed, or another key has signed; copy the bundle again, or \
                 sign it again"
            ))
        })
    }
}

impl From<[u8; 32]> for PublicKey {
    fn from(key: [u8; 32]) -> PublicKey {
        PublicKey(key)
    }
}

/// The line that [`PublicKey::parse`] reads.
impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{BEFORE_KEY}{}", base64::encode(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, 7.1, TEST 2: the key and its signature of the byte 0x72.
    const LINE: &str = "MCowBQYDK2VwAyEAPUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=";
    const SIGNATURE: &str = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";

    fn from_hex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
            .collect()
    }

    #[test]
    fn the_published_signature_is_accepted_and_no_other() {
        let key = PublicKey::parse(LINE).unwrap();
        let signature = from_hex(SIGNATURE);
        key.check(&[0x72], Some(&signature)).unwrap();
        type Case<'a> = (&'a [u8], Option<&'a [u8]>, &'a str);
        let cases: [Case; 6] = [
            (&[0x72], None, "has no bundle.sig"),
            (&[0x72], Some(&[]), "of 64 bytes"),
            (&[0x72], Some(&signature[..63]), "of 64 bytes"),
            (&[0x73], Some(&signature), "is not by the program's public key"),
            (&[], Some(&signature), "is not by the program's public key"),
            (&[0x72], Some(&[0; 64]), "is not by the program's public key"),
        ];
        for (json, signature, expected) in cases {
            let error = key.check(json, signature).unwrap_err().to_string();
            assert!(error.contains(expected), "{expected:?} not in {error}");
        }
        for bit in 0..512 {
            let mut changed = signature.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(key.check(&[0x72], Some(&changed)).is_err(), "{bit}");
        }
    }

    #[test]
    fn a_public_key_is_pem_or_its_line() {
        let whole = format!("-----BEGIN PUBLIC KEY-----\n{LINE}\n-----END PUBLIC KEY-----\n");
        for text in [LINE, &whole, &whole.replace('\n', "\r\n"), &format!("\n {LINE}\n\n")] {
            assert_eq!(PublicKey::parse(text).unwrap().to_string(), LINE);
        }
        let wrong = [
            String::new(),
            LINE[..59].into(),
            LINE[..58].to_owned() + "=",
            LINE.to_owned() + "=",
            LINE.replace('P', "é"),
            LINE.replace("Zgw=", "Zgx="),
            LINE.replace("PUAX", "PU-X"),
            format!("{LINE}\n{LINE}"),
            whole.replace("PUBLIC", "PRIVATE"),
            whole.clone() + &whole,
            // An X25519 key.
            LINE.replace("K2VwAyEA", "K2VuAyEA"),
        ];
        for text in wrong {
            let error = PublicKey::parse(&text).unwrap_err();
            assert!(matches!(&error, Error::InvalidArgument(text) if text.contains("-pubout")));
        }
    }
}
