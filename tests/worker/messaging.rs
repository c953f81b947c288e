//! `process.send()` and its kin.

use std::io::{BufRead, Write};

use serde_json::{Value, json};

use crate::worker::harness::{Plan, Shim, node, poll};
use roundsman::config::settings::{Address, Listen, Shutdown};

#[test]
fn every_kind_of_value_arrives_as_it_was_sent() {
    let mut shim = node("messages.js", &[]).start();
    let mut events = shim.events();
    assert_eq!(shim.send("\"go\""), "ok", "sent before the app has a listener");
    let expected = [
        json!("text"),
        json!(""),
        json!("é\n\u{2028}\"\\"),
        json!(1),
        json!(-0.5),
        json!(true),
        Value::Null,
        json!([]),
        json!({}),
        json!({"cmd": "NODE_"}),
        json!({"a": {"b": [null]}}),
    ];
    for value in expected {
        assert_eq!(serde_json::from_str::<Value>(&events.message()).unwrap(), value);
    }
    assert_eq!(events.message(), r#"{"__proto__":{"polluted":true}}"#);
    assert_eq!(events.message(), r#"{"cmd":5}"#);
    assert_eq!(events.message(), format!("{{\"big\":\"{}\"}}", "é".repeat(500_000)));
    assert_eq!(events.message(), "\"last\"");
    shim.hear("READY=1");
    assert_eq!(shim.get("/"), "ok true");
    assert_eq!(shim.stop(), 0);
}

#[test]
fn every_kind_of_value_reaches_the_app() {
    let mut shim = node("echo-messages.js", &[]).ready();
    let mut events = shim.events();
    let big = format!("\"{}\"", "é".repeat(500_000));
    let deep = "[".repeat(1000) + &"]".repeat(1000);
    for text in [
        "null",
        "1",
        "-0.5",
        "true",
        "\"\"",
        "\"é\u{2028}\\\\\"",
        "[]",
        "{}",
        &big,
        &deep,
        r#"{"__proto__":{"polluted":true}}"#,
        r#"{"cmd":"NODE_"}"#,
        r#"{"cmd":5}"#,
    ] {
        assert_eq!(shim.send(text), "ok", "{text:.50}");
        assert_eq!(events.message(), text);
    }
    assert_eq!(shim.send(r#"{"type":"process:msg","topic":"t","data":{"a":1}}"#), "ok");
    let packet = r#"{"id":0,"type":"process:msg","topic":"t","data":{"a":1}}"#;
    assert_eq!(events.message(), packet);
    for bad in ["", "{", "nonsense", r#"{"cmd":"NODE_CLUSTER","act":"disconnect"}"#] {
        assert!(shim.send(bad).starts_with("error: "), "{bad}");
    }
    assert_eq!(shim.get("/"), "ok");
    assert_eq!(shim.stop(), 0);
}

#[test]
fn a_life_is_told_from_start_to_exit() {
    let mut shim = node("echo-messages.js", &[]).ready();
    let mut events = shim.events();
    assert_eq!(shim.send("{\"exit\":true}"), "ok");
    assert_eq!(shim.code(), 7);
    let mut kinds = Vec::new();
    while let Some(event) = events.next() {
        match event["event"].as_str().unwrap() {
            "message" => kinds.push(event["message"].to_string()),
            kind => kinds.push(kind.to_owned()),
        }
        assert_eq!(event["worker"], "sample:1");
        if event["event"] == "exit" {
            assert_eq!((&event["code"], &event["asked"]), (&json!(7), &json!(false)));
        }
    }
    // What it sent just before its end comes before the end.
    let mut expected = vec!["started", "online", "listening", "ready"];
    expected.extend(["\"dying\""; 100]);
    expected.push("exit");
    assert_eq!(kinds, expected);
    assert!(!shim.control.exists(), "a socket that nobody listens on would mislead");
}

#[test]
fn a_broadcast_reaches_every_sibling_and_nobody_else() {
    let first = node("echo-messages.js", &[]).start();
    let base = first.control.ancestors().nth(2).unwrap().to_owned();
    let others: Vec<Shim> =
        [2, 3].map(|number| node("echo-messages.js", &[]).beside(number, &base).ready()).into();
    let stranger = node("echo-messages.js", &[]).with(|app| app.name = "other".into());
    let stranger = stranger.beside(1, &base).ready();
    let mut followed: Vec<_> = others.iter().map(Shim::events).collect();
    let (mut strange, mut own) = (stranger.events(), first.events());
    own.wait_for("ready");
    assert_eq!(first.send(r#"{"broadcast":{"a":[null,"é"]},"times":1000}"#), "ok");
    for events in &mut followed {
        for number in 0..1000 {
            let got = format!(
                r#"{{"roundsman":"broadcast","from":"sample:1","data":{{"number":{number},"data":{{"a":[null,"é"]}}}}}}"#
            );
            assert_eq!(events.message(), got, "whole, and in order");
        }
    }
    for shim in [&first, &stranger] {
        assert_eq!(shim.send("\"mark\""), "ok");
    }
    assert_eq!(strange.message(), "\"mark\"");
    while own.message() != "\"mark\"" {
        // Its own broadcasts are messages that it sent; none came back to be echoed.
    }
    assert_eq!(first.get("/broadcasts"), "0");
}

#[test]
fn a_sibling_that_starts_again_is_found_again_and_its_end_harms_nobody() {
    let first = node("echo-messages.js", &[]).ready();
    let base = first.control.ancestors().nth(2).unwrap().to_owned();
    for _ in 0..3 {
        let mut second = node("echo-messages.js", &[]).beside(2, &base).ready();
        let mut events = second.events();
        assert_eq!(first.send(r#"{"broadcast":1,"times":1}"#), "ok");
        while !events.message().contains("broadcast") {}
        assert_eq!(second.stop(), 0);
        assert_eq!(first.send(r#"{"broadcast":1,"times":10}"#), "ok");
    }
    assert_eq!(first.get("/"), "ok");
}

#[test]
fn who_does_not_read_loses_messages_and_blocks_nobody() {
    let shim = node("flood.js", &[]).ready();
    let slow = shim.events(); // never reads
    let first: u64 = shim.get("/").parse().unwrap();
    poll("drops", || shim.status()["dropped"]["events"].as_u64().filter(|count| *count > 0));
    let then: u64 = shim.get("/").parse().unwrap();
    assert!(then > first + 1000, "the app goes on");
    let mut slow = slow;
    let dropped = slow.wait_for("dropped");
    assert!(dropped["count"].as_u64().unwrap() > 0 && dropped["for"] == "events");
}

#[test]
fn an_app_that_does_not_read_loses_messages_and_blocks_no_sender() {
    let plan = node("blocks.js", &[]);
    let directory = plan.directory.path().display().to_string();
    let mut shim = plan.env("DIRECTORY", &directory).ready();
    let mut conversation = shim.control("send");
    let message = format!("\"{}\"", "x".repeat(1_000_000));
    let mut refused = 0;
    let (mut last, mut answer) = ("\"block\"".to_owned(), String::new());
    while refused == 0 {
        writeln!(conversation.get_mut(), "{last}").unwrap();
        answer.clear();
        conversation.read_line(&mut answer).unwrap();
        refused += u32::from(answer.contains("is full"));
        last.clone_from(&message);
    }
    let status = shim.status();
    assert_eq!(status["dropped"]["app"], 1, "{status}");
    assert!(status["queued-bytes"].as_u64().unwrap() > 1_000_000, "{status}");
    std::fs::write(shim.directory.path().join("go"), "").unwrap();
    poll("an empty queue", || (shim.status()["queued-bytes"] == 0).then_some(()));
    assert_eq!(shim.send("1"), "ok");
    assert_eq!(shim.stop(), 0);
}

#[test]
fn hostile_conversations_harm_nobody() {
    let mut shim = node("echo-messages.js", &[]).ready();
    let long = vec![b'x'; 17 * 1024 * 1024];
    for first in ["", "nonsense", "sibling", "events x", "send\0"] {
        let mut conversation = shim.control(first);
        let mut answer = String::new();
        conversation.read_line(&mut answer).unwrap();
        assert!(answer.starts_with("error: "), "{first}: {answer}");
    }
    let _ = shim.control("send").get_mut().write_all(b"{\"half\":"); // and gone
    let mut conversation = shim.control("send");
    conversation.get_mut().write_all(&long).unwrap();
    conversation.get_mut().write_all(b"\n1\n").unwrap();
    let mut answers = String::new();
    conversation.read_line(&mut answers).unwrap();
    conversation.read_line(&mut answers).unwrap();
    assert!(answers.contains("longer than") && answers.ends_with("ok\n"), "{answers}");
    // A sibling that is none may not kill the app by what is no JSON.
    let mut sibling = shim.control("sibling 2");
    sibling.get_mut().write_all(b"\n{\nnot json\n\"good\"\n").unwrap();
    let mut events = shim.events();
    while !events.message().contains("\"good\"") {}
    assert_eq!(shim.get("/"), "ok");
    assert_eq!(shim.stop(), 0);
}

#[test]
fn a_program_without_a_channel_says_so() {
    let shim = Plan::new(
        Listen::Fd,
        vec!["python3".into(), crate::worker::harness::sample("listener.py")],
    )
    .ready();
    assert!(shim.send("1").contains("not a Node program"));
    assert_eq!(shim.status()["channel"], false);
    shim.events().wait_for("ready");
}

#[test]
fn an_app_that_has_disconnected_says_so_and_lives() {
    // Not as a cluster worker, which Node ends with its channel.
    let command = vec!["node".into(), crate::worker::harness::sample("echo-messages.js")];
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut shim = Plan::new(Listen::Port, command).at(Address::Tcp(free)).ready();
    assert_eq!(shim.send("{\"disconnect\":true}"), "ok");
    poll("the channel's end", || shim.send("1").contains("has closed").then_some(()));
    assert_eq!(shim.get("/"), "ok");
    let _ = shim.stop();
}

#[test]
fn a_flood_of_messages_starves_nobody() {
    let mut shim = node("flood.js", &[]).ready();
    let first: u64 = shim.get("/").parse().unwrap();
    poll("more messages", || {
        let now: u64 = shim.get("/").parse().unwrap();
        (now > first + 1000).then_some(())
    });
    assert_eq!(shim.stop(), 0, "{}", shim.log());
}

#[test]
fn handles_that_the_app_sends_are_acknowledged() {
    let shim = node("sends-handles.js", &[]).ready();
    poll("some acknowledgements", || {
        let count: u32 = shim.get("/").parse().unwrap();
        (count > 5).then_some(())
    });
}

#[test]
fn a_worker_goes_through_what_nodes_documentation_says() {
    let mut plan = node("events.js", &[]);
    plan.app.shutdown = Shutdown::Disconnect;
    let file = plan.file("events");
    plan.app.command.push(file.display().to_string());
    let mut shim = plan.ready();
    assert_eq!(shim.get("/"), "ok");
    assert_eq!(shim.stop(), 0);
    let events = std::fs::read_to_string(file).unwrap_or_default();
    assert_eq!(
        events.lines().collect::<Vec<_>>(),
        [
            "primary false worker true id 1",
            "send function connected true env undefined",
            "listening",
            "server closed",
            "left, on purpose true",
            "disconnect, connected false",
            "exit 0",
        ]
    );
}
