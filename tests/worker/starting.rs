//! When a worker is ready, and what is said when it never is.

use std::time::Duration;

use roundsman::config::settings::{App, Listen, Ready};

use crate::worker::harness::{Plan, node, sample};

fn quickly(app: &mut App) {
    app.start_timeout = Duration::from_millis(1500);
}

#[test]
fn not_before_the_health_path_answers_well() {
    let plan = node("describe.js", &[]);
    let file = plan.file("healthy");
    let mut plan = plan.health("/healthz");
    plan.app.command =
        vec!["node".into(), sample("unhealthy-first.js"), file.display().to_string()];
    let mut shim = plan.start();
    // It listens when it answers us: by then it has been asked for its health at least once more.
    shim.hear("STATUS=starting");
    std::fs::write(file, "").unwrap();
    shim.hear("READY=1");
    assert_eq!(shim.get("/"), "test 127.0.0.1");
}

#[test]
fn a_health_path_that_never_answers_well_is_named() {
    let mut shim = node("describe.js", &[]).health("/unwell").with(quickly).start();
    assert_eq!(shim.code(), 1);
    assert!(!shim.was_ready());
    let log = shim.log();
    assert!(
        log.contains(
            "start-timeout = 1.5 s; awaited was the app's health path /unwell: it answers 503"
        ),
        "{log}"
    );
}

#[test]
fn an_app_that_never_listens() {
    let mut shim = node("never-listens.js", &[]).with(quickly).start();
    assert_eq!(shim.code(), 1);
    assert!(
        shim.log().contains("awaited was the app to listen: server.listen()"),
        "{}",
        shim.log()
    );
}

#[test]
fn a_script_that_has_ended_is_told_from_one_that_works_on() {
    // It says nothing, and an app may wait for long until it does.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let connected = format!("require('net').connect({port}, '127.0.0.1')");
    for (script, has_ended) in [
        ("", true),
        ("new Promise(() => {})", true),
        ("setTimeout(() => {}, 60e3)", false),
        (&*connected, false),
        ("require('child_process').spawn('sleep', ['60'])", false),
        ("require('dgram').createSocket('udp4').bind()", false),
        ("require('fs').watch('/tmp')", false),
        ("for (;;);", false),
    ] {
        let mut plan = node("describe.js", &[]).with(|app| {
            if !has_ended {
                app.start_timeout = Duration::from_secs(4);
            }
            app.stop_timeout = Duration::from_millis(100);
        });
        let file = plan.file("app.js");
        std::fs::write(&file, script).unwrap();
        plan.app.command = vec!["node".into(), file.display().to_string()];
        let mut shim = plan.start();
        if has_ended {
            // V8 has timers of its own that keep it from being seen for a while.
            shim.logged("the app's script has ended");
            continue;
        }
        assert_eq!(shim.code(), 1);
        let log = shim.log();
        assert!(!log.contains("the app's script has ended"), "{script}: {log}");
    }
}

#[test]
fn an_app_that_does_without_its_primary() {
    let mut shim = node("exclusive.js", &[]).with(quickly).start();
    assert_eq!(shim.code(), 1);
    assert!(shim.log().contains("without `exclusive`"), "{}", shim.log());
}

#[test]
fn an_app_that_listens_elsewhere_than_port_says() {
    let mut shim =
        node("describe.js", &["0", "127.0.0.1"]).env("PORT", "3000").with(quickly).start();
    assert_eq!(shim.code(), 1);
    let log = shim.log();
    assert!(
        log.contains(
            "awaited was the app to listen on 3000, which is its PORT; it listens on 127.0.0.1:"
        ),
        "{log}"
    );
}

#[test]
fn a_command_that_is_no_node_program() {
    let mut plan = node("describe.js", &[]).with(quickly);
    plan.app.command = vec!["sleep".into(), "1000".into()];
    let mut shim = plan.start();
    assert_eq!(shim.code(), 1);
    assert!(shim.log().contains("is the command a Node program"), "{}", shim.log());
}

#[test]
fn a_command_that_does_not_exist() {
    let mut plan = node("describe.js", &[]);
    plan.app.command = vec!["/nowhere/node".into(), "server.js".into()];
    let mut shim = plan.start();
    assert_eq!(shim.code(), 127);
    assert!(shim.log().contains("exit code 127 (the command was not found)"), "{}", shim.log());
}

#[test]
fn a_wrapper_is_refused_with_advice() {
    let mut plan = node("describe.js", &[]);
    plan.app.command = vec!["npx".into(), "--yes".into(), "thing".into()];
    let mut shim = plan.start();
    assert_eq!(shim.code(), 78);
    assert!(shim.log().contains("write the real command instead"), "{}", shim.log());
}

#[test]
fn an_app_that_exits_at_once_ends_the_unit_as_failed() {
    for (code, expected) in [("0", 1), ("3", 3)] {
        let mut shim = node("exits.js", &[code]).start();
        assert_eq!(shim.code(), expected);
        let log = shim.log();
        assert!(log.contains("the app ended by itself after 0."), "{log}");
        assert!(log.contains(&format!("exit code {code}")), "{log}");
        assert!(!shim.was_ready());
    }
}

#[test]
fn pm2s_ready_message() {
    let plan = node("describe.js", &[]).with(|app| app.ready = Ready::Message);
    let file = plan.file("go");
    let mut plan = plan;
    plan.app.command = vec!["node".into(), sample("ready-message.js"), file.display().to_string()];
    let mut shim = plan.start();
    shim.logged("the app listens on port 3000");
    assert!(!shim.was_ready(), "listening is not enough");
    std::fs::write(file, "").unwrap();
    shim.hear("READY=1");
    assert_eq!(shim.get("/"), "ok");
}

#[test]
fn a_ready_message_that_never_comes() {
    let plan = node("describe.js", &[]).with(quickly).with(|app| app.ready = Ready::Message);
    let mut shim = plan.start();
    assert_eq!(shim.code(), 1);
    assert!(shim.log().contains("process.send('ready')"), "{}", shim.log());
}

#[test]
fn an_inherited_listener_that_nobody_accepts_from() {
    let command = vec!["sleep".into(), "1000".into()];
    let mut shim = Plan::new(Listen::Fd, command).with(quickly).start();
    assert_eq!(shim.code(), 1);
    assert!(shim.log().contains("accept a connection from descriptor 3"), "{}", shim.log());
}

#[test]
fn no_listener_is_a_clear_error() {
    let plan = node("describe.js", &[]);
    let mut shim = plan
        .at("127.0.0.1:1".parse().map(roundsman::config::settings::Address::Tcp).unwrap())
        .start();
    assert_eq!(shim.code(), 78);
    let log = shim.log();
    assert!(log.contains("roundsman-worker@sample:1.service") && log.contains("--listen"), "{log}");
}

#[test]
fn connections_that_waited_for_the_start_are_served() {
    let plan = node("ready-message.js", &["/"]); // "/" exists: ready at once
    let plan = plan.with(|app| app.ready = Ready::Message);
    let roundsman::config::settings::Address::Tcp(address) = *plan.address() else {
        unreachable!("TCP")
    };
    let mut waiting = crate::worker::harness::connect(address);
    let _shim = plan.start();
    assert!(crate::worker::harness::exchange(waiting.as_mut(), "/").ends_with("\r\n\r\nok"));
}
