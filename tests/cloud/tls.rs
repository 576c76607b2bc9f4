//! TLS is always there and always verified.

use super::*;

fn with_identity(identity: &Identity) -> Server {
    Server::start(identity, |_| Reaction::json(200, PARIS))
}

#[test]
fn both_versions_are_spoken() {
    for identity in [Identity::only_tls12(), Identity::only_tls13()] {
        assert!(ask(&client(&with_identity(&identity))).is_ok());
    }
}

#[test]
fn a_certificate_that_is_wrong_is_refused() {
    let rows = [
        ("another CA", Identity::wrong_ca()),
        ("expired", Identity::expired()),
        ("not yet valid", Identity::not_yet_valid()),
        ("another name", Identity::wrong_name()),
    ];
    for (what, identity) in rows {
        let server = with_identity(&identity);
        assert_eq!(ask(&client(&server)).unwrap_err(), Failure::Tls, "{what}");
        assert_eq!(server.requests().len(), 0, "{what}: nothing may be sent");
    }
}

#[test]
fn the_systems_store_does_not_know_our_ca() {
    let server = with_identity(&Identity::good());
    let options = CloudOptions { roots: Default::default(), ..options(&server) };
    match Cloud::new(options) {
        Ok(cloud) => assert_eq!(ask(&cloud).unwrap_err(), Failure::Tls),
        // A machine without CA certificates: the text must say what to do.
        Err(error) => assert!(error.to_string().contains("pass a CA PEM"), "{error}"),
    }
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn a_ca_from_a_file() {
    let server = with_identity(&Identity::good());
    let dir = temp_dir::TempDir::new().unwrap();
    let path = dir.child("ca.pem");
    std::fs::write(&path, server.ca_pem()).unwrap();
    let roots = hybrid::cloud::Roots::PemFile(path);
    assert!(ask(&Cloud::new(CloudOptions { roots, ..options(&server) }).unwrap()).is_ok());
}

#[test]
fn plain_http_is_refused() {
    let server = with_identity(&Identity::plain());
    let url = server.url().replace("https", "http");
    let error = Cloud::new(CloudOptions { url, ..options(&server) }).unwrap_err().to_string();
    assert!(error.contains("plain http is refused"), "{error}");
    assert_eq!(server.connections(), 0);
}

#[test]
fn the_process_wide_provider_stays_unset() {
    let server = with_identity(&Identity::good());
    ask(&client(&server)).unwrap();
    assert!(rustls::crypto::CryptoProvider::get_default().is_none());
}
