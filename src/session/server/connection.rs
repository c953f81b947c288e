//! One connection from its first byte to its end, turn by turn.

use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use super::budget::Share;
use super::handover::{Handover, MOST};
use super::shared::Server;
use super::shares::Holder;
use super::stream::Stream;
use super::turns::Account;
use crate::session::command::Client;
use crate::session::protocol::{Parser, Reply};
use crate::session::store::{Stale, Tracker};

/// Half a request, or a reply that the client does not take, may stand still for so long.
pub(super) const STANDSTILL: Duration = Duration::from_mins(1);
/// So long may a client take to authenticate.
const INTRODUCTION: Duration = Duration::from_secs(5);
/// What a client reads that is one too many of its namespace, of those who have not authenticated,
/// or of all.
pub(super) const NO_SEAT: &str = "ERR max number of clients reached";

/// A client, and what it has of the server.
pub(super) struct Connection<'a, S> {
    pub(super) server: &'a Server,
    pub(super) stream: S,
    pub(super) client: Client,
    pub(super) parser: Parser,
    pub(super) input: Vec<u8>,
    /// Where the first request begins that has not been carried out.
    pub(super) start: usize,
    pub(super) output: Vec<u8>,
    /// It is not known whether what the replies say is as safe as it is to be.
    pub(super) is_unsafe: bool,
    pub(super) scratch: Vec<u8>,
    /// Where in `output` the replies lie to requests that changed something.
    pub(super) changes: Vec<Range<usize>>,
    pub(super) share: Share<'a>,
    /// On whose account the connection is, and that one's account of turns.
    holder: Holder,
    pub(super) account: Rc<Account>,
    /// Since when it has been a stranger's, if it is one's.
    stranger_since: Instant,
}

/// How serving a client ended.
enum End {
    /// There is nothing more to say.
    Closed,
    /// The service stops: the next process goes on.
    Stopped,
}

/// What stopped a turn.
pub(super) enum Turn {
    /// Nothing whole is left in the buffer.
    NeedsInput,
    /// There is more to carry out.
    HasMore,
    /// A write must wait for the checkpoint.
    Stalled,
    /// A read must: the file is opened again then.
    Unreadable,
    /// The service stops before it could begin, or end.
    Stopped,
}

/// Serves a client until it goes, misbehaves, or the service stops. `input` is what was read of it
/// before, `output` what it has not taken yet. Returns on whose account the connection was in the end.
pub(super) async fn run<S: Stream>(
    server: &Server,
    stream: S,
    client: Client,
    (input, output): (Vec<u8>, Vec<u8>),
) -> Holder {
    let mut connection = Connection::new(server, stream, client, input, output);
    let end = connection.serve().await;
    let holder = connection.holder.clone();
    match end {
        Ok(End::Closed) => {}
        Ok(End::Stopped) => {
            if let Some(handover) = connection.into_handover() {
                server.handovers.borrow_mut().push(handover);
            }
        }
        Err(error) => tracing::debug!(%error, "a connection ended"),
    }
    holder
}

impl<'a, S: Stream> Connection<'a, S> {
    fn new(
        server: &'a Server,
        stream: S,
        mut client: Client,
        input: Vec<u8>,
        output: Vec<u8>,
    ) -> Self {
        let holder = Holder::of(&client);
        client.neighbours = server.seats.held(&holder);
        Self {
            server,
            stream,
            client,
            parser: Parser::default(),
            input,
            start: 0,
            output,
            is_unsafe: false,
            scratch: Vec::new(),
            changes: Vec::new(),
            share: server.budget.share(holder.clone()),
            account: server.turns.account(&holder),
            holder,
            stranger_since: Instant::now(),
        }
    }

    async fn serve(&mut self) -> io::Result<End> {
        // One for all turns: to begin to wait is dearer than to go on.
        let mut stopped = std::pin::pin!(self.server.stops());
        if !self.output.is_empty() {
            self.write().await?;
        }
        loop {
            let turn = self.take_turn().await?;
            if !self.holder.is_of(&self.client) {
                self.change_account().await?;
            }
            let patience = self.patience();
            if self.client.closing || patience.is_zero() {
                return self.stream.shutdown().await.map(|()| End::Closed);
            }
            // What has arrived and was not read is for the next process: nobody who sends without a pause holds up
            // a stop.
            if self.server.is_stopping() {
                return Ok(End::Stopped);
            }
            match turn {
                Turn::Stopped => return Ok(End::Stopped),
                Turn::HasMore => tokio::task::yield_now().await,
                Turn::Stalled => {
                    // While the replies of this turn were written the checkpoint may have ended, and
                    // there may be none after it that would wake us. Nothing happens between this
                    // look and the waiting: all that could is on this thread.
                    if self.server.store.borrow().is_stalled() {
                        let flushed = self.server.flushed.notified();
                        if self.server.unless_stopping(flushed).await.is_none() {
                            return Ok(End::Stopped);
                        }
                    }
                }
                Turn::Unreadable => {
                    if self.server.store.borrow().is_checkpoint_running() {
                        let flushed = self.server.flushed.notified();
                        if self.server.unless_stopping(flushed).await.is_none() {
                            return Ok(End::Stopped);
                        }
                    }
                }
                Turn::NeedsInput => {
                    self.tidy();
                    let midway = self.parser.is_midway() || self.start < self.input.len();
                    let limit = if midway { STANDSTILL } else { Duration::MAX }.min(patience);
                    let tracker = self.client.tracker.clone();
                    let read = tokio::select! {
                        biased;
                        read = self.read(limit) => read?,
                        () = stale_copies(tracker.as_deref()) => {
                            self.tell_stale().await?;
                            continue;
                        }
                        () = &mut stopped => return Ok(End::Stopped),
                    };
                    if read.is_break() {
                        return Ok(End::Closed);
                    }
                }
            }
        }
    }

    /// Tells the client which of its copies it must not use any more.
    async fn tell_stale(&mut self) -> io::Result<()> {
        let stale = self.client.tracker.as_ref().map(|tracker| tracker.take_stale());
        let mut reply = Reply::new(&mut self.output, self.client.version);
        for stale in stale.into_iter().flatten() {
            reply.push(2);
            reply.bulk(b"invalidate");
            match stale {
                Stale::Key(name) => {
                    reply.array(1);
                    reply.bulk(&name);
                }
                Stale::All => reply.null(),
            }
        }
        self.write().await
    }

    /// The client has said by a password, or by another user's name, for which namespace it is.
    async fn change_account(&mut self) -> io::Result<()> {
        let holder = Holder::of(&self.client);
        let seats = &self.server.seats;
        if !seats.change(&holder, 0, 1) {
            let info = &self.server.info;
            info.refused.set(info.refused.get() + 1);
            Reply::new(&mut self.output, self.client.version).error(NO_SEAT);
            self.client.closing = true;
            return self.write().await;
        }
        seats.change(&self.holder, 1, 0);
        self.client.neighbours = seats.held(&holder);
        self.client.closing |= !self.share.pass_to(holder.clone());
        self.account = self.server.turns.account(&holder);
        self.holder = holder;
        self.stranger_since = Instant::now();
        Ok(())
    }

    /// How long the client may say nothing for being a stranger.
    pub(super) fn patience(&self) -> Duration {
        match self.holder {
            Holder::Stranger => INTRODUCTION.saturating_sub(self.stranger_since.elapsed()),
            _ => Duration::MAX,
        }
    }

    /// For the next process, if the connection can be gone on with there.
    fn into_handover(self) -> Option<Handover> {
        let store = self.server.store.borrow();
        let memento = self.client.memento(|space| store.is_space(space))?;
        drop(store);
        let mut input = self.input;
        input.drain(..self.start);
        // Of a stranger nothing is taken along that has to be written down but the answer that is put off.
        let stranger = matches!(self.holder, Holder::Stranger);
        let may_stay = input.is_empty() || !stranger;
        let small = may_stay && input.len() + self.output.len() <= MOST;
        let socket = small.then(|| self.stream.into_descriptor())??;
        let passwords = &self.server.info.passwords;
        let password = passwords.get(self.client.namespace()).filter(|_| memento.is_of_password());
        let (password, is_unsafe) = (password.cloned(), self.is_unsafe);
        Some(Handover { socket, memento, input, output: self.output, password, is_unsafe })
    }
}

/// Completes when a client must be told of stale copies: never when it keeps none.
async fn stale_copies(tracker: Option<&Tracker>) {
    match tracker {
        Some(tracker) => tracker.has_stale().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::path::Path;
    use std::pin::{Pin, pin};
    use std::task::{Context as TaskContext, Poll};

    use std::os::fd::OwnedFd;

    use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, DuplexStream, ReadBuf, duplex};
    use tokio::task::yield_now;
    use tokio::time::timeout;

    use super::*;
    use crate::config::settings::SessionSync;
    use crate::session::command::{Identity, ServerInfo};
    use crate::session::store::{Options, Store};

    /// A socket that never takes anything at once.
    struct Slow(DuplexStream);

    impl AsyncRead for Slow {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut TaskContext<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buffer)
        }
    }

    impl AsyncWrite for Slow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut TaskContext<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.0).poll_write(cx, bytes)
        }
        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }
        fn poll_shutdown(
            mut self: Pin<&mut Self>,
            cx: &mut TaskContext<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    impl Stream for Slow {
        fn write_now(&self, _bytes: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::WouldBlock.into())
        }
        fn is_gone(&self) -> bool {
            false
        }
        fn into_descriptor(self) -> Option<OwnedFd> {
            None
        }
    }

    fn server(directory: &Path, memory: usize) -> Server {
        let options = Options {
            directory: directory.to_owned(),
            sync: SessionSync::EverySecond,
            max_size: u64::MAX,
            memory,
            verified: None,
        };
        let (store, _problems) = Store::open(options).unwrap();
        Server::new(store, ServerInfo::default())
    }

    fn connection(server: &Server, stream: Slow, input: Vec<u8>) -> Connection<'_, Slow> {
        let client = Client::new(1, Identity::Admin, "test".to_owned(), 0);
        Connection::new(server, stream, client, input, Vec::new())
    }

    fn set(key: &str, length: usize) -> String {
        let value = "x".repeat(length);
        format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${length}\r\n{value}\r\n", key.len())
    }

    /// Requests that take long do not come one after the other: others have their turn in between.
    #[tokio::test]
    async fn a_turn_is_over_when_it_has_taken_long() {
        let directory = tempfile::tempdir().unwrap();
        let server = server(directory.path(), 256 * 1024 * 1024);
        let (near, _far) = duplex(16 * 1024 * 1024);
        let mut filling = connection(&server, Slow(near), Vec::new());
        for key in ["a", "b"] {
            let mut add = format!("*50002\r\n$4\r\nSADD\r\n$1\r\n{key}\r\n");
            for number in 10_000..60_000 {
                let _ = write!(add, "$5\r\n{number}\r\n");
            }
            filling.input.extend_from_slice(add.as_bytes());
        }
        while !matches!(filling.take_turn().await.unwrap(), Turn::NeedsInput) {}
        let requests = "SINTERCARD 2 a b\r\n".repeat(200).into_bytes();
        let (near, _far) = duplex(16 * 1024 * 1024);
        let mut heavy = connection(&server, Slow(near), requests);
        assert!(matches!(heavy.take_turn().await.unwrap(), Turn::HasMore));
        let done = heavy.start / (heavy.input.len() / 200);
        assert!((1..200).contains(&done), "{done} of 200");
    }

    /// What is in the file is read from it each time, which takes long for a large collection, though it is
    /// one member that is asked for.
    #[tokio::test]
    async fn a_turn_is_over_when_it_has_read_much_from_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let server = server(directory.path(), 64 * 1024);
        let mut outcomes = server.store.borrow_mut().outcomes().unwrap();
        let mut add = "*30002\r\n$4\r\nSADD\r\n$1\r\na\r\n".to_owned();
        for number in 10_000..40_000 {
            let _ = write!(add, "$5\r\n{number}\r\n");
        }
        let writes: String = (0..400).map(|n| set(&format!("key{n}"), 1024)).collect();
        let requests = (add + &writes).into_bytes();
        let (near, _far) = duplex(1024 * 1024);
        let mut filling = connection(&server, Slow(near), requests);
        while !matches!(filling.take_turn().await.unwrap(), Turn::Stalled) {
            assert!(filling.start < filling.input.len(), "memory has not become full");
        }
        let outcome = outcomes.recv().await.expect("the checkpoint ends");
        server.store.borrow_mut().checkpointed(outcome);
        let requests = "SISMEMBER a 10000\r\n".repeat(200).into_bytes();
        let (near, _far) = duplex(1024 * 1024);
        let mut asking = connection(&server, Slow(near), requests);
        assert!(matches!(asking.take_turn().await.unwrap(), Turn::HasMore));
        assert_eq!(asking.start, asking.input.len() / 200, "one of 200");
    }

    /// What it asks for is carried out once, and of the replies it gets each byte once.
    #[tokio::test]
    async fn a_client_that_does_not_read_does_not_hold_up_a_stop() {
        let directory = tempfile::tempdir().unwrap();
        let server = server(directory.path(), 1024 * 1024);
        let request = b"*2\r\n$4\r\nECHO\r\n$5\r\nhello\r\n".repeat(2);
        let (near, mut far) = duplex(3);
        let mut client = connection(&server, Slow(near), request);
        let stop = async {
            for _ in 0..10 {
                yield_now().await;
            }
            server.stop();
        };
        let serving = timeout(Duration::from_secs(20), client.serve());
        let (end, ()) = tokio::join!(serving, stop);
        assert!(matches!(end.expect("it holds up the stop"), Ok(End::Stopped)));
        let mut taken = [0; 3];
        far.read_exact(&mut taken).await.unwrap();
        assert_eq!([&taken[..], &client.output].concat(), b"$5\r\nhello\r\n".repeat(2));
        assert_eq!(client.start, client.input.len());
    }

    /// What it sends stays in the socket, for the next process.
    #[tokio::test]
    async fn a_client_that_sends_without_a_pause_does_not_hold_up_a_stop() {
        let directory = tempfile::tempdir().unwrap();
        let server = server(directory.path(), 1024 * 1024);
        let (near, mut far) = duplex(64 * 1024);
        let mut client = connection(&server, Slow(near), Vec::new());
        let sending = async {
            let mut replies = [0; 4096];
            loop {
                far.write_all(b"PING\r\n").await.unwrap();
                let _ = far.read(&mut replies).await;
                if server.info.commands.get() == 50 {
                    server.stop();
                }
            }
        };
        tokio::select! {
            end = client.serve() => assert!(matches!(end, Ok(End::Stopped))),
            () = sending => unreachable!("it goes on for ever"),
            () = tokio::time::sleep(Duration::from_secs(20)) => panic!("it holds up the stop"),
        }
    }

    /// The checkpoint that a writer is to wait for ends while the client has not yet read what came
    /// before: nothing wakes the writer afterwards.
    #[tokio::test]
    async fn a_writer_does_not_wait_for_a_checkpoint_that_has_ended() {
        let directory = tempfile::tempdir().unwrap();
        let server = server(directory.path(), 64 * 1024);
        let mut outcomes = server.store.borrow_mut().outcomes().unwrap();
        let writes: String = (0..400).map(|n| set(&format!("key{n}"), 1024)).collect();
        let (near, _far) = duplex(1024 * 1024);
        let mut filling = connection(&server, Slow(near), writes.into_bytes());
        while !matches!(filling.take_turn().await.unwrap(), Turn::Stalled) {
            assert!(filling.start < filling.input.len(), "memory has not become full");
        }
        drop(filling);

        let (near, mut far) = duplex(1);
        let request = format!("*1\r\n$4\r\nPING\r\n{}", set("late", 10));
        let mut late = connection(&server, Slow(near), request.into_bytes());
        let mut serving = pin!(late.serve());
        for _ in 0..10 {
            tokio::select! {
                biased;
                _ = &mut serving => unreachable!("its reply has not been read"),
                () = yield_now() => {}
            }
        }
        let outcome = outcomes.recv().await.expect("the checkpoint ends");
        server.store.borrow_mut().checkpointed(outcome);
        server.flushed.notify_waiters();
        assert!(!server.store.borrow().is_stalled());
        let mut replies = [0; 12];
        let read = timeout(Duration::from_secs(20), far.read_exact(&mut replies));
        tokio::select! {
            _ = &mut serving => unreachable!("its client is there"),
            read = read => { read.expect("it waits for ever").unwrap(); }
        }
        assert_eq!(&replies, b"+PONG\r\n+OK\r\n");
    }
}
