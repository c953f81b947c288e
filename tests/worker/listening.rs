//! What unmodified Node apps find when they listen.

use std::io::{Read, Write};
use std::net::UdpSocket;

use crate::worker::harness::{Plan, connect, node, poll, sample};

#[test]
fn a_plain_http_app_is_served_and_believes_to_listen_where_it_asked_to() {
    let mut shim = node("describe.js", &["3232"]).start();
    let told = shim.hear("READY=1");
    assert!(told.contains("STATUS=process "), "{told}");
    let answer = shim.get_json("/");
    assert_eq!(answer["address"]["port"], 3232);
    assert_eq!(answer["remote"], "127.0.0.1");
    assert_eq!(answer["env"]["NODE_APP_INSTANCE"], "0");
    assert_eq!(answer["env"]["ROUNDSMAN_APP"], "sample");
    assert_eq!(answer["env"]["ROUNDSMAN_WORKER"], "sample:1");
    assert!(answer["env"].get("PORT").is_none());
    assert!(answer["env"].get("NOTIFY_SOCKET").is_none());
    assert!(answer["env"].get("NODE_CHANNEL_FD").is_none());
    assert_eq!(shim.stop(), 0, "{}", shim.log());
}

#[test]
fn any_port_is_a_stable_one() {
    for _ in 0..2 {
        let shim = node("describe.js", &["0"]).ready();
        assert_eq!(shim.get_json("/")["address"]["port"], 7080);
    }
}

#[test]
fn a_host_is_what_it_asked_for() {
    let shim = node("describe.js", &["3000", "127.0.0.1"]).ready();
    let address = &shim.get_json("/")["address"];
    assert_eq!((&address["address"], &address["family"]), (&"127.0.0.1".into(), &"IPv4".into()));
}

#[test]
fn the_cluster_hello_world_is_a_worker_of_ours() {
    let file = format!("{}/examples/hello/server.js", env!("CARGO_MANIFEST_DIR"));
    let mut plan = node("describe.js", &[]);
    plan.app.command = vec!["node".to_owned(), file];
    plan.number = 3;
    let mut shim = plan.ready();
    assert!(shim.get("/").starts_with("Hello from worker 3, process "));
    assert_eq!(shim.stop(), 0);
}

#[test]
fn npm_start_becomes_the_script_itself() {
    let directory = format!("{}/examples/hello", env!("CARGO_MANIFEST_DIR"));
    let plan = node("describe.js", &[]).with(|app| {
        app.command = vec!["npm".to_owned(), "start".to_owned()];
        app.directory = Some(directory.into());
    });
    assert!(plan.ready().get("/").starts_with("Hello from worker 1, process "));
}

/// A port that nobody has, for an app that wants a certain one.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn the_first_server_that_listens_is_the_fronts_unless_port_says_which() {
    let metrics = free_port();
    let mut shim = node("two-servers.js", &[&metrics.to_string()]).ready();
    assert!(shim.get("/").starts_with("metrics "), "it listens first");
    let said = shim.hear("STATUS=process");
    assert!(said.contains("; not reached by the front: ") && said.contains("3000"), "{said}");

    let shim = node("two-servers.js", &[&metrics.to_string()]).env("PORT", "3000").ready();
    let main = shim.get_json("/");
    assert_eq!((&main["name"], &main["metrics"]), (&"main".into(), &metrics.into()));
    let direct =
        crate::worker::harness::exchange(connect(([127, 0, 0, 1], metrics).into()).as_mut(), "/");
    assert!(direct.ends_with(&format!("metrics {}", main["pid"])), "{direct}");
    assert!(shim.log().contains("is a socket of the app's own"), "{}", shim.log());
}

#[test]
fn the_workers_of_an_app_share_its_other_ports_and_no_other_app_does() {
    let metrics = free_port().to_string();
    let base = tempfile::tempdir().unwrap();
    let plan = || node("two-servers.js", &[&metrics]).env("PORT", "3000");
    let workers = [1, 2].map(|number| plan().beside(number, base.path()).ready());
    for worker in &workers {
        assert_eq!(worker.get_json("/")["name"], "main");
    }
    let mut other = plan().start(); // of an app that has another place
    other.logged(&format!("cannot listen on 127.0.0.1:{metrics}: Address already in use"));
    assert_ne!(other.code(), 0);
}

#[test]
fn the_same_port_twice_is_an_error_event() {
    let shim = node("in-use.js", &[]).ready();
    poll("the second listen to fail", || (shim.get("/") == "EADDRINUSE bind 3000").then_some(()));
}

#[test]
fn a_port_of_somebody_elses_is_an_error_event() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut shim = node("describe.js", &[&port, "127.0.0.1"]).env("PORT", "1").start();
    assert_eq!(shim.code(), 9, "describe.js ends with 9 after an error event");
    assert!(shim.log().contains("Address already in use"), "{}", shim.log());
}

#[test]
fn a_unix_socket_path_may_be_where_the_app_believes_to_listen() {
    let plan = node("paths.js", &["/nowhere/at/all.sock"]);
    assert_eq!(plan.ready().get("/"), "\"/nowhere/at/all.sock\"");
}

#[test]
fn an_inherited_descriptor_means_the_workers_own_listener() {
    assert_eq!(node("descriptor.js", &[]).ready().get("/"), "by descriptor");
}

#[test]
fn a_worker_reached_over_a_unix_socket_serves_the_same() {
    let mut shim = node("describe.js", &["3000"]).over_unix().health("/").ready();
    assert_eq!(shim.get_json("/")["address"]["port"], 3000);
    assert_eq!(shim.stop(), 0);
}

#[test]
fn datagrams_come_to_a_socket_of_the_apps_own() {
    let shim = node("udp.js", &[]).ready();
    let port = shim.get_json("/")["port"].as_u64().unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    poll("the datagram", || {
        client.send_to(b"hello", ("127.0.0.1", u16::try_from(port).unwrap())).unwrap();
        (shim.get_json("/")["last"] == "hello").then_some(())
    });
}

#[test]
fn a_server_may_close_and_listen_again() {
    let shim = node("moody.js", &[]).ready();
    assert_eq!(shim.get("/again/300"), "again");
    // Who comes meanwhile waits.
    assert!(shim.get("/").starts_with("ok "));
}

#[test]
fn an_upgraded_connection_is_the_apps() {
    let shim = node("upgrade.js", &[]).ready();
    let mut stream = shim.connect();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        .unwrap();
    stream.write_all(b"early").unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"early") {
        let mut buffer = [0; 100];
        let length = stream.read(&mut buffer).unwrap();
        assert_ne!(length, 0);
        answer.extend_from_slice(&buffer[..length]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "));
}

#[test]
fn python_serves_on_an_inherited_listener() {
    let command = vec!["python3".to_owned(), sample("listener.py")];
    let mut shim = Plan::new(roundsman::config::settings::Listen::Fd, command).ready();
    let answer = shim.get("/");
    assert!(answer.starts_with("python ") && answer.ends_with(" http"), "{answer}");
    assert_eq!(shim.stop(), 0);
}

#[test]
fn python_with_a_health_path_on_an_inherited_unix_listener() {
    let command = vec!["python3".to_owned(), sample("listener.py")];
    let plan = Plan::new(roundsman::config::settings::Listen::Fd, command).over_unix().health("/");
    assert!(plan.ready().get("/").starts_with("python "));
}

#[test]
fn a_pipe_that_a_program_makes_for_itself_first_is_not_its_server() {
    let mut shim = node("pipe-first.js", &[]).ready();
    assert!(shim.get("/").starts_with("/tmp/roundsman-test-"));
    assert!(shim.log().contains("write its port or path as PORT"), "{}", shim.log());
    assert_eq!(shim.stop(), 0, "{}", shim.log());
}
