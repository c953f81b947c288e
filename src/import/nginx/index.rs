//! Finding entries of the table by host and path: a configuration may have ten thousands of servers.

use std::collections::{BTreeMap, BTreeSet};

use super::host::Host;
use super::path::{enclosing, prefix};

/// Where the entries of hosts and paths are.
#[derive(Debug, Default)]
pub(super) struct Index(BTreeMap<Host, BTreeMap<String, Vec<usize>>>);

/// Hosts that something is said of, to find out whether it concerns another host.
#[derive(Debug, Default)]
pub(super) struct Concerned {
    hosts: BTreeSet<Host>,
    /// Those whose requests would come to them.
    covering: BTreeSet<Host>,
}

impl Index {
    /// Of those at these hosts and paths, in order.
    pub(super) fn of<'a>(places: impl Iterator<Item = (&'a Host, &'a str)>) -> Self {
        let mut index = Self::default();
        for (number, (host, path)) in places.enumerate() {
            index.add(host, path, number);
        }
        index
    }

    pub(super) fn add(&mut self, host: &Host, path: &str, number: usize) {
        let paths = self.0.entry(host.clone()).or_default();
        paths.entry(prefix(path).to_owned()).or_default().push(number);
    }

    /// Those of just this host and prefix.
    pub(super) fn at(&self, host: &Host, prefix: &str) -> &[usize] {
        self.0.get(host).and_then(|paths| paths.get(prefix)).map_or(&[], Vec::as_slice)
    }

    /// Those of hosts that cover this one, whose prefixes enclose this one; in order.
    pub(super) fn around(&self, host: &Host, prefix: &str) -> Vec<usize> {
        let mut found = Vec::new();
        for paths in host.covering().filter_map(|host| self.0.get(&host)) {
            for prefix in enclosing(prefix) {
                found.extend(paths.get(prefix).into_iter().flatten());
            }
        }
        found.sort_unstable();
        found
    }

    /// Those of hosts that cover this one and are others.
    pub(super) fn wider(&self, host: &Host) -> impl Iterator<Item = usize> {
        let hosts = host.covering().skip(1).filter_map(move |host| self.0.get(&host));
        hosts.flat_map(BTreeMap::values).flatten().copied()
    }
}

impl Concerned {
    pub(super) fn of<'a>(hosts: impl Iterator<Item = &'a Host>) -> Self {
        let mut all = Self::default();
        for host in hosts {
            if all.hosts.insert(host.clone()) {
                all.covering.extend(host.covering());
            }
        }
        all
    }

    /// Whether one of them covers this one or is covered by it.
    pub(super) fn has(&self, host: &Host) -> bool {
        self.covering.contains(host) || host.covering().any(|wider| self.hosts.contains(&wider))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::path::encloses;
    use super::*;

    fn hosts() -> impl Strategy<Value = Host> {
        let name = "[ab](\\.[ab]){0,2}";
        prop_oneof![name.prop_map(Host::Exact), name.prop_map(Host::Below), Just(Host::Any),]
    }

    fn paths() -> impl Strategy<Value = String> {
        "(/[ab]){0,3}".prop_map(|path| if path.is_empty() { "/".to_owned() } else { path })
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_a_look_at_all_finds(
            all in proptest::collection::vec((hosts(), paths()), 0..12),
            host in hosts(),
            path in paths(),
        ) {
            let index = Index::of(all.iter().map(|(host, path)| (host, path.as_str())));
            let numbers = |is: &dyn Fn(&Host, &str) -> bool| {
                let all = all.iter().enumerate();
                all.filter(|(_, (h, p))| is(h, p)).map(|(n, _)| n).collect::<Vec<_>>()
            };
            let around = numbers(&|h, p| h.covers(&host) && encloses(p, &path));
            prop_assert_eq!(index.around(&host, &path), around);
            let mut wider: Vec<_> = index.wider(&host).collect();
            wider.sort_unstable();
            prop_assert_eq!(wider, numbers(&|h, _| h.covers(&host) && *h != host));
            prop_assert_eq!(index.at(&host, &path), numbers(&|h, p| *h == host && p == path));
            let related = all.iter().any(|(h, _)| h.covers(&host) || host.covers(h));
            prop_assert_eq!(Concerned::of(all.iter().map(|(h, _)| h)).has(&host), related);
        }
    }
}
