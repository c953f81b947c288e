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

/// A process that is none of the app's, and listens where the app should.
struct Stranger(std::process::Child);

impl Stranger {
    fn at(address: &Address) -> Self {
        let script = "import socket,sys\ns=socket.socket()\ns.setsockopt(1,2,1)\n\
                      s.bind((sys.argv[1],int(sys.argv[2])))\ns.listen(9)\nwhile 1: s.accept()";
        let Address::Tcp(socket) = address else { unreachable!("TCP") };
        let mut command = std::process::Command::new("python3");
        command.args(["-c", script, &socket.ip().to_string(), &socket.port().to_string()]);
        Self(command.spawn().unwrap())
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn somebody_elses_listener_is_not_the_apps_server() {
    let address = free_address();
    let mut plan = Plan::new(Listen::Port, vec!["sleep".to_owned(), "1000".to_owned()]);
    plan.app.start_timeout = std::time::Duration::from_secs(4);
    let mut shim = plan.at(address.clone()).start();
    shim.hear("STATUS=starting"); // nobody was there when it began
    let _stranger = Stranger::at(&address);
    shim.logged("listens on 127.0.0.1:");
    assert_eq!(shim.code(), 1);
    assert!(!shim.was_ready(), "{}", shim.log());
    assert!(shim.log().contains("awaited was the app to listen on"), "{}", shim.log());
}

#[test]
fn a_worker_whose_address_somebody_else_has_taken_ends() {
    let address = free_address();
    let mut plan = python(Listen::Port);
    plan.app.command = vec!["python3".into(), sample("binds.py"), "briefly".into()];
    let gone = plan.file("gone");
    plan.app.command.push(gone.display().to_string());
    let mut shim = plan.at(address.clone()).ready();
    std::fs::write(gone, "").unwrap();
    crate::common::waiting::poll("the app's listener to be gone", || {
        let Address::Tcp(socket) = &address else { unreachable!("TCP") };
        std::net::TcpStream::connect(socket).is_err().then_some(())
    });
    let _stranger = Stranger::at(&address);
    shim.hear("STOPPING=1");
    assert_eq!(shim.code(), 1);
    assert!(shim.log().contains("so this worker ends"), "{}", shim.log());
}

#[test]
fn an_app_that_listens_elsewhere_is_told_so_while_it_is_awaited() {
    let mut plan = python(Listen::Port);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    plan.app.command = vec![
        "env".into(),
        format!("PORT={port}"),
        "HOST=127.0.0.1".into(),
        "python3".into(),
        sample("binds.py"),
    ];
    plan.app.workers = 1;
    let shim = plan.at(free_address()).start();
    shim.logged(&format!("the app listens on 127.0.0.1:{port}, where the front does not reach it"));
    shim.logged(&format!("or write port = {port}"));
}
