//! A listening socket of the front.

pub use crate::systemd::activation::Socket;

/// A listening socket under its name.
#[derive(Debug)]
pub struct Listener {
    /// Its `FileDescriptorName=`, by which each configuration says what is spoken on it.
    pub name: String,
    /// The socket, in non-blocking mode.
    pub socket: Socket,
}
