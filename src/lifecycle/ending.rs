//! How a front ends: at a stop, and at a restart, where the next one begins meanwhile.

use std::rc::Rc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::control::Control;
use super::server;
use crate::base::unit;
use crate::systemd::anchor::Anchor;
use crate::systemd::dbus::Systemd;
use crate::systemd::{message, notify};

/// What a stop may take beyond the time for requests in flight.
const MARGIN: Duration = Duration::from_secs(10);

/// How often a front that has been restarted asks whether the next one is still to come.
const LOOK: Duration = Duration::from_secs(5);

/// How long it accepts at most until the next one does. systemd may be busy for minutes: anybody can keep it so.
const NEXT: Duration = Duration::from_mins(10);

/// How long systemd may take to say what it is about to do.
const ANSWER: Duration = Duration::from_secs(2);

/// Finishes what is in flight, here and at earlier fronts, within `timeouts.shutdown`.
pub(crate) async fn stop(control: &Control) {
    let grace = grace(control);
    notify::stopping("finishing the requests in flight");
    notify::extend_timeout(grace + MARGIN);
    tracing::info!(
        message_id = message::FRONT_STOPPING,
        "stopping: requests in flight have {grace:?} to finish"
    );
    control.threads().stop_accepting().await;
    control.earlier().relieve().await; // one that waits for the start of this one
    tokio::join!(finish(control, grace), control.earlier().end(grace + MARGIN / 2));
}

/// Lets the next front begin, and finishes what is in flight beside it, within `timeouts.shutdown`.
pub(crate) async fn hand_over(control: &Rc<Control>, anchor: Anchor, admin: Vec<JoinHandle<()>>) {
    let listeners_stay = listeners_stay().await;
    for listener in admin {
        listener.abort();
        let _ = listener.await; // it is gone, and its socket with it
    }
    let place = match control.earlier().join() {
        Ok((listener, place)) => {
            tokio::task::spawn_local(server::serve(listener, Rc::clone(control)));
            Some(place)
        }
        Err(error) => {
            tracing::warn!(
                "the next front cannot ask this one: {error}; a worker that stops does not wait for \
                 what this one has in flight"
            );
            None
        }
    };
    let goes_on = listeners_stay && place.is_some();
    if !goes_on {
        control.threads().stop_accepting().await;
    }
    let grace = grace(control);
    tracing::info!(
        message_id = message::FRONT_STOPPING,
        "the next front may begin: requests in flight here have {grace:?} to finish"
    );
    // Nobody watches this process any more.
    crate::sys::end_after(NEXT + grace + MARGIN);
    if let Err(error) = anchor.let_go() {
        tracing::warn!("the next front waits for the end of this one: {error}");
    }
    if goes_on {
        tokio::select! {
            () = control.earlier().relieved() => {}
            _ = timeout(NEXT, nobody_comes()) => {}
        }
        control.threads().stop_accepting().await;
    }
    finish(control, grace).await;
    drop(place);
}

/// Whether this front may accept until the next one does: not where the listener itself is to be closed
/// or opened anew, which nobody may have then.
///
/// Where systemd does not say, they stay: nobody who is busy with something else opens or closes one now. Without
/// systemd nobody comes.
async fn listeners_stay() -> bool {
    if !libsystemd::daemon::booted() {
        return false;
    }
    let asked = async { Systemd::connect().await?.changes_listeners().await };
    !matches!(timeout(ANSWER, asked).await, Ok(Ok(true)))
}

/// Returns when systemd says that it is not about to start the next front.
async fn nobody_comes() {
    loop {
        sleep(LOOK).await;
        let asked = async { Systemd::connect().await?.busy(unit::FRONT).await };
        if matches!(timeout(ANSWER, asked).await, Ok(Ok(busy)) if busy.is_empty()) {
            return;
        }
    }
}

/// What requests in flight have.
fn grace(control: &Control) -> Duration {
    control.front().snapshot().settings.front.timeouts.shutdown
}

async fn finish(control: &Control, grace: Duration) {
    let begin = Instant::now();
    let cut = control.threads().finish(grace).await;
    if cut > 0 {
        tracing::warn!("{cut} connections were not done after {grace:?} and were cut");
    }
    tracing::info!("stopped after {:?}", begin.elapsed());
}
