//! A tunnel through an HTTP proxy: `CONNECT`. What goes through it is TLS with the server.

use std::io::{self, Read, Write};

use zeroize::Zeroizing;

use super::endpoint;
use super::socket::Socket;
use crate::base64;
use crate::error::Result;

/// The longest answer header read.
const MAX_HEADER_BYTES: usize = 8 << 10;

/// A proxy, parsed and checked.
pub(super) struct Proxy {
    pub host: String,
    pub port: u16,
    /// What opens a tunnel to the server.
    request: Zeroizing<String>,
}

impl Proxy {
    /// `server`: `host:port`, as in the URL.
    pub fn parse(url: &str, server: &str) -> Result<Proxy> {
        let (host, port, user) = endpoint::proxy(url)?;
        let user = user.map(Zeroizing::new);
        let login = user.map_or(Zeroizing::default(), |user| {
            let user = Zeroizing::new(unescaped(&user));
            let user = Zeroizing::new(base64::encode(&user));
            Zeroizing::new(format!("Proxy-Authorization: Basic {}\r\n", *user))
        });
        let request = format!("CONNECT {server} HTTP/1.1\r\nHost: {server}\r\n{}\r\n", *login);
        Ok(Proxy { host, port, request: Zeroizing::new(request) })
    }

    /// Asks for the tunnel; what is read from the socket after it comes from the server.
    pub fn open(&self, socket: &mut Socket) -> io::Result<()> {
        socket.write_all(self.request.as_bytes())?;
        let mut header = Vec::new();
        // One by one: what follows the header is not the proxy's.
        while !header.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if header.len() >= MAX_HEADER_BYTES || socket.read(&mut byte)? == 0 {
                return Err(io::Error::other("the proxy's answer is none of HTTP"));
            }
            header.extend(byte);
        }
        match status(&header) {
            Some(200..=299) => Ok(()),
            Some(status) => Err(io::Error::other(format!("the proxy answered with {status}"))),
            None => Err(io::Error::other("the proxy's answer is none of HTTP")),
        }
    }
}

fn status(header: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(header.get(..12)?).ok()?;
    line.strip_prefix("HTTP/1.")?.get(2..)?.parse().ok()
}

/// `%3A` and the like, which a password in a URL needs.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let escaped = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
        match escaped.filter(|_| byte == b'%') {
            Some(value) => {
                bytes.push(value);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        let plain = Proxy::parse("http://proxy:3128", "h:443").unwrap();
        assert_eq!(*plain.request, "CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n");
        let login = Proxy::parse("http://user:p%40ss%3a%zz@proxy", "h:443").unwrap();
        let line =
            format!("Proxy-Authorization: Basic {}\r\n\r\n", base64::encode(b"user:p@ss:%zz"));
        assert!(login.request.ends_with(&line), "{}", *login.request);
    }

    #[test]
    fn statuses() {
        let rows = [
            ("HTTP/1.1 200 OK\r\n\r\n", Some(200)),
            ("HTTP/1.0 407 No\r\n\r\n", Some(407)),
            ("HTTP/1.1 200\r\n\r\n", Some(200)),
            ("SSH-2.0-OpenSSH_9\r\n\r\n", None),
            ("\r\n\r\n", None),
        ];
        for (header, want) in rows {
            assert_eq!(status(header.as_bytes()), want, "{header}");
        }
    }
}
