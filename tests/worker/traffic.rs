//! Connections on their way to the app: none is lost.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread;

use roundsman::config::settings::Address;

use crate::worker::harness::{PATIENCE, Shim, node};

fn address(shim: &Shim) -> std::net::SocketAddr {
    match shim.address() {
        Address::Tcp(address) => *address,
        Address::Unix(_) => unreachable!("these workers are reached over TCP"),
    }
}

/// Opens `count` connections one after the other on each of `threads` threads; each must be served.
fn hammer(shim: &Shim, threads: usize, count: usize) {
    let address = address(shim);
    let clients: Vec<_> = (0..threads)
        .map(|_| {
            thread::spawn(move || {
                for _ in 0..count {
                    let mut stream = crate::worker::harness::connect(address);
                    let answer = crate::worker::harness::exchange(stream.as_mut(), "/");
                    assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
}

#[test]
fn thousands_of_short_connections() {
    let mut shim = node("moody.js", &[]).ready();
    hammer(&shim, 8, 400);
    assert_eq!(shim.stop(), 0);
}

#[test]
fn kept_alive_connections_side_by_side() {
    let shim = node("moody.js", &[]).ready();
    let address = address(&shim);
    let mut connections: Vec<_> = (0..64)
        .map(|_| {
            let stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            BufReader::new(stream)
        })
        .collect();
    for _ in 0..5 {
        for connection in &mut connections {
            connection.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        }
        for connection in &mut connections {
            let mut line = String::new();
            connection.read_line(&mut line).unwrap();
            assert_eq!(line, "HTTP/1.1 200 OK\r\n");
            while line != "\r\n" {
                line.clear();
                connection.read_line(&mut line).unwrap();
            }
            connection.fill_buf().unwrap();
            let length = connection.buffer().len();
            connection.consume(length);
        }
    }
}

#[test]
fn connections_over_the_apps_own_limit_wait() {
    let shim = node("few-connections.js", &[]).ready();
    hammer(&shim, 6, 8);
}

#[test]
fn connections_while_the_server_is_replaced_wait() {
    let shim = node("moody.js", &[]).ready();
    for _ in 0..5 {
        assert_eq!(shim.get("/again/20"), "again");
        hammer(&shim, 4, 10);
    }
}

#[test]
fn a_connection_waits_for_an_app_that_has_no_descriptor_left() {
    let plan = node("no-descriptors.js", &[]);
    let file = plan.file("release");
    let mut plan = plan;
    let run = [
        "sh",
        "-c",
        "ulimit -n 64; exec node \"$@\"",
        "sh",
        &crate::worker::harness::sample("no-descriptors.js"),
    ];
    plan.app.command = run.iter().map(|word| (*word).to_owned()).collect();
    plan.app.command.push(file.display().to_string());
    let shim = plan.ready();
    assert_eq!(shim.get("/eat"), "eaten");
    // The one connection that is closed leaves a descriptor, which the first of these may get.
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let mut stream = shim.connect();
            write!(stream, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            stream
        })
        .collect();
    shim.logged("has it run out of descriptors");
    std::fs::write(file, "").unwrap();
    for mut stream in waiting {
        let mut answer = [0; 15];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
    }
}
