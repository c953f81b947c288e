//! One request: to a server, to another one if that fails early enough, and the answer back.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;

use super::attempt::{Attempt, FailedAttempt};
use super::connection::{After, Connection};
use super::incoming::{Request, random};
use super::local::About;
use super::relay::Relay;
use super::request::Framing;
use crate::balance::{InFlight, PickInput, Picked, ServerFailure, Upstream};
use crate::front::Reason;
use crate::front::counters::Counter;
use crate::io::ByteStream;

/// How long a request waits for news when every server refused its connection: a crashed worker is
/// known to be down within milliseconds, and then the request waits in the queue.
const NEWS: Duration = Duration::from_millis(100);

/// Counts a waiting request for as long as it waits.
struct Waiting<'a> {
    upstream: &'a Upstream,
    counter: &'a Counter,
}

impl<C: ByteStream> Connection<C> {
    /// Serves one request.
    ///
    /// What few requests come to is in boxes: this is allocated for each of them, and the less it
    /// has room for, the faster that is.
    pub(crate) async fn exchange(&mut self, request: &mut Request) -> After {
        if request.upstream().is_none() {
            let empty = request.snapshot.upstreams.is_empty();
            let reason = if empty { Reason::NothingConfigured } else { Reason::NoRoute };
            return Box::pin(self.answer(request, reason, &About::default())).await;
        }
        if let Some(location) = request.redirect.take() {
            return self.redirect(request, &location).await;
        }
        let snapshot = Rc::clone(&request.snapshot);
        let settings = &snapshot.settings;
        let (limits, retries) = (&settings.front.limits, &settings.front.retries);
        self.deadline.set_total(settings.front.timeouts.request);
        self.local.budget.borrow_mut().request(retries.budget_percent);

        let chunked = request.framing == Framing::Chunked;
        let mut upload = Relay::new(request.framing, chunked, limits.body, limits.header_bytes);
        // What came with the head goes out with the head; and if it is no body, nothing goes out.
        if let Err(error) = upload.append_to(&mut self.input, &mut request.out) {
            request.keeps_alive = false;
            let reason = error.of_client();
            return Box::pin(self.answer(request, reason, &About::default())).await;
        }

        let mut tried: Vec<u32> = Vec::new();
        let mut left = retries.attempts;
        loop {
            let in_flight = match self.try_pick(request, &tried) {
                Some(in_flight) => Ok(in_flight),
                None => Box::pin(self.wait_and_pick(request, &mut tried)).await,
            };
            let in_flight = match in_flight {
                Ok(in_flight) => in_flight,
                Err(reason) => {
                    let about = About::default();
                    return Box::pin(self.give_up(request, &upload, reason, &about)).await;
                }
            };
            let mut attempt = Attempt::new(self, request, &mut upload, in_flight);
            let failed = match attempt.run().await {
                Ok(after) => {
                    self.local.counters.body_in.add(upload.payload);
                    if !upload.rest().is_empty() {
                        self.input.put(upload.rest());
                    }
                    return after;
                }
                Err(failed) => failed,
            };
            let in_flight = attempt.into_in_flight();
            blame(&in_flight, &failed);
            let may = failed.retryable && left > 0 && !self.deadline.total_passed();
            if may && self.local.budget.borrow_mut().take(self.local.deadlines.now()) {
                debug!(
                    roundsman_worker = in_flight.server().name,
                    roundsman_reason = failed.reason.name(),
                    "trying another server: {}",
                    failed.detail
                );
                left -= 1;
                self.local.counters.retries.add(1);
                tried.push(in_flight.server().id);
                continue;
            }
            let about = About {
                server: &in_flight.server().name,
                detail: &failed.detail,
                ..About::default()
            };
            return Box::pin(self.give_up(request, &upload, failed.reason, &about)).await;
        }
    }

    /// Answers that no server did.
    async fn give_up(
        &mut self,
        request: &mut Request,
        upload: &Relay,
        reason: Reason,
        about: &About<'_>,
    ) -> After {
        if upload.is_finished() {
            request.framing = Framing::Length(0); // nothing is left to be read
            if !upload.rest().is_empty() {
                self.input.put(upload.rest());
            }
        } else if upload.moved > 0 || !reason.is_servers() {
            // How much is left is no longer known, or not worth waiting for.
            request.keeps_alive = false;
        }
        // Whatever it was waiting for: it is the request as a whole that is over time.
        let reason = match reason {
            Reason::ConnectFailed | Reason::NoServer if self.deadline.total_passed() => {
                Reason::TotalTimeout
            }
            reason => reason,
        };
        let upstream = request.upstream().map(|u| u.name.clone()).unwrap_or_default();
        self.answer(request, reason, &About { upstream: &upstream, ..*about }).await
    }

    /// Picks a server that was not tried, if one is up.
    fn try_pick(&self, request: &Request, tried: &[u32]) -> Option<InFlight> {
        self.try_pick_of(request.upstream()?, request, tried)
    }

    fn try_pick_of(
        &self,
        upstream: &Upstream,
        request: &Request,
        tried: &[u32],
    ) -> Option<InFlight> {
        let local = &self.local;
        let input = PickInput {
            thread: local.index,
            tried,
            client: request.client,
            request: &request.keys(),
            // Looking at the clock costs more than picking does.
            now: if upstream.needs_time() { Instant::now() } else { local.deadlines.last_tick() },
            random: random(),
        };
        match upstream.pick_for(&input) {
            Picked::Server(in_flight) => Some(in_flight),
            Picked::NoneUp => None,
        }
    }

    /// Waits until a server is up, and picks it.
    async fn wait_and_pick(
        &self,
        request: &Request,
        tried: &mut Vec<u32>,
    ) -> Result<InFlight, Reason> {
        let upstream = request.upstream().ok_or(Reason::NoRoute)?;
        let changes = self.local.front.changes();
        if !tried.is_empty() {
            // All that are up have failed. Soon it is known which of them are really up.
            let mut changes = changes.clone();
            let _ = tokio::time::timeout(NEWS, changes.changed()).await;
            tried.clear();
        }
        self.wait_for_server(request, upstream, changes).await
    }

    async fn wait_for_server(
        &self,
        request: &Request,
        upstream: &Upstream,
        mut changes: tokio::sync::watch::Receiver<u64>,
    ) -> Result<InFlight, Reason> {
        let waiting = Waiting::enter(upstream, &self.local.counters.waiting);
        let waiting = waiting.ok_or(Reason::QueueFull)?;
        let queue = upstream.balancing.queue_timeout;
        let total = request.snapshot.settings.front.timeouts.request;
        let until = Instant::now() + total.map_or(queue, |total| total.min(queue));
        loop {
            // A reload may have brought new servers.
            let snapshot = self.local.snapshot();
            let current = snapshot.upstreams.get(&upstream.name).ok_or(Reason::NoServer)?;
            let freed = current.freed().notified();
            if let Some(in_flight) = self.try_pick_of(current, request, &[]) {
                drop(waiting);
                return Ok(in_flight);
            }
            tokio::select! {
                changed = changes.changed() => changed.map_err(|_| Reason::NoServer)?,
                () = freed => {}
                () = tokio::time::sleep_until(until) => return Err(Reason::NoServer),
            }
        }
    }
}

/// Counts a failure against the server, if it is its own.
fn blame(in_flight: &InFlight, failed: &FailedAttempt) {
    match failed.reason {
        Reason::ConnectFailed => in_flight.failed_by(ServerFailure::Connect),
        Reason::ResponseTimeout => in_flight.failed_by(ServerFailure::Timeout),
        Reason::ServerGone | Reason::BadResponse | Reason::ResponseHeadTooLarge => {
            in_flight.failed_by(ServerFailure::InvalidResponse);
        }
        _ => {}
    }
}

impl<'a> Waiting<'a> {
    /// `None` when as many wait as may.
    fn enter(upstream: &'a Upstream, counter: &'a Counter) -> Option<Self> {
        use std::sync::atomic::Ordering;
        let before = upstream.waiting.fetch_add(1, Ordering::Relaxed);
        counter.add(1);
        let waiting = Self { upstream, counter };
        (before < upstream.balancing.queue).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.upstream.waiting.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        self.counter.sub(1);
    }
}
