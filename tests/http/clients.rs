//! Programs that people use, through the real binary to a real Node server: what they did and saw.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};

use super::support::{Program, PythonServer, python};

/// A server in Node, an echo for WebSocket, and the front before both.
pub(super) struct World {
    pub(super) front: Program,
    node: Child,
    /// What the server prints.
    output: BufReader<ChildStdout>,
    _echo: PythonServer,
}

impl World {
    fn new() -> Self {
        Self::with("")
    }

    /// The same with this in the front's `roundsman.toml`.
    pub(super) fn with(settings: &str) -> Self {
        let mut node = Command::new("node")
            .arg(script("server.mjs"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("node is installed");
        let mut output = BufReader::new(node.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let echo = PythonServer::start("websocket_echo.py");
        let directory = tempfile::tempdir().unwrap();
        let upstreams = directory.path().join("etc/upstreams");
        fs::create_dir_all(&upstreams).unwrap();
        fs::write(directory.path().join("etc/roundsman.toml"), settings).unwrap();
        let node_address: SocketAddr = line.trim().parse().unwrap();
        fs::write(upstreams.join("node.toml"), upstream(node_address, "/")).unwrap();
        fs::write(upstreams.join("socket.toml"), upstream(echo.address, "/socket")).unwrap();
        Self { front: Program::start::<&str>(directory, &[]), node, output, _echo: echo }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.front.address)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.node.kill();
        let _ = self.node.wait();
    }
}

fn upstream(server: SocketAddr, path: &str) -> String {
    format!("servers = [{{ address = \"{server}\" }}]\nroute = [{{ path = \"{path}\" }}]\n")
}

fn script(name: &str) -> String {
    format!("{}/tests/clients/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// What a command printed, which must have succeeded.
pub(super) fn run(command: &str, arguments: &[&str], input: &[u8]) -> String {
    let mut child = Command::new(command)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command}: {error}; `make test-unit` installs it"));
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn curl() {
    let world = World::new();
    let curl = |arguments: &[&str], input: &[u8]| {
        let common = ["--silent", "--show-error", "--fail", "--max-time", "60"];
        run("curl", &[&common[..], arguments].concat(), input)
    };
    let said = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let echo = world.url("/echo");

    assert_eq!(said(&curl(&[&echo], b""))["method"], "GET");
    assert_eq!(said(&curl(&["--http1.0", &echo], b""))["method"], "GET");
    assert!(curl(&["--head", &echo], b"").starts_with("HTTP/1.1 200 OK\r\n"));
    // It says Expect: 100-continue, and waits for it longer than a test takes.
    let body = vec![b'x'; 2_000_000];
    let upload = ["--expect100-timeout", "50", "--upload-file", "-", &echo];
    let uploaded =
        said(&curl(&[&["--header", "Expect: 100-continue"], &upload[..]].concat(), &body));
    assert_eq!(uploaded["length"], 2_000_000);
    assert_eq!(uploaded["headers"]["transfer-encoding"], "chunked");
    // Three on one connection.
    let large = world.url("/large?bytes=1000000");
    let counted = curl(
        &[
            "--output",
            "/dev/null",
            "--write-out",
            "%{size_download} %{num_connects}\n",
            &large,
            "--output",
            "/dev/null",
            &large,
            "--output",
            "/dev/null",
            &large,
        ],
        b"",
    );
    assert_eq!(counted, "1000000 1\n1000000 0\n1000000 0\n");
    let refused = Command::new("curl")
        .args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}"])
        .args(["--request-target", "/a/../b", &echo])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&refused.stdout), "400");
}

#[test]
fn apache_bench() {
    let world = World::new();
    for keep_alive in [true, false] {
        let mut arguments = vec!["-q", "-n", "3000", "-c", "32"];
        arguments.extend(keep_alive.then_some("-k"));
        let url = world.url("/large?bytes=100");
        arguments.push(&url);
        let said = run("ab", &arguments, b"");
        assert!(said.contains("Complete requests:      3000\n"), "{said}");
        assert!(said.contains("Failed requests:        0\n"), "{said}");
        assert!(!said.contains("Non-2xx"), "{said}");
    }
}

#[test]
fn wrk() {
    let world = World::new();
    let said = run("wrk", &["-t1", "-c32", "-d2s", &world.url("/large?bytes=100")], b"");
    assert!(said.contains("requests in"), "{said}");
    assert!(!said.contains("Socket errors") && !said.contains("Non-2xx"), "{said}");
}

#[test]
fn python_requests() {
    let world = World::new();
    assert_eq!(python("by_requests.py", world.url("").as_bytes()), "ok\n");
}

#[test]
fn node_fetch() {
    let world = World::new();
    assert_eq!(run("node", &[&script("fetch.mjs"), &world.url("")], b""), "ok\n");
}

/// A page that posts, gets twenty things at once, reads a stream of events and opens a WebSocket.
#[test]
fn chromium() {
    let mut world = World::new();
    let profile = tempfile::tempdir().unwrap();
    let mut browser = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-sync", "--disable-background-networking", "--disable-component-update"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(world.url("/"))
        .stderr(Stdio::null())
        .spawn()
        .expect("`make test-unit` installs it");
    let mut said = String::new();
    world.output.read_line(&mut said).unwrap();
    browser.kill().unwrap();
    browser.wait().unwrap();
    let expected = r#"{"posted":300000,"got":190000,"events":["1","2","3"],"socket":"hello"}"#;
    assert_eq!(said.trim(), expected);
}
