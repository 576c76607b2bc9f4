//! What is sent with every request: the token, and the headers of the program. Nobody logs them,
//! and they are wiped when nobody needs them any more.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use ureq::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use ureq::http::{HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// Extra headers at most.
const MOST: usize = 32;

/// How a server wants its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Auth {
    Bearer,
    /// The token alone, in a header of its own.
    ApiKey,
}

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// What Anthropic wants beside its key.
const VERSION: HeaderName = HeaderName::from_static("anthropic-version");

pub(super) struct Headers {
    auth: Auth,
    token: Mutex<Option<HeaderValue>>,
    extra: Vec<(HeaderName, HeaderValue)>,
}

impl Headers {
    pub fn new(auth: Auth, token: Option<&str>, extra: &[(String, String)]) -> Result<Headers> {
        if extra.len() > MOST {
            return Err(Error::Cloud(format!("{} headers; {MOST} at most", extra.len())));
        }
        let token = token.map(|token| credential(auth, token)).transpose()?;
        let mut extra: Vec<_> =
            extra.iter().map(|(name, value)| header(name, value)).collect::<Result<_>>()?;
        if auth == Auth::ApiKey {
            // First, so that the program may name another one.
            extra.insert(0, (VERSION, HeaderValue::from_static("2023-06-01")));
        }
        Ok(Headers { auth, token: Mutex::new(token), extra })
    }

    /// For requests from now on. On an error the old one stays.
    pub fn set_token(&self, token: Option<&str>) -> Result<()> {
        let value = token.map(|token| credential(self.auth, token)).transpose()?;
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = value;
        Ok(())
    }

    pub fn add_to(&self, headers: &mut HeaderMap) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(value) = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            let name = if self.auth == Auth::Bearer { AUTHORIZATION } else { API_KEY };
            headers.insert(name, value);
        }
        for (name, value) in &self.extra {
            headers.insert(name, value.clone());
        }
    }
}

fn credential(auth: Auth, token: &str) -> Result<HeaderValue> {
    if token.is_empty() {
        return Err(Error::Cloud("the token is empty; leave it out instead".into()));
    }
    if let Some(at) = token.bytes().position(|b| !(0x21..=0x7e).contains(&b)) {
        return Err(Error::Cloud(format!(
            "the token has a character at byte {at} that a header cannot carry (a space or line \
             end?)"
        )));
    }
    let value = match auth {
        Auth::Bearer => [b"Bearer ", token.as_bytes()].concat(),
        Auth::ApiKey => token.as_bytes().to_vec(),
    };
    secret(value).ok_or_else(|| Error::Cloud("the token cannot be sent as a header".into()))
}

/// Names and values are not repeated in errors: who mixes them up has a secret in the name.
fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue)> {
    let name = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| Error::Cloud("a header's name is none that HTTP knows".into()))?;
    if [HOST, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING].contains(&name) {
        return Err(Error::Cloud(format!("the header {name} belongs to the client")));
    }
    let value = secret(value.as_bytes().to_vec()).ok_or_else(|| {
        Error::Cloud(format!("the header {name} has a value that HTTP cannot carry (a line end?)"))
    })?;
    Ok((name, value))
}

/// A value that debug output shows as "Sensitive", and that is wiped with its last copy.
fn secret(value: Vec<u8>) -> Option<HeaderValue> {
    let bytes = Bytes::from_owner(Zeroizing::new(value));
    let mut value = HeaderValue::from_maybe_shared(bytes).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_that_a_header_cannot_carry() {
        assert!(credential(Auth::Bearer, "sk-abc.DEF_123").is_ok());
        for token in ["", "abc\n", "abc def", "\u{e4}bc", "a\0b"] {
            let error = credential(Auth::Bearer, token).unwrap_err().to_string();
            assert!(error.contains("token"), "{error}");
            assert!(token.is_empty() || !error.contains(token), "{error}");
        }
    }

    #[test]
    fn a_token_is_not_shown() {
        assert!(!format!("{:?}", credential(Auth::ApiKey, "abcdef").unwrap()).contains("abcdef"));
    }

    #[test]
    fn what_is_sent() {
        let extra = [("api-key", "k 1"), ("X-Route", "a, b")];
        let extra = extra.map(|(name, value)| (name.to_owned(), value.to_owned()));
        for (auth, name, value) in
            [(Auth::Bearer, "authorization", "Bearer abc"), (Auth::ApiKey, "x-api-key", "abc")]
        {
            let headers = Headers::new(auth, Some("abc"), &extra).unwrap();
            let mut map = HeaderMap::new();
            headers.add_to(&mut map);
            let rows = [(name, value), ("api-key", "k 1"), ("x-route", "a, b")];
            for (name, value) in rows {
                assert_eq!(map[name], value);
                assert!(map[name].is_sensitive());
            }
            headers.set_token(None).unwrap();
            let mut map = HeaderMap::new();
            headers.add_to(&mut map);
            assert!(!map.contains_key(name));
        }
    }

    #[test]
    fn headers_that_cannot_be() {
        let rows = [
            ("", "x", "name"),
            ("a b", "x", "name"),
            ("a:", "x", "name"),
            ("a", "x\r\nb: c", "line end"),
            ("Host", "x", "host belongs"),
            ("content-length", "1", "belongs"),
        ];
        for (name, value, reason) in rows {
            let extra = [(name.to_owned(), value.to_owned())];
            let error = Headers::new(Auth::Bearer, None, &extra).err().unwrap().to_string();
            assert!(error.contains(reason), "{error}");
        }
        let many = vec![("a".to_owned(), "b".to_owned()); MOST + 1];
        assert!(Headers::new(Auth::Bearer, None, &many).is_err());
    }
}
