//! What we tell the service manager. Without one (`NOTIFY_SOCKET` unset) every call does nothing.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use libsystemd::daemon::{NotifyState as WithDescriptors, notify_with_fds};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sd_notify::NotifyState;

use crate::base::text;

/// Whether another process speaks for the service now.
static SILENT: AtomicBool = AtomicBool::new(false);

/// The longest line: systemd reads 4096 bytes of a message, and hardly any text is this long.
const LONGEST: usize = 2048;

/// How a worker's line in `systemctl status` begins while its app does not answer: the front reads it.
pub(crate) const NO_ANSWER: &str = "the app does not answer";

/// Everything is set up, or a reload is over (also a failed one: systemd waits for it).
pub(crate) fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// A reload begins.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "cannot read the monotonic clock"),
    }
}

/// The service stops; no restart of its own accord follows.
pub(crate) fn stopping(status: &str) {
    send(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

/// One line for `systemctl status`.
pub(crate) fn status(status: &str) {
    send(&[NotifyState::Status(status)]);
}

/// The service is alive.
pub(crate) fn watchdog() {
    send(&[NotifyState::Watchdog]);
}

/// The present start or stop may take this much longer, counted from now.
pub(crate) fn extend_timeout(by: Duration) {
    let micros = u32::try_from(by.as_micros()).unwrap_or(u32::MAX);
    send(&[NotifyState::ExtendTimeoutUsec(micros)]);
}

/// Has systemd keep a descriptor for the next process of this service (`FileDescriptorStoreMax=`);
/// the name begins with [`KEPT`](super::activation::KEPT). It is kept also when its other end is closed.
pub(crate) fn keep(name: &str, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let states = [
        WithDescriptors::Fdstore,
        WithDescriptors::Fdname(name.to_owned()),
        WithDescriptors::FdpollDisable,
    ];
    pass(&states, &[descriptor])
}

/// Has systemd no longer keep what it passed to this process.
pub(crate) fn forget(name: &str) -> io::Result<()> {
    let remove = WithDescriptors::Other("FDSTOREREMOVE=1".to_owned());
    pass(&[remove, WithDescriptors::Fdname(name.to_owned())], &[])
}

/// Waits until systemd has taken note of everything so far, which it must have before this process
/// ends.
pub(crate) fn barrier(patience: Duration) -> io::Result<()> {
    let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let barrier = WithDescriptors::Other("BARRIER=1".to_owned());
    pass(&[barrier], &[rustix::fd::AsFd::as_fd(&theirs)])?;
    drop(theirs);
    // systemd closes the other end when it comes to the message.
    let mut polled = [PollFd::new(&ours, PollFlags::HUP)];
    let limit = Timespec { tv_sec: patience.as_secs().cast_signed(), tv_nsec: 0 };
    match poll(&mut polled, Some(&limit))? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}

fn pass(states: &[WithDescriptors], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let descriptors: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    notify_with_fds(false, states, &descriptors).map(|_| ()).map_err(io::Error::other)
}

/// Says nothing from now on: another process speaks for the service.
pub(crate) fn be_silent() {
    SILENT.store(true, Ordering::Relaxed);
}

/// How often systemd wants [`watchdog`]; `None` when it does not.
pub(crate) fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// The lines of a message, each on a line of its own whatever texts are in it: systemd obeys what
/// begins a line, and shows the rest to people as it is.
pub(crate) fn lines(states: &[NotifyState<'_>]) -> Vec<String> {
    let line = |state: &NotifyState<'_>| {
        let text = state.to_string();
        let clean = text::one_line(text::beginning(&text, LONGEST)).into_owned();
        text::beginning(&clean, LONGEST).to_owned()
    };
    states.iter().map(line).collect()
}

fn send(states: &[NotifyState<'_>]) {
    if SILENT.load(Ordering::Relaxed) {
        return;
    }
    let lines = lines(states);
    let states: Vec<_> = lines.iter().map(|line| NotifyState::Custom(line)).collect();
    if let Err(error) = sd_notify::notify(&states) {
        tracing::warn!(%error, "cannot notify the service manager");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_line_whoever_wrote_it() {
        let hostile = "serves unix:/tmp/x\nMAINPID=1\r\nREADY=1\u{1b}[2J";
        assert_eq!(
            lines(&[NotifyState::Ready, NotifyState::Status(hostile)]),
            [
                "READY=1",
                "STATUS=serves unix:/tmp/x\u{fffd}MAINPID=1\u{fffd}\u{fffd}READY=1\u{fffd}[2J"
            ]
        );
    }

    #[test]
    fn a_message_is_never_longer_than_systemd_reads() {
        let long = "\u{9b}".repeat(1 << 20);
        let lines = lines(&[NotifyState::Stopping, NotifyState::Status(&long)]);
        assert!(lines.join("\n").len() < 4096);
    }
}
