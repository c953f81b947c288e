//! `mode = "handoff"`: what goes together, and what does not.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::fs;

use roundsman::config::settings::{Address, Settings};
use roundsman::config::{Sources, load};
use tempfile::TempDir;

fn settings(files: &[(&str, &str)]) -> Result<Settings, String> {
    let directory = TempDir::new().unwrap();
    for (path, text) in files {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let loaded = load(&Sources::directory(directory.path()));
    let problems = loaded.problems.render(false);
    loaded.strict().map_err(|_| problems)
}

const CHAT: &str = "command = [\"node\", \"/x.js\"]\nmode = \"handoff\"\n";

#[test]
fn an_app_gets_a_whole_listener_and_no_route() {
    let plain = "command = [\"node\", \"/x.js\"]\n";
    let named = format!("{CHAT}listener = \"chat\"\n");
    let files = [("apps/chat.toml", CHAT), ("apps/other.toml", &named), ("apps/plain.toml", plain)];
    let settings = settings(&files).unwrap();
    assert_eq!(settings.handed("http"), Some("chat"));
    assert_eq!(settings.handed("chat"), Some("other"));
    assert_eq!(settings.handed("https"), None);
    assert_eq!(settings.routes.len(), 1, "of the app that is forwarded to");
    let socket = Address::Unix("/run/roundsman-workers/chat:2/control.sock".into());
    assert_eq!(settings.apps["chat"].worker_address(2), socket);
}

#[test]
fn what_cannot_go_together_is_said_with_what_to_do() {
    let with =
        |line: &str| settings(&[("apps/chat.toml", &format!("{CHAT}{line}\n"))]).unwrap_err();
    for key in [
        "route = [{ path = \"/\" }]",
        "balance = \"ip-hash\"",
        "transport = \"tcp\"",
        "sticky = { cookie = \"a\" }",
    ] {
        let error = with(key);
        assert!(error.contains("means nothing with mode = \"handoff\""), "{error}");
    }
    assert!(with("listener = \"a b\"").contains("cannot be the name of a listener"));
    for python in
        ["command = [\"python3\", \"/x.py\"]", "command = [\"node\", \"/x\"]\nlisten = \"fd\""]
    {
        let error = settings(&[("apps/a.toml", &format!("{python}\nmode = \"handoff\"\n"))]);
        assert!(error.unwrap_err().contains("to Node apps only"));
    }
    let error = settings(&[("apps/a.toml", "command = [\"node\", \"/x\"]\nlistener = \"http\"\n")]);
    assert!(error.unwrap_err().contains("only with mode = \"handoff\""));
    let error = settings(&[("apps/a.toml", CHAT), ("apps/b.toml", CHAT)]).unwrap_err();
    assert!(error.contains("a and b want the listener \"http\""), "{error}");
    let plain = "command = [\"node\", \"/x\"]\n";
    let split =
        "[[route]]\nsplit = [{ to = \"app:chat\", share = 1 }, { to = \"app:b\", share = 1 }]\n";
    for route in [split, "[[route]]\nto = \"app:chat\"\n"] {
        let files = [("apps/chat.toml", CHAT), ("apps/b.toml", plain), ("routes/r.toml", route)];
        let error = settings(&files).unwrap_err();
        assert!(error.contains("no requests can be sent to app:chat"), "{error}");
    }
}
