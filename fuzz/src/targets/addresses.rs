//! What a program is configured with: URL, proxy, token, headers, pins and PEM. Nothing is sent.

use std::sync::LazyLock;

use hybrid::bundle::PublicKey;
use hybrid::cloud::{ClientIdentity, Cloud, CloudOptions, Roots, ServerKind};

use crate::Target;
use crate::parts::{Parts, text};
use crate::support::Identity;

pub const TARGET: Target = Target {
    name: "addresses",
    run,
    seeds,
    words: &[
        "https://",
        "http://",
        "[::1]",
        "127.0.0.1",
        ":443",
        ":0",
        ":99999",
        "user:pw@",
        "%00",
        "%zz",
        "?q=1",
        "#x",
        "/v1",
        "-----BEGIN CERTIFICATE-----\n",
        "-----END CERTIFICATE-----\n",
        "-----BEGIN PRIVATE KEY-----\n",
        "-----END PRIVATE KEY-----\n",
        "-----BEGIN PUBLIC KEY-----\n",
        "-----END PUBLIC KEY-----\n",
        "sha256//",
        "=",
        "MII",
        "MCowBQYDK2VwAyEA",
        "\r\n",
        "authorization",
        "\u{0}",
    ],
    longest: 16 << 10,
};

/// Fields end with a NUL.
fn run(input: &[u8]) {
    let mut parts = Parts(input);
    let mut next = || text(parts.until(0));
    let (url, proxy, token, name, value, pin, other) =
        (next(), next(), next(), next(), next(), next(), next());
    let (pem, identity) = (parts.until(0), parts.0);
    let _ = PublicKey::parse(&pin);
    let plain = CloudOptions {
        url: url.clone(),
        roots: Roots::Pem(AUTHORITY.ca_pem.clone().into_bytes()),
        ..CloudOptions::default()
    };
    // Each part by itself too: with a wrong one, the others are not looked at.
    let https = || CloudOptions { url: "https://127.0.0.1:9".into(), ..plain.clone() };
    let all = CloudOptions {
        server: ServerKind::Anthropic,
        model: name.clone(),
        token: Some(token),
        headers: vec![(name, value)],
        proxy: Some(proxy),
        pins: vec![pin, other],
        identity: Some(ClientIdentity::Pem(identity.to_vec().into())),
        roots: Roots::Pem(pem.to_vec()),
        ..plain.clone()
    };
    let one = [
        CloudOptions { token: all.token.clone(), headers: all.headers.clone(), ..https() },
        CloudOptions { proxy: all.proxy.clone(), pins: all.pins.clone(), ..https() },
        CloudOptions { roots: all.roots.clone(), ..https() },
        CloudOptions { identity: all.identity.clone(), ..https() },
    ];
    for options in one.into_iter().chain([plain, all]) {
        if let Err(error) = Cloud::new(options) {
            assert!(!error.to_string().contains("secret"), "a secret in {error}");
        }
    }
}

static AUTHORITY: LazyLock<Identity> = LazyLock::new(Identity::wants_a_client);

fn seeds() -> Vec<Vec<u8>> {
    let seed = |fields: [&str; 9]| fields.join("\0").into_bytes();
    let (ca, client) = (&AUTHORITY.ca_pem, &AUTHORITY.client_pem);
    let pins = [
        "sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "BAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    ];
    let key = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=";
    vec![
        seed([
            "https://127.0.0.1:9/v1?a=b",
            "http://u:p@127.0.0.1:9",
            "token",
            "x-name",
            "value",
            pins[0],
            pins[1],
            ca,
            client,
        ]),
        seed(["https://[::1]", "http://[::1]:9/", "", "", "", key, "", ca, ""]),
        seed([
            "https://u:secret@h",
            "http://u:secret@@h",
            "secret\n",
            "a b",
            "secret\r\n",
            "x",
            "",
            "",
            ca,
        ]),
    ]
}
