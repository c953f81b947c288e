//! One request of an HTTP/2 client, as an HTTP/1.1 connection that carries it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::Reason as Code;
use h2::server::SendResponse;
use http::{Method, StatusCode, header};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::super::connection;
use super::super::local::{About, Local};
use super::super::request::Framing;
use super::body::{Receiver, Sender};
use super::job::Job;
use super::meter::Meter;
use super::{broken, head, invalid};
use crate::front::Reason;
use crate::io::ByteStream;
use crate::io::buf::{Input, Out};
use crate::io::deadline::Deadline;

/// A client's stream: reading gives the body of its request, what is written is the response.
pub(super) struct Stream {
    request: Receiver,
    response: Rc<RefCell<Answer>>,
}

/// How far the response is.
struct Answer {
    state: State,
    /// Of a head that came in parts.
    partial: Vec<u8>,
    bodiless: bool,
    /// It answers who wants a WebSocket.
    websocket: bool,
    /// What it breaks off for is a server's fault.
    server_failed: bool,
    /// The account of the connection.
    meter: Rc<Meter>,
}

enum State {
    Head(SendResponse<Bytes>),
    Body(Sender),
    Ended,
}

/// Serves one request to its end, or until the client wants no answer any more. In the first case
/// the deadline comes back.
pub(super) async fn serve(local: &Rc<Local>, job: Job, deadline: Deadline) -> Option<Deadline> {
    let Job { request, answer, origin, open } = job;
    let client = origin.peer;
    let (parts, body) = request.into_parts();
    let has_body = !body.is_end_stream();
    let websocket = head::is_websocket(&parts);
    let mut bytes = Out::new();
    let head = head::request_to_http1(&mut bytes, &parts, has_body).map(|()| {
        let mut input = Input::new(0);
        input.put(&bytes);
        input
    });
    drop(bytes);
    let chunked = has_body && !websocket && !parts.headers.contains_key(header::CONTENT_LENGTH);
    let response = Rc::new(RefCell::new(Answer {
        state: State::Head(answer),
        partial: Vec::new(),
        bodiless: parts.method == Method::HEAD,
        websocket,
        server_failed: false,
        meter: open.meter(),
    }));
    drop(parts);
    let stream = Stream { request: Receiver::new(body, chunked), response: Rc::clone(&response) };
    let work = connection::serve_one(Rc::clone(local), stream, origin, head, deadline);
    let mut work = pin!(work);
    let done = poll_fn(|cx| {
        if let Poll::Ready(deadline) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(deadline));
        }
        response.borrow_mut().poll_reset(cx).map(|()| None)
    });
    let done = done.await;
    if done.is_none() {
        let about = About { client, detail: "stream reset", ..About::default() };
        local.refused(Reason::ClientGone, &about);
    }
    done
}

impl Answer {
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.poll_take(cx, bytes);
        // What cannot be carried is the server's message.
        if let Poll::Ready(Err(error)) = &written
            && error.kind() == io::ErrorKind::InvalidData
        {
            self.server_failed = true;
        }
        written
    }

    fn poll_take(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut used = 0;
        while used < bytes.len() {
            let rest = &bytes[used..];
            used += match &mut self.state {
                State::Head(_) => self.write_head(rest)?,
                State::Body(sender) => match sender.poll_write(cx, rest) {
                    Poll::Pending if used > 0 => break,
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(written) => written?,
                },
                State::Ended => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            };
        }
        Poll::Ready(Ok(used))
    }

    /// Takes a head, or a part of one.
    fn write_head(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let held = self.partial.len();
        let whole;
        let all = if held == 0 {
            bytes
        } else {
            self.partial.extend_from_slice(bytes);
            whole = std::mem::take(&mut self.partial);
            &whole
        };
        let Some(end) = head::end(all) else {
            self.partial = all.to_vec();
            return Ok(bytes.len());
        };
        let (mut response, mut framing) = head::response_from_http1(&all[..end])?;
        let used = end - held;
        let State::Head(answer) = &mut self.state else { return Err(invalid("a second head")) };
        if self.websocket {
            match response.status() {
                StatusCode::SWITCHING_PROTOCOLS => {
                    *response.status_mut() = StatusCode::OK;
                    response.headers_mut().remove(header::SEC_WEBSOCKET_ACCEPT);
                    framing = Framing::Close;
                }
                // Success would mean that there is a WebSocket now.
                status if status.is_success() => *response.status_mut() = StatusCode::BAD_GATEWAY,
                _ => {}
            }
        }
        let status = response.status();
        if status.is_informational() {
            if status == StatusCode::SWITCHING_PROTOCOLS {
                return Err(invalid("HTTP/2 has no 101"));
            }
            answer.send_informational(response).map_err(broken)?;
            return Ok(used);
        }
        let none =
            self.bodiless || framing == Framing::Length(0) || matches!(status.as_u16(), 204 | 304);
        let body = answer.send_response(response, none).map_err(broken)?;
        self.state = if none {
            State::Ended
        } else {
            State::Body(Sender::new(body, framing, Some(Rc::clone(&self.meter.backlog))))
        };
        Ok(used)
    }

    /// Ends a WebSocket. A body's framing says where that ends.
    fn poll_shutdown(&mut self) -> Poll<io::Result<()>> {
        match &mut self.state {
            State::Body(sender) if self.websocket => Poll::Ready(sender.finish()),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Ready when the client reset the stream, or is gone.
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.state {
            State::Head(answer) => answer.poll_reset(cx).map(|_| ()),
            State::Body(sender) if !sender.is_finished() => sender.poll_reset(cx),
            State::Body(_) | State::Ended => Poll::Pending,
        }
    }
}

impl Drop for Answer {
    /// What did not end is broken, and must not look whole.
    fn drop(&mut self) {
        // RFC 8441 5: what a reset is to TCP.
        let code = if self.websocket { Code::CANCEL } else { Code::INTERNAL_ERROR };
        let stream = match &mut self.state {
            State::Head(answer) => {
                answer.send_reset(code);
                answer.stream_id()
            }
            State::Body(sender) if !sender.is_finished() => {
                sender.reset(code);
                sender.id()
            }
            State::Body(_) | State::Ended => return,
        };
        if self.server_failed {
            self.meter.excuse(stream.as_u32());
        }
    }
}

// The socket is the whole connection's.
impl ByteStream for Stream {
    fn server_failed(&self) {
        self.response.borrow_mut().server_failed = true;
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.get_mut().request.poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().response.borrow_mut().poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().response.borrow_mut().poll_shutdown()
    }
}
