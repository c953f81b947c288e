//! `[listen.NAME]`: input → settings.

use super::diagnostic::Problems;
use super::fragment::Node;
use super::input::{Input, Read, absolute_path, array, boolean, choice, string};
use super::schema;
use super::settings::{
    CertificateFiles, ClientCertificate, ListenProtocol, Listener, Secret, SecretSource,
};

const PROTOCOLS: &[(&str, ListenProtocol)] =
    &[("http", ListenProtocol::Http), ("https", ListenProtocol::Https)];

const CLIENT_CERTIFICATE: &[(&str, ClientCertificate)] =
    &[("required", ClientCertificate::Required), ("optional", ClientCertificate::Optional)];

const EXAMPLE: &str =
    "[{ certificate = \"/etc/ssl/shop/fullchain.pem\", key = \"/etc/ssl/shop/key.pem\" }]";

/// Reads one table.
pub(super) fn read(name: &str, from: Input<'_>, problems: &mut Problems) -> Listener {
    let default = ListenProtocol::default_for(name);
    let mut to = Listener::speaking(from.get("protocol", default, problems, choice(PROTOCOLS)));
    to.proxy_protocol = from.get("proxy-protocol", to.proxy_protocol, problems, boolean);
    to.http2 = from.get("http2", to.http2, problems, boolean);
    if to.protocol != ListenProtocol::Https {
        for key in ["certificates", "client-ca", "client-certificate"] {
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
    if let (Some(node), None) = (from.node("client-certificate"), from.node("client-ca")) {
        problems.error(
            &node.place,
            "it is not said who signs the clients' certificates",
            "",
            "add `client-ca = \"/etc/ssl/clients.pem\"`, or leave this out",
        );
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
