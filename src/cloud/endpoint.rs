//! The address of the server, parsed once: every later step can rely on it.

use rustls_pki_types::ServerName;
use ureq::http::Uri;

use crate::error::{Error, Result};

const HTTPS_PORT: u16 = 443;

/// Where to connect and whose certificate to expect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// `https://host:port`, without a slash at the end.
    pub origin: String,
    /// The host as the resolver takes it: no brackets around an IPv6 address.
    pub host: String,
    pub port: u16,
    pub name: ServerName<'static>,
}

impl Endpoint {
    /// Texts of errors never repeat the URL: it may hold a password by mistake.
    pub fn parse(url: &str) -> Result<Endpoint> {
        if url.is_empty() {
            return Err(refused("the URL is missing; give https://host[:port]"));
        }
        let uri: Uri =
            url.parse().map_err(|e| Error::Cloud(format!("the URL is malformed: {e}")))?;
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") => {
                return Err(refused(
                    "plain http is refused, it would show prompt and token to the network; use \
                     https://",
                ));
            }
            _ => return Err(refused("the URL must begin with https://")),
        }
        let authority = uri.authority().ok_or_else(|| refused("the URL has no host"))?;
        if authority.as_str().contains('@') {
            return Err(refused(
                "the URL must not hold a user or password; pass the token as an option",
            ));
        }
        if uri.query().is_some() || !matches!(uri.path(), "" | "/") {
            return Err(refused(
                "the URL must end after host and port; the path is added by the client",
            ));
        }
        let port = port(authority.as_str(), authority.port_u16())?;
        let host = bare(authority.host());
        let name = ServerName::try_from(host)
            .map_err(|_| refused("the URL's host is neither a DNS name nor an IP address"))?
            .to_owned();
        Ok(Endpoint {
            origin: format!("https://{}:{port}", authority.host()),
            host: host.to_owned(),
            port,
            name,
        })
    }
}

/// `http` accepts ports that do not fit into 16 bits and then reports none.
fn port(authority: &str, parsed: Option<u16>) -> Result<u16> {
    let after_host = authority.rsplit(']').next().unwrap_or(authority);
    match parsed {
        Some(0) => Err(refused("port 0 cannot be connected to")),
        Some(port) => Ok(port),
        None if after_host.contains(':') => {
            Err(refused("the URL's port is not a number up to 65535"))
        }
        None => Ok(HTTPS_PORT),
    }
}

fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host)
}

fn refused(why: &str) -> Error {
    Error::Cloud(why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted() {
        let rows = [
            ("https://example.org", "https://example.org:443", "example.org", 443),
            ("https://example.org/", "https://example.org:443", "example.org", 443),
            ("https://127.0.0.1:8443", "https://127.0.0.1:8443", "127.0.0.1", 8443),
            ("https://[::1]:8443/", "https://[::1]:8443", "::1", 8443),
        ];
        for (url, origin, host, port) in rows {
            let endpoint = Endpoint::parse(url).expect(url);
            assert_eq!(
                (endpoint.origin.as_str(), endpoint.host.as_str(), endpoint.port),
                (origin, host, port)
            );
        }
    }

    #[test]
    fn refused_with_a_reason() {
        let rows = [
            ("", "missing"),
            ("http://example.org", "plain http is refused"),
            ("example.org", "https://"),
            ("ftp://example.org", "https://"),
            ("https://", "malformed"),
            ("https://exa mple.org", "malformed"),
            ("https://user:secret@example.org", "must not hold"),
            ("https://example.org/v1", "path is added"),
            ("https://example.org/?q=1", "path is added"),
            ("https://example.org:0", "port 0"),
            ("https://example.org:99999", "65535"),
            ("https://exa_mple..org", "DNS name"),
        ];
        for (url, reason) in rows {
            let error = Endpoint::parse(url).expect_err(url).to_string();
            assert!(error.contains(reason), "{url}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
