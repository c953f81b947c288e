//! `[listen.NAME]`: what it may say, and input → settings.

use std::fmt;
use std::path::PathBuf;

use super::diagnostic::{Place, Problems};
use super::fragment::Node;
use super::input::{Input, Read, absolute_path, array, boolean, choice, string};
use super::schema;

/// `[listen.NAME]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listener {
    /// What is spoken on it.
    pub protocol: ListenProtocol,
    /// Whether every connection begins with a PROXY header, from `trusted-proxies`.
    pub proxy_protocol: bool,
    /// Whether HTTP/2 may be spoken, too: under TLS where the client offers it, in cleartext by
    /// clients that begin with its preface.
    pub http2: bool,
    /// With `https`: whom it can be, the default first.
    pub certificates: Vec<CertificateFiles>,
    /// With `https`: who signs the certificates of clients; `None` when they need none.
    pub client_ca: Option<Secret>,
    /// Whether a client may do without one.
    pub client_certificate: ClientCertificate,
    /// What servers are told of a client's certificate.
    pub forward_client_certificate: ForwardedCertificate,
}

/// A certificate chain and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The server's certificate and those between it and the authority.
    pub certificate: Secret,
    /// Its private key.
    pub key: Secret,
}

/// Where something is that only the front may know.
#[derive(Debug, Clone)]
pub struct Secret {
    /// Where it is.
    pub source: SecretSource,
    /// Where that was written, to show when it cannot be used.
    pub place: Option<Place>,
}

/// Where something is that only the front may know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// In this file.
    File(PathBuf),
    /// In the credential of this name, which systemd hands to the service.
    Credential(String),
}

/// Whether clients need a certificate, where there is a CA for them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClientCertificate {
    /// Without a good one there is no connection.
    #[default]
    Required,
    /// One that is shown must be good.
    Optional,
}

/// What servers are told of a client's certificate (RFC 9440).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ForwardedCertificate {
    /// Nothing.
    #[default]
    No,
    /// The certificate itself, in `Client-Cert`.
    Certificate,
    /// Those behind it, too, in `Client-Cert-Chain`.
    Chain,
}

/// What a listener speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ListenProtocol {
    /// Cleartext HTTP/1.1.
    #[default]
    Http,
    /// The same under TLS.
    Https,
}

const PROTOCOLS: &[(&str, ListenProtocol)] =
    &[("http", ListenProtocol::Http), ("https", ListenProtocol::Https)];

const CLIENT_CERTIFICATE: &[(&str, ClientCertificate)] =
    &[("required", ClientCertificate::Required), ("optional", ClientCertificate::Optional)];

const FORWARDED: &[(&str, ForwardedCertificate)] = &[
    ("no", ForwardedCertificate::No),
    ("certificate", ForwardedCertificate::Certificate),
    ("chain", ForwardedCertificate::Chain),
];

const EXAMPLE: &str =
    "[{ certificate = \"/etc/ssl/shop/fullchain.pem\", key = \"/etc/ssl/shop/key.pem\" }]";

/// Reads one table.
pub(super) fn read(name: &str, from: Input<'_>, problems: &mut Problems) -> Listener {
    let default = ListenProtocol::default_for(name);
    let mut to = Listener::speaking(from.get("protocol", default, problems, choice(PROTOCOLS)));
    to.proxy_protocol = from.get("proxy-protocol", to.proxy_protocol, problems, boolean);
    to.http2 = from.get("http2", to.http2, problems, boolean);
    if to.protocol != ListenProtocol::Https {
        for key in ["certificates", "client-ca", "client-certificate", "forward-client-certificate"]
        {
            if let Some(node) = from.node(key) {
                problems.error(
                    &node.place,
                    format!("`{key}` is for TLS, which this listener does not speak"),
                    "",
                    "add `protocol = \"https\"`, or leave it out",
                );
            }
        }
        return to;
    }
    to.certificates =
        from.required("certificates", EXAMPLE, problems, certificates).unwrap_or_default();
    to.client_ca = from.optional("client-ca", problems, secret);
    to.client_certificate =
        from.get("client-certificate", to.client_certificate, problems, choice(CLIENT_CERTIFICATE));
    to.forward_client_certificate = from.get(
        "forward-client-certificate",
        to.forward_client_certificate,
        problems,
        choice(FORWARDED),
    );
    for key in ["client-certificate", "forward-client-certificate"] {
        if let (Some(node), None) = (from.node(key), from.node("client-ca")) {
            problems.error(
                &node.place,
                "it is not said who signs the clients' certificates",
                "",
                "add `client-ca = \"/etc/ssl/clients.pem\"`, or leave this out",
            );
        }
    }
    to
}

fn certificates(node: &Node, problems: &mut Problems) -> Read<Vec<CertificateFiles>> {
    let nodes = array(node, problems)?;
    if nodes.is_empty() {
        let help = format!("write certificates = {EXAMPLE}");
        problems.error(&node.place, "there is no certificate", "", help);
        return None;
    }
    let one = |node| {
        let section = Input::of_node(node, &[&schema::CERTIFICATE], problems)?;
        let example = "\"/etc/ssl/shop/fullchain.pem\"";
        let certificate = section.required("certificate", example, problems, secret);
        let key = section.required("key", "\"/etc/ssl/shop/key.pem\"", problems, secret);
        Some(CertificateFiles { certificate: certificate?, key: key? })
    };
    Some(nodes.iter().filter_map(one).collect())
}

/// A path, or the name of a credential.
fn secret(node: &Node, problems: &mut Problems) -> Read<Secret> {
    let text = string(node, problems)?;
    let place = Some(node.place.clone());
    let Some(name) = text.strip_prefix("credential:") else {
        let path = absolute_path(node, problems)?;
        return Some(Secret { source: SecretSource::File(path), place });
    };
    // What systemd takes: a file name of at most 255 bytes.
    let usable = !name.is_empty()
        && name.len() <= 255
        && name.bytes().all(|b| b.is_ascii_graphic() && b != b'/' && b != b':')
        && !matches!(name, "." | "..");
    if !usable {
        problems.error(
            &node.place,
            format!("`{name}` cannot be the name of a credential"),
            "",
            "write the name before the colon in LoadCredential=, as in \"credential:shop.key\"",
        );
        return None;
    }
    Some(Secret { source: SecretSource::Credential(name.to_owned()), place })
}

// === impl Listener ===

impl Listener {
    /// One that speaks this and says nothing else.
    pub const fn speaking(protocol: ListenProtocol) -> Self {
        Self {
            protocol,
            proxy_protocol: false,
            http2: matches!(protocol, ListenProtocol::Https),
            certificates: Vec::new(),
            client_ca: None,
            client_certificate: ClientCertificate::Required,
            forward_client_certificate: ForwardedCertificate::No,
        }
    }
}

impl ListenProtocol {
    /// What is spoken on a listener of this name when nothing is said.
    pub fn default_for(name: &str) -> Self {
        if name == "https" { Self::Https } else { Self::Http }
    }
}

// === impl Secret ===

impl PartialEq for Secret {
    /// Where it was written is not part of what was written.
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Secret {}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Credential(name) => write!(f, "credential:{name}"),
        }
    }
}
