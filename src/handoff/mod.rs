//! Hand-off mode: accepted connections go to an app's workers themselves, not what is said on them.
//!
//! One [`Handing`] per app lives on the accepting thread. It keeps each connection until a worker
//! says that its app has taken it; a worker that refuses or dies before that gives it back, and it
//! goes to the next one. With no worker up, connections wait here for `queue-timeout`.

mod closing;
mod link;
mod waiting;
mod wire;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use self::link::{Link, Returns};
use self::waiting::{Open, Waiting};
pub(crate) use self::wire::{Record, WINDOW, receive_connections};
use crate::balance::Server;
use crate::config::settings::{Address, RouteTarget};
use crate::front::Front;
use crate::front::counters::Counters;

/// The connections of one app.
#[derive(Debug)]
struct Handoff {
    app: String,
    front: Arc<Front>,
    counters: Arc<Counters>,
    stopped: Cell<bool>,
    links: RefCell<Vec<Rc<Link>>>,
    queue: RefCell<VecDeque<Waiting>>,
    next: Cell<usize>,
    /// There is something to offer, or somebody to offer it to.
    wake: Notify,
}

/// The accepting side of a [`Handoff`]. What waits is still handed over when this is dropped.
#[derive(Debug)]
pub(crate) struct Handing(Rc<Handoff>);

impl Handing {
    /// Begins to look for the workers of `app`.
    pub(crate) fn start(front: &Arc<Front>, counters: &Arc<Counters>, app: &str) -> Self {
        let handoff = Rc::new(Handoff {
            app: app.to_owned(),
            front: Arc::clone(front),
            counters: Arc::clone(counters),
            stopped: Cell::new(false),
            links: RefCell::default(),
            queue: RefCell::default(),
            next: Cell::new(0),
            wake: Notify::new(),
        });
        handoff.look();
        tokio::task::spawn_local(Rc::clone(&handoff).run());
        Self(handoff)
    }

    pub(crate) fn app(&self) -> &str {
        &self.0.app
    }

    /// How many more connections may wait.
    pub(crate) fn room(&self) -> usize {
        // They pass through the queue, even where none may wait in it.
        self.0.limits().0.max(WINDOW).saturating_sub(self.0.queue.borrow().len())
    }

    /// Takes an accepted connection.
    pub(crate) fn take(&self, socket: OwnedFd) {
        let open = Open::count(&self.0.counters);
        let waiting = Waiting::new(socket, open);
        self.0.queue.borrow_mut().push_back(waiting);
        self.0.wake.notify_one();
    }
}

impl Drop for Handing {
    fn drop(&mut self) {
        self.0.stopped.set(true);
        self.0.wake.notify_one();
    }
}

impl Handoff {
    async fn run(self: Rc<Self>) {
        let mut changes = self.front.changes();
        loop {
            let next = self.offer();
            if self.stopped.get() && self.is_done() {
                return;
            }
            tokio::select! {
                () = self.wake.notified() => {}
                // A worker drains, or comes back; or there are more of them, or fewer.
                changed = changes.changed() => match changed {
                    Ok(()) => self.look(),
                    Err(_) => return,
                },
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
        }
    }

    /// Whether every connection is with its worker, or closed.
    fn is_done(&self) -> bool {
        let links = self.links.borrow();
        self.queue.borrow().is_empty() && links.iter().all(|link| link.is_idle())
    }

    /// `queue` and `queue-timeout` of the app.
    fn limits(&self) -> (usize, Duration) {
        let snapshot = self.front.snapshot();
        let app = snapshot.settings.apps.get(&self.app);
        app.map_or((0, Duration::ZERO), |app| (app.balancing.queue, app.balancing.queue_timeout))
    }

    /// Whether all workers were stopped or given up.
    fn is_deserted(&self) -> bool {
        let links = self.links.borrow();
        !links.is_empty() && links.iter().all(|link| link.server.is_absent())
    }

    /// Makes the links those of the app's present workers.
    fn look(self: &Rc<Self>) {
        let snapshot = self.front.snapshot();
        let name = RouteTarget::App(self.app.clone()).to_string();
        let servers = snapshot.upstreams.get(&name).map_or(&[][..], |upstream| &upstream.servers);
        let mut links = self.links.borrow_mut();
        links.retain(|link| {
            let stays = servers.iter().any(|server| Arc::ptr_eq(server, &link.server));
            if !stays {
                link.close();
            }
            stays
        });
        let app = snapshot.settings.apps.get(&self.app);
        // One that was started in another mode listens for requests, not for connections.
        let takes = |(number, server): &(u16, &Arc<Server>)| {
            app.is_some_and(|app| app.is_of_use_at(*number, &server.address))
        };
        for (_, server) in (1..).zip(servers).filter(takes) {
            if let Address::Unix(path) = &server.address
                && !links.iter().any(|link| Arc::ptr_eq(&link.server, server))
            {
                let link = Link::new(Arc::clone(server), self.front.control_socket(path));
                tokio::task::spawn_local(Rc::clone(&link).run(Rc::downgrade(self)));
                links.push(link);
            }
        }
    }

    /// Gives what waits to those who may have it, in turn; returns when to look again.
    fn offer(&self) -> Option<Instant> {
        let patience = if self.is_deserted() { Duration::ZERO } else { self.limits().1 };
        let (now, mut late, mut again) = (Instant::now(), 0, None::<Instant>);
        let links = self.links.borrow();
        let mut kept = VecDeque::new();
        let mut queue = self.queue.borrow_mut();
        while let Some(waiting) = queue.pop_front() {
            let end = waiting.accepted + patience;
            if now >= end {
                late += 1; // and closed
                continue;
            }
            let waiting = match waiting.not_before.filter(|time| *time > now) {
                Some(_) => Some(waiting),
                None => self.to_next(&links, waiting),
            };
            if let Some(waiting) = waiting {
                let time =
                    waiting.not_before.filter(|time| *time > now).map_or(end, |t| t.min(end));
                again = Some(again.map_or(time, |again| again.min(time)));
                kept.push_back(waiting);
            }
        }
        *queue = kept;
        if late > 0 {
            warn!(
                roundsman_app = self.app,
                "{late} connections to {} were closed: no worker took them within queue-timeout, or none is started",
                self.app
            );
        }
        again
    }

    /// Gives it back if nobody may have it.
    fn to_next(&self, links: &[Rc<Link>], waiting: Waiting) -> Option<Waiting> {
        for step in 0..links.len() {
            let index = (self.next.get() + step) % links.len();
            let link = &links[index];
            if !link.has_room() {
                continue;
            }
            let Some(in_flight) = link.server.begin(0) else { continue };
            link.give(waiting, in_flight);
            self.next.set(index + 1);
            return None;
        }
        Some(waiting)
    }
}

impl Returns for Handoff {
    /// A worker's app did not want it.
    fn refused(&self, mut waiting: Waiting) {
        if crate::sys::was_read_from(&waiting.socket) {
            return self.lost(vec![waiting]); // it has, after all, and left
        }
        waiting.put_off();
        self.queue.borrow_mut().push_front(waiting);
        self.wake.notify_one();
    }

    /// A worker has died with these.
    fn lost(&self, connections: Vec<Waiting>) {
        let mut cut = 0;
        let mut queue = self.queue.borrow_mut();
        for waiting in connections.into_iter().rev() {
            // Its app has begun to read: another one could make nothing of the rest.
            if crate::sys::was_read_from(&waiting.socket) {
                cut += 1;
            } else {
                queue.push_front(waiting);
            }
        }
        if cut > 0 {
            warn!(
                roundsman_app = self.app,
                "{cut} connections ended with a worker of {}", self.app
            );
        }
        self.wake.notify_one();
    }

    fn look_again(&self) {
        self.wake.notify_one();
    }
}

impl Drop for Handoff {
    fn drop(&mut self) {
        self.links.borrow().iter().for_each(|link| link.close());
    }
}
