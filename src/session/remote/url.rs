//! Where a server is: `redis://[user[:password]@]host[:port][/database]`, or `unix://…/path`. With TLS it is
//! `rediss://`, and where the server is one of a cluster, `redis+cluster://` or `rediss+cluster://`.

use std::path::PathBuf;

use thiserror::Error;

/// A server, and who to be there.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Url {
    /// Where it listens.
    pub address: Address,
    /// The user, if one is named.
    pub user: Option<String>,
    /// The password, if there is one.
    pub password: Option<String>,
    /// The database.
    pub database: u32,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Whether it is one of a cluster's.
    pub cluster: bool,
    /// With TLS: the file of those whose word on certificates is taken, when it is not the machine's own.
    pub trusted: Option<PathBuf>,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// A host, by name or number, and a port.
    Tcp(String, u16),
    /// A UNIX socket.
    Unix(PathBuf),
}

/// Why a URL cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum UrlError {
    /// Another protocol.
    #[error("{0} is not spoken here: {1}")]
    Scheme(String, &'static str),
    /// A part makes no sense.
    #[error("{0}; write redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE] or unix:///PATH")]
    Malformed(String),
}

const PORT: u16 = 6379;

impl Url {
    /// Takes a URL apart.
    pub(crate) fn parse(text: &str) -> Result<Self, UrlError> {
        let malformed = |what: &str| UrlError::Malformed(what.to_owned());
        let (scheme, rest) =
            text.split_once("://").ok_or_else(|| malformed("there is no scheme (redis://)"))?;
        let why_not = match scheme {
            "redis" | "rediss" | "redis+cluster" | "rediss+cluster" | "unix" => "",
            "mongodb" | "mongodb+srv" => {
                "MongoDB keeps sessions in a form of its own; log users in anew, or run both \
                 stores in the app for as long as sessions live"
            }
            _ => "only redis://, rediss://, redis+cluster://, rediss+cluster:// and unix:// are",
        };
        if !why_not.is_empty() {
            return Err(UrlError::Scheme(format!("{scheme}://"), why_not));
        }
        let (credentials, place) = match rest.rsplit_once('@') {
            Some((credentials, place)) => (Some(credentials), place),
            None => (None, rest),
        };
        let (user, password) = match credentials {
            None => (None, None),
            Some(both) => match both.split_once(':') {
                Some((user, password)) => (decode(user)?, decode(password)?),
                None => (decode(both)?, None),
            },
        };
        let (place, query) = place.split_once('?').unwrap_or((place, ""));
        if scheme == "unix" {
            if !place.starts_with('/') {
                return Err(malformed("the path of a socket begins with /"));
            }
            let database = match query.strip_prefix("db=") {
                Some(number) => number_of(number, "the database")?,
                None => 0,
            };
            let address = Address::Unix(place.into());
            return Ok(Self { user, password, database, ..Self::at(address) });
        }
        if !query.is_empty() {
            return Err(malformed("there is nothing that could follow a ?"));
        }
        let (authority, database) = place.split_once('/').unwrap_or((place, ""));
        let database = if database.is_empty() { 0 } else { number_of(database, "the database")? };
        let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, rest)) => (host, rest.strip_prefix(':')),
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        if host.is_empty() {
            return Err(malformed("there is no host"));
        }
        let port = port.map_or(Ok(PORT), |port| number_of(port, "the port"))?;
        let cluster = scheme.ends_with("+cluster");
        if cluster && database != 0 {
            return Err(malformed("a cluster has database 0 alone"));
        }
        let address = Address::Tcp(host.to_owned(), port);
        let tls = scheme.starts_with("rediss");
        Ok(Self { user, password, database, tls, cluster, ..Self::at(address) })
    }

    /// A single server, of which nothing else is known.
    pub(crate) fn at(address: Address) -> Self {
        Self {
            address,
            user: None,
            password: None,
            database: 0,
            tls: false,
            cluster: false,
            trusted: None,
        }
    }
}

/// Without credentials: this is what is printed.
impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tls = if self.tls { "s" } else { "" };
        let cluster = if self.cluster { "+cluster" } else { "" };
        match &self.address {
            Address::Tcp(host, port) if host.contains(':') => {
                write!(f, "redis{tls}{cluster}://[{host}]:{port}")?;
            }
            Address::Tcp(host, port) => write!(f, "redis{tls}{cluster}://{host}:{port}")?,
            Address::Unix(path) => write!(f, "unix://{}", path.display())?,
        }
        match (&self.address, self.database) {
            (_, 0) => Ok(()),
            (Address::Tcp(..), number) => write!(f, "/{number}"),
            (Address::Unix(_), number) => write!(f, "?db={number}"),
        }
    }
}

impl std::fmt::Debug for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Url({self})")
    }
}

fn number_of<T: std::str::FromStr>(text: &str, what: &str) -> Result<T, UrlError> {
    text.parse().map_err(|_| UrlError::Malformed(format!("{what} is not a number: '{text}'")))
}

/// Percent-decoded; `None` when it is empty.
fn decode(text: &str) -> Result<Option<String>, UrlError> {
    let malformed = || {
        UrlError::Malformed(
            "the user or the password has a % that is not followed by two hex digits".into(),
        )
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2).ok_or_else(malformed)?;
        let digits = std::str::from_utf8(digits).map_err(|_| malformed())?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| malformed())?);
        rest = after;
    }
    let text = String::from_utf8(bytes).map_err(|_| malformed())?;
    Ok((!text.is_empty()).then_some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_read() {
        let url = Url::parse("redis://shop:p%40ss%3a@db.example:6380/3").expect("a URL");
        assert_eq!(url.address, Address::Tcp("db.example".into(), 6380));
        assert_eq!(url.user.as_deref(), Some("shop"));
        assert_eq!(url.password.as_deref(), Some("p@ss:"));
        assert_eq!(url.database, 3);
        assert_eq!(url.to_string(), "redis://db.example:6380/3", "the password is not shown");
        assert_eq!(format!("{url:?}"), "Url(redis://db.example:6380/3)");
        let url = Url::parse("redis://:secret@[::1]").expect("a URL");
        assert_eq!(url.address, Address::Tcp("::1".into(), 6379));
        assert_eq!(url.to_string(), "redis://[::1]:6379");
        assert_eq!((url.user, url.password.as_deref()), (None, Some("secret")));
        for (text, tls, cluster) in [
            ("redis://a:1", false, false),
            ("rediss://a:1", true, false),
            ("redis+cluster://a:1", false, true),
            ("rediss+cluster://a:1", true, true),
        ] {
            let url = Url::parse(text).expect("a URL");
            assert_eq!((url.tls, url.cluster, url.to_string()), (tls, cluster, text.to_owned()));
        }
        let url = Url::parse("unix:///run/x.sock?db=2").expect("a URL");
        assert_eq!((url.address, url.database), (Address::Unix("/run/x.sock".into()), 2));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, expected) in [
            ("127.0.0.1:6379", "no scheme"),
            ("redis+cluster://a/1", "database 0 alone"),
            ("mongodb://a", "MongoDB"),
            ("http://a", "only redis://"),
            ("redis://", "no host"),
            ("redis://a:x", "port is not a number: 'x'"),
            ("redis://a/x", "database is not a number: 'x'"),
            ("redis://u%4:p@a", "%"),
            ("redis://a?x=y", "?"),
            ("unix://run/x", "begins with /"),
        ] {
            let error = Url::parse(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
