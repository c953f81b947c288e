//! Closing connections that an app has, too, in threads of their own.
//!
//! For how long the last one waits who closes a connection is a setting of the connection itself (`SO_LINGER`), and
//! whoever else has it may set that, for hours: an app, and everybody to whom it gives the connection.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread;

use rustix::net::sockopt::set_socket_linger;

/// How many threads there are at most: one more whenever all others are held up.
const MOST: usize = 16;

static CLOSERS: LazyLock<Closers> = LazyLock::new(Closers::new);

/// A connection that is closed in one of these threads.
#[derive(Debug)]
pub(super) struct Handed(Option<OwnedFd>);

struct Closers {
    queue: Sender<OwnedFd>,
    from: Mutex<Receiver<OwnedFd>>,
    /// What is to be closed, with what is being closed.
    left: AtomicUsize,
    threads: AtomicUsize,
}

// === impl Handed ===

impl From<OwnedFd> for Handed {
    fn from(socket: OwnedFd) -> Self {
        Self(Some(socket))
    }
}

impl AsFd for Handed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_ref().expect("it is there until it is dropped").as_fd()
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        if let Some(socket) = self.0.take() {
            // Then nobody waits, unless it is set again at this very moment.
            let _ = set_socket_linger(&socket, None);
            CLOSERS.close(socket);
        }
    }
}

// === impl Closers ===

impl Closers {
    fn new() -> Self {
        let (queue, from) = channel();
        let (left, threads) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { queue, from: Mutex::new(from), left, threads }
    }

    fn close(&'static self, socket: OwnedFd) {
        let left = self.left.fetch_add(1, Ordering::Relaxed) + 1;
        let _ = self.queue.send(socket); // the other end is here, too
        let threads = self.threads.load(Ordering::Relaxed);
        if left > threads && threads < MOST {
            self.threads.fetch_add(1, Ordering::Relaxed);
            let thread = thread::Builder::new().name("closing".to_owned());
            if thread.spawn(|| self.run()).is_err() {
                self.threads.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    fn run(&self) {
        loop {
            let next = self.from.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(socket) = next else { return };
            drop(socket);
            self.left.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;

    #[test]
    fn nobody_waits_for_a_connection_that_makes_its_closer_wait() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut far = Vec::new();
        for _ in 0..4 {
            let near = TcpStream::connect(address).unwrap();
            far.push(listener.accept().unwrap().0);
            near.set_nonblocking(true).unwrap();
            while (&near).write(&[0; 16384]).is_ok() {}
            set_socket_linger(&near, Some(Duration::from_mins(50))).unwrap();
            CLOSERS.close(near.into()); // as if it were set after it was unset
        }
        let near = TcpStream::connect(address).unwrap();
        let (mut end, _) = listener.accept().unwrap();
        set_socket_linger(&near, Some(Duration::from_mins(50))).unwrap();
        drop(Handed::from(OwnedFd::from(near)));
        end.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        assert_eq!(end.read(&mut [0]).unwrap(), 0, "the next one is closed all the same");
    }
}
