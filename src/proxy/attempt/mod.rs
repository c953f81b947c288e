//! One attempt at one server: send the request, read the head of the response, relay its body.

mod body;
mod head;
mod reach;
mod retry;

use retry::Fate;
use tokio::time::Instant;

use super::connection::{After, Connection};
use super::incoming::Request;
use super::pace::Pace;
use super::pool::{self, Usable};
use super::relay::{HEADROOM, Relay};
use super::server::ServerStream;
use crate::balance::InFlight;
use crate::config::settings::{ServerProtocol, Timeouts};
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
    /// Who has had the request, where it may go to yet another one.
    tried: Option<&'a [u32]>,
    /// It was left at a server that is down, where nobody has read it.
    stranded: bool,
    /// What came from the server and is not used yet.
    response: Input,
    /// Bytes of the request's head that were sent.
    sent: usize,
    /// The server does not take the rest of the request.
    refused: bool,
    /// The server said that it has not begun with the request.
    unprocessed: bool,
    /// How many times it was taken and not answered.
    taken: u32,
    /// It takes so long that the client is watched even if that costs something.
    watches: bool,
    /// The server's connection has carried a request before.
    reused: bool,
    /// The status of the final response.
    pub(crate) status: u16,
    /// Something of an interim response went to the client.
    interim: bool,
    /// How slowly the client sends its body.
    pace: Pace,
}

/// An attempt that came to nothing, before anything of a final response went to the client.
#[derive(Debug)]
pub(crate) struct FailedAttempt {
    pub(crate) reason: Reason,
    /// Another server may be tried.
    pub(crate) retryable: bool,
    /// How many times the server has taken all of it and ended without an answer.
    pub(crate) taken: u32,
    /// It reached nobody, and is no load on any server.
    pub(crate) free: bool,
    pub(crate) detail: String,
}

impl<'a, C: ByteStream> Attempt<'a, C> {
    pub(crate) fn new(
        connection: &'a mut Connection<C>,
        request: &'a mut Request,
        upload: &'a mut Relay,
        in_flight: InFlight,
        tried: Option<&'a [u32]>,
    ) -> Self {
        Self {
            tried,
            stranded: false,
            connection,
            request,
            upload,
            in_flight,
            response: Input::new(HEADROOM),
            sent: 0,
            refused: false,
            unprocessed: false,
            taken: 0,
            watches: false,
            reused: false,
            status: 0,
            interim: false,
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
            self.reused = pooled.is_some();
            let mut stream = match pooled.take() {
                Some(stream) => stream,
                None => Box::pin(self.connect()).await?,
            };
            match self.respond(&mut stream).await {
                Ok((after, keep)) => {
                    if let Some(usable) = keep {
                        self.keep(stream, incarnation, usable);
                    }
                    return Ok(after);
                }
                Err(failed) => {
                    let out_of_turn = self.reused && failed.reason == Reason::BadResponse;
                    if out_of_turn {
                        // What is no response was no answer to this request.
                        pool::distrust(self.in_flight.server(), Instant::now());
                    }
                    // Or the server closed it while it was idle: no fault of anybody's, and the
                    // others in the pool are likely to be as old.
                    if !self.reused || !failed.retryable || self.stranded || self.may_have_killed()
                    {
                        return Err(failed);
                    }
                    self.connection.local.counters.stale.add(u64::from(!out_of_turn));
                    self.response = Input::new(HEADROOM);
                    self.sent = 0;
                    self.refused = false;
                    self.unprocessed = false;
                }
            }
        }
    }

    fn timeouts(&self) -> &Timeouts {
        &self.request.snapshot.settings.front.timeouts
    }

    /// Everything on one connection; with what is to be known of it if it can be used again.
    async fn respond(
        &mut self,
        stream: &mut ServerStream,
    ) -> Result<(After, Option<Usable>), FailedAttempt> {
        let mut interim = 0;
        loop {
            let ready = self.response_head(stream).await?;
            if ready.status == 101 {
                return Ok((Box::pin(self.switch(stream, &ready)).await, None));
            }
            if ready.status == 408 && self.reused && self.request.idempotent {
                // The server gave up waiting for a request just when this one was on its way (RFC 9110
                // 15.5.9).
                return Err(self.failed(Reason::ServerGone, "408 on a connection that was idle"));
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
                self.interim = true;
                let timeout = self.timeouts().client_write;
                let connection = &mut *self.connection;
                write_all(&mut connection.stream, &ready.head, &connection.deadline, timeout)
                    .await
                    .map_err(|error| self.failed(Reason::ClientGone, &error.to_string()))?;
            }
        }
    }

    fn failed(&self, reason: Reason, detail: &str) -> FailedAttempt {
        let retryable = retry::may_repeat(reason, self.fate());
        let detail = detail.to_owned();
        FailedAttempt { reason, retryable, taken: self.taken, free: self.stranded, detail }
    }

    fn fate(&self) -> Fate {
        Fate {
            sent: self.sent > 0,
            // It can be sent again as long as nothing of it is gone that is not in `out`.
            whole: self.upload.moved == 0,
            unprocessed: self.unprocessed,
            // Who switches to another protocol begins a conversation.
            repeatable: self.request.idempotent && self.request.offered.is_none(),
            answered: !self.response.is_empty(),
            reused: self.reused,
            interim: self.interim,
        }
    }

    /// Whether it waits at a server that is down, where nobody has read it: systemd goes on to listen for a worker
    /// that has died, and one that hangs reads nothing. Another server is up that may have it, too, since this one
    /// may find it later.
    #[cold]
    fn is_stranded(&mut self, stream: &ServerStream) -> bool {
        let upstream = self.request.upstream();
        let (Some(upstream), Some(tried)) = (upstream, self.tried) else { return false };
        let is_sent = self.sent == self.request.out.len() && self.upload.is_finished();
        self.stranded = is_sent
            && retry::may_repeat(Reason::ServerGone, self.fate())
            && upstream.others_up(self.in_flight.server(), tried) > 0
            && stream.is_unread(self.sent);
        self.stranded
    }

    /// Whether a worker has taken it all: the connection was not just old, and its successor is not to
    /// get it, too. An HTTP/2 connection may end for whatever reason.
    fn may_have_killed(&self) -> bool {
        let server = self.in_flight.server();
        self.taken > 0 && server.worker.is_some() && server.protocol != ServerProtocol::H2c
    }
}
