//! Small servers that do as they are told and remember what they were sent.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::http::{Client, Message};
use super::waiting::PATIENCE;

/// A server on a port of its own; its threads end with the test's process.
#[derive(Debug, Clone)]
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    seen: Arc<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    requests: Mutex<Vec<Message>>,
    raw: Mutex<Vec<Vec<u8>>>,
    connections: AtomicUsize,
    open: AtomicUsize,
}

/// One connection to a backend.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) reader: Client,
    /// Which connection this is, from 0.
    pub(crate) number: usize,
    seen: Arc<Seen>,
}

impl Backend {
    /// A server that runs this for each connection.
    pub(crate) fn raw(serve: impl Fn(&mut Peer) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Seen>::default();
        let backend = Self { address, seen: Arc::clone(&seen) };
        let serve = Arc::new(serve);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let number = seen.connections.fetch_add(1, Ordering::SeqCst);
                seen.raw.lock().unwrap().push(Vec::new());
                seen.open.fetch_add(1, Ordering::SeqCst);
                let (serve, seen) = (Arc::clone(&serve), Arc::clone(&seen));
                std::thread::spawn(move || {
                    let reader = Client::over(stream, PATIENCE).unwrap();
                    let mut peer = Peer { reader, number, seen: Arc::clone(&seen) };
                    serve(&mut peer);
                    peer.remember();
                    drop(peer);
                    seen.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        backend
    }

    /// A server that answers each request with what this returns.
    pub(crate) fn new(answer: impl Fn(&Message) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::raw(move |peer| {
            while let Some(request) = peer.request() {
                if peer.send(&answer(&request)).is_err() {
                    return;
                }
            }
        })
    }

    /// A server that answers every request with its name.
    pub(crate) fn named(name: &'static str) -> Self {
        Self::new(move |_| ok(name))
    }

    /// The requests that came in whole.
    pub(crate) fn requests(&self) -> Vec<Message> {
        self.seen.requests.lock().unwrap().clone()
    }

    /// The bytes of each connection so far.
    pub(crate) fn raw_bytes(&self) -> Vec<Vec<u8>> {
        self.seen.raw.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn open(&self) -> usize {
        self.seen.open.load(Ordering::SeqCst)
    }
}

impl Peer {
    /// Reads a request and remembers it; `None` when the connection ends.
    pub(crate) fn request(&mut self) -> Option<Message> {
        let request = self.reader.request();
        self.noted(request)
    }

    /// Reads a request's head and remembers it.
    pub(crate) fn head(&mut self) -> Option<Message> {
        let head = self.reader.head();
        self.noted(head)
    }

    fn noted(&mut self, message: io::Result<Message>) -> Option<Message> {
        self.remember();
        match message {
            Ok(message) => {
                self.seen.requests.lock().unwrap().push(message.clone());
                Some(message)
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => panic!("sent: {error}"),
            Err(_) => None,
        }
    }

    fn remember(&self) {
        self.seen.raw.lock().unwrap()[self.number].clone_from(&self.reader.raw);
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.stream.write_all(bytes)
    }

    /// Waits until the other side closes, reading what comes.
    pub(crate) fn wait_for_end(&mut self) {
        while matches!(self.reader.fill(), Ok(true)) {}
    }

    pub(crate) fn shut(&mut self) {
        let _ = self.reader.stream.shutdown(Shutdown::Write);
    }
}

/// A small response.
pub(crate) fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}
