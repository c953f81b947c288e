//! A file that no `mod` line names is never compiled, and its tests never run.

use std::fs;
use std::path::{Path, PathBuf};

/// The files below a directory of modules that the file of the directory does not name, or that no
/// file of theirs does.
fn forgotten(directory: &Path, root: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string(root).unwrap_or_default();
    let mut forgotten = Vec::new();
    for entry in fs::read_dir(directory).expect("it can be read") {
        let path = entry.expect("it can be read").path();
        let name = path.file_stem().expect("it has a name").to_string_lossy();
        let (file, door) = (path.with_extension("rs"), path.join("mod.rs"));
        if path == root || path.is_dir() && !door.exists() {
            continue;
        }
        let is_module = door.exists() || file == path;
        let line = format!("mod {name};");
        if is_module && !text.lines().any(|l| l.ends_with(&line)) {
            forgotten.push(path.clone());
        }
        if door.exists() {
            forgotten.extend(self::forgotten(&path, &door));
        }
    }
    forgotten
}

#[test]
fn every_test_is_compiled() {
    let tests = super::root().join("tests");
    let mut all = forgotten(&tests, &tests.join("suite.rs"));
    for program in ["house", "machine"] {
        all.extend(forgotten(&tests.join(program), &tests.join(program).join("main.rs")));
    }
    assert!(all.is_empty(), "no `mod` line names these, so nobody compiles them: {all:#?}");
}

#[test]
fn a_file_without_a_line_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("main.rs", "mod a;\npub(crate) mod room;\n");
    write("a.rs", "");
    write("b.rs", "");
    write("room/mod.rs", "mod c;\n");
    write("room/c.rs", "");
    write("room/d.rs", "");
    write("apps/server.js", "");
    let mut found = forgotten(directory.path(), &directory.path().join("main.rs"));
    found.sort();
    assert_eq!(found, ["b.rs", "room/d.rs"].map(|name| directory.path().join(name)));
}
