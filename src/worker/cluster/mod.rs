//! The shim's side of Node's channel: messages, and for cluster workers the connections.
//!
//! One task owns the channel and the worker's listener. It accepts a connection only when the app
//! can be offered one, so that everything else waits in the socket that systemd holds and survives
//! a crash of this process; a connection that the app does not take is offered again.

mod bind;
mod endpoint;
mod handle;
mod listener;
mod primary;
mod request;

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use self::endpoint::Endpoint;
use self::handle::{Command, Inbox};
pub(crate) use self::handle::{HandedIn, Handle, Undelivered, View};
use self::listener::{Listener, accept};
use self::primary::{Closed, Decision, Primary, Request};
use super::channel::{Channel, Incoming};
use super::clients::Doors;
use super::control::{Hub, Siblings};
use super::identity::{Identity, report};
use super::shared::{Held, Shared};
use crate::handoff::{Record, WINDOW};
use crate::systemd::activation::Socket;

/// How long a connection that the app did not take waits before it is offered again; doubled each
/// time, up to the second one.
const RETRY_MIN: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_millis(500);

/// How long nothing is accepted when this process is out of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Questions that may be open at a time.
const MAX_OFFERED: usize = 16;

/// A server that does not exist: offering it a connection makes the app's event loop answer, and
/// none of the app's code run.
const NO_SERVER: &str = "roundsman-ping";

/// What a channel is for.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) identity: Identity,
    /// Whether the app is a cluster worker; otherwise the channel carries messages only.
    pub(crate) is_cluster: bool,
    /// The worker's own listener, unless its connections are handed in.
    pub(crate) listener: Option<Socket>,
    /// The app's `PORT`.
    pub(crate) port_variable: Option<String>,
    /// Where the user's messages go.
    pub(crate) hub: Hub,
    /// Where broadcasts go.
    pub(crate) siblings: Option<Siblings>,
    /// What the app's workers have in common.
    pub(super) shared: Shared,
}

/// Starts the task that serves `channel` until the app closes it.
pub(crate) fn serve(channel: Channel, options: Options) -> io::Result<Handle> {
    let (commands, receiver) = mpsc::unbounded_channel();
    let is_cluster = options.is_cluster;
    let mut doors = Doors::default();
    match &options.listener {
        Some(Socket::Tcp(tcp)) => drop(doors.ports.insert(tcp.local_addr()?.port())),
        Some(Socket::Unix(unix)) => {
            let path = unix.local_addr()?.as_pathname().map(|path| path.display().to_string());
            doors.paths.extend(path);
        }
        None => {}
    }
    let (view, view_receiver) = watch::channel(View { doors, ..View::default() });
    let listener = options.listener.map(Listener::new).transpose()?;
    let inbox = Arc::new(Inbox {
        queued: channel.queued(),
        dropped: AtomicU64::new(0),
        told: AtomicU64::new(0),
    });
    let task = Task {
        channel,
        primary: Primary::new(options.port_variable),
        listener,
        accepting: false,
        pause_until: None,
        offered: VecDeque::new(),
        held: None,
        handed: VecDeque::new(),
        retry: RETRY_MIN,
        identity: options.identity,
        hub: options.hub,
        siblings: options.siblings,
        shared: options.shared,
        claims: mpsc::unbounded_channel(),
        view,
    };
    tokio::spawn(task.run(receiver));
    Ok(Handle { commands, view: view_receiver, is_cluster, inbox })
}

/// A connection that the app has not answered about.
#[derive(Debug)]
struct Offered {
    sequence: u64,
    purpose: Purpose,
}

#[derive(Debug)]
enum Purpose {
    /// From the listener: must not be lost.
    Traffic(Arc<OwnedFd>),
    Ping(oneshot::Sender<()>),
    Probe(oneshot::Sender<bool>),
    HandedIn(u32, UnboundedSender<Record>),
}

#[derive(Debug)]
struct Task {
    channel: Channel,
    primary: Primary,
    listener: Option<Listener>,
    accepting: bool,
    pause_until: Option<Instant>,
    offered: VecDeque<Offered>,
    /// A connection that the app did not take, to be offered again.
    held: Option<Arc<OwnedFd>>,
    /// Those that were handed in, and that the app has not been offered.
    handed: VecDeque<HandedIn>,
    retry: Duration,
    identity: Identity,
    hub: Hub,
    siblings: Option<Siblings>,
    shared: Shared,
    /// What has become of the servers that need something.
    claims: (mpsc::UnboundedSender<Claimed>, mpsc::UnboundedReceiver<Claimed>),
    view: watch::Sender<View>,
}

/// What has become of a server that needs something.
type Claimed = (Request, Result<Held, Errno>);

// === impl Task ===

impl Task {
    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        loop {
            let pause = self.pause_until;
            let may_accept = self.may_offer() && self.held.is_none() && pause.is_none();
            tokio::select! {
                message = self.channel.next() => match message {
                    Ok(Some(message)) => self.receive(message),
                    Ok(None) => break,
                    Err(error) => {
                        report!(error, self.identity, "cannot read the app's channel: {error}");
                        break;
                    }
                },
                command = commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => break, // nobody wants anything of the app any more
                },
                accepted = accept(self.listener.as_ref()), if may_accept => match accepted {
                    Ok(connection) => self.offer(Arc::new(connection)),
                    Err(error) => {
                        report!(error, self.identity, "cannot accept a connection, trying again: {error}");
                        self.pause(ACCEPT_PAUSE);
                    }
                },
                () = sleep_until(pause.unwrap_or_else(Instant::now)), if pause.is_some() => {
                    self.pause_until = None;
                    self.offer_held();
                }
                Some((request, result)) = self.claims.1.recv() => self.settle(&request, result),
            }
        }
        self.shared.release_all(&self.hub.writer());
        self.view.send_modify(|view| view.gone = true);
        // An app may close its channel and live on for a while, answering what it has taken.
        // Pending questions are dropped, which their askers take for no answer.
        self.accepting = false;
        self.offer_handed();
        for offered in self.offered.drain(..) {
            if let Purpose::HandedIn(number, answer) = offered.purpose {
                let _ = answer.send(Record::Refused(number));
            }
        }
        while let Some(command) = commands.recv().await {
            if let Command::HandIn(connection) = command {
                connection.refuse();
            }
        }
    }

    fn may_offer(&self) -> bool {
        let busy =
            self.offered.iter().any(|offered| matches!(offered.purpose, Purpose::Traffic(_)));
        self.accepting && !busy && self.primary.front().is_some()
    }

    fn pause(&mut self, duration: Duration) {
        self.pause_until = Some(Instant::now() + duration);
    }

    fn offer(&mut self, connection: Arc<OwnedFd>) {
        let Some(key) = self.primary.front().map(str::to_owned) else {
            self.held = Some(connection);
            return;
        };
        self.send_connection(&key, connection.clone(), Purpose::Traffic(connection));
    }

    fn offer_held(&mut self) {
        if self.may_offer()
            && self.pause_until.is_none()
            && let Some(connection) = self.held.take()
        {
            self.offer(connection);
        }
    }

    fn send_connection(&mut self, key: &str, connection: Arc<OwnedFd>, purpose: Purpose) {
        let (sequence, message) = self.primary.connection(key);
        self.channel.send_handle("net.Native", &message, Some(sequence), connection);
        self.offered.push_back(Offered { sequence, purpose });
    }

    /// Offers what was handed in, as much as the app may have; gives it back if it takes none.
    fn offer_handed(&mut self) {
        let key = self.primary.front().filter(|_| self.accepting).map(str::to_owned);
        let takes = key.is_some();
        self.view.send_if_modified(|view| std::mem::replace(&mut view.takes, takes) != takes);
        let Some(key) = key else {
            self.handed.drain(..).for_each(HandedIn::refuse);
            return;
        };
        let is_handed = |purpose: &Purpose| matches!(purpose, Purpose::HandedIn(..));
        let mut open = self.offered.iter().filter(|offered| is_handed(&offered.purpose)).count();
        while open < WINDOW
            && let Some(HandedIn { socket, number, answer }) = self.handed.pop_front()
        {
            // Without the front nobody could be told, but the client still waits.
            self.send_connection(&key, Arc::new(socket), Purpose::HandedIn(number, answer));
            open += 1;
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Accept => {
                self.accepting = true;
                self.offer_held();
                self.offer_handed();
            }
            Command::Disconnect => {
                self.accepting = false;
                self.offer_handed();
                let message = self.primary.disconnect();
                self.channel.send(&message);
            }
            Command::HandIn(connection) => {
                if self.view.borrow().doors.ports.is_empty() {
                    let port = bind::port(&connection.socket);
                    self.view.send_modify(|view| view.doors.ports.extend(port));
                }
                self.handed.push_back(connection);
                self.offer_handed();
            }
            Command::Deliver(lines) => self.channel.send_lines(lines),
            Command::Say(message) => {
                self.accepting = false;
                self.offer_handed();
                self.channel.send(&message);
            }
            // A stuck app is not asked more and more often: dropping the question is no answer.
            Command::Ping(_) | Command::Offer(..) if self.offered.len() >= MAX_OFFERED => {}
            Command::Ping(answer) => {
                let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
                match socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None) {
                    Ok((theirs, _ours)) => {
                        self.send_connection(NO_SERVER, Arc::new(theirs), Purpose::Ping(answer));
                    }
                    Err(error) => {
                        report!(
                            warn,
                            self.identity,
                            "cannot ask the app whether it lives: {error}"
                        );
                    }
                }
            }
            Command::Offer(connection, answer) => {
                // Without the server the app still says no, which is a sign of life.
                let key = self.primary.front().unwrap_or(NO_SERVER).to_owned();
                self.send_connection(&key, Arc::new(connection), Purpose::Probe(answer));
            }
        }
    }

    fn receive(&mut self, message: Incoming) {
        match message {
            Incoming::Cluster(message) => {
                let decision = self.primary.receive(*message);
                self.carry_out(decision);
            }
            Incoming::User(text) => {
                if text == b"\"ready\"" {
                    self.view
                        .send_if_modified(|view| !std::mem::replace(&mut view.said_ready, true));
                }
                self.hub.message(&text);
                self.grant(&text);
            }
            Incoming::TooLong(length) => {
                report!(
                    warn,
                    self.identity,
                    "the app sent a message of {length} bytes, which is too long and was dropped"
                );
            }
            Incoming::Answered { sequence, accepted } => self.answered(sequence, accepted),
            Incoming::HandleLost(sequence) => {
                report!(
                    warn,
                    self.identity,
                    "the app cannot take a connection: has it run out of descriptors?"
                );
                self.answered(sequence, false);
            }
            // The channel has dealt with these.
            Incoming::Handle(_)
            | Incoming::HandleAck
            | Incoming::HandleNack
            | Incoming::Internal => {}
        }
    }

    /// Does what a message asks of us rather than of whoever follows the app.
    fn grant(&mut self, text: &[u8]) {
        let Some(siblings) = self.siblings.as_mut() else { return };
        match request::read(text) {
            None => {}
            Some(request::Request::Broadcast(data)) => siblings.broadcast(data.as_bytes()),
            Some(request::Request::Relay) => siblings.relay(text),
            Some(request::Request::BroadcastNothing) => {
                report!(warn, self.identity, "the app's broadcast has no `data`: nobody gets it");
            }
            Some(request::Request::Unknown(other)) => report!(
                warn,
                self.identity,
                "the app asks for {other:?} in a message, which is nothing that I can do"
            ),
        }
    }

    fn carry_out(&mut self, decision: Decision) {
        match decision {
            Decision::Nothing => {}
            Decision::Online => {
                self.hub.life("online", json!({}));
                self.view.send_modify(|view| view.online = true);
            }
            Decision::Reply(value) | Decision::Leaving(value) => self.channel.send(&value),
            Decision::Refuse(value, endpoint, errno) => self.refuse(&value, &endpoint, errno),
            Decision::Claim(request) => self.claim(request),
            Decision::Listening(endpoint, front) => {
                let text = endpoint.to_string();
                report!(debug, self.identity, "the app listens on {text}");
                self.hub.life("listening", json!({ "address": text, "front": front }));
                self.view.send_modify(|view| {
                    if front {
                        view.front = Some(text);
                    } else {
                        view.doors.ports.extend(endpoint.tcp_port());
                        view.doors
                            .paths
                            .extend(endpoint.file().map(|path| path.display().to_string()));
                        view.others.push(text);
                    }
                });
                self.offer_held();
                self.offer_handed();
            }
            Decision::Closed(Closed { endpoint, front, name }) => {
                self.shared.release(&name, self.hub.writer());
                let text = endpoint.to_string();
                report!(debug, self.identity, "the app closed its server on {text}");
                self.hub.life("closed", json!({ "address": text, "front": front }));
                self.view.send_modify(|view| {
                    if front {
                        view.front = None;
                    } else {
                        view.others.retain(|other| *other != text);
                    }
                });
                self.offer_handed();
            }
            Decision::Answered { sequence, accepted } => self.answered(sequence, accepted),
        }
    }

    /// Gets what a server needs; [`Self::settle`] follows.
    fn claim(&self, request: Request) {
        let (shared, claims) = (self.shared.clone(), self.claims.0.clone());
        tokio::spawn(async move {
            let Request { endpoint, name, data, front, .. } = &request;
            let make = || match front {
                true => Ok(None),
                false => bind::bind_endpoint(endpoint).map(Some),
            };
            let path = endpoint.file().filter(|_| !front);
            let result = shared.claim(name, data.clone(), path, make).await;
            let _ = claims.send((request, result)); // or the app is gone
        });
    }

    fn settle(&mut self, request: &Request, result: Result<Held, Errno>) {
        let endpoint = &request.endpoint;
        match result {
            Ok(Held { socket: Some(socket), data, .. }) => {
                let taken = self.view.borrow().front.clone();
                let taken = taken.map_or_else(String::new, |taken| format!(", here {taken}"));
                report!(
                    info,
                    self.identity,
                    "{endpoint} is a socket of the app's own, which the front does not use: its server is the one \
                     that PORT names, or else the first one that listens{taken}. To choose another one, \
                     write its port or path as PORT in `environment`"
                );
                let reply = self.primary.settled(request, bind::port(&socket), &data);
                let sequence = reply["seq"].as_u64();
                let kind = bind::kind(endpoint);
                self.channel.send_handle(kind, &reply.to_string(), sequence, socket);
            }
            Ok(Held { socket: None, data, .. }) => {
                let reply = self.primary.settled(request, None, &data);
                self.channel.send(&reply);
            }
            Err(errno) => {
                let reply = self.primary.refused(request, errno);
                self.refuse(&reply, endpoint, errno);
            }
        }
    }

    fn refuse(&mut self, reply: &Value, endpoint: &Endpoint, errno: Errno) {
        report!(warn, self.identity, "the app cannot listen on {endpoint}: {errno}");
        self.channel.send(reply);
    }

    fn answered(&mut self, sequence: u64, accepted: bool) {
        let Some(index) = self.offered.iter().position(|offered| offered.sequence == sequence)
        else {
            return;
        };
        match self.offered.remove(index).map(|offered| offered.purpose) {
            Some(Purpose::Traffic(_)) if accepted => {
                self.retry = RETRY_MIN;
                self.offer_held();
            }
            Some(Purpose::Traffic(connection)) => {
                // Its server has just closed, or has all the connections that it wants.
                self.held = Some(connection);
                self.pause(self.retry);
                self.retry = (self.retry * 2).min(RETRY_MAX);
            }
            Some(Purpose::HandedIn(number, answer)) => {
                let record = if accepted { Record::Taken(number) } else { Record::Refused(number) };
                let _ = answer.send(record); // or the front is gone
                self.offer_handed();
            }
            Some(Purpose::Ping(answer)) => drop(answer.send(())),
            Some(Purpose::Probe(answer)) => drop(answer.send(accepted)),
            None => {}
        }
    }
}
