//! A throw-away CA and server certificates, good and bad.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::version::{TLS12, TLS13};

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
    ) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![host.to_owned()]).expect("parameters");
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).expect("a server certificate");
        (certificate.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }
}

/// What a server shows to its clients.
pub struct Identity {
    /// The CA that a client should trust, whether or not it signed the certificate.
    pub ca_pem: String,
    pub tls: Option<Arc<ServerConfig>>,
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
        let (certificate, key) = authority.server(host, years);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("protocol versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("a server configuration");
        Identity { ca_pem: authority.pem, tls: Some(Arc::new(config)) }
    }
}
