//! Questions to the app: does it listen, does its health path answer?

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::time::timeout;

use super::cluster;
use crate::base::want;
use crate::config::settings::{Address, Health, Transport};

/// What is read of an answer at most; the rest tells nothing.
const MAX_ANSWER: usize = 64 * 1024;

/// How long the rest of an answer is read once its status is known.
const REST: Duration = Duration::from_millis(200);

/// How long a server may take to answer that it is one.
const PROOF: Duration = Duration::from_secs(2);

/// How the app is reached.
#[derive(Debug, Clone)]
pub(super) enum ProbeTarget {
    /// As a connection handed to a cluster worker, past everything that waits in the listener.
    Cluster(cluster::Handle, Transport),
    /// Where the front connects to.
    Address(Address),
}

/// Why there is no good answer.
#[derive(Debug)]
pub(super) enum ProbeFailure {
    /// This process may not connect to the worker's own socket.
    Forbidden,
    /// It answered, but with this status.
    Status(u16),
    /// It lives, but takes no connection.
    Refused,
    /// It could not be asked, for want of something that is no matter of the app's.
    Unasked(String),
    /// Something else, in words.
    Other(String),
}

/// Asks for the health path; returns the status of an answer within the time for one.
pub(super) async fn health(target: &ProbeTarget, health: &Health) -> Result<u16, ProbeFailure> {
    match timeout(health.timeout, ask(target, health)).await {
        Ok(result) => result,
        Err(_elapsed) => {
            Err(ProbeFailure::Other(format!("no answer within {}", Seconds(health.timeout))))
        }
    }
}

/// Whether a server of HTTP listens there: one request, of which any answer counts.
pub(crate) async fn speaks_http(address: SocketAddr) -> bool {
    let request = request("/", "localhost", "roundsman-start");
    let exchange = async { exchange(TcpStream::connect(address).await?, &request).await };
    matches!(timeout(PROOF, exchange).await, Ok(Ok(_)))
}

fn request(path: &str, host: &str, asks: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {asks}/{version}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    )
}

async fn ask(target: &ProbeTarget, health: &Health) -> Result<u16, ProbeFailure> {
    let host = health.host.as_deref().unwrap_or("localhost");
    let request = request(&health.path, host, "roundsman-worker");
    match target {
        // It would refuse, but not as a server that has all the connections it wants.
        ProbeTarget::Cluster(handle, _) if handle.view().borrow().front.is_none() => {
            Err(ProbeFailure::Other("it has closed its server".to_owned()))
        }
        ProbeTarget::Cluster(handle, Transport::Tcp) => {
            let (ours, theirs) = tcp_pair().await?;
            offer(handle, theirs.into_std()?.into()).await?;
            exchange(ours, &request).await
        }
        ProbeTarget::Cluster(handle, Transport::Unix) => {
            let (ours, theirs) = UnixStream::pair()?;
            offer(handle, theirs.into_std()?.into()).await?;
            exchange(ours, &request).await
        }
        ProbeTarget::Address(Address::Tcp(address)) => {
            exchange(TcpStream::connect(address).await?, &request).await
        }
        ProbeTarget::Address(Address::Unix(path)) => {
            exchange(UnixStream::connect(path).await?, &request).await
        }
    }
}

async fn offer(handle: &cluster::Handle, connection: OwnedFd) -> Result<(), ProbeFailure> {
    if handle.offer(connection).await { Ok(()) } else { Err(ProbeFailure::Refused) }
}

/// Both ends of a TCP connection. A pair of UNIX sockets would do, but apps expect the address of
/// a client to be one.
async fn tcp_pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    let ours = TcpStream::connect(listener.local_addr()?).await?;
    loop {
        let (theirs, from) = listener.accept().await?;
        if from == ours.local_addr()? {
            return Ok((ours, theirs));
        }
    }
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
) -> Result<u16, ProbeFailure> {
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::with_capacity(1024);
    let status = loop {
        if answer.len() > MAX_ANSWER || stream.read_buf(&mut answer).await? == 0 {
            let text = "the connection was closed before an answer came";
            return Err(ProbeFailure::Other(text.to_owned()));
        }
        if let Some(status) = final_status(&answer)? {
            break status;
        }
    };
    // The app shall not see its answer cut off, if it does not take long.
    let rest = async {
        let mut taken = answer.len();
        while taken < MAX_ANSWER {
            answer.clear();
            match stream.read_buf(&mut answer).await {
                Ok(1..) => taken += answer.len(),
                _ => break,
            }
        }
    };
    let _ = timeout(REST, rest).await;
    Ok(status)
}

/// The status of the first head that is not an interim one; `None` while it is incomplete.
fn final_status(mut bytes: &[u8]) -> Result<Option<u16>, ProbeFailure> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 128];
        let mut response = httparse::Response::new(&mut headers);
        match response.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => match response.code {
                Some(100..=199) => bytes = &bytes[length..],
                code => return Ok(code),
            },
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => {
                return Err(ProbeFailure::Other(format!("the answer is not HTTP: {error}")));
            }
        }
    }
}

/// Whether somebody accepts connections at `address`. Nothing is sent.
pub(super) async fn connect(address: &Address) -> io::Result<()> {
    match address {
        Address::Tcp(address) => drop(TcpStream::connect(address).await?),
        Address::Unix(path) => drop(UnixStream::connect(path).await?),
    }
    Ok(())
}

impl From<io::Error> for ProbeFailure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::Forbidden,
            _ if want::is_ours(&error) => Self::Unasked(error.to_string()),
            _ => Self::Other(error.to_string()),
        }
    }
}

impl fmt::Display for ProbeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forbidden => f.write_str("the worker may not connect to its own socket"),
            Self::Refused => f.write_str("its server takes no connections"),
            Self::Unasked(want) => {
                write!(
                    f,
                    "it cannot be asked, since this machine has no port or descriptor left: {want}"
                )
            }
            Self::Status(status) => write!(f, "it answers {status}"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// A duration for people: `2 s`, `0.5 s`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seconds(pub(super) Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = (self.0.as_secs_f64() * 10.0).round() / 10.0;
        write!(f, "{tenths} s")
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[tokio::test]
    async fn only_what_answers_speaks_http() {
        let serve = async |answer: &'static [u8]| {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let served = tokio::spawn(async move {
                let (mut client, _) = listener.accept().await.unwrap();
                let mut asked = vec![0; 1024];
                let length = client.read(&mut asked).await.unwrap();
                client.write_all(answer).await.unwrap();
                asked.truncate(length);
                String::from_utf8(asked).unwrap()
            });
            let speaks = speaks_http(address).await;
            (speaks, served.await.unwrap())
        };
        let (speaks, asked) = serve(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await;
        assert!(speaks, "any status is one of HTTP");
        assert!(asked.starts_with("GET / HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("\r\nUser-Agent: roundsman-start/"), "{asked}");
        assert!(!serve(b"SSH-2.0-x\r\n").await.0);
        assert!(!serve(b"").await.0);
        assert!(!speaks_http("127.0.0.1:1".parse().unwrap()).await, "nobody is there");
    }

    #[test]
    fn interim_answers_are_not_the_answer() {
        let status = |text: &str| final_status(text.as_bytes()).unwrap();
        assert_eq!(status("HTTP/1.1 204 No Content\r\n\r\n"), Some(204));
        assert_eq!(
            status("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"),
            Some(200)
        );
        assert_eq!(status("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 20"), None);
        assert!(final_status(b"SSH-2.0-OpenSSH\r\n").is_err());
    }

    #[test]
    fn what_this_machine_lacks_is_no_silence_of_the_app() {
        let failure = |number| ProbeFailure::from(io::Error::from_raw_os_error(number));
        for errno in [Errno::ADDRNOTAVAIL, Errno::MFILE, Errno::NFILE, Errno::NOBUFS] {
            let failure = failure(errno.raw_os_error());
            assert!(matches!(failure, ProbeFailure::Unasked(_)), "{errno}: {failure:?}");
        }
        for errno in [Errno::CONNREFUSED, Errno::TIMEDOUT, Errno::CONNRESET] {
            let failure = failure(errno.raw_os_error());
            assert!(matches!(failure, ProbeFailure::Other(_)), "{errno}: {failure:?}");
        }
    }

    #[test]
    fn durations_are_for_people() {
        assert_eq!(Seconds(Duration::from_secs(2)).to_string(), "2 s");
        assert_eq!(Seconds(Duration::from_millis(1540)).to_string(), "1.5 s");
    }
}
