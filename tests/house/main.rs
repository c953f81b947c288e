//! The house stands as `docs/internals/architecture.md` plans it: what is imported is on a floor below, and
//! nothing imports in a circle.

mod compiled;
mod imports;
mod plan;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use imports::Sources;
use plan::Plan;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below src, by its path there.
fn sources() -> Sources {
    fn read(directory: &Path, files: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(directory).expect("src can be read") {
            let path = entry.expect("src can be read").path();
            if path.is_dir() {
                read(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root().join("src")).expect("it is below");
                let text = fs::read_to_string(&path).expect("it is text");
                files.insert(name.to_str().expect("names are plain").to_owned(), text);
            }
        }
    }
    let mut files = BTreeMap::new();
    read(&root().join("src"), &mut files);
    Sources::new(files)
}

#[test]
fn the_house_stands_as_planned() {
    let plan =
        Plan::read(&fs::read_to_string(root().join("docs/internals/architecture.md")).unwrap());
    let faults = plan.faults(&sources());
    assert!(
        faults.is_empty(),
        "src/ is not as docs/internals/architecture.md plans it (\"The plan of the house\"):\n{}",
        faults.join("\n")
    );
}

/// What the check says of a small house with these files.
fn faults(files: &[(&str, &str)]) -> String {
    let plan = "```plan\n\
                cli    commands\n\
                ----\n\
                left   a room\n\
                right  another\n\
                ----\n\
                base   the ground\n\
                ```\n\
                ```circles\n\
                left/a.rs -> left/b.rs  they are two halves\n\
                ```\n";
    let files = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    let rooms = ["cli", "left", "right", "base"];
    let empty = rooms.map(|room| (format!("{room}/mod.rs"), String::new()));
    let halves = [
        ("left/a.rs".to_owned(), "use super::b::B;".to_owned()),
        ("left/b.rs".to_owned(), "use super::a::A;".to_owned()),
    ];
    let files: BTreeMap<_, _> = empty.into_iter().chain(halves).chain(files).collect();
    Plan::read(plan).faults(&Sources::new(files)).join("\n")
}

#[test]
fn looking_down_is_no_fault() {
    assert_eq!(faults(&[]), "");
    let text = "use crate::{left::Thing, base::{self, file}};\nfn f() { crate::right::g() }";
    assert_eq!(faults(&[("cli/mod.rs", text)]), "");
    let said = "// use crate::cli;\nconst A: &str = \"crate::cli::x\"; /* crate::cli::y */";
    assert_eq!(faults(&[("base/mod.rs", said)]), "", "what is only written is no import");
    let tests = "struct A;\n#[cfg(test)]\nmod tests { use super::A; }";
    assert_eq!(faults(&[("base/file.rs", tests)]), "", "tests look at their own file");
}

#[test]
fn looking_up_or_sideways_is_a_fault() {
    for (file, text, what) in [
        ("base/mod.rs", "use crate::left::Thing;", "base/mod.rs uses left, which is above it"),
        ("base/mod.rs", "fn f() { crate::cli::g() }", "base/mod.rs uses cli, which is above it"),
        (
            "left/mod.rs",
            "use crate::{base, right::R};",
            "left/mod.rs uses right, which is beside it",
        ),
        ("left/c.rs", "use super::super::right::R;", "left/c.rs uses right, which is beside it"),
        ("attic/mod.rs", "", "attic is not in the plan"),
    ] {
        assert_eq!(faults(&[(file, text)]), what);
    }
}

#[test]
fn files_in_a_circle_are_a_fault() {
    let (c, d) = (("left/c.rs", "use super::d::D;"), ("left/d.rs", "use crate::left::c::C;"));
    assert_eq!(faults(&[c, d]), "in a circle: left/c.rs -> left/d.rs -> left/c.rs");
    let through_the_door = [
        ("right/mod.rs", "mod c;\nmod d;\npub use c::C;"),
        ("right/c.rs", "use super::d::D;"),
        ("right/d.rs", "use super::C;"),
    ];
    assert_eq!(faults(&through_the_door), "in a circle: right/c.rs -> right/d.rs -> right/c.rs");
    let child = [("right/mod.rs", "mod c;\nfn f() { c::g() }"), ("right/c.rs", "use super::f;")];
    assert_eq!(faults(&child), "in a circle: right/c.rs -> right/mod.rs -> right/c.rs");
}

#[test]
fn exceptions_that_nobody_needs_are_a_fault() {
    assert_eq!(
        faults(&[("left/b.rs", "")]),
        "left/a.rs -> left/b.rs is listed as a circle and is none"
    );
}
