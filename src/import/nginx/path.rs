//! Paths as prefixes of whole segments, which is what a route has.

/// `/api/` and `/api` are one prefix here, on the borders of segments.
pub(super) fn prefix(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" => "/",
        path => path,
    }
}

/// Whether a path is at or below a prefix.
pub(super) fn encloses(outer: &str, inner: &str) -> bool {
    outer == "/"
        || inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The prefixes that a path is at or below.
pub(super) fn enclosing(path: &str) -> impl Iterator<Item = &str> {
    let borders = path.match_indices('/').map(|(at, _)| at).filter(|at| *at > 0);
    let parts = borders.chain([path.len()]).map(move |end| &path[..end]);
    ["/"].into_iter().chain(parts.filter(|part| *part != "/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_where_a_segment_does() {
        for (path, of, all) in [
            ("/", "/", "/"),
            ("//", "/", "/"),
            ("/a", "/a", "/ /a"),
            ("/a/", "/a", "/ /a"),
            ("/a/b", "/a/b", "/ /a /a/b"),
        ] {
            assert_eq!(prefix(path), of, "{path}");
            assert_eq!(enclosing(prefix(path)).collect::<Vec<_>>().join(" "), all, "{path}");
        }
        for (outer, inner, is_within) in [
            ("/", "/a", true),
            ("/a", "/a", true),
            ("/a", "/a/b", true),
            ("/a", "/ab", false),
            ("/a/b", "/a", false),
        ] {
            assert_eq!(encloses(outer, inner), is_within, "{outer} {inner}");
        }
    }
}
