//! Whom the client trusts, and who it says it is.

use super::*;
use hybrid::cloud::{ClientIdentity, CloudOptions};
use sha2::{Digest, Sha256};

const OTHER_PIN: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn with(server: &Server, change: impl FnOnce(&mut CloudOptions)) -> hybrid::Result<Cloud> {
    let mut options = options(server);
    change(&mut options);
    Cloud::new(options)
}

fn pin(identity: &Identity) -> String {
    support::base64(&Sha256::digest(&identity.public_key))
}

fn start(identity: &Identity) -> Server {
    Server::start(identity, |_| Reaction::json(200, PARIS))
}

#[test]
fn a_pinned_key_is_wanted_besides_a_trusted_certificate() {
    let (good, other) = (Identity::good(), Identity::good());
    let pinned = |identity: &Identity, pins: [&str; 2]| {
        let server = start(identity);
        let pins = pins.map(str::to_owned).to_vec();
        let result = ask(&with(&server, |options| options.pins = pins).unwrap()).map(drop);
        assert_eq!(result.is_ok(), !server.requests().is_empty());
        result
    };
    let tls = Err(Failure::Tls);
    assert_eq!(pinned(&good, [&pin(&good), OTHER_PIN]), Ok(()));
    // After the key was replaced.
    assert_eq!(pinned(&good, [OTHER_PIN, &format!("sha256/{}", pin(&good))]), Ok(()));
    assert_eq!(pinned(&good, [OTHER_PIN, &pin(&other)]), tls, "another key");
    let server = start(&good);
    let pins = vec![OTHER_PIN.to_owned(), pin(&other)];
    let cloud = with(&server, |options| options.pins = pins).unwrap();
    let error = cloud.probe(&support::Toy::new(), &Cancel::new()).unwrap_err().to_string();
    assert!(error.contains("its key is none of the pins"), "{error}");
    let expired = Identity::expired();
    assert_eq!(pinned(&expired, [&pin(&expired), OTHER_PIN]), tls, "a pin replaces no trust");
    let wrong_name = Identity::wrong_name();
    assert_eq!(pinned(&wrong_name, [&pin(&wrong_name), OTHER_PIN]), tls);
}

/// A server's own certificate as the one to trust is as good as a CA's: for its names, and while it
/// is valid.
#[test]
fn a_self_signed_certificate_is_trusted_by_name() {
    let rows = [
        ("a CA's", Identity::self_signed(), true),
        ("no CA's", Identity::self_signed_leaf(), true),
        ("expired", Identity::self_signed_expired(), false),
        ("of another name", Identity::self_signed_wrong_name(), false),
        ("another one of that name", Identity::self_signed_stranger(), false),
    ];
    for (what, identity, trusted) in rows {
        let server = start(&identity);
        assert_eq!(ask(&client(&server)).is_ok(), trusted, "{what}");
        assert_eq!(server.requests().is_empty(), !trusted, "{what}");
        // Pins hold for it too.
        let pinned = |pin: String| {
            let pins = vec![pin, OTHER_PIN.to_owned()];
            ask(&with(&server, |options| options.pins = pins).unwrap()).is_ok()
        };
        assert_eq!(pinned(pin(&identity)), trusted, "{what}");
        assert!(!pinned(pin(&Identity::good())), "{what}");
    }
    // The system's store trusts none of them.
    let server = start(&Identity::self_signed());
    if let Ok(cloud) = with(&server, |options| options.roots = Default::default()) {
        assert_eq!(ask(&cloud).unwrap_err(), Failure::Tls);
    }
}

#[test]
fn a_single_pin_is_refused() {
    let server = start(&Identity::good());
    let error = with(&server, |options| options.pins = vec![OTHER_PIN.into()]).unwrap_err();
    assert!(error.to_string().contains("the one to replace it"), "{error}");
}

#[test]
fn a_client_shows_its_certificate() {
    let identity = Identity::wants_a_client();
    let server = start(&identity);
    let dir = temp_dir::TempDir::new().unwrap();
    let file = dir.child("client.pem");
    std::fs::write(&file, &identity.client_pem).unwrap();
    let pem = ClientIdentity::Pem(identity.client_pem.clone().into_bytes().into());
    for shown in [pem, ClientIdentity::PemFile(file)] {
        let cloud = with(&server, |options| options.identity = Some(shown)).unwrap();
        ask(&cloud).unwrap();
    }
    let before = server.requests().len();
    let failure = ask(&client(&server)).unwrap_err();
    assert!(matches!(failure, Failure::Tls | Failure::Connect), "{failure}");
    assert_eq!(server.requests().len(), before, "nothing may be sent without one");
}

#[test]
fn a_client_certificate_that_cannot_be_used_is_refused() {
    let identity = Identity::wants_a_client();
    let server = start(&identity);
    let at = identity.client_pem.find("-----BEGIN PRIVATE").unwrap();
    let (certificate, key) = identity.client_pem.split_at(at);
    let other = Identity::wants_a_client().client_pem;
    let another_key = format!("{certificate}{}", &other[other.find("-----BEGIN PRIV").unwrap()..]);
    let rows = [
        ("", "not PEM"),
        (certificate, "no private key"),
        (key, "no certificate"),
        (&another_key, "do not fit"),
        // Line ends lost on the way, as through an environment variable.
        (&identity.client_pem.trim_end().replace('\n', "\\n"), "damaged PEM"),
    ];
    // Bytes of the key as a parser's text would have them.
    let bytes = format!("{:?}", key.lines().nth(1).unwrap().as_bytes());
    let secret = bytes.trim_matches(['[', ']']);
    for (pem, reason) in rows {
        let identity = ClientIdentity::Pem(pem.as_bytes().to_vec().into());
        let error = with(&server, |options| options.identity = Some(identity)).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
        let error = error.to_string();
        assert!(!error.contains("BEGIN") && !error.contains(secret), "{error}");
    }
}

#[test]
fn the_systems_store_may_be_trusted_too() {
    let server = start(&Identity::good());
    match with(&server, |options| options.system_roots_too = true) {
        Ok(cloud) => assert!(ask(&cloud).is_ok()),
        // A machine without CA certificates.
        Err(error) => assert!(error.to_string().contains("pass a CA PEM"), "{error}"),
    }
}

/// What is wrong with a certificate, and what to do, is in the probe's error and in the log.
#[test]
fn a_wrong_certificate_is_explained() {
    let logs = support::Logs::capture();
    let rows = [
        (Identity::self_signed_stranger(), "not one of those in `ca_file`"),
        (Identity::self_signed_expired(), "look at the device's clock"),
        (Identity::wrong_ca(), "pass its CA as `ca_file`"),
        (Identity::expired(), "look at the device's clock"),
        (Identity::not_yet_valid(), "look at the device's clock"),
    ];
    for (identity, advice) in rows {
        let server = start(&identity);
        let cloud = client(&server);
        assert_eq!(ask(&cloud).unwrap_err(), Failure::Tls);
        let error = cloud.probe(&support::Toy::new(), &Cancel::new()).unwrap_err().to_string();
        assert!(error.contains(advice), "{error}");
        assert!(logs.records().iter().any(|line| line.contains(advice)));
    }
}
