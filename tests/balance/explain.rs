//! `roundsman explain`, from files alone, through the real binary.

use std::path::Path;
use std::process::{Command, Output};

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().expect("it is below the folder")).expect("a folder");
    std::fs::write(path, text).expect("a file");
}

fn configuration() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    write(
        folder.path(),
        "upstreams/old.toml",
        "balance = \"ip-hash\"\nservers = [{ address = \"10.0.0.1:80\" }, { address = \"10.0.0.2:80\" }]\n",
    );
    write(
        folder.path(),
        "upstreams/new.toml",
        "servers = [{ address = \"10.0.0.9:80\", down = true }]\n",
    );
    write(
        folder.path(),
        "routes/shop.toml",
        "[[route]]\nhost = \"shop.example\"\nby = \"cookie:beta\"\n\
         split = [{ to = \"upstream:old\", share = 95 }, { to = \"upstream:new\", share = 5 }]\n\
         [[route]]\nhost = \"*.example\"\npath = \"/new\"\nto = \"upstream:new\"\n",
    );
    folder
}

fn explain(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_roundsman"))
        .arg("explain")
        .args(arguments)
        .arg("--config")
        .arg(folder)
        .output()
        .expect("it starts")
}

fn text(folder: &Path, arguments: &[&str]) -> String {
    let output = explain(folder, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it is text")
}

#[test]
fn says_route_share_server_and_why() {
    let folder = configuration();
    // Of two servers nginx's ip_hash picks the second for 10.0.0.0/24, the first for 192.168.1.0/24.
    for (ip, server) in [("10.0.0.254", "10.0.0.2:80"), ("192.168.1.77", "10.0.0.1:80")] {
        let text = text(
            folder.path(),
            &["--host", "shop.example:8080", "--path", "/x", "--ip", ip, "--cookie", "beta=9"],
        );
        assert!(text.contains("route     shop.example/\n"), "{text}");
        assert!(text.contains("share     95 of 100, by cookie:beta\n"), "{text}");
        assert!(text.contains("upstream  upstream:old, ip-hash\n"), "{text}");
        let line = format!("server    {server}: the hash of the client's network leads to it\n");
        assert!(text.contains(&line), "{text}");
        assert!(text.contains("10.0.0.1:80 is up, weight 1, 0 in flight, may be used: yes"));
    }
}

#[test]
fn says_when_nobody_would_answer() {
    let folder = configuration();
    let down = text(folder.path(), &["--host", "a.example", "--path", "/new/x"]);
    assert!(down.contains("route     *.example/new\n"), "{down}");
    assert!(down.contains("server    none: no server can be used: the request would wait"));
    assert!(down.contains("10.0.0.9:80 is down"), "{down}");
    let none = text(folder.path(), &["--host", "elsewhere.test"]);
    assert!(none.contains("no route matches this host and path"), "{none}");
}

#[test]
fn prints_json_and_errors() {
    let folder = configuration();
    let json = text(folder.path(), &["--host", "shop.example", "--ip", "10.0.0.1", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
    assert_eq!(json["servers"].as_array().map(Vec::len), Some(2));
    assert_eq!(json["server"], "10.0.0.2:80");
    let output = explain(folder.path(), &["--host", "a", "--cookie", "no-value"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("write NAME=VALUE"));
    write(folder.path(), "upstreams/bad.toml", "servers = 5\n");
    let output = explain(folder.path(), &["--host", "a"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&output.stderr).contains("bad.toml"));
}
