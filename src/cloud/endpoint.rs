//! The address of the server, parsed once: every later step can rely on it.

use rustls_pki_types::ServerName;
use ureq::http::Uri;

use crate::error::{Error, Result};

const HTTPS_PORT: u16 = 443;
const HTTP_PORT: u16 = 80;
/// The base path of an API whose URL has none.
const API: &str = "/v1";

/// Where to connect, whose certificate to expect, and what comes before each path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// `https://host:port`, without a slash at the end.
    pub origin: String,
    /// The host as the resolver takes it: no brackets around an IPv6 address.
    pub host: String,
    pub port: u16,
    pub name: ServerName<'static>,
    /// Of the URL, without a slash at the end.
    path: String,
    /// With its question mark; empty for none.
    query: String,
}

/// What a path of the server follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    /// The URL's path, [`API`] without one.
    Api,
    /// Where the server begins: the URL's path without an [`API`] at its end.
    Server,
}

impl Endpoint {
    /// Texts of errors never repeat the URL: it may hold a password by mistake.
    pub fn parse(url: &str) -> Result<Endpoint> {
        if url.is_empty() {
            return Err(refused("the URL is missing; give https://host[:port][/path]"));
        }
        let uri = parse(url, "the URL")?;
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
        let port = port(authority.as_str(), authority.port_u16(), HTTPS_PORT)?;
        let host = bare(authority.host());
        let name = ServerName::try_from(host)
            .map_err(|_| refused("the URL's host is neither a DNS name nor an IP address"))?
            .to_owned();
        Ok(Endpoint {
            origin: format!("https://{}:{port}", authority.host()),
            host: host.to_owned(),
            port,
            name,
            path: uri.path().trim_end_matches('/').to_owned(),
            query: uri.query().map(|query| format!("?{query}")).unwrap_or_default(),
        })
    }

    /// The whole URL of `path`.
    pub fn url(&self, base: Base, path: &str) -> String {
        let before = match base {
            Base::Api if self.path.is_empty() => API,
            Base::Api => &self.path,
            Base::Server => self.path.strip_suffix(API).unwrap_or(&self.path),
        };
        format!("{}{before}{path}{}", self.origin, self.query)
    }
}

/// The host and port of a proxy, and `user:password` where the URL has them.
pub(super) fn proxy(url: &str) -> Result<(String, u16, Option<String>)> {
    let uri = parse(url, "the proxy's URL")?;
    if uri.scheme_str() != Some("http") || !matches!(uri.path(), "" | "/") {
        return Err(refused("the proxy's URL must be http://[user:password@]host[:port]"));
    }
    let authority = uri.authority().ok_or_else(|| refused("the proxy's URL has no host"))?;
    let port = port(authority.as_str(), authority.port_u16(), HTTP_PORT)?;
    let user = authority.as_str().rsplit_once('@').map(|(user, _)| user.to_owned());
    Ok((bare(authority.host()).to_owned(), port, user))
}

fn parse(url: &str, what: &str) -> Result<Uri> {
    // `http` would drop it without a word.
    if url.contains('#') {
        return Err(Error::Cloud(format!("{what} must not have a #fragment; take it away")));
    }
    url.parse().map_err(|e| Error::Cloud(format!("{what} is malformed: {e}")))
}

/// `http` accepts ports that do not fit into 16 bits and then reports none.
fn port(authority: &str, parsed: Option<u16>, default: u16) -> Result<u16> {
    let host = authority.rsplit('@').next().unwrap_or(authority);
    let after_host = host.rsplit(']').next().unwrap_or(host);
    match parsed {
        Some(0) => Err(refused("port 0 cannot be connected to")),
        Some(port) => Ok(port),
        None if after_host.contains(':') => {
            Err(refused("the URL's port is not a number up to 65535"))
        }
        None => Ok(default),
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

    /// URL, then where an API's path and a server's own path are.
    #[test]
    fn paths() {
        let rows = [
            ("https://h", "https://h:443/v1/p", "https://h:443/p"),
            ("https://h/", "https://h:443/v1/p", "https://h:443/p"),
            ("https://h/v1", "https://h:443/v1/p", "https://h:443/p"),
            ("https://h/api/v1/", "https://h:443/api/v1/p", "https://h:443/api/p"),
            ("https://h/beta", "https://h:443/beta/p", "https://h:443/beta/p"),
            ("https://h/v1?a=b&c=%20", "https://h:443/v1/p?a=b&c=%20", "https://h:443/p?a=b&c=%20"),
            ("https://h:1?v=2", "https://h:1/v1/p?v=2", "https://h:1/p?v=2"),
        ];
        for (url, api, server) in rows {
            let endpoint = Endpoint::parse(url).expect(url);
            assert_eq!(endpoint.url(Base::Api, "/p"), api);
            assert_eq!(endpoint.url(Base::Server, "/p"), server);
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
            ("https://example.org/#top", "#fragment"),
            ("https://example.org#", "#fragment"),
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

    #[test]
    fn proxies() {
        let user = |user: &str| Some(user.to_owned());
        let rows = [
            ("http://proxy", Some(("proxy", 80, None))),
            ("http://10.0.0.1:3128/", Some(("10.0.0.1", 3128, None))),
            ("http://[::1]:8080", Some(("::1", 8080, None))),
            ("http://u:p@proxy:1", Some(("proxy", 1, user("u:p")))),
            ("http://u:p@proxy", Some(("proxy", 80, user("u:p")))),
            ("https://proxy", None),
            ("socks5://proxy", None),
            ("proxy:3128", None),
            ("http://proxy/path", None),
            ("http://proxy:0", None),
            ("http://proxy#x", None),
        ];
        for (url, want) in rows {
            let got = proxy(url).ok();
            let got = got.as_ref().map(|(host, port, user)| (host.as_str(), *port, user.clone()));
            assert_eq!(got, want, "{url}");
        }
    }
}
