//! Clients that people use: curl, h2load, Node and gRPC, against the real program.

use std::process::Command;

use roundsman::config::Settings;
use roundsman::config::settings::{Address, HostPattern, ServerOptions, UpstreamServer};

use super::support::speak_http2;
use crate::http::support::pki::{Authority, https};
use crate::http::support::{Backend, Program, Proxy, add, ok, program, python};

/// What a command says; it must succeed.
#[track_caller]
pub(super) fn said(command: &mut Command) -> String {
    let output = command.output().expect("it is installed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{text}\n{error}", output.status);
    text
}

fn start(backend: &Backend) -> Program {
    program(&[backend], "[listen.http]\nhttp2 = true\n")
}

#[test]
fn curl() {
    let backend =
        Backend::new(|request| ok(&format!("{} {}", request.method(), request.body.len())));
    let program = start(&backend);
    let file = program.path("upload");
    std::fs::write(&file, vec![b'x'; 3_000_000]).unwrap();
    let url = format!("http://{}/", program.address);
    let ask = |more: &[&str]| {
        let arguments = ["-sS", "--http2-prior-knowledge", "-w", " %{http_version}", &url];
        said(Command::new("curl").args(arguments).args(more))
    };
    let data = format!("@{}", file.display());
    assert_eq!(ask(&["--data-binary", &data]), "POST 3000000 2");
    assert_eq!(ask(&[]), "GET 0 2");
    // Asked for an upgrade, the front goes on in HTTP/1.1.
    let answer =
        said(Command::new("curl").args(["-sS", "--http2", "-w", " %{http_version}", &url]));
    assert_eq!(answer, "GET 0 1.1");
}

#[test]
fn h2load_with_many_streams() {
    let backend = Backend::new(|_| ok(&"x".repeat(500)));
    let program = start(&backend);
    let url = format!("http://{}/", program.address);
    for streams in ["1", "100"] {
        let report =
            said(Command::new("h2load").args(["-n", "3000", "-c", "4", "-m", streams, &url]));
        let clean =
            "requests: 3000 total, 3000 started, 3000 done, 3000 succeeded, 0 failed, 0 errored";
        assert!(report.contains(clean), "{report}");
        assert!(report.contains("status codes: 3000 2xx"), "{report}");
    }
}

#[test]
fn nodes_http2_client() {
    let backend = Backend::new(|request| ok(&request.body.len().to_string()));
    let program = start(&backend);
    let script = r"
        const client = require('http2').connect(process.argv[1]);
        const ask = (size) => new Promise((done, fail) => {
            const stream = client.request({ ':path': '/', ':method': size ? 'POST' : 'GET' });
            let status, text = '';
            stream.setEncoding('utf8');
            stream.on('response', (head) => { status = head[':status']; });
            stream.on('data', (part) => { text += part; });
            stream.on('end', () => done(`${status} ${text}`));
            stream.on('error', fail);
            if (size) stream.end(Buffer.alloc(size)); // without a body it has ended
        });
        Promise.all([0, 10, 1000000].map(ask)).then((all) => {
            console.log(all.join(','));
            client.close();
        });
    ";
    let url = format!("http://{}", program.address);
    assert_eq!(said(Command::new("node").args(["-e", script, &url])), "200 0,200 10,200 1000000\n");
}

#[test]
fn grpc_calls_of_every_kind() {
    let directory = tempfile::tempdir().unwrap();
    let etc = directory.path().join("etc");
    let socket = directory.path().join("grpc.sock");
    std::fs::create_dir_all(etc.join("upstreams")).unwrap();
    let upstream =
        format!("protocol = \"h2c\"\nservers = [{{ address = \"unix:{}\" }}]\n", socket.display());
    std::fs::write(etc.join("upstreams/test.toml"), upstream).unwrap();
    std::fs::write(etc.join("roundsman.toml"), "[listen.http]\nhttp2 = true\n").unwrap();
    let program = Program::start::<&str>(directory, &[]);
    let input = format!("{} {}", socket.display(), program.address);
    assert_eq!(python("grpc_through.py", input.as_bytes()).trim(), "54");
}

#[test]
fn over_tls_the_client_chooses_the_version() {
    let authority = Authority::new();
    let identity = authority.sign("a", &["a.example"]);
    let backend = Backend::new(|request| ok(request.one("x-forwarded-proto").unwrap()));
    let proxy = Proxy::with(&[&backend], |settings| {
        settings.front.listeners.insert("http".into(), https(&[&identity]));
    });
    let port = proxy.address.port();
    let url = format!("https://a.example:{port}/");
    for (option, said_so) in [("--http2", "https 2"), ("--http1.1", "https 1.1")] {
        let mut curl = Command::new("curl");
        curl.args(["-sS", option, "-w", " %{http_version}", "--resolve"]);
        curl.arg(format!("a.example:{port}:127.0.0.1")).arg("--cacert").arg(authority.file());
        assert_eq!(said(curl.arg(&url)), said_so);
    }
    let mut h2load = Command::new("h2load");
    h2load.args(["-n", "1000", "-c", "4", "-m", "50", &format!("--connect-to={}", proxy.address)]);
    let report = said(h2load.arg(&url));
    assert!(report.contains("Application protocol: h2\n"), "{report}");
    assert!(report.contains("1000 succeeded, 0 failed, 0 errored"), "{report}");
}

#[test]
fn grpc_calls_of_every_kind_over_tls() {
    let authority = Authority::new();
    let identity = authority.sign("a", &["a.example"]);
    let socket = authority.path().join("grpc.sock");
    let mut settings = Settings::default();
    settings.front.listeners.insert("http".into(), https(&[&identity]));
    let address = Address::Unix(socket.clone());
    let server = UpstreamServer { address, options: ServerOptions::default() };
    add(&mut settings, "test", vec![server], HostPattern::Any, "/");
    speak_http2(&mut settings);
    let proxy = Proxy::start(settings, 1);
    let (file, socket) = (authority.file(), socket.display());
    let input = format!("{socket} {} {}", proxy.address, file.display());
    assert_eq!(python("grpc_through.py", input.as_bytes()).trim(), "54");
}
