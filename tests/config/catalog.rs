//! The journal's catalog explains every event, and no other; and each is heard by a test.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[test]
fn every_message_id_is_explained() {
    let source = include_str!("../../src/systemd/message.rs");
    let catalog = include_str!("../../packaging/catalog/roundsman.catalog");
    let named: BTreeSet<&str> = source.split('"').skip(1).step_by(2).collect();
    let explained: BTreeSet<&str> =
        catalog.lines().filter_map(|line| line.strip_prefix("-- ")).collect();
    assert_eq!(named, explained);
    assert!(named.iter().all(|id| id.len() == 32), "{named:?}");
}

/// The text of every test below a directory.
fn tests(directory: &Path) -> String {
    let entries = fs::read_dir(directory).expect("it is there");
    let entries = entries.map(|entry| entry.expect("it can be read").path());
    entries.fold(String::new(), |all, path| match path.extension() {
        Some(extension) if extension == "rs" => all + &fs::read_to_string(path).expect("text"),
        _ if path.is_dir() => all + &tests(&path),
        _ => all,
    })
}

#[test]
fn every_event_is_heard_by_a_test() {
    let source = include_str!("../../src/systemd/message.rs");
    let events: Vec<&str> =
        source.split("const ").skip(1).filter_map(|rest| rest.split(':').next()).collect();
    assert!(events.contains(&"THREAD_STUCK"), "{events:?}");
    let tests = tests(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"));
    let heard = |event: &str| {
        ["journal.has", "machine.events"]
            .iter()
            .any(|ask| tests.contains(&format!("{ask}(\"{event}\"")))
    };
    let unheard: Vec<_> = events.into_iter().filter(|event| !heard(event)).collect();
    assert!(unheard.is_empty(), "no test hears {unheard:?}");
}
