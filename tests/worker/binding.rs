//! Apps that bind for themselves.

use std::os::unix::fs::PermissionsExt;

use roundsman::config::settings::{Address, Listen, Ready};

use crate::worker::harness::{Plan, sample};

fn python(listen: Listen) -> Plan {
    Plan::new(listen, vec!["python3".to_owned(), sample("binds.py")])
}

/// A free port: the app binds it a moment later, as it would one that its user chose.
fn free_address() -> Address {
    Address::Tcp(std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap())
}

#[test]
fn an_app_binds_its_port() {
    let mut shim = python(Listen::Port).at(free_address()).ready();
    assert_eq!(shim.get("/"), "python");
    assert_eq!(shim.stop(), 0);
}

#[test]
fn an_app_binds_its_unix_socket_and_the_front_may_connect() {
    let plan = python(Listen::Unix);
    let path = plan.file("app.sock");
    let mut shim = plan.at(Address::Unix(path.clone())).ready();
    assert_eq!(shim.get("/"), "python");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o666);
    assert_eq!(shim.stop(), 0);
    assert!(path.exists(), "this app leaves its socket behind");

    let again = python(Listen::Unix).at(Address::Unix(path)).ready();
    assert_eq!(again.get("/"), "python", "a socket that nobody serves is no obstacle");
}

#[test]
fn a_port_that_somebody_else_has_is_an_error_before_anything_starts() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut shim = python(Listen::Port).at(Address::Tcp(taken.local_addr().unwrap())).start();
    assert_eq!(shim.code(), 71);
    assert!(shim.log().contains("is in use by another process"), "{}", shim.log());
}

#[test]
fn an_apps_own_notification_makes_it_ready_and_its_status_is_seen() {
    let plan = python(Listen::Port).at(free_address()).with(|app| app.ready = Ready::Notify);
    let mut shim = plan.start();
    shim.hear("STATUS=python is up");
    shim.hear("READY=1");
    assert_eq!(shim.get("/"), "python");
}

#[test]
fn a_node_app_on_a_port_of_its_own_has_a_channel_too() {
    let address = free_address();
    let Address::Tcp(socket) = &address else { unreachable!("TCP") };
    let command = ["node", &sample("describe.js"), &socket.port().to_string(), "127.0.0.1"];
    let command = command.iter().map(|word| (*word).to_owned()).collect();
    let shim = Plan::new(Listen::Port, command).at(address).ready();
    let answer = shim.get_json("/");
    assert_eq!(answer["env"]["PORT"], answer["address"]["port"].to_string());
    assert!(answer["env"].get("NODE_CHANNEL_FD").is_none());
}
