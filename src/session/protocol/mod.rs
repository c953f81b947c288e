//! The Redis serialization protocol, versions 2 and 3, without I/O.

mod parser;
mod reply;

pub(crate) use parser::{Arguments, Limits, Parser};
pub(crate) use reply::{Reply, Version};
