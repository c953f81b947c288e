//! The journal's catalog explains every event, and no other.

use std::collections::BTreeSet;

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
