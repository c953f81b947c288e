//! The Redis serialization protocol, versions 2 and 3, without I/O.

mod parser;
mod reply;

pub use parser::{Arguments, Limits, Parser, ProtocolError};
pub use reply::{Reply, Version};
