//! What is awaited before `READY=1`.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::watch;
use tokio::time::sleep;

use super::cluster;
use super::identity::{Identity, report};
use super::idle;
use super::notifier::{AppNotifications, Notifier};
use super::owner::{Owner, Whose};
use super::probe::{self, ProbeFailure, ProbeTarget, Seconds};
use crate::base::want;
use crate::config::settings::{Address, App, Listen, Ready};

/// How often is asked whether the app listens by now: often at first, then more and more seldom.
const ASK_MIN: Duration = Duration::from_millis(5);
const ASK_MAX: Duration = Duration::from_millis(200);

/// How the text about an app that listens elsewhere begins, in the journal and as the unit's status.
pub(crate) const LISTENS_ELSEWHERE: &str = "the app listens on ";

/// What follows the status of an app with several servers, where nothing says which is for the front.
pub(crate) const ALSO_LISTENS: &str = "; not reached by the front: ";

/// How it begins when the app's script has ended and only the channel keeps its process alive.
pub(crate) const HAS_ENDED: &str = "the app's script has ended";

/// How it begins when nothing is known but what is awaited.
pub(crate) const WAITS: &str = "still starting; awaited is ";

/// What is said to those who have not known how such an app is run.
const NO_HTTP: &str = "A queue consumer, a bot or a scheduler, which serves no HTTP, has listen = \"none\" \
                       (an option of start, too)";

/// How long an app that listens elsewhere, or nowhere, is waited for before the journal has it.
const PATIENCE: Duration = Duration::from_secs(3);

/// How often is looked where it listens. Who waits for it is told at once, and knows what follows from it: it may be
/// one of several servers, of which the others are on their way.
const ELSEWHERE: Duration = Duration::from_millis(900);

/// How often is looked whether the app's script has ended, and how often it must look so.
const LOOK: Duration = Duration::from_millis(300);
const PROOFS: u32 = 3;

/// What there is to look at.
#[derive(Debug)]
pub(super) struct Signs<'a> {
    pub(super) app: &'a App,
    pub(super) address: &'a Address,
    pub(super) port_variable: Option<&'a str>,
    pub(super) channel: Option<&'a cluster::Handle>,
    /// With `listen = "fd"`, the listener that the app has too.
    pub(super) listener: Option<&'a OwnedFd>,
    pub(super) notifications: Option<&'a AppNotifications>,
    pub(super) target: &'a ProbeTarget,
    pub(super) owner: &'a Owner,
    pub(super) identity: &'a Identity,
}

impl Signs<'_> {
    /// Returns when the app is ready; `awaited` says meanwhile what for.
    pub(super) async fn ready(&self, awaited: &RefCell<String>) {
        match self.app.listen {
            Listen::Cluster => self.cluster_listens(awaited).await,
            Listen::Port | Listen::Unix => self.connects(awaited).await,
            Listen::Fd | Listen::None => {}
        }
        match (self.app.ready, self.channel, self.notifications) {
            (Ready::Message, Some(channel), _) => {
                awaited.replace("the app's message \"ready\": process.send('ready')".to_owned());
                let mut view = channel.view();
                wait(&mut view, |view| view.said_ready).await;
            }
            (Ready::Notify, _, Some(notifications)) => {
                awaited.replace("READY=1 from the app: sd_notify(3)".to_owned());
                wait(&mut notifications.ready.clone(), |ready| *ready).await;
            }
            (Ready::Running, ..) => {
                awaited.replace(format!("that it stays up for {}", Seconds(self.app.ready_after)));
                sleep(self.app.ready_after).await;
            }
            _ => {}
        }
        if self.app.health.is_some() {
            self.healthy(awaited).await;
        } else if self.app.listen == Listen::Fd && self.app.ready == Ready::Listening {
            self.is_accepted_from(awaited).await;
        }
    }

    async fn cluster_listens(&self, awaited: &RefCell<String>) {
        let Some(channel) = self.channel else { return };
        let mut receiver = channel.view();
        loop {
            let view = receiver.borrow_and_update().clone();
            if view.front.is_some() {
                return;
            }
            awaited.replace(self.not_listening(&view));
            if receiver.changed().await.is_err() {
                std::future::pending::<()>().await; // the app is gone: its exit is reported
            }
        }
    }

    fn not_listening(&self, view: &cluster::View) -> String {
        if !view.online {
            return "the app's first message: is the command a Node program, and not one that \
                    starts another?"
                .to_owned();
        }
        match (self.port_variable, view.others.is_empty()) {
            (Some(port), false) => format!(
                "the app to listen on {port}, which is its PORT; it listens on {}",
                view.others.join(", ")
            ),
            (Some(port), true) => format!("the app to listen on {port}, which is its PORT"),
            (None, false) => format!(
                "the app to listen on a port; it listens on {}: if that is its server, write it as \
                 PORT in `environment`",
                view.others.join(", ")
            ),
            (None, true) => {
                "the app to listen: server.listen(), without `exclusive` and `reusePort`".to_owned()
            }
        }
    }

    async fn connects(&self, awaited: &RefCell<String>) {
        let mut pause = ASK_MIN;
        while let Err(error) = self.connect().await {
            let said = format!("the app to listen on {}: {error}", self.address);
            let is_taken = error.kind() == io::ErrorKind::AddrInUse;
            if is_taken && *awaited.borrow() != said {
                report!(error, self.identity, "not ready: {error}");
            }
            awaited.replace(said);
            sleep(pause).await;
            pause = (pause * 2).min(ASK_MAX);
        }
        if let (Listen::Unix, Address::Unix(path)) = (self.app.listen, self.address) {
            make_connectable(path);
        }
    }

    /// Whether the app accepts connections at its own address, and not somebody else.
    async fn connect(&self) -> io::Result<()> {
        let mut is_ours = false;
        if let (Listen::Port, Address::Tcp(address)) = (self.app.listen, self.address) {
            match self.owner.whose(*address) {
                Whose::Others(other) => {
                    return Err(io::Error::new(io::ErrorKind::AddrInUse, other.to_string()));
                }
                Whose::Nobodys => return Err(io::ErrorKind::ConnectionRefused.into()),
                Whose::Ours => is_ours = true,
                Whose::Unknown => {}
            }
        }
        match probe::connect(self.address).await {
            // The kernel says that it listens.
            Err(error) if is_ours && want::is_ours(&error) => Ok(()),
            result => result,
        }
    }

    /// Without a sign, says what there is to see: that the app's script has ended, or after a while
    /// where the app does listen, and what to write.
    pub(super) async fn hint(&self, awaited: &RefCell<String>, notifier: &Notifier) -> Infallible {
        let (mut ended, mut idle) = (false, 0);
        let (mut since, mut age) = (Duration::ZERO, Duration::ZERO);
        let (mut said, mut reported) = (String::new(), String::new());
        loop {
            sleep(LOOK).await;
            since += LOOK;
            age += LOOK;
            idle = if self.is_at_its_end() { idle + 1 } else { 0 };
            if idle >= PROOFS && !ended {
                ended = true;
                let text = format!(
                    "{HAS_ENDED} and does not listen: nothing but Roundsman keeps its process alive. Is \
                     it the file with the app's server? {NO_HTTP}"
                );
                report!(warn, self.identity, "{text}");
                notifier.status(&text).await;
            }
            if ended || since < ELSEWHERE {
                continue;
            }
            since = Duration::ZERO;
            let late = age >= PATIENCE;
            let mut found = self.owner.addresses();
            // The listener that it inherits is no other one.
            found.retain(|found| *self.address != Address::Tcp(*found));
            let is_missing = !self.listens(&awaited.borrow());
            let is_elsewhere = !found.is_empty() && is_missing;
            if !is_elsewhere && !late && said.is_empty() {
                continue;
            }
            let text = if is_elsewhere {
                hint(&found, self.app, self.address)
            } else if is_missing {
                format!("{WAITS}{}. {NO_HTTP}", awaited.borrow())
            } else {
                format!("{WAITS}{}", awaited.borrow())
            };
            if is_elsewhere && late && text != reported {
                report!(warn, self.identity, "{text}");
                reported.clone_from(&text);
            }
            if text != said {
                notifier.status(&text).await;
                said = text;
            }
        }
    }

    /// Whether the app is a worker of Node's whose script has left it nothing to do.
    fn is_at_its_end(&self) -> bool {
        let waits = |view: &cluster::View| view.online && view.front.is_none();
        self.channel.is_some_and(|channel| channel.is_cluster() && waits(&channel.view().borrow()))
            && self.owner.app().is_some_and(idle::waits_for_nothing)
    }

    /// Whether it is something else that is awaited.
    fn listens(&self, awaited: &str) -> bool {
        match (self.app.listen, self.address, self.channel) {
            (Listen::Port, Address::Tcp(address), _) => self.owner.whose(*address) == Whose::Ours,
            (Listen::Cluster, _, Some(channel)) => channel.view().borrow().front.is_some(),
            (Listen::Unix, Address::Unix(path), _) => path.exists(),
            (Listen::Fd, ..) => {
                self.app.ready != Ready::Listening || awaited.contains(": it answers ")
            }
            (Listen::None, ..) => true, // nobody asks where
            _ => false,
        }
    }

    async fn healthy(&self, awaited: &RefCell<String>) {
        let Some(health) = &self.app.health else { return };
        let mut pause = ASK_MIN;
        loop {
            let failure = match probe::health(self.target, health).await {
                Ok(200..=399) => return,
                Ok(status) => ProbeFailure::Status(status),
                Err(ProbeFailure::Forbidden) => {
                    // The socket is for the front alone, and the front checks it.
                    tracing::info!(
                        roundsman_app = self.app.name,
                        "{}: {}: its health path is left to the front",
                        self.app.name,
                        ProbeFailure::Forbidden
                    );
                    return;
                }
                Err(failure) => failure,
            };
            awaited.replace(format!("the app's health path {}: {failure}", health.path));
            sleep(pause).await;
            pause = (pause * 2).min(ASK_MAX);
        }
    }

    /// A connection of ours waits in the listener until the app accepts it. The kernel says that
    /// something waits by making the listener readable, so that it is not any more is the sign.
    async fn is_accepted_from(&self, awaited: &RefCell<String>) {
        let Some(listener) = self.listener else { return };
        awaited.replace("the app to accept a connection from descriptor 3 (LISTEN_FDS)".to_owned());
        if let Err(error) = probe::connect(self.address).await {
            if error.kind() != io::ErrorKind::PermissionDenied {
                tracing::debug!(%error, "cannot connect to the worker's own listener");
            }
            return; // then all that is known is that it runs
        }
        let mut pause = ASK_MIN;
        while has_waiting(rustix::fd::AsFd::as_fd(listener)) {
            sleep(pause).await;
            pause = (pause * 2).min(ASK_MAX);
        }
    }
}

/// Where the app listens instead, and what to do about it.
fn hint(found: &[SocketAddr], app: &App, address: &Address) -> String {
    let list: Vec<String> = found.iter().map(ToString::to_string).collect();
    let list = list.join(" and ");
    let remedy = match (app.listen, found, address) {
        (Listen::Port, _, Address::Tcp(wanted)) if app.port.is_none() && app.workers == 1 => {
            let port = found.first().map_or(wanted.port(), SocketAddr::port);
            format!("have it take HOST and PORT from its environment, or write port = {port}")
        }
        (Listen::Port, ..) => "have it take HOST and PORT from its environment".to_owned(),
        (_, [one, ..], _) if app.workers == 1 => {
            format!("write listen = \"port\" and port = {}", one.port())
        }
        _ => "write listen = \"port\", and have it take HOST and PORT from its environment"
            .to_owned(),
    };
    format!("{LISTENS_ELSEWHERE}{list}, where the front does not reach it ({address}): {remedy}")
}

fn has_waiting(listener: BorrowedFd<'_>) -> bool {
    let mut set = [PollFd::new(&listener, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut set, Some(&now)).is_ok_and(|count| count > 0)
}

async fn wait<T>(receiver: &mut watch::Receiver<T>, condition: impl FnMut(&T) -> bool) {
    if receiver.wait_for(condition).await.is_err() {
        std::future::pending::<()>().await; // its sender is gone with the app
    }
}

/// The socket is the app's user's; its directory is what keeps others out.
fn make_connectable(path: &std::path::Path) {
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    if let Err(error) = std::fs::set_permissions(path, everybody) {
        tracing::warn!("the front may not be able to connect to {}: {error}", path.display());
    }
}
