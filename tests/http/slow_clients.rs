//! Clients that take their time on purpose, by slowhttptest: they hold no thread, are thrown out, and
//! leave nothing behind.

use std::fs;

use super::clients::{World, run};
use super::support::eventually;

const SETTINGS: &str = "[timeouts]\nclient-header = \"2s\"\nclient-body = \"2s\"\n\
                        client-write = \"2s\"\n";

/// Runs an attack of 200 connections; what it says of its end.
fn attack(mode: &str, seconds: &str, path: &str) -> String {
    let world = World::with(SETTINGS);
    let descriptors = || {
        let process = world.front.process.id();
        fs::read_dir(format!("/proc/{process}/fd")).unwrap().count()
    };
    // The first request makes what stays: the connection to the server.
    run("curl", &["--silent", "--fail", &world.url("/echo")], b"");
    let before = descriptors();
    let url = world.url(path);
    let arguments = [mode, "-c", "200", "-r", "200", "-i", "1", "-p", "20", "-l", seconds, "-u"];
    let said = run("slowhttptest", &[&arguments[..], &[&url, "-v", "1"]].concat(), b"");
    // Others are served all the while; it asks itself.
    assert!(!said.contains("service available:   NO"), "{said}");
    run("curl", &["--silent", "--fail", &world.url("/echo")], b"");
    eventually("its connections are gone", || descriptors() <= before + 1);
    said
}

#[test]
fn slow_heads() {
    let said = attack("-H", "30", "/");
    assert!(said.contains("No open connections left"), "{said}");
}

#[test]
fn slow_bodies() {
    let said = attack("-B", "30", "/echo");
    assert!(said.contains("No open connections left"), "{said}");
}

#[test]
fn slow_readers() {
    attack("-X", "8", "/large?bytes=8000000");
}

#[test]
fn ranges_without_end() {
    let said = attack("-R", "30", "/large?bytes=100");
    assert!(said.contains("No open connections left"), "{said}");
}
