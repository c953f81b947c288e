//! Servers by DNS: names are looked up again as their records' TTLs say.
//!
//! [`message`] is what goes over the wire and [`schedule`] when, both pure; [`transport`] asks one
//! DNS server, [`resolver`] makes of many answers the servers that a name stands for, and
//! [`follow`] does so for all names of a front and puts the changes to work.

pub mod follow;
pub mod message;
pub mod resolver;
pub mod schedule;
pub mod system;
mod transport;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use follow::run;
pub use resolver::Resolver;

use crate::config::settings::{Dns, DnsName};
use crate::front::found::Found;

/// The servers that one name may stand for. Whoever answers for it says how many there are, the
/// balancer counts them in 16 bits, and each costs memory.
pub const MAX_SERVERS: usize = 1024;

/// What a look-up came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The servers, at least one.
    pub found: Vec<Found>,
    /// How long this is good for.
    pub ttl: Duration,
    /// What could not be learnt this time: addresses of this host, of IPv6 or IPv4.
    pub lacking: Vec<(Arc<str>, bool)>,
}

/// Why a look-up came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DnsError {
    /// The DNS says so.
    #[error("there is no such name")]
    NoSuchName,
    /// The name is there, but nothing of the kind that was asked for.
    #[error("the name has no such records")]
    NoRecords,
    /// A DNS server does not want to or cannot answer.
    #[error("the DNS server answered {0}")]
    Refused(&'static str),
    /// None came in time.
    #[error("no answer from {0} within {1:?}")]
    Timeout(SocketAddr, Duration),
    /// The network said no.
    #[error("{0}: {1}")]
    Io(SocketAddr, String),
    /// This process or machine has none left of something that it takes to ask.
    #[error("nobody was asked: {0}")]
    Unasked(String),
    /// What came back was no answer to the question.
    #[error("the DNS server's answer is malformed")]
    Malformed,
    /// The name cannot be asked for.
    #[error("the name is too long for the DNS")]
    Name,
}

/// Somebody who can look names up: the DNS, or a test.
pub trait Lookup: Send + Sync + 'static {
    /// Looks a name up once.
    fn look_up(
        &self,
        name: &DnsName,
        settings: &Dns,
    ) -> impl Future<Output = Result<Answer, DnsError>> + Send;
}

impl DnsError {
    /// Whether it is an answer, which another DNS server would only repeat.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::NoSuchName | Self::NoRecords | Self::Name)
    }
}
