//! What a reload makes of servers that are new.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::fs;

use roundsman::balance::{Picked, State};
use roundsman::config::{Settings, Sources, load};
use roundsman::front::Front;

fn settings(workers: u32) -> Settings {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("apps")).unwrap();
    let app = format!("command = [\"/bin/true\"]\nlisten = \"port\"\nworkers = {workers}\n");
    fs::write(directory.path().join("apps/shop.toml"), app).unwrap();
    load(&Sources::directory(directory.path())).strict().unwrap_or_else(|p| panic!("{p}"))
}

/// Until systemd has said that its unit runs, a new worker gets nothing: it would fail.
#[test]
fn a_new_worker_gets_nothing_before_its_unit_runs() {
    let front = Front::new(settings(1), 1);
    front.replace(settings(3));
    let upstream = front.snapshot().upstreams["app:shop"].clone();
    assert_eq!(upstream.servers[0].state(), State::Up, "who was there stays as it was");
    let picks = |count| {
        (0..count).for_each(|_| match upstream.pick(0, &[]) {
            Picked::Server(_) => {}
            Picked::NoneUp => panic!("the first one is up"),
        });
        upstream.servers.iter().map(|s| s.requests()).collect::<Vec<_>>()
    };
    assert_eq!(picks(12), [12, 0, 0]);
    assert!(front.set_state(&upstream.servers[1], State::Up), "its unit runs");
    assert_eq!(picks(12), [18, 6, 0]);
    // And an app of its own that is new waits, too.
    let alone = Front::new(Settings::default(), 1);
    alone.replace(settings(1));
    let upstream = alone.snapshot().upstreams["app:shop"].clone();
    assert!(matches!(upstream.pick(0, &[]), Picked::NoneUp));
}
