//! One attempt at one server: send the request, read the head of the response, relay its body.

use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use super::connection::{After, Connection};
use super::exchange::client_fault;
use super::field::MAX_FIELDS;
use super::frames::Frames;
use super::incoming::Request;
use super::local::About;
use super::pace::Pace;
use super::reading::Reading;
use super::relay::{HEADROOM, Relay, RelayError, Waits};
use super::request::Framing;
use super::response::Head;
use super::rewrite::{self, Connection as Persistence};
use super::server::ServerStream;
use super::{connection, http2, tunnel};
use crate::balance::InFlight;
use crate::config::settings::{ServerProtocol, Timeouts};
use crate::front::Reason;
use crate::io::buf::{Buf, Input, Out};
use crate::io::write::{poll_write_all, write_all};
use crate::io::{ByteStream, preface};

/// 1xx responses to one request; more are an attempt to keep us busy.
const MAX_INTERIM: usize = 32;

/// One attempt at one server.
#[derive(Debug)]
pub(crate) struct Attempt<'a, C> {
    connection: &'a mut Connection<C>,
    request: &'a mut Request,
    upload: &'a mut Relay,
    in_flight: InFlight,
    /// What came from the server and is not used yet.
    response: Input,
    /// Bytes of the request's head that were sent.
    sent: usize,
    /// The server does not take the rest of the request.
    refused: bool,
    /// The server said that it has not begun with the request.
    unprocessed: bool,
    /// How slowly the client sends its body.
    pace: Pace,
}

/// An attempt that came to nothing, before anything of a final response went to the client.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) reason: Reason,
    /// Another server may be tried.
    pub(crate) retryable: bool,
    pub(crate) detail: String,
}

/// A response head, made ready for the client.
#[derive(Debug)]
struct Ready {
    status: u16,
    framing: Framing,
    chunked: bool,
    persistence: Persistence,
    reusable: bool,
    idle: Option<u64>,
    is_events: bool,
    head: Out,
    /// Bytes of the head as it came.
    len: usize,
}

/// What an attempt waits for, which decides how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The server takes the request.
    Sending,
    /// The client sends its body.
    Receiving,
    /// The server answers.
    Answering,
}

impl<'a, C: ByteStream> Attempt<'a, C> {
    pub(crate) fn new(
        connection: &'a mut Connection<C>,
        request: &'a mut Request,
        upload: &'a mut Relay,
        in_flight: InFlight,
    ) -> Self {
        Self {
            connection,
            request,
            upload,
            in_flight,
            response: Input::new(HEADROOM),
            sent: 0,
            refused: false,
            unprocessed: false,
            pace: Pace::default(),
        }
    }

    /// The request, still counted in.
    pub(crate) fn into_in_flight(self) -> InFlight {
        self.in_flight
    }

    /// Sends the request and relays the response.
    pub(crate) async fn run(&mut self) -> Result<After, Failed> {
        let incarnation = self.in_flight.server().incarnation();
        let mut pooled = self.take_pooled();
        loop {
            let reused = pooled.is_some();
            let mut stream = match pooled.take() {
                Some(stream) => stream,
                None => Box::pin(self.connect()).await?,
            };
            match self.respond(&mut stream).await {
                Ok((after, keep)) => {
                    if let Some(idle) = keep {
                        self.keep(stream, incarnation, idle);
                    }
                    return Ok(after);
                }
                // The server closed it while it was idle: no fault of anybody's, and the others
                // in the pool are likely to be as old.
                Err(failed) if reused && failed.retryable => {
                    self.connection.local.counters.stale.add(1);
                    self.sent = 0;
                    self.refused = false;
                    self.unprocessed = false;
                }
                Err(failed) => return Err(failed),
            }
        }
    }

    fn timeouts(&self) -> &Timeouts {
        &self.request.snapshot.settings.front.timeouts
    }

    fn take_pooled(&self) -> Option<ServerStream> {
        let local = &self.connection.local;
        let now = local.deadlines.now();
        let server = self.in_flight.server();
        if server.protocol == ServerProtocol::H2c {
            return local.links.borrow_mut().take(server).map(ServerStream::Http2);
        }
        loop {
            let stream = local.pool.borrow_mut().take(server, self.told(), now)?;
            // What cannot be sent twice is worth a system call to know better.
            if self.request.idempotent && self.upload.is_finished() || !stream.is_stale_now() {
                return Some(stream);
            }
            local.counters.stale.add(1);
        }
    }

    fn keep(&self, stream: ServerStream, incarnation: u32, idle: Option<u64>) {
        if matches!(stream, ServerStream::Http2(_)) {
            return; // its connection is kept elsewhere
        }
        let front = &self.request.snapshot.settings.front;
        let limits = (front.timeouts.upstream_idle, front.limits.upstream_idle_connections);
        let local = &self.connection.local;
        let now = local.deadlines.now();
        let server = self.in_flight.server();
        let of = (incarnation, self.told());
        local.pool.borrow_mut().put(server, of, stream, limits, idle, now);
    }

    /// Whom a server that is told of clients is told of.
    fn told(&self) -> Option<IpAddr> {
        self.in_flight.server().proxy_protocol.and(self.request.client)
    }

    /// Tells a server where its connection comes from, if it is to be told.
    async fn introduce(&self, stream: &mut ServerStream) -> std::io::Result<()> {
        let server = self.in_flight.server();
        let Some(version) = server.proxy_protocol else { return Ok(()) };
        let addresses = self.connection.origin.ends(self.request.client);
        let mut header = Vec::with_capacity(108);
        preface::write(&mut header, version, addresses);
        stream.write_all(&header).await
    }

    async fn connect(&self) -> Result<ServerStream, Failed> {
        let failed = |detail| Failed { reason: Reason::ConnectFailed, retryable: true, detail };
        let server = self.in_flight.server();
        let address = &server.address;
        let mut connect = std::pin::pin!(async {
            let mut stream = ServerStream::connect(address).await?;
            self.introduce(&mut stream).await?;
            match server.protocol {
                ServerProtocol::Http1 => Ok(stream),
                ServerProtocol::H2c => http2::connect(&self.connection.local, server, stream).await,
            }
        });
        let timeout = self.timeouts().connect;
        let deadline = &self.connection.deadline;
        match deadline.within(timeout, |cx| connect.as_mut().poll(cx)).await {
            Some(Ok(stream)) => Ok(stream),
            Some(Err(error)) => Err(failed(format!("connecting to {address}: {error}"))),
            None => Err(failed(format!("connecting to {address} took too long"))),
        }
    }

    /// Everything on one connection; with the connection's idle time if it can be used again.
    async fn respond(
        &mut self,
        stream: &mut ServerStream,
    ) -> Result<(After, Option<Option<u64>>), Failed> {
        let mut interim = 0;
        loop {
            let ready = self.response_head(stream).await?;
            if ready.status == 101 {
                return Ok((Box::pin(self.switch(stream, &ready)).await, None));
            }
            if ready.status >= 200 {
                return self.relay(stream, &ready).await;
            }
            interim += 1;
            if interim > MAX_INTERIM {
                return Err(self.failed(Reason::BadResponse, "endless 1xx responses"));
            }
            self.response.consume(ready.len);
            // A 100 that nobody asked for says nothing, and HTTP/1.0 knows no 1xx.
            let wanted = ready.status != 100 || self.request.expects_continue;
            if wanted && !self.request.old {
                self.connection.local.counters.statuses[1].add(1);
                let timeout = self.timeouts().client_write;
                let connection = &mut *self.connection;
                write_all(&mut connection.stream, &ready.head, &connection.deadline, timeout)
                    .await
                    .map_err(|error| self.failed(Reason::ClientGone, &error.to_string()))?;
            }
        }
    }

    /// Sends the request and reads a response head, both at once: the server may answer early.
    async fn response_head(&mut self, stream: &mut ServerStream) -> Result<Ready, Failed> {
        let mut parsed = 0;
        let (mut first, mut waits_for) = (true, None);
        let result = poll_fn(|cx| {
            if let Err(error) = self.poll_send(cx, stream) {
                return Poll::Ready(Err((client_fault(&error), String::new())));
            }
            // No server answers before it has been asked.
            let first = std::mem::take(&mut first) && self.response.is_empty();
            if (!first || stream.poll_may_read(cx).is_ready())
                && let Poll::Ready(result) = self.poll_head(cx, stream, &mut parsed)
            {
                return Poll::Ready(result);
            }
            self.poll_time(cx, &mut waits_for).map(|r| Err((r, String::new())))
        })
        .await;
        result.map_err(|(reason, detail)| self.failed(reason, &detail))
    }

    /// Sends what can be sent now. Errors are the client's; the server's may come with an answer.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut ServerStream,
    ) -> Result<(), RelayError> {
        if self.refused {
            return Ok(());
        }
        match poll_write_all(stream, cx, &self.request.out, &mut self.sent) {
            Poll::Pending => return Ok(()),
            Poll::Ready(Err(_)) => self.refused = true,
            Poll::Ready(Ok(())) if self.upload.is_finished() => {}
            Poll::Ready(Ok(())) => {
                match self.upload.poll(cx, &mut self.connection.stream, stream) {
                    Poll::Ready(Err(RelayError::Sink(_))) => self.refused = true,
                    Poll::Ready(Err(error)) => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut ServerStream,
        parsed: &mut usize,
    ) -> Poll<Result<Ready, (Reason, String)>> {
        let most = self.request.snapshot.settings.front.limits.header_bytes;
        // What follows a long body's beginning is not read at all, if that can be.
        let splices = stream.is_plain_tcp() && self.connection.stream.is_plain_tcp();
        let fresh = if splices { Buf::large } else { Buf::bulk };
        loop {
            let bytes = self.response.bytes();
            if connection::is_worth_parsing(bytes, *parsed) {
                match self.parse() {
                    Ok(Some(ready)) => return Poll::Ready(Ok(ready)),
                    Ok(None) => *parsed = bytes.len(),
                    Err(reason) => return Poll::Ready(Err((reason, String::new()))),
                }
            }
            if self.response.bytes().len() >= most {
                return Poll::Ready(Err((Reason::ResponseHeadTooLarge, String::new())));
            }
            let gone = match self.response.poll_fill(cx, stream, fresh, most) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(1..)) => continue,
                Poll::Ready(Ok(_)) => "connection closed".to_owned(),
                Poll::Ready(Err(error)) => {
                    self.unprocessed = error.kind() == std::io::ErrorKind::ConnectionRefused;
                    error.to_string()
                }
            };
            return Poll::Ready(Err((Reason::ServerGone, gone)));
        }
    }

    /// Whether whom this waits for takes too long.
    fn poll_time(
        &mut self,
        cx: &mut Context<'_>,
        waits_for: &mut Option<(Phase, u64, usize)>,
    ) -> Poll<Reason> {
        let sent_all = self.sent == self.request.out.len();
        let phase = if self.refused || sent_all && self.upload.is_finished() {
            Phase::Answering
        } else if sent_all && self.upload.waits() == Waits::Source {
            Phase::Receiving
        } else {
            Phase::Sending
        };
        let progress = (phase, self.upload.moved, self.sent);
        if *waits_for != Some(progress) {
            *waits_for = Some(progress);
            let now = self.connection.local.deadlines.now();
            self.pace.rest(now);
            let front = &self.request.snapshot.settings.front;
            let after = match phase {
                Phase::Sending => front.timeouts.upstream_write,
                Phase::Answering => front.timeouts.response_header,
                Phase::Receiving => {
                    let (rate, most) = (front.limits.body_rate, front.timeouts.client_body);
                    self.pace.wait(now, self.upload.payload, rate, most)
                }
            };
            self.connection.deadline.set(after);
        }
        let connection = &self.connection;
        if !connection.deadline.poll_passed(cx) {
            return Poll::Pending;
        }
        Poll::Ready(match phase {
            _ if connection.deadline.total_passed() => Reason::TotalTimeout,
            Phase::Receiving => Reason::BodyTimeout,
            Phase::Sending | Phase::Answering => Reason::ResponseTimeout,
        })
    }

    /// Reads the head that came, and writes the one that the client gets.
    fn parse(&self) -> Result<Option<Ready>, Reason> {
        let limits = &self.request.snapshot.settings.front.limits;
        let bytes = self.response.bytes();
        let mut slots = [const { std::mem::MaybeUninit::uninit() }; MAX_FIELDS];
        let head = Head::parse(bytes, &mut slots, limits.headers, self.request.is_head)?;
        let Some(head) = head else { return Ok(None) };
        if head.len > limits.header_bytes {
            return Err(Reason::ResponseHeadTooLarge);
        }
        let chunked = !self.request.old
            && !self.request.is_head
            && matches!(head.framing, Framing::Chunked | Framing::Close);
        let persistence = if head.status == 101 {
            let offered = self.request.offered();
            if !offered.is_some_and(|offered| head.switches_to(offered)) {
                return Err(Reason::BadResponse);
            }
            Persistence::Upgrade
        } else if head.is_interim() {
            Persistence::Persistent
        } else {
            let delimited = chunked || matches!(head.framing, Framing::Length(_));
            let keeps = delimited
                && self.upload.is_finished()
                && !self.refused
                && self.connection.may_keep(self.request);
            match (keeps, self.request.old) {
                (false, _) => Persistence::Close,
                (true, true) => Persistence::KeepAlive,
                (true, false) => Persistence::Persistent,
            }
        };
        let cookie = match self.request.upstream() {
            Some(upstream) if !head.is_interim() => upstream.set_cookie(&self.in_flight),
            _ => None,
        };
        let mut out = Out::new();
        let hsts = self.request.hsts.filter(|_| !head.is_interim());
        rewrite::response(&mut out, bytes, &head, chunked, persistence, cookie, hsts);
        Ok(Some(Ready {
            status: head.status,
            framing: head.framing,
            chunked,
            persistence,
            reusable: head.keeps_alive(),
            idle: head.idle,
            is_events: head.is_events && chunked,
            head: out,
            len: head.len,
        }))
    }

    /// Relays the final response, with whatever is left of the request going the other way.
    async fn relay(
        &mut self,
        stream: &mut ServerStream,
        ready: &Ready,
    ) -> Result<(After, Option<Option<u64>>), Failed> {
        let most = self.request.snapshot.settings.front.limits.header_bytes;
        let mut download = Relay::new(ready.framing, ready.chunked, None, most);
        if ready.persistence == Persistence::Close {
            download.end_with_it();
        }
        if let Some((buffer, mut filled)) = self.response.take() {
            filled.start += ready.len;
            if let Err(error) = download.start((buffer, filled), &ready.head) {
                return Err(self.failed(Reason::BadResponse, &describe(&error)));
            }
        }
        let Ready { status, persistence, mut reusable, idle, is_events, .. } = *ready;
        self.in_flight.responded_now(status);
        let local = Rc::clone(&self.connection.local);
        local.counters.statuses[usize::from(status / 100).min(5)].add(1);

        let mut waits_for = None;
        let mut reading = Reading::default();
        let result = poll_fn(|cx| {
            let mut done = download.poll(cx, stream, &mut self.connection.stream);
            let ends = is_events && done.is_pending() && download.waits() == Waits::Source;
            if ends && self.in_flight.server().is_over() {
                reusable = false;
                download.finish();
                done = download.poll(cx, stream, &mut self.connection.stream);
            }
            if let Poll::Ready(result) = done {
                return Poll::Ready(result.map_err(|e| fault(&e)));
            }
            if !self.upload.is_finished() && self.poll_send(cx, stream).is_err() {
                self.refused = true;
            }
            let waits = (download.waits(), download.moved);
            if waits_for != Some(waits) {
                waits_for = Some(waits);
                let patience = self.between_bytes(waits.0, &mut reading, download.passed());
                self.connection.deadline.set(patience);
            }
            while self.connection.deadline.poll_passed(cx) {
                match self.more_time(waits.0, &mut reading, download.passed()) {
                    Ok(patience) => self.connection.deadline.set(patience),
                    Err(reason) => return Poll::Ready(Err((reason, String::new()))),
                }
            }
            Poll::Pending
        })
        .await;
        local.counters.body_out.add(download.payload);
        if let Err((reason, detail)) = result {
            self.broke_off(reason, &detail);
            return Ok((After::Close, None));
        }
        let sent = self.upload.is_finished() && !self.refused;
        let keep = (reusable && sent && download.rest().is_empty()).then_some(idle);
        let after = match persistence {
            _ if !sent => After::Linger,
            Persistence::Close => After::Close,
            _ => After::Keep,
        };
        Ok((after, keep))
    }

    /// How long whom the response waits for may take; so much of it has gone to the client.
    fn between_bytes(&self, waits: Waits, reading: &mut Reading, passed: u64) -> Duration {
        let front = &self.request.snapshot.settings.front;
        let now = self.connection.local.deadlines.now();
        reading.rest(now);
        match waits {
            Waits::Source => front.timeouts.response_body,
            Waits::Sink => reading.wait(now, passed, &self.connection.stream, front),
        }
    }

    /// How much longer it may take, when that time is over.
    fn more_time(
        &self,
        waits: Waits,
        reading: &mut Reading,
        passed: u64,
    ) -> Result<Duration, Reason> {
        let front = &self.request.snapshot.settings.front;
        let now = self.connection.local.deadlines.now();
        match waits {
            _ if self.connection.deadline.total_passed() => Err(Reason::TotalTimeout),
            Waits::Source => Err(Reason::ResponseTimeout),
            Waits::Sink => {
                let more = reading.go_on(now, passed, &self.connection.stream, front);
                let slow =
                    if reading.is_slow() { Reason::SlowReader } else { Reason::WriteTimeout };
                more.ok_or(slow)
            }
        }
    }

    /// Says that a response broke off after its head was sent: all that is left is to end the
    /// connection, so that the client sees that it is not whole.
    fn broke_off(&self, reason: Reason, detail: &str) {
        let id = self.connection.local.request_id();
        let upstream = self.request.upstream().map_or("", |u| u.name.as_str());
        let route = self.request.route_name();
        self.connection.local.refused(
            reason,
            &About {
                id: &id,
                client: self.request.client,
                upstream,
                server: &self.in_flight.server().name,
                route: &route,
                detail,
            },
        );
        if matches!(reason, Reason::WriteTimeout | Reason::SlowReader) {
            self.connection.stream.discard_unread();
        }
        if matches!(reason, Reason::ServerGone | Reason::BadResponse | Reason::ResponseTimeout) {
            self.in_flight.failed_by(crate::balance::Failure::InvalidResponse);
        }
    }

    /// Hands both connections to the other protocol.
    async fn switch(&mut self, stream: &mut ServerStream, ready: &Ready) -> After {
        self.response.consume(ready.len);
        self.in_flight.responded_now(ready.status);
        let timeouts = self.timeouts();
        let (write, idle) = (timeouts.client_write, timeouts.tunnel_idle);
        let connection = &mut *self.connection;
        connection.local.counters.statuses[1].add(1);
        connection.deadline.set_total(None); // a conversation is no request
        let client = &mut connection.stream;
        if write_all(client, &ready.head, &connection.deadline, write).await.is_ok() {
            let held = (&mut connection.input, &mut self.response);
            let upgraded = &connection.local.counters.upgraded;
            upgraded.add(1);
            let server = self.in_flight.server();
            let end = tunnel::End {
                is_over: &|| server.is_over(),
                frames: self.request.is_websocket().then(Frames::default),
            };
            tunnel::run(client, stream, held, &connection.deadline, idle, end).await;
            upgraded.sub(1);
        }
        After::Close
    }

    fn failed(&self, reason: Reason, detail: &str) -> Failed {
        // The request can be sent again as long as nothing of it is gone that is not in `out`,
        // and unless the server may have acted on it already.
        let untouched = self.upload.moved == 0;
        let unanswered = self.response.is_empty();
        let harmless = self.request.idempotent || self.sent == 0 || self.unprocessed;
        let retryable = reason == Reason::ServerGone && untouched && unanswered && harmless;
        Failed { reason, retryable, detail: detail.to_owned() }
    }
}

fn fault(error: &RelayError) -> (Reason, String) {
    let reason = match error {
        RelayError::Source(_) => Reason::ServerGone,
        RelayError::Malformed(_) | RelayError::TooLarge => Reason::BadResponse,
        RelayError::Sink(_) => Reason::ClientGone,
    };
    (reason, describe(error))
}

fn describe(error: &RelayError) -> String {
    match error {
        RelayError::Source(error) => format!("the response broke off: {error}"),
        RelayError::Sink(error) => format!("writing to the client: {error}"),
        RelayError::Malformed(error) => error.to_string(),
        RelayError::TooLarge => "the body is too large".to_owned(),
    }
}
