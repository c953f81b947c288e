//! Clients that take their time on purpose, by slowhttptest: they hold no thread, are thrown out, and
//! leave nothing behind.

use std::fs;
use std::process::{Command, Stdio};

use super::clients::{World, run};
use super::support::eventually;

const SETTINGS: &str = "[timeouts]\nclient-header = \"2s\"\nclient-body = \"2s\"\n\
                        client-write = \"2s\"\n";

/// What the front holds of its clients.
struct Held<'a> {
    world: &'a World,
    before: usize,
}

impl<'a> Held<'a> {
    fn new(world: &'a World) -> Self {
        // The first request makes what stays: the connection to the server.
        served(world);
        let before = Self { world, before: 0 }.descriptors();
        Self { world, before }
    }

    fn descriptors(&self) -> usize {
        let process = self.world.front.process.id();
        fs::read_dir(format!("/proc/{process}/fd")).unwrap().count().saturating_sub(self.before)
    }

    /// Sockets that the kernel still keeps for it, also those that it has closed.
    fn sockets(&self) -> usize {
        let port = format!(":{:04X}", self.world.front.address.port());
        let (listening, over) = ("0A", "06");
        let is_held = |line: &&str| {
            let fields: Vec<_> = line.split_whitespace().collect();
            fields[1].ends_with(&port) && ![listening, over].contains(&fields[3])
        };
        fs::read_to_string("/proc/net/tcp").unwrap().lines().filter(is_held).count()
    }
}

fn served(world: &World) {
    run("curl", &["--silent", "--fail", &world.url("/echo")], b"");
}

/// Runs an attack of 200 connections; what it says of its end.
fn attack(mode: &str, seconds: &str, path: &str) -> String {
    let world = World::with(SETTINGS);
    let held = Held::new(&world);
    let url = world.url(path);
    let arguments = [mode, "-c", "200", "-r", "200", "-i", "1", "-p", "20", "-l", seconds, "-u"];
    let said = run("slowhttptest", &[&arguments[..], &[&url, "-v", "1"]].concat(), b"");
    // Others are served all the while; it asks itself.
    assert!(!said.contains("service available:   NO"), "{said}");
    served(&world);
    eventually("its connections are gone", || held.descriptors() <= 1);
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

/// They are the last to know that they were cut off, since that comes after what they have not
/// read. Nothing is held for them all the same, neither by the front nor by the kernel.
#[test]
fn slow_readers() {
    let world = World::with(SETTINGS);
    let held = Held::new(&world);
    let mut attack = Command::new("slowhttptest")
        .args(["-X", "-c", "100", "-r", "100", "-p", "20", "-l", "120", "-v", "0"])
        .args(["-n", "1", "-z", "5", "-w", "512", "-y", "1024", "-u"])
        .arg(world.url("/large?bytes=2000000"))
        .stdout(Stdio::null())
        .spawn()
        .expect("`make test-unit` installs it");
    eventually("all are there", || held.descriptors() >= 100);
    eventually("they are cut off", || held.descriptors() <= 1);
    assert!(held.sockets() <= 1, "the kernel keeps {} of them", held.sockets());
    assert!(attack.try_wait().unwrap().is_none(), "it is still at it");
    served(&world);
    attack.kill().unwrap();
    attack.wait().unwrap();
}

#[test]
fn ranges_without_end() {
    let said = attack("-R", "30", "/large?bytes=100");
    assert!(said.contains("No open connections left"), "{said}");
}
