//! Which route a request takes: the host first (exact, then wildcard, then any), then the longest
//! path prefix on segment borders.

use std::collections::HashMap;

use super::path;
use crate::config::settings::{HostPattern, Route};

/// The longest host name of the DNS, with room for a final dot.
pub(crate) const MAX_HOST: usize = 255;

/// The routes of a snapshot, arranged for looking up.
#[derive(Debug, Default)]
pub struct Router {
    exact: HashMap<Box<[u8]>, Paths>,
    /// By the name that the wildcard is below of.
    wildcard: HashMap<Box<[u8]>, Paths>,
    any: Paths,
    /// Whether any route is about some paths only.
    has_prefixes: bool,
}

/// The path prefixes of one host pattern, longest first, each with its route's number.
#[derive(Debug, Default)]
struct Paths(Vec<(Box<[u8]>, usize)>);

impl Router {
    /// The router for these routes; it answers with their numbers.
    pub fn new(routes: &[Route]) -> Self {
        let mut router = Self::default();
        for (number, route) in routes.iter().enumerate() {
            let paths = match &route.host {
                HostPattern::Exact(host) => router.exact.entry(host.as_bytes().into()).or_default(),
                HostPattern::Wildcard(suffix) => {
                    router.wildcard.entry(suffix.as_bytes().into()).or_default()
                }
                HostPattern::Any => &mut router.any,
            };
            let prefix = path::normal(route.path.as_bytes());
            router.has_prefixes |= !is_root(&prefix);
            paths.0.push((prefix.into(), number));
        }
        let all = router.exact.values_mut().chain(router.wildcard.values_mut());
        for paths in all.chain([&mut router.any]) {
            // Stable: of two equal ones the first in the files is found.
            paths.0.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        }
        router
    }

    /// The number of the route for this host (without a port) and path (with its query), which is
    /// compared in its normal form.
    pub fn find(&self, host: &[u8], path: &[u8]) -> Option<usize> {
        let normal = self
            .has_prefixes
            .then(|| path::normal(&path[..memchr::memchr(b'?', path).unwrap_or(path.len())]));
        let path = normal.as_deref().unwrap_or(path);
        if self.exact.is_empty() && self.wildcard.is_empty() {
            return self.any.find(path);
        }
        let host = host.strip_suffix(b".").unwrap_or(host);
        let mut lower = [0; MAX_HOST];
        let lower = lower.get_mut(..host.len())?;
        lower.copy_from_slice(host);
        lower.make_ascii_lowercase();
        let lower = &*lower;
        let exact = self.exact.get(lower).and_then(|paths| paths.find(path));
        exact.or_else(|| self.find_wildcard(lower, path)).or_else(|| self.any.find(path))
    }

    fn find_wildcard(&self, host: &[u8], path: &[u8]) -> Option<usize> {
        if self.wildcard.is_empty() {
            return None;
        }
        // From the left, so that the most specific pattern is found first.
        memchr::memchr_iter(b'.', host)
            .filter_map(|dot| self.wildcard.get(&host[dot + 1..]))
            .find_map(|paths| paths.find(path))
    }
}

impl Paths {
    fn find(&self, path: &[u8]) -> Option<usize> {
        self.0.iter().find(|(prefix, _)| matches(prefix, path)).map(|(_, number)| *number)
    }
}

/// Whether a prefix is that of every path.
fn is_root(prefix: &[u8]) -> bool {
    matches!(prefix, b"" | b"/")
}

/// Whether a path is at or below a prefix.
fn matches(prefix: &[u8], path: &[u8]) -> bool {
    if is_root(prefix) {
        return true; // also `*`, which is about the server as a whole
    }
    path.strip_prefix(prefix).is_some_and(|rest| {
        prefix.last() == Some(&b'/') || rest.is_empty() || rest.first() == Some(&b'/')
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::settings::{Https, RouteTarget};

    fn router(routes: &[(&str, &str)]) -> Router {
        let routes: Vec<_> = routes
            .iter()
            .map(|(host, path)| Route {
                host: match (host.strip_prefix("*."), *host) {
                    (Some(suffix), _) => HostPattern::Wildcard(suffix.into()),
                    (None, "*") => HostPattern::Any,
                    (None, host) => HostPattern::Exact(host.into()),
                },
                path: (*path).into(),
                https: Https::default(),
                target: RouteTarget::App("a".into()),
            })
            .collect();
        Router::new(&routes)
    }

    #[test]
    fn the_most_specific_host_and_the_longest_path_win() {
        let router = router(&[
            ("*", "/"),
            ("a.example", "/"),
            ("a.example", "/api"),
            ("*.example", "/"),
            ("*.b.example", "/"),
            ("only.example", "/api/"),
        ]);
        let find = |host: &str, path: &str| router.find(host.as_bytes(), path.as_bytes());
        assert_eq!(find("A.Example.", "/"), Some(1));
        assert_eq!(find("a.example", "/api"), Some(2));
        assert_eq!(find("a.example", "/api/x?y"), Some(2));
        assert_eq!(find("a.example", "/api?x"), Some(2));
        for same in ["/%61pi", "//api/x", "/ap%69?x"] {
            assert_eq!(find("a.example", same), Some(2), "{same}");
        }
        assert_eq!(find("a.example", "/apix"), Some(1));
        assert_eq!(find("c.example", "/"), Some(3));
        assert_eq!(find("x.y.b.example", "/"), Some(4));
        assert_eq!(find("example", "/"), Some(0));
        assert_eq!(find("only.example", "/api/x"), Some(5));
        assert_eq!(find("only.example", "/api"), Some(3));
        assert_eq!(find("", "*"), Some(0));
    }

    #[test]
    fn no_route_is_found_where_none_is() {
        assert_eq!(router(&[]).find(b"a", b"/"), None);
        assert_eq!(router(&[("a", "/x")]).find(b"a", b"/"), None);
        assert_eq!(router(&[("a", "/")]).find(b"b", b"/"), None);
        assert_eq!(router(&[("a", "/")]).find(&[b'a'; 300], b"/"), None);
        assert_eq!(router(&[("a", "/")]).find(b"a", b"/"), Some(0));
        assert_eq!(router(&[("*.b", "/")]).find(b"a.b", b"/"), Some(0));
    }

    proptest! {
        #[test]
        fn what_is_found_is_the_longest_prefix_on_a_border(
            prefixes in proptest::collection::vec("(/[ab]{1,2}){0,3}", 1..6),
            path in "(/[ab]{1,2}){1,4}",
        ) {
            let routes: Vec<_> = prefixes.iter().map(|p| ("*", p.as_str())).collect();
            let segments = |p: &str| p.split('/').skip(1).map(String::from).collect::<Vec<_>>();
            let longest = prefixes
                .iter()
                .filter(|p| segments(&path).starts_with(&segments(p)))
                .map(String::len)
                .max();
            let found = router(&routes).find(b"h", path.as_bytes());
            prop_assert_eq!(found.map(|f| prefixes[f].len()), longest);
        }
    }
}
