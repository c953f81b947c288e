//! A client connection: waiting for requests, serving them in order, and ending in a way that lets
//! the client read the last answer.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::forwarded::Origin;
use super::incoming::Request;
use super::local::{About, Local};
use super::pace::Pace;
use super::reply::{self, Reply};
use super::request::{self, Framing};
use super::rewrite::Connection as Persistence;
use crate::front::Reason;
use crate::io::ByteStream;
use crate::io::buf::{Buf, Input, Out, SMALL, poll_read};
use crate::io::deadline::Deadline;
use crate::io::place::Place;
use crate::io::write::write_all;

/// How long an idle connection is left to a client that may be sending already, when the front
/// stops: its request is answered with `Connection: close` instead of being cut off.
pub(crate) const STOPPING: Duration = Duration::from_secs(1);
/// How long a connection is idle, in milliseconds, before it makes place for clients that wait for one.
pub(super) const IDLE: u64 = 5000;
/// How long the client may take to read the last answer, and what it may still send meanwhile:
/// closing with unread bytes would make its kernel throw the answer away.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: u64 = 1024 * 1024;
/// Requests that a client may have answered before others get their turn, if it sends them all at once.
const AT_A_STRETCH: u32 = 8;
/// A body that is not wanted is read up to this size, so that the connection stays usable.
const DRAIN: u64 = 64 * 1024;

/// A client connection.
#[derive(Debug)]
pub(crate) struct Connection<C> {
    pub(crate) stream: C,
    pub(crate) input: Input,
    pub(crate) origin: Origin,
    pub(crate) local: Rc<Local>,
    pub(crate) deadline: Deadline,
    /// The client has ended its side, and is served all the same.
    pub(super) half_closed: bool,
    requests: u64,
    /// [`Local::given_up`] when the request at hand began.
    begun: u32,
}

/// How a connection goes on after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// With the next request.
    Keep,
    /// Not at all.
    Close,
    /// Not at all, but the client may still be sending.
    Linger,
}

/// Serves a client connection to its end.
pub(crate) fn serve<C: ByteStream>(
    local: Rc<Local>,
    stream: C,
    origin: Origin,
) -> impl Future<Output = ()> {
    serve_holding((), local, stream, origin)
}

/// The same, and keeps something until the connection has ended.
pub(crate) fn serve_holding<T, C: ByteStream>(
    held: T,
    local: Rc<Local>,
    stream: C,
    origin: Origin,
) -> impl Future<Output = ()> {
    serve_from(held, local, stream, origin, Input::new(0))
}

/// The same when something was read already.
///
/// It is no `async fn` and moves nothing: an argument that is moved takes its room twice, and this
/// is what ten thousand idle connections consist of.
pub(crate) fn serve_from<T, C: ByteStream>(
    held: T,
    local: Rc<Local>,
    stream: C,
    origin: Origin,
    input: Input,
) -> impl Future<Output = ()> {
    let mut connection = Connection::new(local, stream, origin, input);
    async move {
        let _held = &held;
        while connection.wait_for_request().await {
            // In a box, because an idle connection must not hold the room that a busy one needs.
            match Box::pin(connection.serve_requests()).await {
                After::Keep => {}
                After::Close => return,
                After::Linger => return connection.linger().await,
            }
        }
    }
}

/// Serves the one request of a connection that is a stream of another one. `head` is its head, or
/// what is wrong with it. The deadline comes back without one set for the request.
pub(crate) async fn serve_one<C: ByteStream>(
    local: Rc<Local>,
    stream: C,
    origin: Origin,
    head: Result<Input, Reason>,
    deadline: Deadline,
) -> Deadline {
    let (input, fault) = match head {
        Ok(head) => (head, None),
        Err(reason) => (Input::new(0), Some(reason)),
    };
    let begun = local.given_up.get();
    let mut connection = Connection {
        stream,
        input,
        origin,
        local,
        deadline,
        half_closed: false,
        requests: 0,
        begun,
    };
    match fault {
        None => connection.serve_requests().await,
        Some(reason) => connection.refuse(reason).await,
    };
    connection.deadline
}

impl<C: ByteStream> Connection<C> {
    fn new(local: Rc<Local>, stream: C, origin: Origin, input: Input) -> Self {
        let deadline = local.deadlines.add();
        Self { stream, input, origin, local, deadline, half_closed: false, requests: 0, begun: 0 }
    }

    /// The place of the client's connection.
    pub(super) fn place(&self) -> &Place {
        match &self.origin.stream_of {
            Some(connection) => connection,
            None => self.deadline.place(),
        }
    }

    /// Waits for the first byte of a request; false when none will come.
    async fn wait_for_request(&mut self) -> bool {
        if !self.input.is_empty() {
            return true;
        }
        let local = &self.local;
        let (mut first, mut since, mut stopping) = (true, None, false);
        poll_fn(|cx| {
            // At first there is hardly ever anything.
            let may = !std::mem::take(&mut first) || self.stream.poll_may_read(cx).is_ready();
            let read = if may {
                self.input.poll_fill(cx, &mut self.stream, Buf::small, SMALL)
            } else {
                Poll::Pending
            };
            if let Poll::Ready(read) = read {
                return Poll::Ready(read.is_ok_and(|count| count > 0));
            }
            let now = local.deadlines.now();
            if local.stopping.get() && !std::mem::replace(&mut stopping, true) {
                since.get_or_insert(now);
                self.deadline.set(STOPPING);
            }
            let since = *since.get_or_insert_with(|| {
                self.deadline.set(local.snapshot().settings.front.timeouts.idle);
                now
            });
            if local.crowded.get() >= since.saturating_add(IDLE) {
                return Poll::Ready(false);
            }
            if self.deadline.poll_passed(cx) { Poll::Ready(false) } else { Poll::Pending }
        })
        .await
    }

    /// Serves what was sent until nothing of it is left.
    async fn serve_requests(&mut self) -> After {
        for served in 1_u32.. {
            self.begun = self.local.given_up.get();
            let mut request = match self.read_request().await {
                Ok(request) => request,
                Err(reason) => return Box::pin(self.refuse(reason)).await,
            };
            let after = self.exchange(&mut request).await;
            self.deadline.set_total(None);
            let place = self.deadline.place();
            place.rest();
            if place.is_given_up() && after == After::Keep {
                return After::Close; // it was answered at the same moment
            }
            if after != After::Keep || self.input.is_empty() {
                return after;
            }
            // What is answered here waits for nobody, and others do.
            if served.is_multiple_of(AT_A_STRETCH) {
                tokio::task::yield_now().await;
            }
        }
        After::Close // after four thousand million requests
    }

    /// Whether the request at hand has had its time, since the front ends.
    pub(super) fn is_out_of_time(&self) -> bool {
        self.local.given_up.get() != self.begun
    }

    async fn read_request(&mut self) -> Result<Request, Reason> {
        let snapshot = self.local.snapshot();
        let settings = &snapshot.settings.front;
        let mut parsed = 0;
        let mut set = false;
        let request = poll_fn(|cx| {
            loop {
                skip_empty_lines(&mut self.input);
                let bytes = self.input.bytes();
                if is_worth_parsing(bytes, parsed) {
                    match Request::parse(bytes, &snapshot, &self.origin) {
                        Ok(Some((request, len))) => {
                            self.input.consume(len);
                            return Poll::Ready(Ok(request));
                        }
                        Ok(None) => parsed = bytes.len(),
                        Err(Reason::UnknownVersion)
                            if request::read_as_1_1(self.input.bytes_mut()) =>
                        {
                            continue;
                        }
                        Err(reason) => return Poll::Ready(Err(reason)),
                    }
                }
                if bytes.len() >= settings.limits.header_bytes {
                    let line_ends = memchr::memchr(b'\n', bytes).is_some();
                    let reason =
                        if line_ends { Reason::HeadTooLarge } else { Reason::TargetTooLong };
                    return Poll::Ready(Err(reason));
                }
                let most = settings.limits.header_bytes;
                match self.input.poll_fill(cx, &mut self.stream, Buf::small, most) {
                    Poll::Ready(Ok(1..)) => {}
                    Poll::Ready(_) => return Poll::Ready(Err(Reason::ClientGone)),
                    Poll::Pending => {
                        if !std::mem::replace(&mut set, true) {
                            self.deadline.set(settings.timeouts.client_header);
                        }
                        if self.deadline.poll_passed(cx) || self.is_out_of_time() {
                            // After an empty line too many there is nothing to answer to.
                            let idle = self.input.is_empty();
                            let reason =
                                if idle { Reason::ClientGone } else { Reason::HeadTimeout };
                            return Poll::Ready(Err(reason));
                        }
                        return Poll::Pending;
                    }
                }
            }
        })
        .await?;
        self.requests += 1;
        self.local.counters.requests.add(1);
        Ok(request)
    }

    /// Answers a head that is none, and ends the connection: where the next request would begin
    /// is anybody's guess.
    async fn refuse(&mut self, reason: Reason) -> After {
        let id = self.local.request_id();
        let about = About { id: &id, client: self.origin.peer, ..About::default() };
        self.local.refused(reason, &about);
        if reason == Reason::ClientGone {
            return After::Close;
        }
        let reply = Reply {
            reason,
            id: &id,
            json: false,
            bodiless: false,
            connection: Persistence::Close,
            page: None,
            hsts: None,
        };
        self.send(&reply).await;
        After::Linger
    }

    /// Answers a request ourselves. What is left of its body is read if it is short.
    pub(crate) async fn answer(
        &mut self,
        request: &Request,
        reason: Reason,
        about: &About<'_>,
    ) -> After {
        let id = self.local.request_id();
        let route = request.route_name();
        let client = request.client;
        self.local.refused(reason, &About { id: &id, client, route: &route, ..*about });
        if reason == Reason::ClientGone {
            return After::Close;
        }
        let (keep, connection) = self.persistence(request).await;
        let pages = &request.snapshot.settings.front.error_pages;
        let reply = Reply {
            reason,
            id: &id,
            json: request.wants_json,
            bodiless: request.is_head,
            connection,
            page: pages.get(&reason.status()).map(String::as_str),
            hsts: request.hsts,
        };
        after(self.send(&reply).await, keep)
    }

    /// Sends the client to another place for good.
    pub(crate) async fn redirect(&mut self, request: &Request, location: &[u8]) -> After {
        let (keep, connection) = self.persistence(request).await;
        // Old clients may make a GET of any 301; they know no 308.
        let status = if request.is_get || request.is_head { 301 } else { 308 };
        let mut out = Out::new();
        reply::redirect(&mut out, status, location, connection);
        after(self.send_bytes(status, &out).await, keep)
    }

    /// Answers a request that nobody may pass on.
    pub(crate) async fn answer_as_the_last(&mut self, request: &Request) -> After {
        let (keep, connection) = self.persistence(request).await;
        let mut out = Out::new();
        reply::last(&mut out, &request.out[..request.head_len], connection);
        after(self.send_bytes(200, &out).await, keep)
    }

    /// How the connection goes on after an answer of our own. Reads what is left of the body.
    async fn persistence(&mut self, request: &Request) -> (bool, Persistence) {
        let keep = self.may_keep(request) && self.drain(request).await;
        let connection = match (keep, request.old) {
            (false, _) => Persistence::Close,
            (true, true) => Persistence::KeepAlive,
            (true, false) => Persistence::Persistent,
        };
        (keep, connection)
    }

    async fn send(&mut self, reply: &Reply<'_>) -> bool {
        let mut out = Out::new();
        reply.write(&mut out);
        self.send_bytes(reply.reason.status(), &out).await
    }

    async fn send_bytes(&mut self, status: u16, bytes: &[u8]) -> bool {
        self.local.counters.statuses[usize::from(status / 100)].add(1);
        let timeout = self.local.snapshot().settings.front.timeouts.client_write;
        let sent = write_all(&mut self.stream, bytes, &self.deadline, timeout).await;
        if sent.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::TimedOut) {
            self.stream.discard_unread();
        }
        sent.is_ok()
    }

    /// Whether the connection may serve another request after this one.
    pub(crate) fn may_keep(&self, request: &Request) -> bool {
        let limits = &request.snapshot.settings.front.limits;
        request.keeps_alive
            && !self.local.stopping.get()
            && self.requests < limits.requests_per_connection
    }

    /// Reads what is left of a body that no server got any of; false when that is too much.
    async fn drain(&mut self, request: &Request) -> bool {
        let Framing::Length(length) = request.framing else { return false };
        // What came with the head is in the request already.
        let mut left = length.saturating_sub((request.out.len() - request.head_len) as u64);
        if left == 0 {
            return true;
        }
        if left > DRAIN || request.expects_continue {
            return false;
        }
        let front = &request.snapshot.settings.front;
        let (rate, most) = (front.limits.body_rate, front.timeouts.client_body);
        let mut pace = Pace::default();
        while left > 0 {
            let (input, stream) = (&mut self.input, &mut self.stream);
            if input.is_empty() {
                let patience = pace.wait(self.local.deadlines.now(), length - left, rate, most);
                let read = self
                    .deadline
                    .within(patience, |cx| input.poll_fill(cx, stream, Buf::small, SMALL))
                    .await;
                if !matches!(read, Some(Ok(1..))) {
                    return false;
                }
            }
            let here = left.min(input.bytes().len() as u64);
            input.consume(here as usize);
            left -= here;
        }
        true
    }

    /// Ends our side and reads on for a while, so that the client gets to see the answer.
    async fn linger(&mut self) {
        let stream = &mut self.stream;
        self.deadline.set(LINGER);
        let mut left = LINGER_BYTES;
        let mut shut = false;
        poll_fn(|cx| {
            if !shut {
                match std::pin::Pin::new(&mut *stream).poll_shutdown(cx) {
                    Poll::Ready(Ok(())) => shut = true,
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => {}
                }
            }
            let mut buffer = Buf::small();
            loop {
                match poll_read(stream, cx, &mut buffer) {
                    Poll::Ready(Ok(count @ 1..)) if left > count as u64 => left -= count as u64,
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending if self.deadline.poll_passed(cx) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await;
    }
}

/// How the connection goes on, when the answer was sent or not.
fn after(sent: bool, keep: bool) -> After {
    match (sent, keep) {
        (true, true) => After::Keep,
        (true, false) => After::Linger,
        (false, _) => After::Close,
    }
}

/// Some clients end a body with a line end too many; RFC 9112 2.2 has it ignored.
fn skip_empty_lines(input: &mut Input) {
    while input.bytes().starts_with(b"\r\n") {
        input.consume(2);
    }
}

/// Whether parsing may come to more than it did when there were `parsed` bytes: it would be work
/// without end to try at every byte that a slow client sends.
pub(crate) fn is_worth_parsing(bytes: &[u8], parsed: usize) -> bool {
    if bytes.is_empty() || bytes == b"\r" {
        return false;
    }
    let new = &bytes[parsed.saturating_sub(3).min(bytes.len())..];
    parsed == 0
        || bytes.len() >= parsed * 2
        || memchr::memmem::find(new, b"\n\r\n").is_some()
        || memchr::memmem::find(new, b"\n\n").is_some()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::Settings;
    use crate::front::{Front, counters::Counters};

    #[test]
    fn an_idle_connection_is_small() {
        let front = Arc::new(Front::new(Settings::default(), 1));
        let local = Local::new(0, front, Arc::<Counters>::default());
        let origin = Origin::default();
        let socket = tokio::io::empty();
        let size = size_of_val(&serve(local, socket, origin));
        // Ten thousand of them, with their sockets' registrations, are to fit in 12 MB.
        assert!(size <= 512, "{size} bytes");
    }
}
