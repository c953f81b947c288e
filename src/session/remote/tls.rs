//! TLS to a server, for `rediss://`.

use std::io;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};

/// Whom Debian trusts.
const SYSTEMS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// TLS over a connection to `host`, whose certificate must be for that name and from one of those in the file
/// `trusted`; without it, from one that this machine trusts.
pub(super) fn over(
    stream: TcpStream,
    host: &str,
    trusted: Option<&Path>,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let path = trusted.unwrap_or(Path::new(SYSTEMS));
    let unreadable = |error: &dyn std::fmt::Display| {
        io::Error::other(format!("the certificates to trust, {}: {error}", path.display()))
    };
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| unreadable(&error))?;
    let certificates: Result<Vec<_>, _> = certificates.collect();
    let mut roots = RootCertStore::empty();
    let (added, _) =
        roots.add_parsable_certificates(certificates.map_err(|error| unreadable(&error))?);
    if added == 0 {
        return Err(unreadable(&"there is none"));
    }
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    Ok(StreamOwned::new(connection, stream))
}
