//! `hybrid sign`: signs a bundle, so that programs with the public key open no other.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use clap::{Arg, ArgMatches, Command, value_parser};
use hybrid::bundle::{PublicKey, set_signature};
use ring::signature::{Ed25519KeyPair, KeyPair};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;

use hybrid_common::cli::print;

pub fn command() -> Command {
    Command::new("sign")
        .about("Sign a bundle; print the public key that programs check it with")
        .arg(
            Arg::new("BUNDLE")
                .help("Directory of the bundle")
                .required(true)
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(
            Arg::new("KEYFILE")
                .help("The secret key, as `openssl genpkey -algorithm ed25519` makes it")
                .required(true)
                .value_parser(value_parser!(PathBuf)),
        )
}

pub fn run(arguments: &ArgMatches) -> Result<()> {
    let dir: &PathBuf = arguments.get_one("BUNDLE").expect("required by clap");
    let key: &PathBuf = arguments.get_one("KEYFILE").expect("required by clap");
    let key = SecretKey::read(key)?;
    key.sign(dir)?;
    print(&format!("{}\n", key.public_key()?))
}

/// What a bundle changed by a tool has lost.
pub const NO_LONGER_SIGNED: &str = "note: the bundle is no longer signed; `hybrid sign` signs it";

/// The key that signs bundles.
pub struct SecretKey(Ed25519KeyPair);

impl SecretKey {
    pub fn read(file: &Path) -> Result<SecretKey> {
        let wrong = || {
            format!(
                "{} is no ed25519 key; make one with `openssl genpkey -algorithm ed25519 \
                 -out FILE`",
                file.display()
            )
        };
        let pem = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
        let der = PrivatePkcs8KeyDer::from_pem_slice(&pem).ok().with_context(wrong)?;
        // OpenSSL leaves the public key out, so it cannot be compared.
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der())
            .map(SecretKey)
            .map_err(|_| anyhow!(wrong()))
    }

    pub fn public_key(&self) -> Result<PublicKey> {
        Ok(PublicKey::from(<[u8; 32]>::try_from(self.0.public_key().as_ref())?))
    }

    /// Signs the bundle in `dir`.
    pub fn sign(&self, dir: &Path) -> Result<()> {
        set_signature(dir, |json| Ok(self.0.sign(json).as_ref().try_into()?))
    }
}

/// The public key in a PEM file.
pub fn read_public_key(file: &Path) -> Result<PublicKey> {
    let name = || file.display().to_string();
    let pem = std::fs::read_to_string(file).with_context(name)?;
    PublicKey::parse(&pem).with_context(name)
}
