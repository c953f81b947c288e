//! The shim beside Node's own cluster primary: what a worker can observe is the same, but for what is listed.
//!
//! `conductor.js` has two workers do the behaviours of a topic, once as their real primary and once with a shim
//! around each, and says what came of each. A difference that is not listed fails, and so does a listed one that
//! is none any more.
//!
//! On the machine's Node; `make soak` sets `ROUNDSMAN_NODES` for those of `tests/worker/matrix/nodes`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

/// Behaviours that differ, in which versions of Node, and why they may.
const DIFFERENCES: &[Difference] = &[
    Difference {
        topic: "addresses",
        name: "the worker connects to the front's port",
        versions: ALL,
        reason: "the front's server has no socket: two apps may both ask for port 3000",
    },
    Difference {
        topic: "addresses",
        name: "a zone that there is not",
        versions: ALL,
        reason: "the zone of a link-local address is not looked up: such a server gets another error",
    },
    Difference {
        topic: "addresses",
        name: "a port that was refused is free for all a moment later",
        versions: 0..22,
        reason: "older versions count attempts, so that a worker which has failed shares with none",
    },
    Difference {
        topic: "paths",
        name: "a path that all may",
        versions: 22..u64::MAX,
        reason: "newer versions take their rights from the owner and the group",
    },
    Difference {
        topic: "paths",
        name: "a path that is too long",
        versions: ALL,
        reason: "Node cuts it off, and listens somewhere else than it was told to",
    },
    Difference {
        topic: "paths",
        name: "an abstract socket",
        versions: 0..22,
        reason: "older versions lose the name: all abstract sockets are one, which has none",
    },
    Difference {
        topic: "paths",
        name: "a socket that is left from somebody who is gone",
        versions: ALL,
        reason: "Node's primary outlives a worker that is killed, and takes the path away; a shim that is \
                 killed cannot, so what nobody has open is made anew",
    },
];

const ALL: Range<u64> = 0..u64::MAX;

struct Difference {
    topic: &'static str,
    /// How the behaviour's name begins.
    name: &'static str,
    versions: Range<u64>,
    #[expect(dead_code, reason = "it is for who reads this")]
    reason: &'static str,
}

/// What each behaviour came to.
type Found = BTreeMap<String, String>;

fn conduct(node: &str, mode: &str, topic: &str) -> Command {
    let mut command = Command::new(node);
    command.arg(format!("{}/tests/worker/matrix/conductor.js", env!("CARGO_MANIFEST_DIR")));
    command.args([mode, topic, env!("CARGO_BIN_EXE_roundsman")]).stdout(Stdio::piped());
    command
}

fn read(output: &std::process::Output) -> Found {
    assert!(output.status.success(), "the conductor failed, see above");
    let text = String::from_utf8_lossy(&output.stdout);
    let line = |line: &str| {
        let found: Value = serde_json::from_str(line).expect("a line of JSON");
        let text = |key: &str| found[key].as_str().expect("a text").to_owned();
        (text("name"), text("value"))
    };
    text.lines().map(line).collect()
}

/// The versions of Node to try: the machine's own, or those that the variable names.
fn nodes() -> Vec<PathBuf> {
    match std::env::var_os("ROUNDSMAN_NODES") {
        Some(list) => std::env::split_paths(&list).collect(),
        None => vec!["node".into()],
    }
}

/// Its major version.
fn version(node: &str) -> u64 {
    let output = Command::new(node).arg("--version").output().expect("node runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let major = text.trim_start_matches('v').split('.').next().and_then(|text| text.parse().ok());
    major.unwrap_or_else(|| panic!("a version: {text}"))
}

/// Compares a topic, which has this many behaviours at least.
fn compare(topic: &str, least: usize) {
    for node in nodes() {
        let node = node.to_str().expect("a path of text");
        let version = version(node);
        let shim = conduct(node, "shim", topic).spawn().expect("node runs");
        let primary = conduct(node, "primary", topic).output().expect("node runs");
        let shim = read(&shim.wait_with_output().expect("it ends"));
        let primary = read(&primary);
        assert!(primary.len() >= least, "{} behaviours", primary.len());
        assert!(shim.keys().eq(primary.keys()), "the same behaviours");
        let differ: Vec<&String> =
            primary.keys().filter(|name| primary[*name] != shim[*name]).collect();
        let listed = DIFFERENCES
            .iter()
            .filter(|listed| listed.topic == topic && listed.versions.contains(&version));
        let unknown: Vec<String> = differ
            .iter()
            .filter(|name| !listed.clone().any(|listed| name.starts_with(listed.name)))
            .map(|name| format!("{name}\n  Node: {}\n  here: {}", primary[*name], shim[*name]))
            .collect();
        assert!(unknown.is_empty(), "Node {version}:\n{}", unknown.join("\n"));
        for listed in listed {
            let is_one = differ.iter().any(|name| name.starts_with(listed.name));
            assert!(is_one, "Node {version}: {:?} differs no more", listed.name);
        }
    }
}

#[test]
fn which_two_servers_may_have_the_same_port() {
    compare("conflicts", 180);
}

#[test]
fn where_a_server_is_told_that_it_listens() {
    compare("addresses", 85);
}

#[test]
fn unix_sockets() {
    compare("paths", 30);
}

#[test]
fn sockets_for_datagrams() {
    compare("datagrams", 80);
}

#[test]
fn messages_with_and_without_handles() {
    compare("messages", 75);
}

#[test]
fn what_a_worker_knows_of_itself_and_servers_that_come_and_go() {
    compare("life", 50);
}

#[test]
fn how_workers_end() {
    compare("ends", 20);
}
