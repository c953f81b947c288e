//! Which certificate a client is shown.

use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::Certificate;
use super::names::Names;

/// Chooses by the name that the client asks for, and by the signatures that it knows.
#[derive(Debug)]
pub(super) struct Resolver(Names<Arc<CertifiedKey>>);

impl Resolver {
    pub(super) fn new(certificates: &[Certificate]) -> Self {
        let list: Vec<_> =
            certificates.iter().map(|c| (Arc::clone(&c.certified), c.names.clone())).collect();
        Self(Names::new(&list))
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let candidates = self.0.find(hello.server_name());
        let usable =
            |c: &&Arc<CertifiedKey>| c.key.choose_scheme(hello.signature_schemes()).is_some();
        candidates.iter().find(usable).or(candidates.first()).cloned()
    }
}
