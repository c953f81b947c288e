//! Sending the request and reading the head of the response, both at once.

use std::future::poll_fn;
use std::task::{Context, Poll};

use super::super::connection;
use super::super::field::MAX_FIELDS;
use super::super::gone;
use super::super::relay::{RelayError, Waits};
use super::super::request::Framing;
use super::super::response::Head;
use super::super::rewrite::{self, Connection as Persistence};
use super::super::server::ServerStream;
use super::super::websocket;
use super::{Attempt, FailedAttempt};
use crate::balance::{RequestKeys as _, State};
use crate::front::Reason;
use crate::io::ByteStream;
use crate::io::buf::{Buf, Out};
use crate::io::write::poll_write_all;

/// A response head, made ready for the client.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) status: u16,
    pub(super) framing: Framing,
    pub(super) chunked: bool,
    pub(super) persistence: Persistence,
    pub(super) reusable: bool,
    pub(super) idle: Option<u64>,
    pub(super) is_events: bool,
    pub(super) head: Out,
    /// Bytes of the head as it came.
    pub(super) len: usize,
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

/// Whether this is how a server begins that speaks HTTP/2: with a SETTINGS frame (RFC 9113 3.4).
fn speaks_http2(bytes: &[u8]) -> bool {
    const SETTING: usize = 6; // its bytes
    match bytes {
        [0, high, low, 4, 0, 0, 0, 0, 0, ..] => {
            usize::from(u16::from_be_bytes([*high, *low])).is_multiple_of(SETTING)
        }
        _ => false,
    }
}

impl<C: ByteStream> Attempt<'_, C> {
    /// Sends the request and reads a response head, both at once: the server may answer early.
    pub(super) async fn response_head(
        &mut self,
        stream: &mut ServerStream,
    ) -> Result<Ready, FailedAttempt> {
        let mut parsed = 0;
        let (mut first, mut waits_for) = (true, None);
        let result = poll_fn(|cx| {
            if let Err(error) = self.poll_send(cx, stream) {
                return Poll::Ready(Err((error.of_client(), String::new())));
            }
            // No server answers before it has been asked.
            let first = std::mem::take(&mut first) && self.response.is_empty();
            if (!first || stream.poll_may_read(cx).is_ready())
                && let Poll::Ready(result) = self.poll_head(cx, stream, &mut parsed)
            {
                return Poll::Ready(result);
            }
            if self.poll_client(cx).is_ready() {
                return Poll::Ready(Err((Reason::ClientGone, "while it waited".to_owned())));
            }
            if self.in_flight.server().state() == State::Down && self.is_stranded(stream) {
                let detail = "it is down, and nobody there has read the request".to_owned();
                return Poll::Ready(Err((Reason::ServerGone, detail)));
            }
            self.poll_time(cx, &mut waits_for).map(|r| Err((r, String::new())))
        })
        .await;
        result.map_err(|(reason, detail)| match reason {
            Reason::BadResponse | Reason::ServerGone if speaks_http2(self.response.bytes()) => {
                self.failed(Reason::SpeaksHttp2, "write protocol = \"h2c\"")
            }
            reason => self.failed(reason, &detail),
        })
    }

    /// Sends what can be sent now. Errors are the client's; the server's may come with an answer.
    pub(super) fn poll_send(
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
                Poll::Ready(Ok(_)) => {
                    self.note_if_taken(stream);
                    "connection closed".to_owned()
                }
                Poll::Ready(Err(error)) => {
                    self.unprocessed = error.kind() == std::io::ErrorKind::ConnectionRefused;
                    if !self.unprocessed && matches!(stream, ServerStream::Http2(_)) {
                        self.note_if_taken(stream);
                    }
                    error.to_string()
                }
            };
            return Poll::Ready(Err((Reason::ServerGone, gone)));
        }
    }

    #[cold]
    fn note_if_taken(&mut self, stream: &ServerStream) {
        let sent_all = self.sent == self.request.out.len() && self.upload.is_finished();
        self.taken += u32::from(!self.refused && sent_all && stream.was_taken());
    }

    /// Ready when the client has gone that has sent all of its request.
    pub(super) fn poll_client(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.upload.is_finished() {
            return Poll::Pending; // who reads the body sees it
        }
        let connection = &mut *self.connection;
        if self.watches { connection.poll_gone(cx) } else { connection.poll_gone_if_watched(cx) }
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
                Phase::Answering if self.watches => front.timeouts.response_header,
                Phase::Answering => front.timeouts.response_header.min(gone::PATIENCE),
                Phase::Receiving => {
                    let (rate, most) = (front.limits.body_rate, front.timeouts.client_body);
                    self.pace.wait(now, self.upload.payload, rate, most)
                }
            };
            self.connection.deadline.set(after);
        }
        let connection = &self.connection;
        if connection.is_out_of_time() {
            return Poll::Ready(Reason::ShutdownTimeout);
        }
        if !connection.deadline.poll_passed(cx) {
            return Poll::Pending;
        }
        if phase == Phase::Answering && !self.watches && !connection.deadline.total_passed() {
            // It takes long enough to be worth watching the client, and it may take longer.
            self.watches = true;
            if self.poll_client(cx).is_ready() {
                return Poll::Ready(Reason::ClientGone);
            }
            let all = self.timeouts().response_header;
            let deadline = &self.connection.deadline;
            deadline.set(all.saturating_sub(gone::PATIENCE));
            if !deadline.poll_passed(cx) {
                return Poll::Pending;
            }
        }
        let connection = &self.connection;
        Poll::Ready(match phase {
            _ if connection.deadline.total_passed() => connection.overdue(),
            Phase::Receiving => Reason::BodyTimeout,
            Phase::Sending | Phase::Answering => Reason::ResponseTimeout,
        })
    }

    /// Whether the server has understood our key, where nobody else looks.
    fn accepts(&self, head: &Head<'_, '_>) -> bool {
        if self.connection.origin.stream_of.is_none() {
            return true;
        }
        let is_accept = |name: &str| name.eq_ignore_ascii_case("sec-websocket-accept");
        let answers = head.fields.iter().filter(|f| is_accept(f.name)).map(|f| f.value);
        let keys = self.request.keys();
        websocket::is_accepted(keys.header("sec-websocket-key").unwrap_or_default(), answers)
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
            if !offered.is_some_and(|offered| head.switches_to(offered)) || !self.accepts(&head) {
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
}
