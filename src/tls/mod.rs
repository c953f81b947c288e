//! TLS for clients: certificates, who is shown which, and the encrypted stream.
//!
//! rustls with aws-lc as its cryptography: permissively licensed, the fastest of those that rustls
//! can use, and the only one with hybrid post-quantum key exchange.

mod certificate;
mod fault;
mod handshake;
mod listener;
mod names;
mod resolver;
mod secret;
mod stream;

pub use certificate::Certificate;
pub use fault::Fault;
pub(crate) use handshake::{HandshakeError, accept};
pub use listener::Tls;
pub(crate) use stream::TlsStream;
