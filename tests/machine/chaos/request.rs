//! One request of a client, and what became of it.

use std::time::Duration;

use crate::harness::Failure;

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Asks over one connection for as long as that lasts.
    Kept,
    /// Connects anew for each request.
    Connecting,
    /// Asks for what takes up to three seconds.
    Slow,
    /// Sends a body in pieces, and is told what has arrived.
    Upload,
    /// Reads a body that comes in pieces.
    Download,
    /// Reads an event stream.
    Events,
    /// Says something over a WebSocket and waits for its echo.
    WebSocket,
    /// Asks several times at once over HTTP/2.
    Http2,
    /// Logs in, and is known to whichever worker it asks.
    Session,
    /// Leaves a job for workers that serve no HTTP, and waits until it is done.
    Job,
}

/// A request, with times since the clients began.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) kind: Kind,
    pub(super) app: &'static str,
    /// Whether its connection itself belongs to a worker.
    pub(super) is_handed: bool,
    /// What its answer must say.
    pub(super) mark: String,
    /// When its connection was last known to be good: made, or answered on.
    pub(super) good: Duration,
    pub(super) asked: Duration,
    pub(super) seen: Duration,
}

/// How a request ended that was not answered as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Went {
    /// No connection.
    Refused(String),
    /// The connection ended before any byte of the answer.
    Lost(String),
    /// The connection ended within the answer.
    Cut(String),
    /// The answer was a refusal.
    Status(u16, String),
    /// The answer was another's, or not whole, or from another app.
    Wrong(String),
    /// The answer was right, and much too late.
    Late,
}

/// What a client asked in vain.
#[derive(Debug, Clone)]
pub(super) struct Failed {
    pub(super) request: Request,
    pub(super) went: Went,
}

impl Went {
    /// Whether it is the client that has no port to connect from: nobody was asked.
    pub(super) fn is_own_want(&self) -> bool {
        matches!(self, Self::Refused(why) if why.contains("Cannot assign requested address"))
    }
}

impl From<Failure> for Went {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(why) => Self::Refused(why),
            Failure::Lost { why, .. } => Self::Lost(why),
            Failure::Cut(why) => Self::Cut(why),
            Failure::Status(status, body) => Self::Status(status, body),
        }
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Request { kind, app, mark, good, asked, seen, .. } = &self.request;
        write!(
            f,
            "{kind:?} to {app} ({mark}): connection good at {good:.3?}, asked at {asked:.3?}, seen at {seen:.3?}: {:.200?}",
            self.went
        )
    }
}
