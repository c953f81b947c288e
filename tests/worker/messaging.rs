//! `process.send()` and its kin.

use serde_json::{Value, json};

use crate::harness::{Shim, node, wait_for};

/// The next message, as the text that came.
fn next(shim: &mut Shim) -> String {
    let bytes = wait_for("a message", || shim.messages.try_recv().ok());
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn every_kind_of_value_arrives_as_it_was_sent() {
    let mut shim = node("messages.js", &[]).start();
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
        assert_eq!(serde_json::from_str::<Value>(&next(&mut shim)).unwrap(), value);
    }
    assert_eq!(next(&mut shim), r#"{"__proto__":{"polluted":true}}"#);
    assert_eq!(next(&mut shim), r#"{"cmd":5}"#);
    assert_eq!(next(&mut shim), format!("{{\"big\":\"{}\"}}", "é".repeat(500_000)));
    assert_eq!(next(&mut shim), "\"last\"");
    shim.hear("READY=1");
    assert_eq!(shim.get("/"), "ok true");
    assert_eq!(shim.stop(), 0);
}

#[test]
fn a_flood_of_messages_starves_nobody() {
    let mut shim = node("flood.js", &[]).ready();
    let first: u64 = shim.get("/").parse().unwrap();
    wait_for("more messages", || {
        let now: u64 = shim.get("/").parse().unwrap();
        (now > first + 1000).then_some(())
    });
    assert_eq!(shim.stop(), 0, "{}", shim.log());
}

#[test]
fn handles_that_the_app_sends_are_acknowledged() {
    let shim = node("sends-handles.js", &[]).ready();
    wait_for("some acknowledgements", || {
        let count: u32 = shim.get("/").parse().unwrap();
        (count > 5).then_some(())
    });
}

#[test]
fn a_worker_goes_through_what_nodes_documentation_says() {
    let mut plan = node("events.js", &[]);
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
