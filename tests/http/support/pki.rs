//! A certificate authority of the tests' own, and clients that trust it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SignatureAlgorithm,
};
use roundsman::config::settings::{
    CertificateFiles, ClientCertificate, ListenProtocol, Listener, Secret, SecretSource,
};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// An authority, and a directory with what it signed.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    directory: tempfile::TempDir,
}

/// A certificate with its key, in files.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "The tests' own authority");
        let certificate = params.self_signed(&key).unwrap().pem();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), &certificate).unwrap();
        Self { issuer: Issuer::new(params, key), certificate, directory }
    }

    /// Its own certificate.
    pub(crate) fn file(&self) -> PathBuf {
        self.path().join("ca.pem")
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Signs a certificate for these names, into `NAME.pem` and `NAME.key`.
    pub(crate) fn sign(&self, file: &str, names: &[&str]) -> Identity {
        self.sign_with(file, names, &rcgen::PKCS_ECDSA_P256_SHA256, |_| {})
    }

    pub(crate) fn sign_with(
        &self,
        file: &str,
        names: &[&str],
        kind: &'static SignatureAlgorithm,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Identity {
        let key = KeyPair::generate_for(kind).unwrap();
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        let identity = Identity {
            certificate: self.path().join(format!("{file}.pem")),
            key: self.path().join(format!("{file}.key")),
        };
        std::fs::write(&identity.certificate, certificate + &self.certificate).unwrap();
        std::fs::write(&identity.key, key.serialize_pem()).unwrap();
        identity
    }

    /// A client that trusts it, speaks these versions, and shows who it is if it is anybody.
    pub(crate) fn client(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        identity: Option<&Identity>,
    ) -> ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.file()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                builder.with_client_auth_cert(identity.chain(), identity.private_key()).unwrap()
            }
        };
        config.resumption = Resumption::in_memory_sessions(16);
        config
    }
}

impl Identity {
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_file_iter(&self.certificate).unwrap().collect::<Result<_, _>>().unwrap()
    }

    fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_file(&self.key).unwrap()
    }

    pub(crate) fn files(&self) -> CertificateFiles {
        CertificateFiles { certificate: secret(&self.certificate), key: secret(&self.key) }
    }
}

pub(crate) fn secret(path: &Path) -> Secret {
    Secret { source: SecretSource::File(path.to_owned()), place: None }
}

/// A listener with these certificates.
pub(crate) fn https(identities: &[&Identity]) -> Listener {
    let certificates = identities.iter().map(|i| i.files()).collect();
    Listener { certificates, ..Listener::speaking(ListenProtocol::Https) }
}

/// The same, with clients that must, or may, show who they are.
pub(crate) fn https_for(
    identity: &Identity,
    authority: &Authority,
    demand: ClientCertificate,
) -> Listener {
    let client_ca = Some(secret(&authority.file()));
    Listener { client_ca, client_certificate: demand, ..https(&[identity]) }
}
