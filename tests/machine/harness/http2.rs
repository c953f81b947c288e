//! A client that speaks HTTP/2 from the first byte on: many requests at once over one connection,
//! and the next connection when it is told that this one ends.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{self, ResponseFuture, SendRequest};
use http::Request;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use super::http::Failure;

/// Requests at once.
const STREAMS: usize = 16;
/// Longer than the front lets a request wait for a worker, so that its own answer is what is seen.
const TIMEOUT: Duration = Duration::from_secs(45);

/// A client.
#[derive(Debug)]
pub(crate) struct Http2 {
    runtime: Runtime,
    address: SocketAddr,
    connection: Option<SendRequest<Bytes>>,
    connections: u64,
}

/// An answer, or that the server has not begun with the request and it may be sent again.
enum Answer {
    Body(String),
    NotBegun,
}

impl Http2 {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("descriptors are left");
        Self { runtime, address, connection: None, connections: 0 }
    }

    /// How often it has connected.
    pub(crate) fn connections(&self) -> u64 {
        self.connections
    }

    /// Asks for this many times at once; all must be answered, and one of the answers is returned.
    pub(crate) fn ask(&mut self, uri: &str) -> Result<String, Failure> {
        let request = Request::get(uri).body(()).expect("it is a good one");
        let all = self.ask_all(&vec![request; STREAMS])?;
        Ok(all.into_iter().next_back().unwrap_or_default())
    }

    /// Sends all of these at once; their answers, in this order.
    pub(crate) fn ask_all(&mut self, requests: &[Request<()>]) -> Result<Vec<String>, Failure> {
        let (mut connection, mut connections) = (self.connection.take(), 0);
        let all = async {
            let mut bodies: Vec<Option<String>> = vec![None; requests.len()];
            while bodies.contains(&None) {
                let mut answers = Vec::new();
                for left in (0..requests.len()).filter(|at| bodies[*at].is_none()) {
                    let now = match connection.take() {
                        Some(now) => now.ready().await.ok(),
                        None => None,
                    };
                    let mut now = if let Some(now) = now {
                        now
                    } else {
                        // The one before takes no more: what is open on it goes on.
                        connections += 1;
                        connect(self.address).await?
                    };
                    let sent = now.send_request(requests[left].clone(), true);
                    let (answer, _) = sent.map_err(|error| lost(&error))?;
                    answers.push((left, answer));
                    connection = Some(now);
                }
                for (at, answer) in answers {
                    if let Answer::Body(body) = read(answer).await? {
                        bodies[at] = Some(body);
                    }
                }
            }
            Ok(bodies.into_iter().flatten().collect())
        };
        let result = self.runtime.block_on(in_time(all));
        self.connection = connection;
        self.connections += connections;
        result
    }
}

async fn in_time<T>(what: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let late = |_| Failure::Cut(format!("not answered within {TIMEOUT:?}"));
    tokio::time::timeout(TIMEOUT, what).await.map_err(late)?
}

async fn connect(address: SocketAddr) -> Result<SendRequest<Bytes>, Failure> {
    let refused = |error: &dyn std::error::Error| Failure::Refused(error.to_string());
    let stream = TcpStream::connect(address).await.map_err(|error| refused(&error))?;
    let (send, connection) = client::handshake(stream).await.map_err(|error| refused(&error))?;
    tokio::spawn(connection);
    send.ready().await.map_err(|error| refused(&error))
}

async fn read(answer: ResponseFuture) -> Result<Answer, Failure> {
    let response = match answer.await {
        Ok(response) => response,
        // GOAWAY with a number below this stream's: nobody has seen the request.
        Err(error) if error.is_go_away() && error.is_remote() => return Ok(Answer::NotBegun),
        Err(error) => return Err(lost(&error)),
    };
    let (head, mut body) = response.into_parts();
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(|error| Failure::Cut(error.to_string()))?;
        let _ = body.flow_control().release_capacity(data.len());
        all.extend_from_slice(&data);
    }
    let all = String::from_utf8_lossy(&all).into_owned();
    match head.status.as_u16() {
        200 => Ok(Answer::Body(all)),
        status => Err(Failure::Status(status, all)),
    }
}

fn lost(error: &h2::Error) -> Failure {
    Failure::Lost { first: false, why: error.to_string() }
}
