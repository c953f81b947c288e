//! What was probably meant by a path that leads nowhere: the same with one name written right.

use std::fs;
use std::path::{Path, PathBuf};

use crate::base::nearest::nearest;

/// The most names of a folder that are looked at.
const MOST: usize = 2000;

/// What is there, and has one name otherwise.
pub(super) fn meant(path: &Path) -> Option<PathBuf> {
    let there = path.ancestors().skip(1).find(|folder| folder.is_dir())?;
    let mut rest = path.strip_prefix(there).ok()?.components();
    let wrong = rest.next()?.as_os_str().to_str()?;
    let entries = fs::read_dir(there).ok()?.flatten().take(MOST);
    let names: Vec<String> = entries.filter_map(|e| e.file_name().into_string().ok()).collect();
    let name = nearest(wrong, names.iter().map(String::as_str))?;
    let meant = rest.fold(there.join(name), |path, part| path.join(part));
    meant.exists().then_some(meant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_may_be_misspelt() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("shop/dist")).unwrap();
        fs::write(at("shop/dist/server.js"), "").unwrap();
        for (typed, found) in [
            ("shop/dist/servr.js", Some("shop/dist/server.js")),
            ("shpo/dist/server.js", Some("shop/dist/server.js")),
            ("shop/dst/server.js", Some("shop/dist/server.js")),
            ("shpo", Some("shop")),
            ("shpo/dst/server.js", None),
            ("blog/server.js", None),
        ] {
            assert_eq!(meant(&at(typed)), found.map(at), "{typed}");
        }
        assert_eq!(meant(Path::new("/")), None);
    }
}
