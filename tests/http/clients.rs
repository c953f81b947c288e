//! Programs that people use, through the real binary to a real Node server: what they did and saw.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use super::support::pki::{Authority, Identity};
use super::support::{Program, PythonServer, python};

/// A server in Node, an echo for WebSocket, and the front before both.
pub(super) struct World {
    pub(super) front: Program,
    node: Child,
    /// What the server prints.
    output: BufReader<ChildStdout>,
    _echo: PythonServer,
    authority: Option<Authority>,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with("")
    }

    /// The same under TLS, and nobody but its authority vouches for it.
    pub(super) fn secure() -> Self {
        let authority = Authority::new();
        let Identity { certificate, key } = authority.sign("front", &["localhost"]);
        let settings = format!(
            "[listen.http]\nprotocol = \"https\"\n\
             certificates = [{{ certificate = \"{}\", key = \"{}\" }}]\n",
            certificate.display(),
            key.display()
        );
        let mut world = Self::with(&settings);
        world.authority = Some(authority);
        world
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
        let front = Program::start::<&str>(directory, &[]);
        Self { front, node, output, _echo: echo, authority: None }
    }

    pub(super) fn url(&self, path: &str) -> String {
        match self.authority {
            None => format!("http://{}{path}", self.front.address),
            Some(_) => format!("https://localhost:{}{path}", self.front.address.port()),
        }
    }

    /// The certificate of the authority that a client has to trust.
    fn ca(&self) -> Option<String> {
        self.authority.as_ref().map(|authority| authority.file().display().to_string())
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

/// What curl does for people, with these options in each call.
fn curl_asks(world: &World, options: &[&str], version: &str) {
    let ca = world.ca();
    let trust: Vec<_> = ca.iter().flat_map(|ca| ["--cacert", ca]).collect();
    let curl = |arguments: &[&str], input: &[u8]| {
        let common = ["--silent", "--show-error", "--fail", "--max-time", "60"];
        run("curl", &[&common[..], options, &trust, arguments].concat(), input)
    };
    let said = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let echo = world.url("/echo");

    assert_eq!(said(&curl(&[&echo], b""))["method"], "GET");
    assert!(curl(&["--head", &echo], b"").starts_with(&format!("HTTP/{version} 200")));
    // It says Expect: 100-continue, and waits for it longer than a test takes.
    let body = vec![b'x'; 2_000_000];
    let upload = ["--expect100-timeout", "50", "--upload-file", "-", &echo];
    let uploaded =
        said(&curl(&[&["--header", "Expect: 100-continue"], &upload[..]].concat(), &body));
    assert_eq!(uploaded["length"], 2_000_000);
    assert_eq!(uploaded["headers"]["transfer-encoding"], "chunked");
    // Three on one connection.
    let large = world.url("/large?bytes=1000000");
    let tell = ["--write-out", "%{http_version} %{size_download} %{num_connects}\n"];
    let once = ["--output", "/dev/null", &large];
    let counted = curl(&[&tell[..], &once, &once, &once].concat(), b"");
    let expected = [1, 0, 0].map(|new| format!("{version} 1000000 {new}\n")).concat();
    assert_eq!(counted, expected);
    let mut refused = Command::new("curl");
    refused.args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}"]);
    refused.args(options).args(&trust).args(["--request-target", "/a/../b", &echo]);
    assert_eq!(String::from_utf8_lossy(&refused.output().unwrap().stdout), "400");
}

#[test]
fn curl() {
    let world = World::new();
    curl_asks(&world, &[], "1.1");
    let old = run("curl", &["--silent", "--fail", "--http1.0", &world.url("/echo")], b"");
    assert!(old.contains("\"method\":\"GET\""), "{old}");
}

#[test]
fn curl_over_tls() {
    let world = World::secure();
    curl_asks(&world, &["--http1.1"], "1.1");
    curl_asks(&world, &["--http2"], "2");
    curl_asks(&world, &["--http2", "--tls-max", "1.2"], "2");
    let stranger = Command::new("curl").args(["--silent", &world.url("/echo")]).output().unwrap();
    assert_eq!(stranger.status.code(), Some(60), "the authority is not trusted by default");
}

fn benched_by_ab(world: &World) {
    for keep_alive in [true, false] {
        let mut arguments = vec!["-q", "-n", "2000", "-c", "32"];
        arguments.extend(keep_alive.then_some("-k"));
        let url = world.url("/large?bytes=100");
        arguments.push(&url);
        let said = run("ab", &arguments, b"");
        assert!(said.contains("Complete requests:      2000\n"), "{said}");
        assert!(said.contains("Failed requests:        0\n"), "{said}");
        assert!(!said.contains("Non-2xx"), "{said}");
        assert_eq!(
            said.contains("SSL/TLS Protocol:       TLSv1.3,"),
            world.ca().is_some(),
            "{said}"
        );
    }
}

#[test]
fn apache_bench() {
    benched_by_ab(&World::new());
}

#[test]
fn apache_bench_over_tls() {
    benched_by_ab(&World::secure());
}

fn benched_by_wrk(world: &World) {
    let said = run("wrk", &["-t1", "-c32", "-d2s", &world.url("/large?bytes=100")], b"");
    assert!(said.contains("requests in"), "{said}");
    assert!(!said.contains("Socket errors") && !said.contains("Non-2xx"), "{said}");
}

#[test]
fn wrk() {
    benched_by_wrk(&World::new());
}

#[test]
fn wrk_over_tls() {
    benched_by_wrk(&World::secure());
}

/// With a CA it also sees that it is refused without, and asks urllib3 itself.
fn asked_by_requests(world: &World) {
    let input = [world.url(""), world.ca().unwrap_or_default()].join("\n");
    assert_eq!(python("by_requests.py", input.as_bytes()), "ok\n");
}

#[test]
fn python_requests() {
    asked_by_requests(&World::new());
}

#[test]
fn python_requests_over_tls() {
    asked_by_requests(&World::secure());
}

#[test]
fn node_fetch() {
    let world = World::new();
    assert_eq!(run("node", &[&script("fetch.mjs"), &world.url("")], b""), "ok\n");
}

#[test]
fn node_fetch_over_tls() {
    let world = World::secure();
    let trust = format!("NODE_EXTRA_CA_CERTS={}", world.ca().unwrap());
    let arguments = [&trust, "node", &script("fetch.mjs"), &world.url("")];
    assert_eq!(run("env", &arguments, b""), "ok\n");
}

/// A page that posts, gets twenty things at once, reads a stream of events and opens a WebSocket;
/// what it found. `home` is where the browser finds whom it trusts.
fn browsed(world: &mut World, home: &Path) -> serde_json::Value {
    let mut browser = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-sync", "--disable-background-networking", "--disable-component-update"])
        .arg(format!("--user-data-dir={}", home.join("profile").display()))
        .arg(world.url("/"))
        .env("HOME", home)
        .stderr(Stdio::null())
        .spawn()
        .expect("`make test-unit` installs it");
    let mut said = String::new();
    world.output.read_line(&mut said).unwrap();
    browser.kill().unwrap();
    browser.wait().unwrap();
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

fn expected(protocol: &str, via: &str) -> serde_json::Value {
    serde_json::json!({
        "protocol": protocol,
        "posted": 300_000,
        "got": 190_000,
        "events": ["1", "2", "3"],
        "socket": [via, "hello"],
    })
}

#[test]
fn chromium() {
    let home = tempfile::tempdir().unwrap();
    assert_eq!(browsed(&mut World::new(), home.path()), expected("http/1.1", "1.1 roundsman"));
}

/// It trusts the authority as it would a company's own, and agrees on HTTP/2; its WebSocket is a
/// stream beside the others.
#[test]
fn chromium_over_tls() {
    let mut world = World::secure();
    let home = tempfile::tempdir().unwrap();
    let store = home.path().join(".pki/nssdb");
    fs::create_dir_all(&store).unwrap();
    let store = format!("sql:{}", store.display());
    run("certutil", &["-d", &store, "-N", "--empty-password"], b"");
    let ca = world.ca().unwrap();
    run("certutil", &["-d", &store, "-A", "-n", "tests", "-t", "C,,", "-i", &ca], b"");
    assert_eq!(browsed(&mut world, home.path()), expected("h2", "2 roundsman"));
}
