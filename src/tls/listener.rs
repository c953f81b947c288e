//! What each listener does with TLS: made from the settings, swapped whole by a reload.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    NoServerSessionStorage, ProducesTickets, ServerSessionMemoryCache, StoresServerSessions,
    WebPkiClientVerifier,
};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::CertificateDer;

use super::certificate::{Certificate, Of, chain};
use super::fault::Fault;
use super::resolver::Resolver;
use crate::config::Problem;
use crate::config::settings::{self, ClientCertificate, ListenProtocol};

/// Sessions of TLS 1.2 clients without tickets that are remembered, some 300 bytes each.
const SESSIONS: usize = 4096;

/// The protocols that clients are offered, the best first.
const PROTOCOLS: &[&[u8]] = &[b"h2", b"http/1.1"];

/// TLS of all listeners that speak it and have a certificate.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    listeners: BTreeMap<String, Listener>,
    /// Where clients are sent that came in cleartext; `None` for the usual port.
    port: Option<u16>,
}

#[derive(Debug, Clone)]
struct Listener {
    config: Arc<ServerConfig>,
    resumption: Resumption,
}

/// What lets clients go on with earlier sessions: shared by all threads, kept over reloads, but
/// never across another demand on client certificates. A session that began without one must not
/// get around it.
#[derive(Clone)]
struct Resumption {
    demand: Demand,
    tickets: Option<Arc<dyn ProducesTickets>>,
    sessions: Arc<dyn StoresServerSessions>,
}

/// What clients have to show.
type Demand = Option<(ClientCertificate, Vec<CertificateDer<'static>>)>;

impl Tls {
    /// Reads everything that the settings name, with all that is wrong with it.
    ///
    /// What can be used is there even if something else cannot.
    pub fn load(front: &settings::Front, before: Option<&Self>) -> (Self, Vec<Problem>) {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut problems = Vec::new();
        let mut listeners = BTreeMap::new();
        for (name, settings) in &front.listeners {
            if settings.protocol != ListenProtocol::Https {
                continue;
            }
            let certificates = certificates(settings, &provider, &mut problems);
            let before = before.and_then(|before| before.listeners.get(name));
            match listener(settings, &certificates, &provider, before) {
                Ok(Some(listener)) => drop(listeners.insert(name.clone(), listener)),
                Ok(None) => {}
                Err(problem) => problems.push(*problem),
            }
        }
        (Self { listeners, port: None }, problems)
    }

    /// The same, with the port of the listener that clients are sent to.
    #[must_use]
    pub fn with_port(self, port: Option<u16>) -> Self {
        Self { port, ..self }
    }

    /// The port that clients are sent to.
    pub(crate) fn port(&self) -> u16 {
        self.port.unwrap_or(443)
    }

    /// Whether this listener can take connections.
    pub fn serves(&self, listener: &str) -> bool {
        self.listeners.contains_key(listener)
    }

    /// How to take a connection on this listener.
    pub(crate) fn config(&self, listener: &str) -> Option<&Arc<ServerConfig>> {
        self.listeners.get(listener).map(|l| &l.config)
    }
}

fn certificates(
    settings: &settings::Listener,
    provider: &CryptoProvider,
    problems: &mut Vec<Problem>,
) -> Vec<Certificate> {
    let mut usable = Vec::new();
    for files in &settings.certificates {
        let (certificate, key) = (&files.certificate, &files.key);
        let now = SystemTime::now();
        match Certificate::read(&certificate.source, &key.source, provider, now) {
            Ok((read, warnings)) => {
                problems.extend(warnings.into_iter().map(|fault| fault.of(certificate)));
                usable.push(read);
            }
            Err(Of::Certificate(fault)) => problems.push(fault.of(certificate)),
            Err(Of::Key(fault)) => problems.push(fault.of(key)),
        }
    }
    usable
}

fn listener(
    settings: &settings::Listener,
    certificates: &[Certificate],
    provider: &Arc<CryptoProvider>,
    before: Option<&Listener>,
) -> Result<Option<Listener>, Box<Problem>> {
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .expect("the provider has suites of both versions");
    let (builder, demand) = match &settings.client_ca {
        None => (builder.with_no_client_auth(), None),
        Some(ca) => {
            let fault = |fault: Fault| Box::new(fault.of(ca));
            let roots = chain(&ca.source, "client CA").map_err(fault)?;
            let verifier = verifier(&roots, settings.client_certificate, provider)
                .map_err(|error| {
                    fault(Fault::error(
                        format!("the client CA {} cannot be used: {error}", ca.source),
                        "it must have the certificates of the authorities that sign the clients' ones",
                    ))
                })?;
            let demand = (settings.client_certificate, roots);
            (builder.with_client_cert_verifier(verifier), Some(demand))
        }
    };
    if certificates.is_empty() {
        return Ok(None);
    }
    let mut config = builder.with_cert_resolver(Arc::new(Resolver::new(certificates)));
    let offered = PROTOCOLS.iter().filter(|p| settings.http2 || **p != b"h2");
    config.alpn_protocols = offered.map(|p| p.to_vec()).collect();
    let resumption = match before {
        Some(before) if before.resumption.demand == demand => before.resumption.clone(),
        _ => Resumption::new(demand),
    };
    config.session_storage = Arc::clone(&resumption.sessions);
    if let Some(tickets) = &resumption.tickets {
        config.ticketer = Arc::clone(tickets);
    }
    Ok(Some(Listener { config: Arc::new(config), resumption }))
}

fn verifier(
    roots: &[CertificateDer<'static>],
    demand: ClientCertificate,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).map_err(|error| error.to_string())?;
    }
    let provider = Arc::clone(provider);
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider);
    let builder = match demand {
        ClientCertificate::Required => builder,
        ClientCertificate::Optional => builder.allow_unauthenticated(),
    };
    builder.build().map_err(|error| error.to_string())
}

impl Resumption {
    fn new(demand: Demand) -> Self {
        match aws_lc_rs::Ticketer::new() {
            Ok(tickets) => Self {
                demand,
                tickets: Some(tickets),
                sessions: ServerSessionMemoryCache::new(SESSIONS),
            },
            // Without randomness there are no keys: every handshake is a full one.
            Err(error) => {
                tracing::warn!("TLS sessions are not resumed: {error}");
                Self { demand, tickets: None, sessions: Arc::new(NoServerSessionStorage {}) }
            }
        }
    }
}

impl fmt::Debug for Resumption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resumption").finish_non_exhaustive() // keys are in it
    }
}
