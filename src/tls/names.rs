//! Which certificate is for which name: an exact name before a wildcard, and a default.

use std::collections::HashMap;

/// Things by the names they are for.
#[derive(Debug)]
pub(super) struct Names<T> {
    exact: HashMap<String, Vec<T>>,
    /// By what follows the `*.`.
    wildcard: HashMap<String, Vec<T>>,
    default: Vec<T>,
}

impl<T: Clone> Names<T> {
    /// Each with its names. The first is the default; those with the same names go with it, as an
    /// RSA certificate beside an ECDSA one does.
    pub(super) fn new(list: &[(T, Vec<String>)]) -> Self {
        let mut names =
            Self { exact: HashMap::new(), wildcard: HashMap::new(), default: Vec::new() };
        for (thing, for_names) in list {
            if for_names == &list[0].1 {
                names.default.push(thing.clone());
            }
            for name in for_names {
                let (map, key) = match name.strip_prefix("*.") {
                    Some(rest) => (&mut names.wildcard, rest),
                    None => (&mut names.exact, name.as_str()),
                };
                map.entry(key.to_owned()).or_default().push(thing.clone());
            }
        }
        names
    }

    /// Those for a name, in their order; the default ones when none is.
    pub(super) fn find(&self, name: Option<&str>) -> &[T] {
        let found = name.and_then(|name| {
            if name.bytes().any(|b| b.is_ascii_uppercase()) {
                return self.named(&name.to_ascii_lowercase());
            }
            self.named(name)
        });
        found.unwrap_or(&self.default)
    }

    fn named(&self, name: &str) -> Option<&[T]> {
        let exact = self.exact.get(name);
        // A wildcard stands for one label, neither more nor less.
        let wild = || self.wildcard.get(name.split_once('.')?.1);
        exact.or_else(wild).map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_before_wildcard_before_default() {
        let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let names = Names::new(&[
            (1, list(&["a.example", "www.a.example"])),
            (2, list(&["*.b.example", "b.example"])),
            (3, list(&["shop.b.example"])),
            (4, list(&["a.example", "www.a.example"])),
            (5, list(&["a.example"])),
        ]);
        assert_eq!(names.find(Some("www.a.example")), [1, 4]);
        assert_eq!(names.find(Some("a.example")), [1, 4, 5]);
        assert_eq!(names.find(Some("shop.b.example")), [3]);
        assert_eq!(names.find(Some("SHOP.b.Example")), [3]);
        assert_eq!(names.find(Some("other.b.example")), [2]);
        assert_eq!(names.find(Some("b.example")), [2]);
        for unknown in [None, Some("x.other.b.example"), Some(""), Some("example"), Some(".")] {
            assert_eq!(names.find(unknown), [1, 4], "{unknown:?}");
        }
    }
}
