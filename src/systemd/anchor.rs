//! The main process of a service whose next process shall not wait for the last one's end.
//!
//! systemd starts a service anew when its main process has ended, and what serves connections cannot
//! end before they have. So the main process is another one, the anchor, which does nothing but wait
//! for its child, the server: it passes signals on, and ends as the child does. When the child lets
//! go, the anchor ends at once; with `KillMode=process` the child stays in the unit's control group
//! until it is done. docs/internals/handover.md says why so.

use std::ffi::CStr;
use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;

use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, getppid, kill_process,
    set_parent_process_death_signal, waitpid,
};
use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{SignalKind, signal};

use super::notify;
use crate::base::exit;

/// What a process is called that has let go. systemd takes names that begin so for those of helpers,
/// and does not warn of them when it starts the next one.
const LET_GO: &CStr = c"(draining)";

/// Which of the two a process is.
pub(crate) enum Side<T> {
    /// The anchor, after its child's end: its exit status.
    Anchor(u8),
    /// The server, with what it alone is to have, and its anchor if it has one.
    Server(Option<Anchor>, T),
}

/// The server's hold on its anchor, and the anchor's on it: without the anchor it is killed.
pub(crate) struct Anchor(UnixStream);

/// Splits this process in two, before there is a second thread.
///
/// # Errors
/// When there can be no second process.
pub(crate) fn split<T>(held: T) -> io::Result<Side<T>> {
    let (ours, theirs) = UnixStream::pair()?;
    let anchor = getpid();
    let forked = crate::sys::fork().map_err(|error| {
        io::Error::new(error.kind(), format!("cannot start the process that serves: {error}"))
    });
    if let Some(server) = forked? {
        drop((held, theirs));
        return watch(server, ours).map(Side::Anchor);
    }
    drop(ours);
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != Some(anchor) {
        return Err(io::Error::other("the main process has died")); // before the line above took effect
    }
    Ok(Side::Server(Some(Anchor(theirs)), held))
}

impl Anchor {
    /// Lets the next process of the service begin: the anchor ends, and nothing that this one says
    /// counts for the service any more.
    pub(crate) fn let_go(mut self) -> io::Result<()> {
        notify::be_silent();
        set_parent_process_death_signal(None)?;
        rustix::thread::set_name(LET_GO)?;
        self.0.write_all(b"!")
    }
}

/// Whether a process is one that has let go, by its name.
pub(crate) fn has_let_go(process: u32) -> bool {
    let name = std::fs::read(format!("/proc/{process}/comm")).unwrap_or_default();
    name.strip_suffix(b"\n") == Some(LET_GO.to_bytes())
}

/// Waits for the server's end, or until it lets go.
fn watch(server: Pid, word: UnixStream) -> io::Result<u8> {
    word.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(wait(server, word))?;
    let Some(status) = ended else { return Ok(exit::OK) };
    if let Some(signal) = status.terminating_signal() {
        crate::sys::end_by(signal);
    }
    Ok(status.exit_status().and_then(|code| u8::try_from(code).ok()).unwrap_or(exit::OS))
}

async fn wait(server: Pid, word: UnixStream) -> io::Result<Option<WaitStatus>> {
    let mut word = tokio::net::UnixStream::from_std(word)?;
    let mut ended = signal(SignalKind::child())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    // The watchdog's: whose state is of interest is the server.
    let mut abort = signal(SignalKind::from_raw(Signal::ABORT.as_raw()))?;
    let mut letting_go = std::pin::pin!(async {
        let mut byte = [0];
        // The end of the stream is that of the server, which is waited for below.
        while word.read(&mut byte).await.ok() != Some(1) {
            std::future::pending::<()>().await;
        }
    });
    loop {
        if let Some((_, status)) = waitpid(Some(server), WaitOptions::NOHANG)? {
            return Ok(Some(status));
        }
        let passed = tokio::select! {
            _ = ended.recv() => continue,
            () = &mut letting_go => return Ok(None),
            _ = terminate.recv() => Signal::TERM,
            _ = interrupt.recv() => Signal::INT,
            _ = hang_up.recv() => Signal::HUP,
            _ = abort.recv() => Signal::ABORT,
        };
        let _ = kill_process(server, passed); // it is not waited for yet, so it is nobody else
    }
}
