//! One attempt at one server: send the request, read the head of the response, relay its body.

mod body;
mod head;
mod reach;

use super::connection::{After, Connection};
use super::incoming::Request;
use super::pace::Pace;
use super::relay::{HEADROOM, Relay};
use super::server::ServerStream;
use crate::balance::InFlight;
use crate::config::settings::Timeouts;
use crate::front::Reason;
use crate::io::ByteStream;
use crate::io::buf::Input;
use crate::io::write::write_all;

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
pub(crate) struct FailedAttempt {
    pub(crate) reason: Reason,
    /// Another server may be tried.
    pub(crate) retryable: bool,
    pub(crate) detail: String,
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
    pub(crate) async fn run(&mut self) -> Result<After, FailedAttempt> {
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

    /// Everything on one connection; with the connection's idle time if it can be used again.
    async fn respond(
        &mut self,
        stream: &mut ServerStream,
    ) -> Result<(After, Option<Option<u64>>), FailedAttempt> {
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

    fn failed(&self, reason: Reason, detail: &str) -> FailedAttempt {
        // The request can be sent again as long as nothing of it is gone that is not in `out`,
        // and unless the server may have acted on it already.
        let untouched = self.upload.moved == 0;
        let unanswered = self.response.is_empty();
        let harmless = self.request.idempotent || self.sent == 0 || self.unprocessed;
        let retryable = reason == Reason::ServerGone && untouched && unanswered && harmless;
        FailedAttempt { reason, retryable, detail: detail.to_owned() }
    }
}
