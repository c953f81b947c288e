//! The body of the response on its way to the client, or whatever both sides speak instead of HTTP.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::super::connection::After;
use super::super::frames::Frames;
use super::super::local::About;
use super::super::pool::{self, Usable};
use super::super::reading::Reading;
use super::super::relay::{Relay, Waits};
use super::super::request::Framing;
use super::super::rewrite::Connection as Persistence;
use super::super::server::ServerStream;
use super::super::tunnel;
use super::head::Ready;
use super::{Attempt, FailedAttempt};
use crate::balance::ServerFailure;
use crate::front::Reason;
use crate::io::ByteStream;
use crate::io::write::write_all;

impl<C: ByteStream> Attempt<'_, C> {
    /// Relays the final response, with whatever is left of the request going the other way.
    pub(super) async fn relay(
        &mut self,
        stream: &mut ServerStream,
        ready: &Ready,
    ) -> Result<(After, Option<Usable>), FailedAttempt> {
        let most = self.request.snapshot.settings.front.limits.header_bytes;
        let mut download = Relay::new(ready.framing, ready.chunked, None, most);
        if ready.persistence == Persistence::Close {
            download.end_with_it();
        }
        if let Some((buffer, mut filled)) = self.response.take() {
            filled.start += ready.len;
            if let Err(error) = download.start((buffer, filled), &ready.head) {
                return Err(self.failed(Reason::BadResponse, &error.describe()));
            }
        }
        let Ready { status, persistence, mut reusable, idle, is_events, .. } = *ready;
        self.status = status;
        self.in_flight.responded_now(status);
        let local = Rc::clone(&self.connection.local);
        local.counters.statuses[usize::from(status / 100).min(5)].add(1);

        self.watches |= is_events; // they may say nothing for hours
        if is_events {
            self.connection.deadline.place().end_itself();
        }
        let mut waits_for = None;
        let mut reading = Reading::default();
        let result = poll_fn(|cx| {
            let mut done = download.poll(cx, stream, &mut self.connection.stream);
            let ends = is_events && done.is_pending() && download.waits() == Waits::Source;
            let gives_up = self.connection.deadline.place().is_given_up();
            if ends && (gives_up || self.in_flight.server().is_over()) {
                reusable = false;
                download.finish();
                done = download.poll(cx, stream, &mut self.connection.stream);
            }
            if let Poll::Ready(result) = done {
                return Poll::Ready(result.map_err(|e| (e.of_server(), e.describe())));
            }
            if !self.upload.is_finished() && self.poll_send(cx, stream).is_err() {
                self.refused = true;
            }
            if download.waits() == Waits::Source && self.poll_client(cx).is_ready() {
                let gone = (Reason::ClientGone, "while the response was awaited".to_owned());
                return Poll::Ready(Err(gone));
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
                    Err(reason) => {
                        if waits.0 == Waits::Source {
                            self.connection.stream.server_failed();
                        }
                        return Poll::Ready(Err((reason, String::new())));
                    }
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
        self.in_flight.served();
        let sent = self.upload.is_finished() && !self.refused;
        let alone = download.rest().is_empty();
        if !alone && reusable {
            pool::distrust(self.in_flight.server(), Instant::now());
        }
        // A body that comes to HEAD all the same may take as long as it likes.
        let usable = reusable && sent && alone && !self.request.is_head && status != 408;
        let bodiless = ready.framing == Framing::Length(0);
        let keep = usable.then_some(Usable { idle, bodiless });
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
            _ if self.connection.deadline.total_passed() => Err(self.connection.overdue()),
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
            self.connection.stream.server_failed();
            self.in_flight.doubted(ServerFailure::InvalidResponse);
        }
    }

    /// Hands both connections to the other protocol.
    pub(super) async fn switch(&mut self, stream: &mut ServerStream, ready: &Ready) -> After {
        self.response.consume(ready.len);
        self.status = ready.status;
        self.in_flight.responded_now(ready.status);
        self.in_flight.served();
        let front = &self.request.snapshot.settings.front;
        let write = front.timeouts.client_write;
        let connection = &mut *self.connection;
        connection.local.counters.statuses[1].add(1);
        connection.deadline.set_total(None); // a conversation is no request
        let place = connection.deadline.place();
        place.end_itself();
        let client = &mut connection.stream;
        let mut slow = None;
        if write_all(client, &ready.head, &connection.deadline, write).await.is_ok() {
            let early = (&mut connection.input, &mut self.response);
            let upgraded = &connection.local.counters.upgraded;
            upgraded.add(1);
            let server = self.in_flight.server();
            let end = tunnel::End {
                is_over: &|| server.is_over() || place.is_given_up(),
                frames: self.request.is_websocket().then(Frames::default),
            };
            slow = tunnel::run(client, stream, early, &connection.deadline, front, end).await;
            upgraded.sub(1);
        }
        if let Some(reason) = slow {
            self.broke_off(reason, "in a conversation");
        }
        After::Close
    }
}
