//! Asking the app to end, more and more firmly.
//!
//! The front has drained the worker before. Unless the app has a way of its own (`shutdown`), a
//! cluster worker to which clients are connected still is first asked over the channel: it closes its servers, lets
//! what is in flight finish, and closes the channel; Node then ends when nothing else keeps it. What still runs
//! after that, or after half of the time, gets SIGTERM, and at the end of the time SIGKILL. One that has no
//! client gets SIGTERM at once: nothing is cut off, and its own handler runs, which it would not if
//! Node ended. (In hand-off mode it is asked over the channel all the same: connections may be on
//! their way to it.) If such a handler leaves its server open, the app is asked over the channel after half of the time.
//! A second request to stop skips what is left of the present step.

use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::cluster;
use super::identity::{Identity, report};
use super::probe::Seconds;
use super::process::{Exit, Process};
use crate::config::settings::{Shutdown, StopSignal};

/// How long an app that has closed everything may take to end before it gets SIGTERM: what keeps
/// it is a timer or a connection to a database, which would keep it for ever.
const AFTER_DISCONNECT: Duration = Duration::from_secs(1);

/// How often, and after which pauses, is looked whether clients are connected.
const LOOKS: u32 = 5;
const LOOK: Duration = Duration::from_millis(10);

/// What a stop needs to know.
#[derive(Debug)]
pub(super) struct Stop<'a> {
    pub(super) process: &'a mut Process,
    pub(super) channel: Option<&'a cluster::Handle>,
    pub(super) shutdown: Shutdown,
    pub(super) limit: Duration,
    pub(super) hurry: &'a mut mpsc::Receiver<()>,
    pub(super) identity: &'a Identity,
}

/// How it went.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    /// The app ended by itself.
    Ended(Exit),
    /// It had to be killed.
    Killed(Exit),
}

impl Stop<'_> {
    pub(super) async fn run(self) -> std::io::Result<Stopped> {
        let begin = Instant::now();
        // One that has never spoken the protocol would not understand.
        let speaks =
            |channel: &&cluster::Handle| channel.is_cluster() && channel.view().borrow().online;
        let may = matches!(self.shutdown, Shutdown::Auto | Shutdown::Disconnect);
        let worker = self.channel.filter(speaks).filter(|_| may);
        let is_free = match worker {
            Some(channel) if self.shutdown == Shutdown::Auto => self.is_free(channel).await,
            _ => false,
        };
        let by_message = match self.shutdown {
            Shutdown::Auto | Shutdown::Disconnect => {
                worker.filter(|_| !is_free).inspect(|channel| channel.disconnect())
            }
            Shutdown::Message => self.channel.inspect(|channel| channel.say("shutdown".into())),
            Shutdown::Signal(_) => None,
        };
        if let Some(channel) = by_message {
            let until = begin + self.limit / 2;
            tokio::select! {
                exit = self.process.wait() => return Ok(Stopped::Ended(exit?)),
                () = disconnected(channel) => {}
                () = sleep_until(until) => {}
                _ = self.hurry.recv() => {}
            }
        }
        let (signal, name) = signal(self.shutdown);
        report!(debug, self.identity, "sending the app {name}");
        self.process.signal(signal);
        if let Some(channel) = worker.filter(|_| is_free) {
            tokio::select! {
                exit = self.process.wait() => return Ok(Stopped::Ended(exit?)),
                () = sleep_until(begin + self.limit / 2) => {
                    let listens = channel.view().borrow().front.is_some();
                    if listens {
                        channel.disconnect();
                    }
                }
                _ = self.hurry.recv() => {}
            }
        }
        tokio::select! {
            exit = self.process.wait() => return Ok(Stopped::Ended(exit?)),
            () = sleep_until(begin + self.limit) => {}
            _ = self.hurry.recv() => {}
        }
        report!(
            error,
            self.identity,
            "the app did not end within {} ({name} was sent): it is killed",
            Seconds(begin.elapsed())
        );
        self.process.signal(Signal::KILL);
        Ok(Stopped::Killed(self.process.wait().await?))
    }

    /// Whether no client is connected to the app any more. The last ones may be about to leave.
    async fn is_free(&self, channel: &cluster::Handle) -> bool {
        for _ in 0..LOOKS {
            let doors = channel.view().borrow().doors.clone();
            if !doors.are_in_use(self.process.id()) {
                return true;
            }
            sleep(LOOK).await;
        }
        false
    }
}

/// The signal that asks the app to end, and its name.
pub(super) fn signal(shutdown: Shutdown) -> (Signal, &'static str) {
    match shutdown {
        Shutdown::Auto
        | Shutdown::Disconnect
        | Shutdown::Message
        | Shutdown::Signal(StopSignal::Term) => (Signal::TERM, "SIGTERM"),
        Shutdown::Signal(StopSignal::Int) => (Signal::INT, "SIGINT"),
        Shutdown::Signal(StopSignal::Quit) => (Signal::QUIT, "SIGQUIT"),
        Shutdown::Signal(StopSignal::Hup) => (Signal::HUP, "SIGHUP"),
        Shutdown::Signal(StopSignal::Usr1) => (Signal::USR1, "SIGUSR1"),
        Shutdown::Signal(StopSignal::Usr2) => (Signal::USR2, "SIGUSR2"),
        Shutdown::Signal(StopSignal::Winch) => (Signal::WINCH, "SIGWINCH"),
    }
}

/// Returns when the app has closed its servers and the channel, and had some time to end.
async fn disconnected(channel: &cluster::Handle) {
    let mut view = channel.view();
    let gone = view.wait_for(|view| view.gone).await.is_ok();
    drop(view);
    if gone {
        sleep(AFTER_DISCONNECT).await;
    } else {
        std::future::pending::<()>().await;
    }
}
