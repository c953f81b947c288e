//! What an app's process leaves behind when it ends because it was asked to: `npm`, a shell, a script that starts the
//! real program and does not wait for it. When this process ends, systemd kills all others of the unit at once. So
//! they are asked too, and have the rest of the time.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::identity::{Identity, report};
use super::owner::Owner;

/// How often is looked who is still there.
const LOOK: Duration = Duration::from_millis(20);

/// What somebody has been asked already ends by then, and some programs take a second signal for hurry.
const PATIENCE: Duration = Duration::from_millis(300);

/// Waits until the unit's other processes have ended, and asks those that have not been asked.
pub(super) async fn end(
    owner: &Owner,
    signal: Signal,
    until: Instant,
    hurry: &mut mpsc::Receiver<()>,
    identity: &Identity,
) {
    let begin = Instant::now();
    let mut asked = BTreeSet::new();
    loop {
        let left = owner.left();
        if left.is_empty() {
            return;
        }
        if Instant::now() >= until {
            report!(
                error,
                identity,
                "{} that the app has left did not end in time: killed",
                processes(left.len())
            );
            return;
        }
        if begin.elapsed() >= PATIENCE {
            if asked.is_empty() {
                let left = processes(left.len());
                report!(info, identity, "the app has left {left}, which get the same signal");
            }
            for number in left {
                let pid = i32::try_from(number).ok().and_then(Pid::from_raw);
                if let (Some(pid), true) = (pid, asked.insert(number)) {
                    let _ = kill_process(pid, signal); // it may have ended
                }
            }
        }
        tokio::select! {
            () = sleep(LOOK) => {}
            _ = hurry.recv() => return,
        }
    }
}

fn processes(count: usize) -> String {
    if count == 1 { "a process".to_owned() } else { format!("{count} processes") }
}
