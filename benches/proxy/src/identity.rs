//! The certificate that all proxies show, and the client that checks it.
//!
//! What could differ is fixed on the client's side: TLS 1.3, AES-256-GCM, X25519, no resumption.

use std::fs;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use anyhow::Result;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};

/// As in the requests' Host.
const NAME: &str = "bench.example";

struct Identity {
    certificate: String,
    key: String,
    client: Arc<ClientConfig>,
}

static IDENTITY: LazyLock<Identity> = LazyLock::new(|| make().expect("the cryptography works"));

fn make() -> Result<Identity> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = CertificateParams::new([NAME.to_owned()])?.self_signed(&key)?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone())?;
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = vec![cipher_suite::TLS13_AES_256_GCM_SHA384];
    provider.kx_groups = vec![kx_group::X25519];
    let mut client = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.resumption = Resumption::disabled();
    Ok(Identity {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
        client: Arc::new(client),
    })
}

/// Writes it into this directory, in every form that a proxy wants.
pub(crate) fn write(directory: &Path) -> Result<()> {
    let Identity { certificate, key, .. } = &*IDENTITY;
    fs::write(directory.join("certificate.pem"), certificate)?;
    fs::write(directory.join("key.pem"), key)?;
    fs::write(directory.join("both.pem"), format!("{certificate}{key}"))?;
    Ok(())
}

/// How a client begins.
pub(crate) fn client() -> &'static Arc<ClientConfig> {
    &IDENTITY.client
}

/// Whom it expects.
pub(crate) fn name() -> ServerName<'static> {
    ServerName::try_from(NAME).expect("it is a name")
}
