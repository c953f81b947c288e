//! Routes: which requests, and who answers them.

use std::fmt;
use std::time::Duration;

/// What a request must match, and who answers it then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Which hosts.
    pub host: HostPattern,
    /// Path prefix, on segment borders: `/api` matches `/api` and `/api/x`, not `/apix`.
    pub path: String,
    /// What it demands of the way there.
    pub https: Https,
    /// Who answers.
    pub target: RouteTarget,
}

/// Whether clients are to come over TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Https {
    /// Whether those that do not are sent there.
    pub redirect: bool,
    /// For how long browsers are told to come over TLS only (`Strict-Transport-Security`).
    pub hsts: Option<Duration>,
    /// Whether that goes for every name below the host, too.
    pub hsts_subdomains: bool,
}

/// Which hosts a route is for; lower case, without a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostPattern {
    /// This one.
    Exact(String),
    /// Every name below this one (`*.example.com` is stored as `example.com`).
    Wildcard(String),
    /// Every host.
    Any,
}

/// Who answers a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteTarget {
    /// The workers of this app.
    App(String),
    /// The servers of this upstream.
    Upstream(String),
    /// One of several, by a share each.
    Split(Split),
}

/// `split = [{ to = …, share = … }, …]` and `by = …`: several who answer one route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// What decides for a request.
    pub by: SplitKey,
    /// At least one, with at least one share above 0; no [`RouteTarget::Split`] among them.
    pub shares: Vec<Share>,
}

/// One part of a split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Who answers.
    pub to: RouteTarget,
    /// In proportion to the other shares.
    pub share: u32,
}

/// `by =`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SplitKey {
    /// `ip`: the client's address (of IPv6, the network).
    #[default]
    Ip,
    /// `cookie:NAME`; clients without it are split by address.
    Cookie(String),
    /// `header:NAME`, in lower case; requests without it are split by the client's address.
    Header(String),
    /// `random`: each request for itself.
    Random,
}

// === impl RouteTarget ===

impl fmt::Display for RouteTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::App(name) => write!(f, "app:{name}"),
            Self::Upstream(name) => write!(f, "upstream:{name}"),
            Self::Split(split) => {
                f.write_str("split:")?;
                for (i, share) in split.shares.iter().enumerate() {
                    let comma = if i == 0 { "" } else { "," };
                    write!(f, "{comma}{}={}", share.to, share.share)?;
                }
                Ok(())
            }
        }
    }
}

// === impl SplitKey ===

impl fmt::Display for SplitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip => f.write_str("ip"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Random => f.write_str("random"),
        }
    }
}
