//! A throw-away CA and server certificates, good and bad.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};

/// The host that good certificates are for.
const HOST: &str = "127.0.0.1";

/// A CA.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).expect("a CA certificate").pem();
        Authority { pem, issuer: Issuer::new(params, key) }
    }

    /// A server certificate for `host`, valid in the years given.
    fn server(
        &self,
        host: &str,
        years: (i32, i32),
    ) -> (CertificateDer<'static>, PrivateKeyDer<'static>, Vec<u8>) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![host.to_owned()]).expect("parameters");
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).expect("a server certificate");
        let public = key.subject_public_key_info();
        (certificate.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()).into(), public)
    }
}

/// What a server shows to its clients.
pub struct Identity {
    /// The CA that a client should trust, whether or not it signed the certificate.
    pub ca_pem: String,
    pub tls: Option<Arc<ServerConfig>>,
    /// The server's public key, as its certificate has it.
    pub public_key: Vec<u8>,
    /// Certificate and key of a client that the server accepts, where it asks for one.
    pub client_pem: String,
}

impl Identity {
    pub fn good() -> Identity {
        Identity::of("127.0.0.1", (2020, 2100), &[&TLS13, &TLS12])
    }

    pub fn only_tls12() -> Identity {
        Identity::of(HOST, (2020, 2100), &[&TLS12])
    }

    pub fn only_tls13() -> Identity {
        Identity::of(HOST, (2020, 2100), &[&TLS13])
    }

    pub fn expired() -> Identity {
        Identity::of(HOST, (2020, 2021), &[&TLS13])
    }

    pub fn not_yet_valid() -> Identity {
        Identity::of(HOST, (2099, 2100), &[&TLS13])
    }

    pub fn wrong_name() -> Identity {
        Identity::of("example.org", (2020, 2100), &[&TLS13])
    }

    /// Signed by another CA than the one to trust.
    pub fn wrong_ca() -> Identity {
        Identity { ca_pem: Authority::new("another CA").pem, ..Identity::good() }
    }

    /// A certificate that is its own CA's, and the one to trust: what `openssl req -x509` makes.
    pub fn self_signed() -> Identity {
        let ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Identity::signed_by_itself(HOST, (2020, 2100), ca)
    }

    /// The same, but it says that it is no CA.
    pub fn self_signed_leaf() -> Identity {
        Identity::signed_by_itself(HOST, (2020, 2100), IsCa::ExplicitNoCa)
    }

    pub fn self_signed_expired() -> Identity {
        let ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Identity::signed_by_itself(HOST, (2020, 2021), ca)
    }

    pub fn self_signed_wrong_name() -> Identity {
        let ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Identity::signed_by_itself("example.org", (2020, 2100), ca)
    }

    /// Self-signed, and like the one to trust in all but the key.
    pub fn self_signed_stranger() -> Identity {
        Identity { ca_pem: Identity::self_signed().ca_pem, ..Identity::self_signed() }
    }

    fn signed_by_itself(host: &str, years: (i32, i32), is_ca: IsCa) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![host.to_owned()]).expect("parameters");
        params.is_ca = is_ca;
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        let certificate = params.self_signed(&key).expect("a certificate");
        let public_key = key.subject_public_key_info();
        let der = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let tls = config(&[&TLS13, &TLS12], None, certificate.der().clone(), der);
        Identity { ca_pem: certificate.pem(), tls: Some(tls), public_key, ..Identity::good() }
    }

    /// Speaks with clients only that have a certificate of the same CA.
    pub fn wants_a_client() -> Identity {
        let authority = Authority::new("libhybrid test CA");
        let (certificate, key, public_key) = authority.server(HOST, (2020, 2100));
        let (client, client_key, _) = authority.server("a board", (2020, 2100));
        let client_pem = pem("CERTIFICATE", &client) + &pem("PRIVATE KEY", client_key.secret_der());
        let tls = config(&[&TLS13], Some(&authority), certificate, key);
        Identity { ca_pem: authority.pem, tls: Some(tls), public_key, client_pem }
    }

    /// No TLS at all.
    pub fn plain() -> Identity {
        Identity { tls: None, ..Identity::good() }
    }

    fn of(
        host: &str,
        years: (i32, i32),
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Identity {
        let authority = Authority::new("libhybrid test CA");
        let (certificate, key, public_key) = authority.server(host, years);
        let tls = config(versions, None, certificate, key);
        Identity { ca_pem: authority.pem, tls: Some(tls), public_key, client_pem: String::new() }
    }
}

/// `clients`: who must have signed a client's certificate.
fn config(
    versions: &[&'static rustls::SupportedProtocolVersion],
    clients: Option<&Authority>,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .expect("protocol versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            let ca = CertificateDer::from_pem_slice(authority.pem.as_bytes()).expect("a CA");
            roots.add(ca).expect("a root");
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.expect("a verifier"))
        }
    };
    Arc::new(builder.with_single_cert(vec![certificate], key).expect("a server configuration"))
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", base64(der))
}

pub fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let of = |three: &[u8]| {
        let bits = (0..3).fold(0, |bits, n| bits << 8 | *three.get(n).unwrap_or(&0) as usize);
        let digit = |n| match n <= three.len() {
            true => ALPHABET[bits >> (18 - 6 * n) & 63] as char,
            false => '=',
        };
        (0..4).map(digit).collect::<String>()
    };
    bytes.chunks(3).map(of).collect()
}
