//! One request to an HTTP/2 server, as an HTTP/1.1 connection that carries it.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason as Code, RecvStream};
use http::{Method, Response, StatusCode, header};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::super::request::Framing;
use super::body::{Receiver, Sender};
use super::head::{self, Body};
use super::share::Share;
use super::{broken, invalid};

/// A stream to a server: what is written is the request, reading gives the response.
pub(crate) struct Exchange {
    request: Sending,
    response: Receiving,
    is_head: bool,
    _share: Share,
}

enum Sending {
    /// The head, as far as it was written.
    Head(SendRequest<Bytes>, Vec<u8>),
    Body(Sender),
    Ended,
}

enum Receiving {
    /// The request was not sent.
    Nothing,
    Awaited(ResponseFuture),
    /// A head to be read; of a final one with the body that follows.
    Head(Bytes, Next),
    Body(Receiver),
    Ended,
    /// The request could not be sent.
    Failed(io::Error),
}

enum Next {
    Response(ResponseFuture),
    Body(Receiver),
    Nothing,
}

impl Exchange {
    pub(super) fn new(link: SendRequest<Bytes>, share: Share) -> Self {
        Self {
            request: Sending::Head(link, Vec::new()),
            response: Receiving::Nothing,
            is_head: false,
            _share: share,
        }
    }

    /// Takes a head or a part of one, and sends it when it is complete.
    fn poll_head(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Sending::Head(link, written) = &mut self.request else {
            return Poll::Ready(Err(invalid("a second head")));
        };
        // Only now, so that nothing was taken if it takes its time or fails.
        ready!(link.poll_ready(cx)).map_err(unprocessed)?;
        let before = written.len();
        written.extend_from_slice(bytes);
        let from = before.saturating_sub(3);
        let Some(end) = memchr::memmem::find(&written[from..], b"\r\n\r\n") else {
            return Poll::Ready(Ok(bytes.len()));
        };
        let end = from + end + 4;
        let (request, framing) = head::request_from_http1(&written[..end])?;
        self.is_head = request.method() == Method::HEAD;
        let bodiless = framing == Framing::Length(0);
        let (response, body) = link.send_request(request, bodiless).map_err(unprocessed)?;
        self.response = Receiving::Awaited(response);
        self.request =
            if bodiless { Sending::Ended } else { Sending::Body(Sender::new(body, framing, None)) };
        Poll::Ready(Ok(end - before))
    }

    /// Waits for a head, and writes it down as HTTP/1.1 has it.
    fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Receiving::Awaited(response) = &mut self.response else { return Poll::Ready(Ok(())) };
        let interim = match response.poll_informational(cx) {
            Poll::Ready(Some(interim)) => Some(interim.map_err(failed)?),
            _ => None,
        };
        let mut bytes = Vec::with_capacity(512);
        let next = if let Some(interim) = interim {
            let status = interim.status();
            if status == StatusCode::SWITCHING_PROTOCOLS {
                return Poll::Ready(Err(invalid("HTTP/2 has no 101")));
            }
            head::response_to_http1(&mut bytes, status, interim.headers(), Body::Unframed);
            let awaited = std::mem::replace(&mut self.response, Receiving::Ended);
            let Receiving::Awaited(response) = awaited else { return Poll::Ready(Ok(())) };
            Next::Response(response)
        } else {
            let response = ready!(Pin::new(response).poll(cx)).map_err(failed)?;
            self.take_response(&mut bytes, response)
        };
        self.response = Receiving::Head(bytes.into(), next);
        Poll::Ready(Ok(()))
    }

    fn take_response(&self, bytes: &mut Vec<u8>, response: Response<RecvStream>) -> Next {
        let (parts, body) = response.into_parts();
        let none = self.is_head || matches!(parts.status.as_u16(), 204 | 304);
        let has_length = parts.headers.contains_key(header::CONTENT_LENGTH);
        let framing = match (none, has_length, body.is_end_stream()) {
            (true, ..) | (_, true, _) => Body::Unframed,
            (_, _, true) => Body::Empty,
            (_, _, false) => Body::Chunked,
        };
        head::response_to_http1(bytes, parts.status, &parts.headers, framing);
        if none || body.is_end_stream() {
            Next::Nothing
        } else {
            Next::Body(Receiver::new(body, framing == Body::Chunked))
        }
    }
}

impl AsyncRead for Exchange {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match &mut this.response {
                // Whoever writes the request is woken for it.
                Receiving::Nothing => return Poll::Pending,
                Receiving::Awaited(_) => ready!(this.poll_response(cx))?,
                Receiving::Head(bytes, next) => {
                    let part = bytes.len().min(buffer.remaining());
                    buffer.put_slice(&bytes.split_to(part));
                    if bytes.is_empty() {
                        this.response = match std::mem::replace(next, Next::Nothing) {
                            Next::Response(response) => Receiving::Awaited(response),
                            Next::Body(body) => Receiving::Body(body),
                            Next::Nothing => Receiving::Ended,
                        };
                    }
                    // A body that is there already comes with its head.
                    if buffer.remaining() > 0
                        && let Receiving::Body(body) = &mut this.response
                        && let Poll::Ready(Err(error)) = body.poll_read(cx, buffer)
                    {
                        this.response = Receiving::Failed(error);
                    }
                    return Poll::Ready(Ok(()));
                }
                Receiving::Body(body) => return body.poll_read(cx, buffer),
                Receiving::Ended => return Poll::Ready(Ok(())),
                Receiving::Failed(_) => {
                    let failed = std::mem::replace(&mut this.response, Receiving::Ended);
                    let Receiving::Failed(error) = failed else { continue };
                    return Poll::Ready(Err(error));
                }
            }
        }
    }
}

impl AsyncWrite for Exchange {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = match &mut this.request {
            Sending::Head(..) => ready!(this.poll_head(cx, bytes)),
            Sending::Body(sender) => return sender.poll_write(cx, bytes),
            Sending::Ended => Err(io::ErrorKind::WriteZero.into()),
        };
        if let Err(error) = &written
            && matches!(this.response, Receiving::Nothing)
        {
            // What went wrong is told to whoever reads the answer.
            this.response = Receiving::Failed(io::Error::new(error.kind(), error.to_string()));
        }
        Poll::Ready(written)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // the body's framing says where it ends
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").finish_non_exhaustive()
    }
}

/// A failed stream. `ConnectionRefused` stands for a request that the server did not begin with,
/// so that it may be sent again whatever it is (RFC 9113 8.7).
fn failed(error: h2::Error) -> io::Error {
    let reason = error.reason();
    let untouched = error.is_remote()
        && (error.is_reset() && reason == Some(Code::REFUSED_STREAM)
            // Streams above the last one that the server took; the others go on.
            || error.is_go_away() && reason == Some(Code::NO_ERROR));
    if untouched { unprocessed(error) } else { broken(error) }
}

fn unprocessed(error: h2::Error) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionRefused, error)
}
