//! Connecting to a UNIX socket of ours within a limit: where many wait to be accepted, and nobody
//! accepts, the kernel would let us wait for ever. And talking there within one: who sends a byte now
//! and then would keep us for as long.

use std::fs::{self, Metadata};
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use tokio::net::{UnixSocket, UnixStream as AsyncStream};
use tokio::time::{Instant, sleep};

use crate::sys;

/// Between two attempts where nothing says when there is room.
const RETRY: Duration = Duration::from_millis(10);

/// The kernel's limits are for each piece that it has room for; this is in one.
const PIECE: usize = 16 * 1024;

/// A connection for a question and its answer, which is over at a fixed time, however the other side
/// reads and writes: then everything is a time-out.
#[derive(Debug)]
pub(crate) struct Bounded {
    stream: UnixStream,
    end: Instant,
}

/// Connects. Reading and writing have the same limit, each time; descriptors are not taken, as by no connection
/// here but where it says so: what nobody wants is closed, which can take for ever.
///
/// # Errors
/// As for any connection; when the limit is over it is a time-out.
pub(crate) fn within(limit: Duration, path: &Path) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(path)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sys::refuse_descriptors(&socket);
    // It is the limit for connecting, too.
    set_socket_timeout(&socket, Timeout::Send, Some(limit))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(limit))?;
    loop {
        match connect(&socket, &address) {
            Ok(()) => return Ok(socket.into()),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Err(full(limit)),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Connects, for those who have a runtime. Reading and writing have no limit.
///
/// # Errors
/// As [`within`].
pub(crate) async fn within_async(limit: Duration, path: &Path) -> io::Result<AsyncStream> {
    retry(limit, || at(path)).await
}

/// The same, and takes descriptors.
///
/// # Errors
/// As [`within`].
pub(crate) async fn with_descriptors(limit: Duration, path: &Path) -> io::Result<AsyncStream> {
    retry(limit, || AsyncStream::connect(path)).await
}

/// Connects, if somebody is there who accepts.
///
/// # Errors
/// As for any connection.
pub(crate) async fn at(path: &Path) -> io::Result<AsyncStream> {
    let socket = UnixSocket::new_stream()?;
    sys::refuse_descriptors(&socket);
    socket.connect(path).await
}

async fn retry<F: Future<Output = io::Result<AsyncStream>>>(
    limit: Duration,
    mut connect: impl FnMut() -> F,
) -> io::Result<AsyncStream> {
    let end = Instant::now() + limit;
    loop {
        match connect().await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if Instant::now() >= end {
                    return Err(full(limit));
                }
                sleep(RETRY).await;
            }
            result => return result,
        }
    }
}

/// Whether a socket is there on which nobody listens any more.
pub(crate) fn is_left_behind(path: &Path) -> bool {
    let is_socket = |metadata: Metadata| metadata.file_type().is_socket();
    if !fs::symlink_metadata(path).is_ok_and(is_socket) {
        return false; // whatever it is, it is none of ours
    }
    // A moment is enough: one whose queue is full has somebody who listens.
    let tried = within(Duration::from_millis(100), path);
    tried.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

// === impl Bounded ===

impl Bounded {
    pub(crate) fn new(stream: UnixStream, limit: Duration) -> Self {
        Self { stream, end: Instant::now() + limit }
    }

    /// The line that comes next, with its end if that has come, and what of it is within `most` bytes.
    /// Nothing is to come after it.
    pub(crate) fn line(&mut self, most: u64) -> io::Result<String> {
        let mut line = String::new();
        BufReader::new(self.take(most)).read_line(&mut line)?;
        Ok(line)
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(late()) } else { Ok(Some(left)) }
    }
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(buffer).map_err(timely)
    }
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(&bytes[..bytes.len().min(PIECE)]).map_err(timely)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn timely(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { late() } else { error }
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "it does not answer in time")
}

fn full(limit: Duration) -> io::Error {
    let text = format!("it has accepted nobody for {} s", limit.as_secs_f64());
    io::Error::new(io::ErrorKind::TimedOut, text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    const MOMENT: Duration = Duration::from_millis(50);

    /// A listener whose queue is full, and who fills it.
    fn busy(path: &Path) -> (UnixListener, Vec<UnixStream>) {
        let listener = UnixListener::bind(path).unwrap();
        rustix::net::listen(&listener, 1).unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) = within(MOMENT, path) {
            waiting.push(stream);
        }
        (listener, waiting)
    }

    #[test]
    fn a_full_queue_is_waited_for_no_longer_than_the_limit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let (listener, _waiting) = busy(&path);
        let error = within(MOMENT, &path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(error.to_string(), "it has accepted nobody for 0.05 s");
        assert!(!is_left_behind(&path), "somebody listens");
        drop(listener);
        assert!(is_left_behind(&path));
        assert!(!is_left_behind(&directory.path().join("none")));
        fs::write(directory.path().join("file"), "").unwrap();
        assert!(!is_left_behind(&directory.path().join("file")));
    }

    #[tokio::test(start_paused = true)]
    async fn with_a_runtime_it_is_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let (listener, _waiting) = busy(&path);
        let error = within_async(Duration::from_secs(5), &path).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        listener.accept().unwrap();
        assert!(within_async(Duration::from_secs(5), &path).await.is_ok());
    }

    #[test]
    fn who_sends_or_takes_a_little_now_and_then_keeps_nobody() {
        let limit = MOMENT * 4;
        for (reads, begun) in [(true, Instant::now()), (false, Instant::now())] {
            let (near, mut far) = UnixStream::pair().unwrap();
            let dripping = std::thread::spawn(move || {
                let mut one = [b'x'];
                // Until we have gone.
                while if reads {
                    far.read(&mut one).is_ok_and(|n| n == 1)
                } else {
                    far.write(&one).is_ok()
                } {
                    std::thread::sleep(MOMENT / 5);
                }
            });
            let mut bounded = Bounded::new(near, limit);
            let error = if reads {
                bounded.write_all(&vec![0; 16 * 1024 * 1024]).unwrap_err()
            } else {
                bounded.line(4096).unwrap_err()
            };
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
            assert!(begun.elapsed() < limit * 10, "{:?}", begun.elapsed());
            bounded.stream.shutdown(std::net::Shutdown::Both).unwrap();
            drop(bounded);
            if !reads {
                dripping.join().unwrap();
            }
        }
    }

    #[test]
    fn a_line_has_a_limit_and_comes_without_its_end_where_that_is_the_end() {
        for (sent, got) in [("ok\nmore", "ok\n"), ("o", "o"), ("too long", "too l")] {
            let (near, mut far) = UnixStream::pair().unwrap();
            far.write_all(sent.as_bytes()).unwrap();
            drop(far);
            assert_eq!(Bounded::new(near, MOMENT * 100).line(5).unwrap(), got);
        }
    }

    #[test]
    fn reading_has_the_limit_too() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let _listener = UnixListener::bind(&path).unwrap();
        let mut stream = within(MOMENT, &path).unwrap();
        let error = io::Read::read(&mut stream, &mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
