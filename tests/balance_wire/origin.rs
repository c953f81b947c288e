//! Servers that answer with their number, and can be made ill.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::net::sockopt;

/// What ails a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Manner {
    Well,
    Hanging,
    Slow,
    Failing,
    /// Ends the connection in the middle of a response.
    BreakingOff,
    /// Resets it there.
    Resetting,
}

/// A server that answers with its number.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    /// Present while it lives.
    life: Option<Arc<()>>,
}

struct Shared {
    number: usize,
    manner: AtomicU8,
    /// Requests at this moment, and the most there were at any.
    now: AtomicUsize,
    most: AtomicUsize,
    connections: Mutex<Vec<TcpStream>>,
}

impl Manner {
    fn of(number: u8) -> Self {
        use Manner::{BreakingOff, Failing, Hanging, Resetting, Slow, Well};
        [Well, Hanging, Slow, Failing, BreakingOff, Resetting][usize::from(number)]
    }
}

impl Origin {
    pub(crate) fn start(number: usize) -> Self {
        Self::start_at(number, 0)
    }

    /// As [`Self::start`], on this port.
    pub(crate) fn start_at(number: usize, port: u16) -> Self {
        // An address of its own, so that nobody takes its port while it is dead.
        let [.., a, b] = std::process::id().to_be_bytes();
        Self::bind(number, ([127, 100 + (number as u8), a, b.max(1)], port).into())
    }

    /// As [`Self::start`], on this address.
    pub(crate) fn start_on(number: usize, ip: IpAddr) -> Self {
        Self::bind(number, (ip, 0).into())
    }

    fn bind(number: usize, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).expect("a free address");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            number,
            manner: AtomicU8::new(0),
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            connections: Mutex::default(),
        });
        let mut origin = Self { address, shared, life: None };
        origin.live(listener);
        origin
    }

    pub(crate) fn behave(&self, manner: Manner) {
        self.shared.manner.store(manner as u8, Ordering::SeqCst);
    }

    /// The most requests that it had at once.
    pub(crate) fn most_at_once(&self) -> usize {
        self.shared.most.load(Ordering::SeqCst)
    }

    /// As if killed: nobody listens, all connections are gone.
    pub(crate) fn kill(&mut self) {
        self.life = None;
        let _ = TcpStream::connect(self.address); // wakes the listener, which sees that it is over
        for stream in self.shared.connections().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        while TcpStream::connect(self.address).is_ok() {
            std::thread::yield_now();
        }
    }

    pub(crate) fn revive(&mut self) {
        let listener = TcpListener::bind(self.address).expect("the address is its own");
        self.live(listener);
    }

    fn live(&mut self, listener: TcpListener) {
        let life = Arc::new(());
        let alive = Arc::downgrade(&life);
        self.life = Some(life);
        let shared = Arc::clone(&self.shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if alive.strong_count() == 0 {
                    return;
                }
                let Ok(stream) = stream else { continue };
                shared.connections().push(stream.try_clone().expect("a descriptor"));
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || shared.serve(&stream));
            }
        });
    }
}

impl Shared {
    fn connections(&self) -> std::sync::MutexGuard<'_, Vec<TcpStream>> {
        self.connections.lock().expect("nobody panics with it")
    }

    fn serve(&self, stream: &TcpStream) {
        let mut reader = BufReader::new(stream);
        while let Some(line) = read_request(&mut reader) {
            if self.respond(stream, &line).is_err() {
                let _ = stream.shutdown(Shutdown::Both);
                return;
            }
        }
    }

    /// Answers; to some targets in a way that is the target's fault and not the server's.
    fn respond(&self, mut stream: &TcpStream, line: &str) -> std::io::Result<()> {
        let number = self.number;
        match line.split(' ').nth(1) {
            Some("/destroyed") => return Err(std::io::ErrorKind::ConnectionReset.into()),
            Some("/unavailable") => {
                let head = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\n";
                return stream.write_all(format!("{head}s{number}").as_bytes());
            }
            Some("/large-head") => {
                let head = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: ";
                let value = "x".repeat(40_000);
                return stream.write_all(format!("{head}{value}\r\n\r\ns{number}").as_bytes());
            }
            _ => {}
        }
        let manner = Manner::of(self.manner.load(Ordering::SeqCst));
        let status = match manner {
            Manner::Failing => "500 Internal Server Error",
            _ => "200 OK",
        };
        let length = match manner {
            Manner::BreakingOff | Manner::Resetting => 20_000,
            _ => 2,
        };
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        match manner {
            Manner::Slow => std::thread::sleep(Duration::from_millis(60)),
            Manner::Hanging => return Ok(()),
            _ => {}
        }
        // Before the answer: with it the client may come back at once.
        self.now.fetch_sub(1, Ordering::SeqCst);
        let response = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\ns{number}");
        stream.write_all(response.as_bytes())?;
        match manner {
            Manner::BreakingOff => stream.shutdown(Shutdown::Both)?,
            Manner::Resetting => {
                // It is reset when the last descriptor is closed, and there is a copy.
                sockopt::set_socket_linger(stream, Some(Duration::ZERO))?;
                let client = stream.peer_addr()?;
                self.connections().retain(|s| s.peer_addr().is_ok_and(|other| other != client));
            }
            _ => return Ok(()),
        }
        Err(std::io::ErrorKind::ConnectionReset.into())
    }
}

/// Reads a request with its body; its first line.
fn read_request(reader: &mut impl BufRead) -> Option<String> {
    let mut length = 0;
    let mut line = String::new();
    let mut first = None;
    while line != "\r\n" {
        line.clear();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        first.get_or_insert_with(|| line.clone());
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    reader.read_exact(&mut vec![0; length]).ok()?;
    first
}
