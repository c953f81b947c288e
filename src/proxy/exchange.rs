//! One request: to a server, to another one if that fails early enough, and the answer back.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;

use super::attempt::Attempt;
use super::connection::{After, Connection};
use super::http2;
use super::incoming::{Request, random};
use super::local::About;
use super::poison::Deaths;
use super::relay::Relay;
use super::request::Framing;
use crate::balance::{InFlight, PickInput, Picked, ServerFailure, Suspicion, Upstream};
use crate::config::settings::ServerProtocol;
use crate::front::counters::Counter;
use crate::front::{Fault, Reason};
use crate::io::ByteStream;

/// How long a request waits for news when every server refused its connection: a crashed worker is
/// known to be down within milliseconds, and then the request waits in the queue.
const NEWS: Duration = Duration::from_millis(100);

/// How often it is looked whether a client is still there whose body is yet to be read.
const LOOK: Duration = Duration::from_millis(500);

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
        if request.ends_here {
            return Box::pin(self.answer_as_the_last(request)).await;
        }
        let snapshot = Rc::clone(&request.snapshot);
        let settings = &snapshot.settings;
        let (limits, retries) = (&settings.front.limits, &settings.front.retries);
        self.deadline.set_total(settings.front.timeouts.request);
        if let Some(upstream) = request.upstream() {
            self.place().work_for(upstream.number, self.local.deadlines.now());
        }
        self.local.budget.borrow_mut().request(retries.budget_percent);

        let chunked = request.framing == Framing::Chunked;
        let mut upload = Relay::new(request.framing, chunked, limits.body, limits.header_bytes);
        // What came with the head goes out with the head; and if it is no body, nothing goes out.
        if let Err(error) = upload.append_to(&mut self.input, &mut request.out) {
            request.keeps_alive = false;
            let reason = error.of_client();
            return Box::pin(self.answer(request, reason, &About::default())).await;
        }

        if !can_be_sent(request) {
            let about = About { detail: "HTTP/2 cannot carry it", ..About::default() };
            return Box::pin(self.answer(request, Reason::MalformedTarget, &about)).await;
        }

        let mut tried: Vec<u32> = Vec::new();
        let mut suspicions: Vec<Suspicion> = Vec::new();
        let mut left = retries.attempts;
        let mut deaths = Deaths::default();
        loop {
            if self.is_out_of_time() {
                let (reason, about) = (Reason::ShutdownTimeout, About::default());
                return Box::pin(self.give_up(request, &upload, reason, &about)).await;
            }
            let in_flight = match self.try_pick(request, &tried) {
                Some(in_flight) => Ok(in_flight),
                None => Box::pin(self.wait_and_pick(request, &upload, &mut tried)).await,
            };
            let in_flight = match in_flight {
                Ok(in_flight) => in_flight,
                Err(reason) => {
                    let about = About::default();
                    return Box::pin(self.give_up(request, &upload, reason, &about)).await;
                }
            };
            let may_go_on = (left > 0).then_some(&*tried);
            let mut attempt = Attempt::new(self, request, &mut upload, in_flight, may_go_on);
            let failed = match attempt.run().await {
                Ok(after) => {
                    if attempt.status < 500 {
                        suspicions.into_iter().for_each(Suspicion::confirm);
                    }
                    self.local.counters.body_in.add(upload.payload);
                    if !upload.rest().is_empty() {
                        self.input.put_back(upload.rest());
                    }
                    return after;
                }
                Err(failed) => failed,
            };
            let in_flight = attempt.into_in_flight();
            let server = Arc::clone(in_flight.server());
            let mut may = failed.retryable && left > 0 && !self.deadline.total_passed();
            if may && failed.taken > 0 {
                let of = (&server, &*tried);
                let changes = self.local.front.changes();
                may = Box::pin(deaths.allow_another(failed.taken, request, of, changes)).await;
            }
            if may
                && (failed.free || self.local.budget.borrow_mut().take(self.local.deadlines.now()))
            {
                suspicions.extend(suspect(in_flight, failed.reason));
                debug!(
                    roundsman_worker = server.name,
                    roundsman_reason = failed.reason.name(),
                    "trying another server: {}",
                    failed.detail
                );
                left -= 1;
                self.local.counters.retries.add(1);
                tried.push(server.id);
                continue;
            }
            match failed.reason.fault() {
                // Several servers failed it: it is the request, or all of them.
                Fault::Either if !suspicions.is_empty() => {
                    let _ = suspect(in_flight, failed.reason);
                }
                Fault::Either => in_flight.doubted(failure(failed.reason)),
                _ => drop(suspect(in_flight, failed.reason)),
            }
            let about = About { server: &server.name, detail: &failed.detail, ..About::default() };
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
                self.input.put_back(upload.rest());
            }
        } else if upload.moved > 0 || reason.fault() == Fault::Clients {
            // How much is left is no longer known, or not worth waiting for.
            request.keeps_alive = false;
        }
        // Whatever it was waiting for: it is the request as a whole that is over time.
        let reason = match reason {
            Reason::ConnectFailed | Reason::NoServer if self.deadline.total_passed() => {
                self.overdue()
            }
            reason => reason,
        };
        if reason == Reason::Crowded {
            request.keeps_alive = false; // others wait for its place
        }
        let upstream = request.upstream().map(|u| u.name.clone()).unwrap_or_default();
        self.answer(request, reason, &About { upstream: &upstream, ..*about }).await
    }

    /// Why the time of the request as a whole is over.
    pub(super) fn overdue(&self) -> Reason {
        if self.deadline.place().is_given_up() { Reason::Crowded } else { Reason::TotalTimeout }
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
            Picked::Server(mut in_flight) => {
                in_flight.is_for(request.client);
                Some(in_flight)
            }
            Picked::NoneUp => None,
        }
    }

    /// Waits until a server is up, and picks it.
    async fn wait_and_pick(
        &mut self,
        request: &Request,
        upload: &Relay,
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
        let picked = self.wait_for_server(request, upstream, changes, upload.is_finished()).await?;
        // It may have gone just now, and the place is one that others wait for.
        if self.is_gone() { Err(Reason::ClientGone) } else { Ok(picked) }
    }

    async fn wait_for_server(
        &mut self,
        request: &Request,
        upstream: &Upstream,
        mut changes: tokio::sync::watch::Receiver<u64>,
        all_read: bool,
    ) -> Result<InFlight, Reason> {
        if request.is_left_over {
            return Err(Reason::NoServer); // those who may come up take no requests
        }
        let local = Rc::clone(&self.local);
        let waiting = Waiting::enter(upstream, &local.counters.waiting);
        let waiting = waiting.ok_or(Reason::QueueFull)?;
        let queue = upstream.balancing.queue_timeout;
        let total = request.snapshot.settings.front.timeouts.request;
        let until = Instant::now() + total.map_or(queue, |total| total.min(queue));
        loop {
            // A reload may have brought new servers.
            let snapshot = local.snapshot();
            let current = snapshot.upstreams.get(&upstream.name).ok_or(Reason::NoServer)?;
            let freed = current.freed().notified();
            let over = self.deadline.total_over();
            if self.is_out_of_time() {
                return Err(Reason::ShutdownTimeout);
            }
            if let Some(in_flight) = self.try_pick_of(current, request, &[]) {
                drop(waiting);
                return Ok(in_flight);
            }
            if current.is_deserted() {
                return Err(Reason::NoServer);
            }
            tokio::select! {
                changed = changes.changed() => changed.map_err(|_| Reason::NoServer)?,
                () = freed => {}
                () = tokio::time::sleep_until(until) => return Err(Reason::NoServer),
                () = over => return Err(Reason::NoServer),
                () = self.gone(), if all_read => return Err(Reason::ClientGone),
                // Behind a body that waits to be read its end is not seen by reading.
                () = tokio::time::sleep(LOOK), if !all_read => {
                    if self.is_gone() {
                        return Err(Reason::ClientGone);
                    }
                }
            }
        }
    }
}

/// Whether the request can be written to a server of its upstream. That one cannot is the client's
/// doing, and no server need be troubled to find it out.
fn can_be_sent(request: &Request) -> bool {
    let server = request.upstream().and_then(|upstream| upstream.servers.first());
    server.is_none_or(|server| server.protocol != ServerProtocol::H2c)
        || http2::can_carry(&request.out[..request.head_len])
}

/// Counts a failure against the server, if no request can bring it about. If one can, what another
/// server makes of it will show whose it was.
fn suspect(in_flight: InFlight, reason: Reason) -> Option<Suspicion> {
    match reason.fault() {
        Fault::Servers => in_flight.failed_by(failure(reason)),
        Fault::Either => return Some(in_flight.suspect(failure(reason))),
        Fault::Clients | Fault::Ours | Fault::Nobodys => {}
    }
    None
}

fn failure(reason: Reason) -> ServerFailure {
    match reason {
        Reason::ConnectFailed => ServerFailure::Connect,
        Reason::ResponseTimeout => ServerFailure::Timeout,
        _ => ServerFailure::InvalidResponse,
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
