//! Socket.IO's own packages, with the shims in the place of their primary.

use std::process::Command;

use roundsman::config::settings::Address;
use serde_json::{Value, json};

use crate::worker::harness::{PATIENCE, Shim, node, sample};

/// Where npm's packages are.
fn modules() -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/node/modules");
    let output = Command::new(script).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn url(shim: &Shim) -> String {
    match shim.address() {
        Address::Tcp(address) => format!("http://{address}"),
        Address::Unix(_) => unreachable!("these workers are reached over TCP"),
    }
}

#[test]
fn a_client_of_one_worker_hears_those_of_all() {
    let modules = modules();
    let base = tempfile::tempdir().unwrap();
    let workers = [1, 2].map(|number| {
        node("socket-io.js", &[]).beside(number, base.path()).env("NODE_PATH", &modules).ready()
    });
    let output = Command::new("timeout")
        .arg(PATIENCE.as_secs().to_string())
        .args(["node", &sample("../clients/socket-io.js")])
        .args(workers.each_ref().map(url))
        .env("NODE_PATH", &modules)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let heard: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(heard["a"], json!(["said hello"]), "not what is whispered to others, and once");
    assert_eq!(heard["b"], json!(["said hello", "whispered psst"]));
}
