//! Why a body did not get through, and what that means for whom it came from.

use std::io;

use super::super::chunk::ChunkError;
use crate::front::Reason;

/// Why a body did not get through.
#[derive(Debug)]
pub(crate) enum RelayError {
    /// The stream it came from ended too early or failed.
    Source(io::Error),
    /// It is no chunked coding.
    Malformed(ChunkError),
    /// It has more bytes than it may.
    TooLarge,
    /// The stream it went to failed.
    Sink(io::Error),
}

impl RelayError {
    /// What it is when the body is a client's request.
    pub(crate) fn of_client(&self) -> Reason {
        match self {
            Self::Malformed(_) => Reason::MalformedBody,
            Self::TooLarge => Reason::BodyTooLarge,
            Self::Source(_) | Self::Sink(_) => Reason::ClientGone,
        }
    }

    /// What it is when the body is a server's response.
    pub(crate) fn of_server(&self) -> Reason {
        match self {
            Self::Source(_) => Reason::ServerGone,
            Self::Malformed(_) | Self::TooLarge => Reason::BadResponse,
            Self::Sink(_) => Reason::ClientGone,
        }
    }

    /// The same in words.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Source(error) => format!("the response broke off: {error}"),
            Self::Sink(error) => format!("writing to the client: {error}"),
            Self::Malformed(error) => error.to_string(),
            Self::TooLarge => "the body is too large".to_owned(),
        }
    }
}
