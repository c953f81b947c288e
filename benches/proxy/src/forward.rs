//! The floor: copies bytes between a client and a server of its own, and knows nothing of HTTP.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};

use anyhow::Result;

use crate::poll::Poll;
use crate::upstream::{accept, bind};

const LISTENER: usize = usize::MAX;
const SCRATCH: usize = 64 * 1024;

/// A client and its server; the sides' tokens are twice the pair's index, and one more.
struct Pair {
    sides: [Side; 2],
}

struct Side {
    stream: TcpStream,
    /// Read from this side, and not yet taken by the other.
    pending: Vec<u8>,
    ended: bool,
}

/// Serves until it is killed.
pub(crate) fn run(listen: SocketAddr, upstream: SocketAddr) -> Result<()> {
    let listener = bind(listen)?;
    let mut poll = Poll::new()?;
    poll.add_listener(&listener, LISTENER)?;
    let mut pairs: Vec<Option<Pair>> = Vec::new();
    let mut free = Vec::new();
    let mut scratch = vec![0; SCRATCH];
    loop {
        for i in 0..poll.wait(None)? {
            let ready = poll.ready(i);
            if ready.token == LISTENER {
                while let Some(client) = accept(&listener)? {
                    let server = TcpStream::connect(upstream)?;
                    server.set_nonblocking(true)?;
                    server.set_nodelay(true)?;
                    let index = free.pop().unwrap_or_else(|| {
                        pairs.push(None);
                        pairs.len() - 1
                    });
                    poll.add(&client, 2 * index)?;
                    poll.add(&server, 2 * index + 1)?;
                    pairs[index] = Some(Pair { sides: [Side::new(client), Side::new(server)] });
                }
            } else if let Some(pair) = &mut pairs[ready.token / 2]
                && (pair.drive(ready.token % 2, &mut scratch, ready.hangup).is_err()
                    || pair.ended())
            {
                pairs[ready.token / 2] = None;
                free.push(ready.token / 2);
            }
        }
    }
}

// === impl Pair ===

impl Pair {
    /// Side `from` can be read or written again.
    fn drive(&mut self, from: usize, scratch: &mut [u8], hangup: bool) -> io::Result<()> {
        if !self.sides[1 - from].pending.is_empty() {
            self.pump(1 - from, scratch, true)?;
        }
        self.pump(from, scratch, hangup)
    }

    /// Copies from one side to the other until one of them would block.
    fn pump(&mut self, from: usize, scratch: &mut [u8], hangup: bool) -> io::Result<()> {
        let [a, b] = &mut self.sides;
        let (from, to) = if from == 0 { (a, b) } else { (b, a) };
        let pending = std::mem::take(&mut from.pending);
        let taken = write_all(&mut to.stream, &pending)?;
        if taken < pending.len() {
            from.pending = pending[taken..].to_vec();
            return Ok(());
        }
        while !from.ended {
            let n = match from.stream.read(scratch) {
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            if n == 0 {
                from.ended = true;
                return to.stream.shutdown(Shutdown::Write);
            }
            let taken = write_all(&mut to.stream, &scratch[..n])?;
            if taken < n {
                from.pending = scratch[taken..n].to_vec();
                return Ok(());
            }
            if n < scratch.len() && !hangup {
                return Ok(());
            }
        }
        Ok(())
    }

    fn ended(&self) -> bool {
        self.sides.iter().all(|side| side.ended)
    }
}

// === impl Side ===

impl Side {
    fn new(stream: TcpStream) -> Self {
        Self { stream, pending: Vec::new(), ended: false }
    }
}

/// Writes until all is written or the peer takes no more; returns how much it took.
fn write_all(stream: &mut TcpStream, data: &[u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < data.len() {
        match stream.write(&data[done..]) {
            Ok(n) => done += n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
