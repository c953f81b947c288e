//! The way to the service manager, and the app's way to it through us.
//!
//! `systemd::notify` waits when the service manager does not read; the shim must not, since an app
//! and its connections wait with it. And an app with `ready = "notify"` gets a socket of ours: with
//! `NotifyAccess=main` systemd would not listen to the app itself.

use std::ffi::{OsStr, OsString};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::systemd::notify;

/// How often and how long a notification is tried again while the service manager's queue is full.
const RETRY: Duration = Duration::from_millis(20);
const RETRIES: u32 = 250;

/// How often a status of the app's is passed on. Whoever sends more is not to keep the service manager
/// from the rest of the machine.
const EVERY: Duration = Duration::from_secs(1);

/// What systemd itself reads of a notification.
const MAX_NOTIFICATION: usize = 4096;

/// Sends notifications to the socket that `NOTIFY_SOCKET` named, if there is one.
#[derive(Debug, Clone)]
pub struct Notifier {
    address: Option<SocketAddr>,
}

impl Notifier {
    /// `socket` is the value of `NOTIFY_SOCKET`.
    pub fn new(socket: Option<&OsStr>) -> io::Result<Self> {
        let address = socket.filter(|name| !name.is_empty()).map(address_of).transpose()?;
        Ok(Self { address })
    }

    /// Sends `states` in one notification; a service manager that does not read for seconds
    /// misses it.
    pub(super) async fn send(&self, states: &[NotifyState<'_>]) {
        let Some(address) = &self.address else { return };
        let text = notify::lines(states).join("\n");
        let mut result = Ok(());
        for _ in 0..RETRIES {
            result = send_now(address, &text);
            match &result {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(RETRY).await,
                _ => break,
            }
        }
        if let Err(error) = result {
            tracing::warn!(%error, "cannot notify the service manager");
        }
    }

    /// Sends one line for `systemctl status`.
    pub(super) async fn status(&self, text: &str) {
        self.send(&[NotifyState::Status(text)]).await;
    }
}

fn send_now(address: &SocketAddr, text: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(text.as_bytes(), address)?;
    Ok(())
}

fn address_of(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(name),
    }
}

/// What the app said on its own notification socket.
#[derive(Debug)]
pub(super) struct AppNotifications {
    /// The app's `NOTIFY_SOCKET`.
    pub(super) variable: OsString,
    /// Turns true when it sends `READY=1`.
    pub(super) ready: watch::Receiver<bool>,
}

impl AppNotifications {
    /// Makes the socket, in `directory` if the unit has one that the app may use, and relays the
    /// app's newest `STATUS=` to the service manager.
    pub(super) fn listen(
        name: &str,
        directory: Option<PathBuf>,
        notifier: Notifier,
    ) -> io::Result<Self> {
        let (socket, variable) = if let Some(directory) = directory {
            let path = directory.join("notify.sock");
            let _ = std::fs::remove_file(&path); // of a shim before this one
            (UnixDatagram::bind(&path)?, path.into_os_string())
        } else {
            // What nobody can guess: any process may send to it.
            let secret = RandomState::new().build_hasher().finish();
            let name = format!("roundsman/{name}/{secret:016x}");
            let address = SocketAddr::from_abstract_name(&name)?;
            (UnixDatagram::bind_addr(&address)?, format!("@{name}").into())
        };
        socket.set_nonblocking(true)?;
        let socket = tokio::net::UnixDatagram::from_std(socket)?;
        let (sender, ready) = watch::channel(false);
        tokio::spawn(async move {
            let mut buffer = vec![0; MAX_NOTIFICATION];
            let (mut newest, mut next) = (None::<String>, Instant::now());
            loop {
                let length = tokio::select! {
                    received = socket.recv(&mut buffer) => match received {
                        Ok(length) => length,
                        Err(_) => break,
                    },
                    () = sleep_until(next), if newest.is_some() => {
                        notifier.status(&newest.take().unwrap_or_default()).await;
                        next = Instant::now() + EVERY;
                        continue;
                    }
                };
                let text = String::from_utf8_lossy(&buffer[..length]);
                for line in text.lines() {
                    match line.split_once('=') {
                        Some(("READY", "1")) => sender.send_modify(|ready| *ready = true),
                        Some(("STATUS", status)) => newest = Some(status.to_owned()),
                        _ => {} // the rest of the protocol is between systemd and the shim
                    }
                }
            }
        });
        Ok(Self { variable, ready })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_many_states_the_newest_reaches_the_service_manager() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("systemd.sock");
        let manager = tokio::net::UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::new(Some(path.as_os_str())).unwrap();
        let own = Some(directory.path().to_owned());
        let app = AppNotifications::listen("a:1", own, notifier).unwrap();
        let socket = UnixDatagram::unbound().unwrap();
        let begun = Instant::now();
        for number in 0..1000 {
            let text = format!("STATUS={number}\nSTATUS={number} or so\n");
            socket.send_to(text.as_bytes(), &app.variable).unwrap();
            tokio::task::yield_now().await;
        }
        let mut buffer = [0; 100];
        let mut told = 0;
        loop {
            let length = manager.recv(&mut buffer).await.unwrap();
            told += 1;
            if buffer[..length] == *b"STATUS=999 or so" {
                break;
            }
        }
        let seconds = begun.elapsed().as_secs();
        assert!(told <= seconds + 1, "{told} in {seconds} s");
    }
}
