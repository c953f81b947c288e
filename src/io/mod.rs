//! Bytes in and out, whoever speaks what over them: a thread's buffers, sockets that are registered
//! when they have to wait, pipes of the kernel, deadlines.

pub(crate) mod buf;
pub(crate) mod deadline;
pub(crate) mod lazy;
pub(crate) mod place;
pub mod preface;
pub(crate) mod splice;
pub(crate) mod stream;
pub(crate) mod write;

pub(crate) use lazy::{LazySocket, LazyTcp, LazyUnix};
pub(crate) use stream::ByteStream;

/// Gives back what this thread has not needed since the last call.
pub(crate) fn trim() {
    buf::trim();
    splice::trim();
}
