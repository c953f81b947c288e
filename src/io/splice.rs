//! Long bodies that pass as they are: the kernel hands their pages from one socket to the other
//! through a pipe, and nobody copies them.
//!
//! It takes plain TCP on both sides. Twice two system calls move what a read and a write would
//! have copied twice, so it is worth while only where much comes at a time: from 32 KB on it takes
//! a third of the time.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Bytes that make it worth while.
pub(crate) const WORTH: u64 = 32 * 1024;
/// Pipes that a thread's connections may hold at once, each with two descriptors and no more than
/// half a megabyte of the kernel's pages: slow readers could hold very many.
const IN_USE: usize = 32;

/// The pipes of a thread.
#[derive(Debug)]
struct Free {
    list: Vec<Ends>,
    /// How many have not been needed since [`trim`] looked last.
    unneeded: usize,
    in_use: usize,
}

#[derive(Debug)]
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

thread_local! {
    static FREE: RefCell<Free> =
        const { RefCell::new(Free { list: Vec::new(), unneeded: 0, in_use: 0 }) };
}

/// Closes the pipes that this thread has not needed since the last call.
pub(crate) fn trim() {
    FREE.with_borrow_mut(|free| {
        free.list.truncate(free.list.len() - free.unneeded);
        free.unneeded = free.list.len();
    });
}

/// A pipe of the thread's; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Pipe {
    ends: Option<Ends>,
    held: usize,
}

impl Pipe {
    /// An empty one, unless too many are in use or the process has no descriptor left.
    pub(crate) fn take() -> Option<Self> {
        let free = FREE.with_borrow_mut(|free| {
            if free.in_use == IN_USE {
                return None;
            }
            free.in_use += 1;
            let ends = free.list.pop();
            free.unneeded = free.unneeded.min(free.list.len());
            Some(ends)
        })?;
        // From here on dropping it counts it out.
        let mut pipe = Self { ends: free, held: 0 };
        if pipe.ends.is_none() {
            let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
            let (read, write) = rustix::pipe::pipe_with(flags).ok()?;
            pipe.ends = Some(Ends { read, write });
        }
        Some(pipe)
    }

    /// Bytes that are in it.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Takes up to `most` bytes of what has come, into an empty pipe; zero is the end of the
    /// stream.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        from: &TcpStream,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        debug_assert_eq!(self.held, 0, "a full pipe looks like a socket without data");
        let Some(ends) = &self.ends else { return Poll::Ready(Err(Errno::BADF.into())) };
        loop {
            ready!(from.poll_read_ready(cx))?;
            match from.try_io(Interest::READABLE, || splice(from, &ends.write, most)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(count) => {
                    self.held = count;
                    return Poll::Ready(Ok(count));
                }
            }
        }
    }

    /// Hands on what can be; returns how much that was.
    pub(crate) fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        to: &TcpStream,
    ) -> Poll<io::Result<usize>> {
        let Some(ends) = &self.ends else { return Poll::Ready(Err(Errno::BADF.into())) };
        loop {
            ready!(to.poll_write_ready(cx))?;
            match to.try_io(Interest::WRITABLE, || splice(&ends.read, to, self.held)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => {
                    self.held -= count;
                    return Poll::Ready(Ok(count));
                }
            }
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let ends = self.ends.take().filter(|_| self.held == 0); // one with bytes in it is closed
        // The thread may be ending, and the list with it.
        let _ = FREE.try_with(|free| {
            if let Ok(mut free) = free.try_borrow_mut() {
                free.in_use -= 1;
                free.list.extend(ends);
            }
        });
    }
}

fn splice(
    from: impl std::os::fd::AsFd,
    to: impl std::os::fd::AsFd,
    most: usize,
) -> io::Result<usize> {
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    loop {
        match rustix::pipe::splice(&from, None, &to, None, most, flags) {
            Err(Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

/// Whether this error says that the kernel, or a filter of system calls, does not splice here.
pub(crate) fn is_refused(error: &io::Error) -> bool {
    let refusals = [Errno::INVAL, Errno::PERM, Errno::NOSYS, Errno::BADF];
    Errno::from_io_error(error).is_some_and(|errno| refusals.contains(&errno))
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (near, listener.accept().await.unwrap().0)
    }

    fn free() -> usize {
        FREE.with_borrow(|free| free.list.len())
    }

    #[tokio::test]
    async fn bytes_come_out_as_they_went_in() {
        let (mut client, from) = pair().await;
        let (to, mut server) = pair().await;
        let data: Vec<u8> = (0..3_000_000_u32).map(|n| (n ^ n >> 8) as u8).collect();
        let sent = data.clone();
        let send = tokio::spawn(async move {
            client.write_all(&sent).await.unwrap();
            client
        });
        let receive = tokio::spawn(async move {
            let mut received = Vec::new();
            server.read_to_end(&mut received).await.unwrap();
            received
        });
        let mut left = data.len();
        while left > 0 {
            let mut pipe = Pipe::take().unwrap();
            left -= poll_fn(|cx| pipe.poll_fill(cx, &from, left)).await.unwrap();
            while pipe.held() > 0 {
                poll_fn(|cx| pipe.poll_drain(cx, &to)).await.unwrap();
            }
        }
        drop(send.await.unwrap());
        let mut pipe = Pipe::take().unwrap();
        assert_eq!(poll_fn(|cx| pipe.poll_fill(cx, &from, 1)).await.unwrap(), 0);
        drop(to);
        assert!(receive.await.unwrap() == data);
    }

    #[tokio::test]
    async fn a_pipe_goes_back_unless_there_are_bytes_in_it() {
        let (mut near, mut far) = pair().await;
        drop(Pipe::take().unwrap());
        assert_eq!(free(), 1);
        near.write_all(b"left behind").await.unwrap();
        let mut pipe = Pipe::take().unwrap();
        poll_fn(|cx| pipe.poll_fill(cx, &far, 100)).await.unwrap();
        drop(pipe);
        assert_eq!(free(), 0);

        near.write_all(b"next").await.unwrap();
        let mut next = [0; 4];
        far.read_exact(&mut next).await.unwrap();
        assert_eq!(&next, b"next");
    }

    #[test]
    fn a_thread_lends_so_many_and_closes_those_that_it_does_not_need() {
        let pipes: Vec<_> = (0..IN_USE).map(|_| Pipe::take().unwrap()).collect();
        assert!(Pipe::take().is_none());
        drop(pipes);
        assert_eq!(free(), IN_USE);
        trim();
        drop(Pipe::take());
        trim();
        assert_eq!(free(), 1);
        trim();
        assert_eq!(free(), 0);
    }

    #[test]
    fn what_a_filter_refuses_is_known() {
        assert!(is_refused(&Errno::PERM.into()));
        assert!(!is_refused(&Errno::CONNRESET.into()));
    }
}
