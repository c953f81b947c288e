//! What a name stands for: from many questions to one answer.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::message::{Kind, Records, Service};
use super::system::System;
use super::{Answer, DnsError, Lookup, MAX_SERVERS, transport};
use crate::config::settings::{Dns, DnsName, Family};
use crate::front::found::{Found, Record};

/// How often each DNS server is asked: a datagram may get lost.
const ROUNDS: usize = 2;
/// `/etc/hosts` says nothing about how long it is good for.
const HOSTS_TTL: Duration = Duration::from_secs(10);
/// Targets of one service that are looked up; those with the lowest priorities go first.
const MAX_TARGETS: usize = 256;

/// Looks names up in `/etc/hosts` and the DNS.
#[derive(Debug, Clone, Copy, Default)]
pub struct Resolver;

/// The addresses of one host.
#[derive(Clone)]
struct HostLookup {
    host: Arc<str>,
    addresses: Vec<IpAddr>,
    ttl: Duration,
    /// Families (whether IPv6) that could not be learnt, and why.
    lacking: Vec<(bool, DnsError)>,
}

/// One look-up.
struct Question {
    system: System,
    family: Family,
    timeout: Duration,
}

impl Lookup for Resolver {
    async fn look_up(&self, name: &DnsName, settings: &Dns) -> Result<Answer, DnsError> {
        let system =
            System::read(settings).map_err(|error| DnsError::Unasked(error.to_string()))?;
        let question = Question { system, family: settings.addresses, timeout: settings.timeout };
        match name {
            DnsName::Host { name, port } => {
                let found = question.addresses(name).await;
                combine(vec![(found, *port, None)], Duration::MAX)
            }
            DnsName::Service(name) => Arc::new(question).service(name).await,
        }
    }
}

// === impl Question ===

impl Question {
    async fn service(self: Arc<Self>, name: &str) -> Result<Answer, DnsError> {
        let (mut services, ttl) = self.services(name).await?;
        // A single dot says that there is no such service.
        services.retain(|service| !service.target.is_empty());
        services.sort();
        services.truncate(MAX_TARGETS);
        let hosts: BTreeSet<_> = services.iter().map(|s| s.target.clone()).collect();
        let mut lookups = JoinSet::new();
        for host in hosts {
            let question = Arc::clone(&self);
            lookups.spawn(async move { question.addresses(&format!("{host}.")).await });
        }
        let hosts = lookups.join_all().await;
        let first = services.first().map_or(0, |service| service.priority);
        let targets = services.iter().filter_map(|service| {
            let host = hosts.iter().find(|h| h.host.strip_suffix('.') == Some(&service.target))?;
            Some((host.clone(), service.port, Some(record(service, first))))
        });
        combine(targets.collect(), ttl)
    }

    async fn services(&self, name: &str) -> Result<(Vec<Service>, Duration), DnsError> {
        let mut last = DnsError::NoSuchName;
        for name in self.system.candidates(name) {
            match self.ask(&name, Kind::Srv).await {
                Ok((Records::Services(services), ttl)) => return Ok((services, ttl)),
                Err(failed) if !failed.is_final() => return Err(failed),
                Err(DnsError::NoSuchName) => {}
                Ok(_) | Err(_) => last = DnsError::NoRecords,
            }
        }
        Err(last)
    }

    /// The addresses of a host, from `/etc/hosts` or else the DNS.
    async fn addresses(&self, name: &str) -> HostLookup {
        let wants = |is_v6: bool| match self.family {
            Family::All => true,
            Family::Ipv4 => !is_v6,
            Family::Ipv6 => is_v6,
        };
        let mut found = HostLookup {
            host: name.into(),
            addresses: self.system.hosts(name),
            ttl: HOSTS_TTL,
            lacking: Vec::new(),
        };
        found.addresses.retain(|ip| wants(ip.is_ipv6()));
        for name in self.system.candidates(name) {
            if !found.addresses.is_empty() {
                break;
            }
            let ask = async |is_v6| match (wants(is_v6), is_v6) {
                (false, _) => Err(DnsError::NoRecords),
                (true, false) => self.ask(&name, Kind::A).await,
                (true, true) => self.ask(&name, Kind::Aaaa).await,
            };
            let (a, aaaa) = tokio::join!(ask(false), ask(true));
            found.ttl = Duration::MAX;
            found.lacking.clear();
            found.take_in(false, a);
            found.take_in(true, aaaa);
            if found.lacking.iter().any(|(_, failed)| !failed.is_final()) {
                break; // what comes next in the list is somebody else
            }
        }
        found
    }

    /// The records of one kind of a whole name, from the first DNS server that has an answer.
    async fn ask(&self, name: &str, kind: Kind) -> Result<(Records, Duration), DnsError> {
        let mut last = DnsError::NoRecords;
        for _ in 0..ROUNDS {
            for &server in &self.system.servers {
                match transport::ask(server, name, kind, self.timeout).await {
                    Ok((records, _)) if records.is_empty() => return Err(DnsError::NoRecords),
                    Err(failed) if !failed.is_final() => last = failed,
                    result => return result,
                }
            }
        }
        Err(last)
    }
}

impl HostLookup {
    fn take_in(&mut self, is_v6: bool, result: Result<(Records, Duration), DnsError>) {
        match result {
            Ok((Records::Addresses(addresses), ttl)) => {
                // One more than may be, so that it is seen that there are more.
                self.addresses.extend(addresses.into_iter().take(MAX_SERVERS + 1));
                self.ttl = self.ttl.min(ttl);
            }
            // That a host has no addresses of a family is known then, and no failure.
            Ok(_) | Err(DnsError::NoRecords) => {}
            Err(failed) => self.lacking.push((is_v6, failed)),
        }
    }
}

/// The servers that these hosts are.
fn combine(
    hosts: Vec<(HostLookup, u16, Option<Record>)>,
    mut ttl: Duration,
) -> Result<Answer, DnsError> {
    let (mut found, mut lacking) = (Vec::new(), Vec::new());
    let mut failed = DnsError::NoRecords;
    for (host, port, record) in hosts {
        if found.len() > MAX_SERVERS {
            break; // those of the lowest priority, which come last
        }
        found.extend(host.addresses.iter().map(|&ip| Found {
            address: SocketAddr::new(ip, port),
            record,
            host: Arc::clone(&host.host),
        }));
        ttl = ttl.min(host.ttl);
        for (is_v6, why) in host.lacking {
            lacking.push((Arc::clone(&host.host), is_v6));
            failed = why;
        }
    }
    if found.is_empty() {
        return Err(failed);
    }
    Ok(Answer { found, ttl, lacking })
}

/// What a record says. Its weight of 0 means "hardly ever", ours "never".
fn record(service: &Service, first: u16) -> Record {
    Record { weight: u32::from(service.weight).max(1), backup: service.priority > first }
}

impl Records {
    fn is_empty(&self) -> bool {
        match self {
            Self::Addresses(addresses) => addresses.is_empty(),
            Self::Services(services) => services.is_empty(),
        }
    }
}
