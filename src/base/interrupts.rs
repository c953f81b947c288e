//! What asks a command to end: Ctrl-C, a lost terminal, systemd.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

thread_local! {
    /// How many there are who listen.
    static LISTENERS: Cell<usize> = const { Cell::new(0) };
    /// That somebody listens, or has: from then on the kernel ends nobody for these signals.
    static CAUGHT: Rc<Notify> = Rc::default();
    /// Whether one was heard, by whomever.
    static HEARD: Cell<bool> = const { Cell::new(false) };
}

/// Listens for them. They end the process as usual only until there is the first of these.
#[derive(Debug)]
pub(crate) struct Interrupts(Signals);

#[derive(Debug)]
struct Signals {
    interrupt: Signal,
    hang_up: Signal,
    terminate: Signal,
}

// === impl Interrupts ===

impl Interrupts {
    /// Listens from now on.
    ///
    /// # Errors
    /// When the signals cannot be caught.
    pub(crate) fn new() -> io::Result<Self> {
        let signals = Signals::new()?;
        LISTENERS.set(LISTENERS.get() + 1);
        CAUGHT.with(|caught| caught.notify_one());
        Ok(Self(signals))
    }

    /// The next one.
    pub(crate) async fn recv(&mut self) {
        self.0.recv().await;
        HEARD.set(true);
    }
}

/// Whether there was one already: who does several things one after the other begins no further one.
pub(crate) fn heard() -> bool {
    HEARD.get()
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        LISTENERS.set(LISTENERS.get() - 1);
    }
}

/// Waits for one that comes when nobody listens any more, and does not end the process by itself.
pub(crate) async fn unheard() {
    let caught = CAUGHT.with(Rc::clone);
    caught.notified().await;
    let Ok(mut signals) = Signals::new() else { return std::future::pending().await };
    loop {
        signals.recv().await;
        if LISTENERS.get() == 0 {
            return;
        }
    }
}

// === impl Signals ===

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn recv(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.hang_up.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::process::{Signal as Number, getpid, kill_process};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn one_that_nobody_listens_for_ends_the_command() {
        let mut unheard = std::pin::pin!(unheard());
        let mut listens = Interrupts::new().unwrap();
        // Both of them, one after the other.
        for _ in 0..2 {
            let hears = async {
                kill_process(getpid(), Number::HUP).unwrap();
                listens.recv().await;
                tokio::task::yield_now().await;
            };
            tokio::select! {
                biased;
                () = &mut unheard => panic!("somebody listens"),
                () = hears => {}
            }
        }
        assert!(timeout(Duration::from_millis(10), &mut unheard).await.is_err());
        drop(listens);
        kill_process(getpid(), Number::HUP).unwrap();
        timeout(Duration::from_secs(10), unheard).await.expect("it is told");
    }
}
