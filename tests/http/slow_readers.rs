//! Clients that read their responses more slowly than they may, against the real program. What
//! counts is the time in which something is there for them and they do not take it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use roundsman::front::Reason;
use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::net::{AddressFamily, SocketType};
use tokio::time::Instant;

use super::support::pki::{Authority, Identity};
use super::support::{
    Backend, PATIENCE, Program, Wire as _, counted, eventually, get, talking_program,
};

/// A server whose responses have no end: with a length, which the kernel passes on, in chunks, or as
/// another protocol.
fn endless() -> Backend {
    Backend::raw(|peer| {
        let Some(request) = peer.request() else { return };
        let data = vec![b'x'; 64 * 1024];
        let (status, framing, piece) = match request.target() {
            "/length" => ("200 OK", "Content-Length: 1000000000000000", data),
            "/tunnel" => ("101 Switching Protocols", "Connection: Upgrade\r\nUpgrade: x", data),
            _ => {
                let chunk = [b"10000\r\n", &data[..], b"\r\n"].concat();
                ("200 OK", "Transfer-Encoding: chunked", chunk)
            }
        };
        let head = format!("HTTP/1.1 {status}\r\n{framing}\r\n\r\n");
        if peer.send(head.as_bytes()).is_ok() {
            while peer.send(&piece).is_ok() {}
        }
    })
}

/// A client that has sent this request, with room for little of the response.
fn ask(program: &Program, request: &str) -> TcpStream {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    set_socket_recv_buffer_size(&socket, 64 * 1024).unwrap();
    rustix::net::connect(&socket, &program.address).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// Reads a little again and again, with that pause, until the connection ends or that much time has
/// passed; whether it ended.
fn trickle(client: &mut TcpStream, pause: Duration, time: Duration) -> bool {
    let mut part = vec![0; 16 * 1024];
    let start = Instant::now();
    while start.elapsed() < time {
        match client.read(&mut part) {
            Ok(1..) => std::thread::sleep(pause),
            _ => return true,
        }
    }
    false
}

/// What becomes of three such clients: of a response that is spliced, of one in chunks, and of a tunnel.
fn trickles(program: &Program, pause: Duration, time: Duration, ends: bool) {
    std::thread::scope(|scope| {
        for path in ["/length", "/chunked", "/tunnel"] {
            let offer = "\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";
            let request = get(path);
            let offered = request.replace("\r\n\r\n", offer);
            let mut client = ask(program, if path == "/tunnel" { &offered } else { &request });
            scope.spawn(move || assert_eq!(trickle(&mut client, pause, time), ends, "{path}"));
        }
    });
}

#[test]
fn whoever_keeps_reading_below_the_rate_is_cut_off() {
    let backend = endless();
    // No client reads a gigabyte a second in so small pieces.
    let program = talking_program(
        &[&backend],
        "[timeouts]\nclient-write = \"3s\"\n[limits]\nresponse-rate = 1000000000\n",
    );
    trickles(&program, Duration::from_millis(5), Duration::from_mins(1), true);
    eventually("it is said", || counted(&program, Reason::SlowReader) == 3);
    assert_eq!(counted(&program, Reason::WriteTimeout), 0);
}

#[test]
fn whoever_keeps_the_rate_may_read_for_longer_than_the_time_out() {
    let backend = endless();
    let program = talking_program(&[&backend], "[timeouts]\nclient-write = \"3s\"\n");
    trickles(&program, Duration::from_millis(5), Duration::from_secs(7), false);
}

/// The kernel holds megabytes for a client and says only when a third of them is gone; this one needs
/// longer for that than the time-out.
#[test]
fn what_the_kernel_still_holds_is_not_held_against_a_client_that_reads() {
    let backend = endless();
    let program = talking_program(&[&backend], "[timeouts]\nclient-write = \"3s\"\n");
    trickles(&program, Duration::from_millis(100), Duration::from_secs(12), false);
}

/// A stream of events comes at the server's pace, whatever rate is asked of the client.
#[test]
fn a_slow_server_is_not_its_clients_fault() {
    let backend = Backend::raw(|peer| {
        peer.request();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
        peer.send(head.as_bytes()).unwrap();
        for n in 0..20 {
            std::thread::sleep(Duration::from_millis(100));
            write!(peer.reader.stream, "data: {n}\n\n").unwrap();
        }
    });
    let program = talking_program(
        &[&backend],
        "[timeouts]\nclient-write = \"500ms\"\n[limits]\nresponse-rate = 1000000000\n",
    );
    let events = program.ask(get("/"));
    assert!(events.text().ends_with("data: 19\n\n"), "{events:?}");
}

/// A client that limits itself, in both versions of HTTP.
#[test]
fn curl_over_tls_is_cut_off_too() {
    let authority = Authority::new();
    let Identity { certificate, key } = authority.sign("front", &["localhost"]);
    let backend = endless();
    let program = talking_program(
        &[&backend],
        &format!(
            "[listen.http]\nprotocol = \"https\"\n\
             certificates = [{{ certificate = \"{}\", key = \"{}\" }}]\n\
             [timeouts]\nclient-write = \"3s\"\n[limits]\nresponse-rate = 1000000000\n",
            certificate.display(),
            key.display()
        ),
    );
    let url = format!("https://localhost:{}/length", program.address.port());
    for (before, version) in ["--http1.1", "--http2"].iter().enumerate() {
        let curl = Command::new("curl")
            .args(["--silent", version, "--limit-rate", "2M", "--max-time", "60"])
            .args(["--output", "/dev/null", "--cacert"])
            .arg(authority.file())
            .arg(&url)
            .status()
            .unwrap();
        let timed_out = Some(28);
        assert!(!curl.success() && curl.code() != timed_out, "{version}: {curl}");
        // Over HTTP/2 megabytes fit between it and the front: it may seem not to read at all.
        let reasons = [Reason::SlowReader, Reason::WriteTimeout];
        let said = || reasons.map(|reason| counted(&program, reason)).iter().sum::<usize>();
        eventually("it is said", || said() == before + 1);
    }
}
