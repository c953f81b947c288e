//! The admin API as `docs/admin-api.md` has it, and the commands that wait for its answers.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::{Value, json};

use super::{directory, start, status, upstream};
use crate::common::program::Program;

/// One call; its status and what it answered.
fn call(front: &Program, method: &str, path: &str, body: &str) -> (u16, Value) {
    let answer = front.admin(&format!("{method} {path}"), body);
    let value = serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{answer:?}"));
    (answer.status(), value)
}

#[test]
fn every_call_has_the_statuses_that_are_documented() {
    let front = start(directory(""), None);
    let drain = r#"{"target": "nobody", "hold": true, "timeout_ms": 1}"#;
    for (method, path, body, status) in [
        ("GET", "/v1/status", "", 200),
        ("POST", "/v1/reload", "", 200),
        ("POST", "/v1/explain", r#"{"host": "a", "path": "/"}"#, 200),
        ("POST", "/v1/explain", r#"{"host": "a"}"#, 200),
        ("POST", "/v1/drain", drain, 404),
        ("POST", "/v1/drain", r#"{"target": "nobody"}"#, 404),
        ("POST", "/v1/undrain", r#"{"target": "nobody"}"#, 404),
        ("GET", "/v1/nothing", "", 404),
        ("GET", "/", "", 404),
        ("POST", "/v1/status", "", 405),
        ("GET", "/v1/reload", "", 405),
        ("GET", "/v1/drain", "", 405),
        ("PUT", "/v1/undrain", "", 405),
        ("GET", "/v1/explain", "", 405),
        ("POST", "/v1/drain", "{}", 400),
        ("POST", "/v1/drain", "no JSON", 400),
        ("POST", "/v1/drain", r#"{"target": "shop", "holds": true}"#, 400),
        ("POST", "/v1/drain", r#"{"target": "shop", "timeout_ms": "1"}"#, 400),
        ("POST", "/v1/undrain", "{}", 400),
        ("POST", "/v1/undrain", r#"{"target": "shop", "hold": true}"#, 400),
        ("POST", "/v1/explain", "{}", 400),
        ("POST", "/v1/explain", r#"{"host": "a", "ip": "nowhere"}"#, 400),
    ] {
        let (got, answer) = call(&front, method, path, body);
        assert_eq!(got, status, "{method} {path} {body}: {answer}");
        let error = answer["error"].as_str().unwrap_or_default();
        assert_eq!(error.is_empty(), status == 200, "{method} {path} {body}: {answer}");
    }
    std::fs::write(front.path("etc/roundsman.toml"), "nonsense = 1\n").unwrap();
    let (status, answer) = call(&front, "POST", "/v1/reload", "");
    assert_eq!(status, 422);
    assert!(answer["error"].as_str().unwrap().contains("nonsense"), "{answer}");

    let document = include_str!("../../docs/admin-api.md");
    for status in ["400:", "404:", "405:", "422:", "503:"] {
        assert!(document.contains(status), "{status}");
    }
}

/// "Fields may be added in any version; existing ones keep their meaning": whoever takes one away
/// takes it away here.
#[test]
fn the_status_has_the_fields_that_it_has_had() {
    let directory = directory("");
    upstream(directory.path(), "api", super::server("hello"), "/");
    let front = start(directory, None);
    assert_eq!(super::get(front.address, "/").text(), "hello");
    let (_, status) = call(&front, "GET", "/v1/status", "");
    let has = |value: &Value, fields: &[&str]| {
        let object = value.as_object().unwrap();
        for field in fields {
            assert!(object.contains_key(*field), "no {field} in {value}");
        }
    };
    let fields = [
        "version",
        "pid",
        "uptime_seconds",
        "last_good",
        "bus",
        "threads",
        "listeners",
        "upstreams",
    ];
    has(&status, &fields);
    has(&status["threads"][0], &["core", "accepted", "open", "requests"]);
    has(&status["listeners"][0], &["name", "address"]);
    has(&status["upstreams"][0], &["name", "waiting", "servers"]);
    let server = &status["upstreams"][0]["servers"][0];
    has(server, &["name", "address", "state", "in_flight", "requests", "failures", "transitions"]);
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["pid"], front.process.id());
    assert_eq!(status["upstreams"][0]["name"], "upstream:api");
    assert_eq!((&server["requests"], &server["failures"]), (&json!(1), &json!(0)));
}

/// A front with an app of which the one worker is played by the test, and that worker's listener.
fn app() -> (Program, String, TcpListener) {
    let directory = directory("");
    let name = format!("drain-{}", std::process::id());
    std::fs::create_dir(directory.path().join("etc/apps")).unwrap();
    std::fs::write(
        directory.path().join(format!("etc/apps/{name}.toml")),
        "command = [\"/bin/true\"]\nworkers = 1\ntransport = \"tcp\"\nroute = [{ path = \"/\" }]\n",
    )
    .unwrap();
    let front = start(directory, None);
    let server = status(&front)["upstreams"][0]["servers"][0].clone();
    let listener = TcpListener::bind(server["address"].as_str().unwrap()).unwrap();
    (front, name, listener)
}

fn text(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_drain_says_what_was_not_done_in_time() {
    let (front, name, listener) = app();
    let address = front.address;
    let client = std::thread::spawn(move || super::get(address, "/"));
    let (mut request, _) = listener.accept().unwrap();
    let mut head = [0; 1024];
    assert!(request.read(&mut head).unwrap() > 0);

    let worker = format!("{name}:1");
    let (code, _, said) = text(&front.roundsman(&["drain", &worker, "--timeout", "0"]));
    assert_eq!(code, Some(1), "{said}");
    let expected = format!("{worker}: 1 request was still in flight when the time was up\n");
    assert_eq!(said, expected);
    assert_eq!(status(&front)["upstreams"][0]["servers"][0]["state"], "draining");
    let (code, said, _) = text(&front.roundsman(&["drain", &name, "--timeout", "0", "--json"]));
    assert_eq!(code, Some(1), "{said}");
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(report, json!({ "result": "not drained", "target": name, "in-flight": 1 }));

    // With more time it waits for the end of the request, and no longer.
    let drain = ["drain", &worker, "--timeout", "600"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_roundsman"));
    command.args(drain).arg("--admin").arg(front.path("admin.sock")).stdout(Stdio::piped());
    let waits = command.spawn().unwrap();
    request.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").unwrap();
    assert_eq!(client.join().unwrap().text(), "done");
    let (code, said, _) = text(&waits.wait_with_output().unwrap());
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("{worker} is drained")), "{said}");

    // It stays so until it is taken back.
    assert!(front.roundsman(&["reload"]).status.success());
    assert_eq!(status(&front)["upstreams"][0]["servers"][0]["state"], "draining");
    assert!(front.roundsman(&["undrain", &worker]).status.success());
    assert_eq!(status(&front)["upstreams"][0]["servers"][0]["state"], "up");
}

#[test]
fn who_is_not_there_cannot_be_drained() {
    let (front, name, _listener) = app();
    for target in ["nobody", &format!("{name}:2")] {
        for command in ["drain", "undrain"] {
            let (code, _, said) = text(&front.roundsman(&[command, target]));
            assert_eq!(code, Some(1), "{said}");
            assert!(said.contains("there is no worker or app"), "{said}");
        }
        // A unit that stops has nothing to wait for.
        let (code, _, said) = text(&front.roundsman(&["drain", target, "--worker"]));
        assert_eq!((code, &*said), (Some(0), ""));
    }
}

/// As in `roundsman status | head -1`: the reader has had enough, and nothing panics.
#[test]
fn a_closed_pipe_is_no_panic() {
    let (front, name, _listener) = app();
    let worker = format!("{name}:1");
    let admin = front.path("admin.sock");
    let etc = front.path("etc").display().to_string();
    for (arguments, of_front) in [
        (&["status"][..], true),
        (&["status", "--json"], true),
        (&["explain", "--host", "a"], true),
        (&["explain", "--host", "a", "--json"], true),
        (&["explain", "--host", "a", "--json", "--config", &etc], true),
        (&["drain", &worker, "--json"], true),
        (&["undrain", &worker, "--json"], true),
        (&["drain", &worker], true),
        (&["drain", "nobody"], true),
        (&["reload", "--json"], true),
        (&["check", "--config", &etc], false),
        (&["check", "--config", &etc, "--json"], false),
        (&["send", &worker, "1", "--json"], false),
        (&["session", "check", "--data", "/nonexistent"], false),
    ] {
        let closed = || {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            writer
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_roundsman"));
        command.args(arguments).stdout(closed()).stderr(closed());
        if of_front {
            command.arg("--admin").arg(&admin);
        }
        let status = command.status().unwrap();
        assert!(status.code().is_some_and(|code| code < 128), "{arguments:?}: {status}");
    }
}

/// Whoever may not open the socket is told so with the status for it.
#[test]
fn who_may_not_ask_the_front_is_told_so() {
    use std::os::unix::fs::PermissionsExt as _;
    let (front, name, _listener) = app();
    if !rustix::process::geteuid().is_root() {
        return crate::common::skip::may_skip("only root can become nobody");
    }
    // The program and the socket can be reached by everybody; what may not be done is to connect.
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(front.path(""), open).unwrap();
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(front.path("admin.sock"), private).unwrap();
    let program = front.path("program");
    std::fs::copy(env!("CARGO_BIN_EXE_roundsman"), &program).unwrap();
    for arguments in [&["status"][..], &["drain", &name], &["undrain", &name], &["reload"]] {
        let output = Command::new("setpriv")
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .arg(&program)
            .args(arguments)
            .arg("--admin")
            .arg(front.path("admin.sock"))
            .output()
            .unwrap();
        let (code, _, said) = text(&output);
        assert_eq!(code, Some(77), "{arguments:?}: {said}");
        assert!(said.contains("as a member of the group"), "{said}");
    }
    drop(TcpStream::connect(front.address));
}

/// A front that has one descriptor left, for whoever asks.
#[test]
fn who_has_no_descriptor_left_blames_no_file() {
    let front = start(directory(""), None);
    let (before, _) = configuration(&front);
    std::fs::write(front.path("etc/roundsman.toml"), "[limits]\nheaders = 50\n").unwrap();
    let limit = |most| {
        let limit = Rlimit { current: Some(most), ..getrlimit(Resource::Nofile) };
        prlimit(Some(Pid::from_child(&front.process)), Resource::Nofile, limit).unwrap();
    };
    let listed = std::fs::read_dir(format!("/proc/{}/fd", front.process.id())).unwrap();
    let open: Vec<u64> =
        listed.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
    limit((0..).filter(|number| !open.contains(number)).nth(1).unwrap());

    let output = front.roundsman(&["reload"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(71), "{text}");
    assert!(text.contains("no file descriptor left") && text.contains("LimitNOFILE="), "{text}");
    assert!(!text.contains("cannot be read"), "{text}");
    let (now, line) = configuration(&front);
    assert_eq!(now, before, "the old one stays at work");
    assert!(!line.contains("REFUSED"), "{line}");

    limit(1000);
    let output = front.roundsman(&["reload"]);
    assert!(output.status.success(), "{output:?}");
    assert_ne!(configuration(&front).0, before);
}

/// Which files are at work.
fn configuration(front: &Program) -> (Value, String) {
    let status = status(front);
    (status["configuration"].clone(), status.to_string())
}
