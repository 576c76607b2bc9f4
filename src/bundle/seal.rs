//! The hash that `bundle.json` has of itself: its last field, over every byte before it. It guards
//! against damage, in the chat template for example, which stands in no other file.

use super::MANIFEST_NAME;
use super::hash::blake3_of;
use crate::error::{Error, Result};

const BEFORE: &str = ",\n  \"manifest_blake3\": \"";
const DIGEST_LEN: usize = 64;
const AFTER: &str = "\"\n}\n";

/// `json`, an object, with the hash as its last field.
///
/// Errors: [`Error::Bundle`] for what is no object.
pub fn seal(json: &str) -> Result<String> {
    let open = json.trim_end().strip_suffix('}').map(str::trim_end);
    let open = open.ok_or_else(|| Error::Bundle(format!("{MANIFEST_NAME} is no object")))?;
    Ok([open, BEFORE, &blake3_of(open.as_bytes()), AFTER].concat())
}

/// The object without its hash, which is compared.
pub(super) fn unseal(json: &[u8]) -> Result<Vec<u8>> {
    let at = json.len().checked_sub(BEFORE.len() + DIGEST_LEN + AFTER.len());
    let (open, tail) = at.and_then(|at| json.split_at_checked(at)).unwrap_or_default();
    let found = tail
        .strip_prefix(BEFORE.as_bytes())
        .and_then(|tail| tail.strip_suffix(AFTER.as_bytes()))
        .ok_or_else(|| {
            Error::Bundle(format!(
                "{MANIFEST_NAME} does not end with its hash; copy the bundle again, or pack the \
                 model again"
            ))
        })?;
    let hash = blake3_of(open);
    if found != hash.as_bytes() {
        return Err(Error::Bundle(format!(
            "{MANIFEST_NAME} has BLAKE3 {hash} where it says {}; copy the bundle again",
            String::from_utf8_lossy(found)
        )));
    }
    Ok([open, b"\n}"].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_covered() {
        let sealed = seal("{\n  \"a\": 1\n}\n").unwrap();
        assert_eq!(unseal(sealed.as_bytes()).unwrap(), b"{\n  \"a\": 1\n}");
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone().into_bytes();
            damaged[at] ^= 1;
            assert!(unseal(&damaged).is_err(), "{at}");
            assert!(unseal(&sealed.as_bytes()[..at]).is_err(), "{at}");
            let mut longer = sealed.clone().into_bytes();
            longer.insert(at, b' ');
            assert!(unseal(&longer).is_err(), "{at}");
        }
        assert!(seal("[]").is_err());
    }
}
