//! Who a client is by its certificate, as servers are told: `Client-Cert` and `Client-Cert-Chain` of
//! RFC 9440. What clients send under these names is dropped, see `field.rs`.

use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;

use crate::config::settings::ForwardedCertificate;

/// The fields for the certificates that a client has shown, its own first, and that were found good.
/// They are the same for every request of a connection.
pub(crate) fn fields(
    shown: &[CertificateDer<'_>],
    forwarded: ForwardedCertificate,
) -> Option<Rc<[u8]>> {
    let (own, others) = shown.split_first()?;
    if forwarded == ForwardedCertificate::No {
        return None;
    }
    let mut lines = format!("Client-Cert: {}\r\n", item(own));
    if forwarded == ForwardedCertificate::Chain && !others.is_empty() {
        let list: Vec<_> = others.iter().map(item).collect();
        lines.extend(["Client-Cert-Chain: ", &list.join(", "), "\r\n"]);
    }
    Some(lines.into_bytes().into())
}

/// A byte sequence as structured fields have it.
fn item(certificate: &CertificateDer<'_>) -> String {
    format!(":{}:", STANDARD.encode(certificate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_byte_sequences() {
        let shown = [b"own".as_slice(), b"between", b"root!"].map(CertificateDer::from);
        let text =
            |forwarded| fields(&shown, forwarded).map(|f| String::from_utf8(f.to_vec()).unwrap());
        let own = "Client-Cert: :b3du:\r\n";
        assert_eq!(text(ForwardedCertificate::No), None);
        assert_eq!(text(ForwardedCertificate::Certificate).unwrap(), own);
        assert_eq!(
            text(ForwardedCertificate::Chain).unwrap(),
            format!("{own}Client-Cert-Chain: :YmV0d2Vlbg==:, :cm9vdCE=:\r\n")
        );
        assert_eq!(fields(&shown[..1], ForwardedCertificate::Chain).unwrap()[..], *own.as_bytes());
        assert!(fields(&[], ForwardedCertificate::Chain).is_none());
    }
}
