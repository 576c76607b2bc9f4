//! Roots of trust: read once, from files or memory, never from the environment.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::options::{ClientIdentity, Roots};
use crate::error::{Error, Result};

/// Where Linux distributions keep the bundle of the system's CA certificates. The first that exists
/// is used.
const SYSTEM_BUNDLES: &[&str] = &[
    // Debian, Ubuntu, Raspberry Pi OS, Arch, Alpine, Gentoo, Buildroot, Yocto, OpenWrt
    "/etc/ssl/certs/ca-certificates.crt",
    // Fedora, RHEL and relatives
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    // openSUSE
    "/var/lib/ca-certificates/ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    // Alpine's other name, and the BSD one
    "/etc/ssl/cert.pem",
];

/// The largest bundle read; a distribution's is about 0.2 MiB.
const MAX_PEM_BYTES: u64 = 4 << 20;

/// Who is trusted.
#[derive(Debug)]
pub(super) struct Trusted {
    pub store: RootCertStore,
    /// Certificates that the program named: a server may have one as its own.
    pub own: Vec<Hash>,
}

/// The SHA-256 of a certificate.
pub(super) type Hash = [u8; 32];

pub(super) fn hash(certificate: &CertificateDer) -> Hash {
    Sha256::digest(certificate).into()
}

/// `system_too`: and the system's store.
pub(super) fn load(roots: &Roots, system_too: bool) -> Result<Trusted> {
    let mut trusted = match roots {
        Roots::System => return Ok(Trusted { store: system(SYSTEM_BUNDLES)?, own: Vec::new() }),
        Roots::PemFile(path) => own(&read(path)?, &path.display().to_string())?,
        Roots::Pem(pem) => own(pem, "the CA PEM")?,
    };
    if system_too {
        trusted.store.roots.extend(system(SYSTEM_BUNDLES)?.roots);
    }
    Ok(trusted)
}

/// A client's certificates, its own first, and its key.
pub(super) fn identity(
    identity: &ClientIdentity,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let (pem, what) = match identity {
        ClientIdentity::PemFile(path) => (Zeroizing::new(read(path)?), path.display().to_string()),
        ClientIdentity::Pem(pem) => (pem.clone(), "the client's PEM".to_owned()),
    };
    let chain = certificates(&pem, &what)?;
    if chain.is_empty() {
        return Err(Error::Cloud(format!(
            "{what} holds no certificate, but must hold the client's"
        )));
    }
    // The text of the error may hold a part of the key.
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        Error::Cloud(format!("{what} holds no private key that can be read (encrypted?)"))
    })?;
    Ok((chain, key))
}

/// A system's bundle may hold certificates that are too old to be parsed: those are left out.
fn system(places: &[&str]) -> Result<RootCertStore> {
    let Some(path) = places.iter().map(Path::new).find(|path| path.is_file()) else {
        return Err(Error::Cloud(format!(
            "this system has no CA certificates in any of the usual places ({}); install them \
             (package ca-certificates) or pass a CA PEM",
            places.join(", ")
        )));
    };
    let what = path.display().to_string();
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates(&read(path)?, &what)?);
    some(store, &what)
}

/// Every certificate that the user names must be usable.
fn own(pem: &[u8], what: &str) -> Result<Trusted> {
    let (mut store, mut own) = (RootCertStore::empty(), Vec::new());
    for certificate in certificates(pem, what)? {
        own.push(hash(&certificate));
        store.add(certificate).map_err(|e| {
            Error::Cloud(format!("{what}: a certificate cannot be used as a CA: {e}"))
        })?;
    }
    Ok(Trusted { store: some(store, what)?, own })
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>> {
    let marker = b"-----BEGIN ";
    if !pem.windows(marker.len()).any(|w| w == marker) {
        return Err(Error::Cloud(format!(
            "{what} is not PEM; convert a DER certificate with `openssl x509 -inform der`"
        )));
    }
    CertificateDer::pem_slice_iter(pem)
        .collect::<std::result::Result<_, _>>()
        // The parser's own text may hold a part of the file, and so of a key.
        .map_err(|_| Error::Cloud(format!("{what} is damaged PEM (are its line ends there?)")))
}

fn some(store: RootCertStore, what: &str) -> Result<RootCertStore> {
    if store.is_empty() {
        return Err(Error::Cloud(format!(
            "{what} holds no certificate; pass the CA's certificate as PEM"
        )));
    }
    Ok(store)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    // At once: a vector that grows leaves copies of a key behind.
    let size = file.metadata().map_or(0, |data| data.len()).min(MAX_PEM_BYTES);
    let mut pem = Vec::with_capacity(size as usize + 64);
    file.take(MAX_PEM_BYTES + 1).read_to_end(&mut pem).map_err(|e| Error::io(path, e))?;
    if pem.len() as u64 > MAX_PEM_BYTES {
        return Err(Error::Cloud(format!(
            "{} is larger than {MAX_PEM_BYTES} bytes; pass only the CAs that are needed",
            path.display()
        )));
    }
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ca_pem() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.self_signed(&key).unwrap().pem()
    }

    fn key_pem() -> String {
        rcgen::KeyPair::generate().unwrap().serialize_pem()
    }

    #[test]
    fn own_certificates() {
        let two = ca_pem() + &ca_pem();
        assert_eq!(load(&Roots::Pem(ca_pem().into()), false).unwrap().store.len(), 1);
        let trusted = load(&Roots::Pem(two.into()), false).unwrap();
        assert_eq!((trusted.store.len(), trusted.own.len()), (2, 2));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let broken_base64 = "-----BEGIN CERTIFICATE-----\n*!\n-----END CERTIFICATE-----\n";
        let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let rows = [
            (Roots::Pem(b"hello".to_vec()), "not PEM"),
            (Roots::Pem(Vec::new()), "not PEM"),
            (Roots::Pem(key_pem().into()), "holds no certificate"),
            (Roots::Pem(broken_base64.into()), "damaged PEM"),
            (Roots::Pem(no_certificate.into()), "cannot be used as a CA"),
            (Roots::PemFile("/does/not/exist.pem".into()), "/does/not/exist.pem"),
        ];
        for (roots, reason) in rows {
            let error = load(&roots, false).expect_err(reason).to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn the_first_system_bundle_there_is() {
        let dir = temp_dir::TempDir::new().unwrap();
        let bundle = dir.child("bundle.pem");
        std::fs::write(&bundle, ca_pem()).unwrap();
        let places = ["/does/not/exist", bundle.to_str().unwrap()];
        assert_eq!(system(&places).unwrap().len(), 1);

        let error = system(&["/does/not/exist"]).unwrap_err().to_string();
        assert!(error.contains("pass a CA PEM"), "{error}");
    }
}
