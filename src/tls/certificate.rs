//! One certificate chain with its key, and what it is good for.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::fault::Fault;
use super::secret;
use crate::config::settings::SecretSource;

/// A certificate chain with its key.
#[derive(Debug, Clone)]
pub struct Certificate {
    pub(super) certified: Arc<CertifiedKey>,
    /// The names it is for, in lower case; `*.example.com` as it stands.
    pub(super) names: Vec<String>,
}

/// Whose fault it is.
#[derive(Debug)]
pub(super) enum Of {
    Certificate(Fault),
    Key(Fault),
}

impl Certificate {
    /// Reads a chain and its key, and checks that they belong together. With it come warnings.
    pub(super) fn read(
        certificate: &SecretSource,
        key: &SecretSource,
        provider: &CryptoProvider,
        now: SystemTime,
    ) -> Result<(Self, Vec<Fault>), Of> {
        let chain = chain(certificate, "certificate").map_err(Of::Certificate)?;
        let parsed = x509_cert::Certificate::from_der(&chain[0]).map_err(|error| {
            Of::Certificate(Fault::error(
                format!("the certificate {certificate} is malformed: {error}"),
                "get it from your certificate authority again",
            ))
        })?;
        let key_der = private_key(key).map_err(Of::Key)?;
        let certified = CertifiedKey::from_der(chain, key_der, provider).map_err(|error| {
            Of::Key(match error {
                Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => Fault::error(
                    format!("the key {key} does not belong to the certificate {certificate}"),
                    "write the key that the certificate was made for, or put the new one of both there",
                ),
                error => Fault::error(
                    format!("the key {key} cannot be used: {error}"),
                    "use an ECDSA key on P-256 or P-384, an Ed25519 key, or an RSA key of 2048 bits or more",
                ),
            })
        })?;
        let names = names(&parsed);
        let mut warnings = validity(&parsed, certificate, now);
        if names.is_empty() {
            warnings.push(Fault::warning(
                format!("the certificate {certificate} is for no name"),
                "browsers look at subjectAltName only; it is used where no other fits",
            ));
        }
        Ok((Self { certified: Arc::new(certified), names }, warnings))
    }
}

/// The certificates of a file in PEM, at least one.
pub(super) fn chain(
    source: &SecretSource,
    what: &str,
) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let pem = secret::read(source, what)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(Fault::error(
            format!("there is no certificate in {source}"),
            "it must have -----BEGIN CERTIFICATE----- blocks, the server's own first and then its chain",
        )),
        Err(error) => Err(Fault::error(
            format!("the {what} {source} is no PEM: {error}"),
            "it must have -----BEGIN CERTIFICATE----- blocks, the server's own first and then its chain",
        )),
    }
}

fn private_key(source: &SecretSource) -> Result<PrivateKeyDer<'static>, Fault> {
    let pem = secret::read(source, "key")?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| {
        if memchr::memmem::find(&pem, b"ENCRYPTED").is_some() {
            return Fault::error(
                format!("the key {source} is encrypted"),
                format!("take the password off: openssl pkey -in {source} -out NEW.pem"),
            );
        }
        Fault::error(
            format!("there is no private key in {source}: {error}"),
            "it must have a -----BEGIN PRIVATE KEY----- block",
        )
    })
}

fn names(certificate: &x509_cert::Certificate) -> Vec<String> {
    let extension = certificate.tbs_certificate().get_extension::<SubjectAltName>();
    let Ok(Some((_, SubjectAltName(names)))) = extension else { return Vec::new() };
    let dns = names.iter().filter_map(|name| match name {
        GeneralName::DnsName(name) => Some(name.as_str().to_ascii_lowercase()),
        _ => None,
    });
    dns.collect()
}

fn validity(
    certificate: &x509_cert::Certificate,
    source: &SecretSource,
    now: SystemTime,
) -> Vec<Fault> {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let validity = certificate.tbs_certificate().validity();
    let (from, to) =
        (validity.not_before.to_unix_duration(), validity.not_after.to_unix_duration());
    let date = |at: Duration| httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + at);
    let mut faults = Vec::new();
    if now > to {
        faults.push(Fault::warning(
            format!("the certificate {source} expired on {}", date(to)),
            "renew it and run `systemctl reload roundsman`; until then clients refuse it",
        ));
    }
    if now < from {
        faults.push(Fault::warning(
            format!("the certificate {source} is not valid before {}", date(from)),
            "look at the machine's clock; until then clients refuse it",
        ));
    }
    faults
}
