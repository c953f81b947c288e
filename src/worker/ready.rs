//! What is awaited before `READY=1`.

use std::cell::RefCell;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::watch;
use tokio::time::sleep;

use super::cluster;
use super::notifier::AppNotifications;
use super::probe::{self, ProbeFailure, ProbeTarget};
use crate::config::settings::{Address, App, Listen, Ready};

/// How often is asked whether the app listens by now: often at first, then more and more seldom.
const ASK_MIN: Duration = Duration::from_millis(5);
const ASK_MAX: Duration = Duration::from_millis(200);

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
}

impl Signs<'_> {
    /// Returns when the app is ready; `awaited` says meanwhile what for.
    pub(super) async fn ready(&self, awaited: &RefCell<String>) {
        match self.app.listen {
            Listen::Cluster => self.cluster_listens(awaited).await,
            Listen::Port | Listen::Unix => self.connects(awaited).await,
            Listen::Fd => {}
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
            (None, _) => {
                "the app to listen: server.listen(), without `exclusive` and `reusePort`".to_owned()
            }
        }
    }

    async fn connects(&self, awaited: &RefCell<String>) {
        let mut pause = ASK_MIN;
        while let Err(error) = probe::connect(self.address).await {
            awaited.replace(format!("the app to listen on {}: {error}", self.address));
            sleep(pause).await;
            pause = (pause * 2).min(ASK_MAX);
        }
        if let (Listen::Unix, Address::Unix(path)) = (self.app.listen, self.address) {
            make_connectable(path);
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
