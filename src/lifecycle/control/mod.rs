//! What can be done to a running front: look at it, reload it, drain a worker.
//!
//! It lives on the control thread, next to the admin API and the bus; what the request threads
//! need to know of it reaches them through [`Front`].

mod drain;
mod newcomer;
mod unheard;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::earlier::Earlier;
use super::held::Held;
use super::last_good::LastGood;
use super::state::Kept;
use super::worker_units::WorkerUnits;
use crate::admin::model;
use crate::balance::{Server, State};
use crate::base::unit::Instance;
use crate::config::settings::{self, ListenProtocol};
use crate::config::{self, Loaded, Sources, fingerprint};
use crate::front::Front;
use crate::systemd::dbus::UnitState;
use crate::systemd::dbus::workers::WorkerEvent;
use crate::systemd::{message, notify};
use crate::thread::Threads;
use crate::tls::Tls;

/// Why a reload changed nothing.
#[derive(Debug)]
pub(crate) enum NotReloaded {
    /// The files have errors, which these are.
    Errors(String),
    /// This process had none left of something that it takes to read them.
    Want(String),
}

/// A running front and the handles to change it.
#[derive(Debug)]
pub(crate) struct Control {
    front: Arc<Front>,
    threads: Threads,
    sources: Sources,
    last_good: Option<LastGood>,
    uses_last_good: Cell<bool>,
    /// Whether certificates could not be used when the front started.
    lacks_certificates: Cell<bool>,
    listeners: Vec<model::Listener>,
    started: Instant,
    /// What systemd says of each worker; `None` until the bus has said it once.
    units: RefCell<Option<WorkerUnits>>,
    bus: Cell<bool>,
    /// Whether the bus was ever out of reach, so that it is said once.
    bus_missed: Cell<bool>,
    /// Workers that an administrator drained and has not undrained.
    held: Held,
    earlier: Earlier,
    /// Whether the last reload was refused.
    refused: Cell<bool>,
    /// A number for the files at work, where they are not the last good ones.
    configuration: RefCell<Option<String>>,
    /// Since when workers drain: a unit that stops after a deploy has drained it waits no more.
    draining: RefCell<HashMap<String, Instant>>,
    /// Apps whose files were refused when a worker of theirs got ready, and when.
    newcomers: RefCell<HashMap<String, Instant>>,
    /// Since when units stop, in milliseconds since the machine was booted, until somebody says what has
    /// become of them.
    stopping: RefCell<HashMap<String, u64>>,
    /// Told when there may be something to look at that the bus does not say.
    unheard: Notify,
}

// === impl Control ===

impl Control {
    /// Control over this front.
    pub(crate) fn new(
        front: Arc<Front>,
        threads: Threads,
        sources: Sources,
        kept: Kept,
        uses_last_good: bool,
        lacks_certificates: bool,
        listeners: Vec<model::Listener>,
    ) -> Self {
        let Kept { last_good, held, earlier } = kept;
        Self {
            front,
            threads,
            sources,
            last_good,
            uses_last_good: Cell::new(uses_last_good),
            lacks_certificates: Cell::new(lacks_certificates),
            listeners,
            started: Instant::now(),
            units: RefCell::new(None),
            bus: Cell::new(false),
            bus_missed: Cell::new(false),
            held,
            earlier,
            refused: Cell::new(false),
            configuration: RefCell::default(),
            draining: RefCell::default(),
            newcomers: RefCell::default(),
            stopping: RefCell::default(),
            unheard: Notify::new(),
        }
    }

    /// The threads.
    pub(crate) fn threads(&self) -> &Threads {
        &self.threads
    }

    /// Those that were the front before.
    pub(crate) fn earlier(&self) -> &Earlier {
        &self.earlier
    }

    /// The shared front.
    pub(crate) fn front(&self) -> &Front {
        &self.front
    }

    /// The same, for a task of its own.
    pub(crate) fn shared(&self) -> Arc<Front> {
        Arc::clone(&self.front)
    }

    /// Takes in what the bus said.
    pub(crate) fn on_bus(&self, event: WorkerEvent) {
        match event {
            WorkerEvent::All(units) => {
                self.bus.set(true);
                let snapshot = self.front.snapshot();
                let is_configured = |worker: &str| snapshot.server(worker).is_some();
                let ready = |(_, unit): &(&String, &UnitState)| **unit == UnitState::Active;
                let ready: Vec<String> =
                    units.iter().filter(ready).map(|(worker, _)| worker.clone()).collect();
                let mut units = WorkerUnits::of(units, is_configured);
                if let Some(before) = &*self.units.borrow() {
                    units = units.after(before);
                }
                self.stopping.borrow_mut().retain(|worker, _| units.is_stuck(worker));
                *self.units.borrow_mut() = Some(units);
                self.apply_all();
                for worker in ready {
                    self.take_in(&worker, UnitState::Active);
                }
            }
            WorkerEvent::Changed(worker, unit) => {
                if unit == UnitState::Active {
                    self.front.find_workers(Some(&worker)); // it may have been started elsewhere
                }
                let snapshot = self.front.snapshot();
                let server = snapshot.server(&worker);
                if let Some(units) = &mut *self.units.borrow_mut() {
                    units.set(worker.clone(), unit, server.is_some());
                }
                if unit != UnitState::Deactivating && !self.is_stuck(&worker) {
                    self.stopping.borrow_mut().remove(&worker);
                }
                match server {
                    Some(server) => self.apply(server),
                    None => self.take_in(&worker, unit),
                }
            }
            WorkerEvent::Answers(worker, answers) => {
                let mut units = self.units.borrow_mut();
                if !units.as_mut().is_some_and(|units| units.answers(&worker, answers)) {
                    return;
                }
                drop(units);
                if let Some(server) = self.front.snapshot().server(&worker) {
                    if answers {
                        self.stopping.borrow_mut().remove(&worker);
                    } else {
                        self.note_stop(&worker); // systemd ends it, unless it answers
                        tracing::warn!(
                            message_id = message::SERVER_DOWN,
                            roundsman_worker = worker,
                            "{worker} does not answer, and gets no requests until it does"
                        );
                    }
                    self.apply(server);
                }
            }
            WorkerEvent::Lost(error) => {
                // Without a first answer every worker counts as up, which is what a machine
                // without systemd wants; after one, the last states stay, until a worker notes another.
                self.unheard.notify_one();
                if self.bus.replace(false) || !self.bus_missed.replace(true) {
                    tracing::warn!(
                        message_id = message::BUS_LOST,
                        "cannot follow the workers' units over D-Bus, their states may be old: \
                         {error}"
                    );
                }
            }
        }
    }

    fn is_stuck(&self, worker: &str) -> bool {
        self.units.borrow().as_ref().is_some_and(|units| units.is_stuck(worker))
    }

    /// Gives every worker its state, before the first request may go to one that is held.
    pub(crate) fn apply_all(&self) {
        self.front.find_workers(None);
        for (_, server) in self.front.snapshot().servers() {
            self.apply(server);
        }
    }

    /// Gives a worker the state that systemd and the administrator want it to have.
    fn apply(&self, server: &Server) {
        let snapshot = self.front.snapshot();
        let Ok(Instance { app, number }) = server.name.parse() else { return };
        let Some(settings) = snapshot.settings.apps.get(&app) else {
            return; // something else runs it
        };
        if let Some(units) = &*self.units.borrow()
            && !matches!(units.get(&server.name), UnitState::Inactive | UnitState::Failed)
        {
            server.set_absent(false); // it comes, runs, or may come back
        }
        let state = if self.held.contains(&server.name) {
            State::Draining
        } else if !settings.is_of_use_at(number, &server.address) {
            State::Down // until it is started anew, in the mode that its file has now
        } else {
            match &*self.units.borrow() {
                None if self.stopping.borrow().contains_key(&server.name) => State::Draining,
                None => State::Up,
                Some(units) => match units.get(&server.name) {
                    UnitState::Active if units.is_stuck(&server.name) => State::Down,
                    UnitState::Active => State::Up,
                    UnitState::Deactivating => State::Draining,
                    UnitState::Activating | UnitState::Inactive | UnitState::Failed => State::Down,
                },
            }
        };
        self.set(server, &app, state);
    }

    fn set(&self, server: &Server, app: &str, state: State) {
        if state == State::Up {
            self.draining.borrow_mut().remove(&server.name);
        }
        if !self.front.set_state(server, state) {
            return;
        }
        if state != State::Up {
            self.threads.forget_idle(server.id);
        }
        if state == State::Down {
            self.threads.look_again(); // what nobody has read there goes to others
        }
        let told = match state {
            State::Up => None, // the health monitor says when and how it gets its share again
            State::Draining => Some((message::SERVER_DRAINING, "gets no new requests")),
            State::Down => Some((message::SERVER_DOWN, "gets no requests")),
        };
        if let Some((message_id, text)) = told {
            tracing::info!(
                message_id,
                roundsman_app = app,
                roundsman_worker = server.name,
                "{} {text}",
                server.name
            );
        }
        self.tell_status();
    }

    /// One line for `systemctl status`.
    pub(crate) fn status_line(&self) -> String {
        let snapshot = self.front.snapshot();
        let apps = snapshot.settings.apps.len();
        let (mut up, mut all) = (0, 0);
        for (_, server) in snapshot.servers() {
            all += 1;
            up += usize::from(server.state() == State::Up);
        }
        let upstreams = snapshot.settings.upstreams.len();
        let (what, servers) = match (apps, upstreams) {
            (_, 0) => (count(apps, "app"), "workers"),
            (0, _) => (count(upstreams, "upstream"), "servers"),
            _ => {
                (format!("{} and {}", count(apps, "app"), count(upstreams, "upstream")), "servers")
            }
        };
        let warning = if self.uses_last_good.get() {
            "; THE CONFIGURATION HAS ERRORS, the last good one is used: run roundsman check"
        } else if self.refused.get() {
            "; THE LAST RELOAD WAS REFUSED, the configuration has errors: run roundsman check"
        } else if self.lacks_certificates.get() {
            "; CERTIFICATES CANNOT BE USED: journalctl -u roundsman says why"
        } else {
            ""
        };
        if snapshot.upstreams.is_empty() {
            return format!("serving no app yet{warning}");
        }
        format!("serving {what}, {up} of {all} {servers} up{warning}")
    }

    /// Sends the line.
    pub(crate) fn tell_status(&self) {
        notify::status(&self.status_line());
    }

    /// `GET /v1/status`.
    pub(crate) fn status(&self) -> model::Status {
        let snapshot = self.front.snapshot();
        model::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_seconds: self.started.elapsed().as_secs(),
            last_good: self.uses_last_good.get(),
            configuration: self.configuration.borrow().clone(),
            bus: self.bus.get(),
            threads: self
                .threads
                .stats()
                .into_iter()
                .map(|thread| model::Thread {
                    core: thread.core,
                    accepted: thread.accepted,
                    open: thread.open,
                    requests: thread.requests,
                })
                .collect(),
            listeners: self.listeners.clone(),
            upstreams: snapshot
                .upstreams
                .values()
                .map(|upstream| model::Upstream {
                    name: upstream.name.clone(),
                    waiting: upstream.waiting.load(std::sync::atomic::Ordering::Relaxed) as u64,
                    servers: upstream.servers.iter().map(|server| describe(server)).collect(),
                })
                .collect(),
        }
    }

    /// Puts the present files to work, or says what is wrong with them and changes nothing. For a change
    /// of `app`, files that have errors and are not that app's stay as they are at work.
    pub(crate) fn reload(&self, app: Option<&str>) -> Result<(), NotReloaded> {
        notify::reloading();
        let mut loaded = config::load(&self.sources);
        let mut left = None;
        if let (Some(app), Some(last_good), 1..) = (app, &self.last_good, loaded.problems.errors())
        {
            let without = config::load(&last_good.instead_of_broken(&self.sources, &loaded, app));
            if without.problems.errors() == 0 {
                left = Some(std::mem::replace(&mut loaded, without).problems.render(false));
            }
        }
        let Loaded { settings, mut problems, files, .. } = loaded;
        // A certificate that cannot be used is an error like any other: the old one stays.
        let (tls, of_tls) = Tls::load(&settings.front, Some(&self.front.snapshot().tls));
        problems.extend(of_tls);
        let tls = tls.with_port(https_port(&settings.front, &self.listeners));
        let result = if let Some(want) = problems.want() {
            tracing::error!("the files were not read, what is at work stays so: {want}");
            Err(NotReloaded::Want(want))
        } else if problems.errors() > 0 {
            let errors = problems.render(false);
            tracing::error!(
                message_id = message::RELOAD_REFUSED,
                "the configuration has errors, the old one stays at work:\n{errors}"
            );
            self.refused.set(true);
            Err(NotReloaded::Errors(errors))
        } else {
            self.front.replace_with(settings, tls);
            self.uses_last_good.set(false);
            self.refused.set(left.is_some());
            self.lacks_certificates.set(false);
            let snapshot = self.front.snapshot();
            self.held.keep_only(|worker| snapshot.server(worker).is_some());
            if let Some(errors) = left {
                tracing::error!(
                    message_id = message::RELOAD_REFUSED,
                    "files with errors stay as they were, all others are put to work:\n{errors}"
                );
            }
            if !problems.is_empty() {
                tracing::warn!("the configuration has warnings:\n{}", problems.render(false));
            }
            self.look_at_listeners();
            self.keep(&files);
            self.apply_all();
            tracing::info!(message_id = message::RELOADED, "reloaded: {}", self.status_line());
            Ok(())
        };
        // Also after a failure: systemd waits for it.
        notify::ready(&self.status_line());
        result
    }

    /// Says which listeners can do nothing.
    pub(crate) fn look_at_listeners(&self) {
        let snapshot = self.front.snapshot();
        for listener in &self.listeners {
            let settings = snapshot.settings.front.listener(&listener.name);
            if settings.protocol == ListenProtocol::Https && !snapshot.tls.serves(&listener.name) {
                tracing::error!(
                    "listener {} has no certificate and closes every connection: write \
                     certificates below [listen.{}] in /etc/roundsman/roundsman.toml and run \
                     systemctl reload roundsman",
                    listener.name,
                    listener.name
                );
            }
        }
    }

    /// Keeps a copy of the files at work, and in mind which they are.
    pub(crate) fn keep(&self, files: &[(PathBuf, Vec<u8>)]) {
        *self.configuration.borrow_mut() = Some(fingerprint::of_files(files));
        let Some(last_good) = &self.last_good else { return };
        if let Err(error) = last_good.save(files) {
            tracing::warn!(%error, "cannot keep a copy of the configuration for the next start");
        }
    }
}

/// The port of the listeners that speak TLS; the usual one if several do and one has it.
pub(crate) fn https_port(front: &settings::Front, listeners: &[model::Listener]) -> Option<u16> {
    let speaks = |l: &&model::Listener| front.listener(&l.name).protocol == ListenProtocol::Https;
    let port = |l: &model::Listener| l.address.parse::<SocketAddr>().ok().map(|a| a.port());
    let ports = || listeners.iter().filter(speaks).filter_map(port);
    ports().find(|port| *port == 443).or(ports().next())
}

fn describe(server: &Server) -> model::Server {
    // The monitor publishes a moment later what systemd and the administrator say.
    let state = match server.state() {
        State::Up => server.health().status.as_str(),
        State::Draining => "draining",
        State::Down => "down",
    };
    let mut transitions = BTreeMap::<String, BTreeMap<String, u64>>::new();
    for (status, reason, count) in server.transitions() {
        let by_reason = transitions.entry(status.to_string()).or_default();
        by_reason.insert(reason.to_string(), count);
    }
    model::Server {
        name: server.name.clone(),
        address: server.address.to_string(),
        state: state.to_owned(),
        in_flight: server.in_flight(),
        requests: server.requests(),
        failures: server.failures(),
        transitions,
    }
}

fn count(n: usize, word: &str) -> String {
    if n == 1 { format!("1 {word}") } else { format!("{n} {word}s") }
}
