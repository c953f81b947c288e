//! The worker units' states: the front knows within milliseconds that a worker stops, fails or is
//! back.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;

use super::error::SystemdError;
use super::hearing::Signal;
use super::link::{Ear, Link};
use super::unit::UnitState;
use crate::base::unit::{ALL_SERVICES, Instance};
use crate::systemd::notify::NO_ANSWER;

/// Something the bus said.
#[derive(Debug)]
pub(crate) enum WorkerEvent {
    /// The states of all loaded worker units, by instance (`shop:1`): at the beginning, and after
    /// a lost connection. What is not in it is not loaded.
    All(HashMap<String, UnitState>),
    /// One worker's state changed.
    Changed(String, UnitState),
    /// Whether a worker's app answers, as the worker itself says.
    Answers(String, bool),
    /// The bus cannot be reached; the last states stay true until it can.
    Lost(String),
}

/// Between two attempts to reach the bus. systemd restarts the bus within that.
const RECONNECT: Duration = Duration::from_secs(1);

/// Signals that may wait for us: a boot with hundreds of workers has a few thousand. When there are
/// more, all states are asked for instead.
const SIGNALS: usize = 4096;

/// Tells `on_event` what happens to the worker units, for as long as it is polled.
pub(crate) async fn follow(mut on_event: impl FnMut(WorkerEvent)) {
    loop {
        if let Err(error) = follow_once(Link::open, &mut on_event).await {
            on_event(WorkerEvent::Lost(error.to_string()));
        }
        sleep(RECONNECT).await;
    }
}

async fn follow_once<O>(
    open: impl FnOnce(Ear) -> O,
    on_event: &mut impl FnMut(WorkerEvent),
) -> Result<(), SystemdError>
where
    O: Future<Output = Result<Link, SystemdError>>,
{
    let (sender, mut signals) = mpsc::channel(SIGNALS);
    let missed = Arc::new(AtomicBool::new(false));
    let misses = Arc::clone(&missed);
    // First subscribe, then list: nothing can happen in between unseen.
    let link = open(Box::new(move |signal| {
        let is_of_a_worker = match &signal {
            Signal::State(unit, _) | Signal::Status(unit, _) | Signal::UnitRemoved(unit) => {
                instance(unit).is_some()
            }
            Signal::Systemd(_) | Signal::Reloading(_) => true,
            Signal::JobRemoved { .. } => false,
        };
        if is_of_a_worker && sender.try_send(signal).is_err() {
            misses.store(true, Ordering::Release);
        }
    }))
    .await?;
    on_event(WorkerEvent::All(list(&link).await?));
    // A daemon-reload says of every unit that it is gone, and then that it is there again.
    let mut reloading = false;
    while let Some(signal) = signals.recv().await {
        let mut look = missed.swap(false, Ordering::AcqRel);
        reloading &= !look;
        match signal {
            Signal::State(unit, state) => {
                if let Some(instance) = instance(&unit) {
                    on_event(WorkerEvent::Changed(instance, state));
                }
            }
            Signal::Status(unit, text) => {
                if let Some(instance) = instance(&unit) {
                    on_event(WorkerEvent::Answers(instance, !text.starts_with(NO_ANSWER)));
                }
            }
            Signal::UnitRemoved(unit) if !reloading => {
                if let Some(instance) = instance(&unit) {
                    on_event(WorkerEvent::Changed(instance, UnitState::Inactive));
                }
            }
            Signal::Reloading(begins) => {
                reloading = begins;
                // Units may have come and gone.
                look |= !begins;
            }
            Signal::Systemd(true) => {
                reloading = false;
                link.subscribe().await?;
                look = true;
            }
            Signal::Systemd(false) | Signal::UnitRemoved(_) | Signal::JobRemoved { .. } => {}
        }
        if look {
            on_event(WorkerEvent::All(list(&link).await?));
        }
    }
    Err(SystemdError::closed())
}

async fn list(link: &Link) -> Result<HashMap<String, UnitState>, SystemdError> {
    let units = link.list(ALL_SERVICES).await?;
    Ok(units.iter().filter_map(|(unit, state)| Some((instance(unit)?, *state))).collect())
}

/// `shop:1` of `roundsman-worker@shop:1.service`.
fn instance(unit: &str) -> Option<String> {
    Some(Instance::of_service(unit)?.to_string())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use zbus::Message;

    use super::super::fake::{self, BUS, Fake, IMPATIENT, PATIENT, STRANGER, SYSTEMD};
    use super::super::link::Limits;
    use super::*;

    const UNIT: &str = "roundsman-worker@shop:1.service";

    /// What is told while a bus is played like this.
    async fn told(limits: Limits, play: impl AsyncFnOnce(&mut Fake)) -> Vec<String> {
        let (connection, mut fake) = Fake::bus().await;
        let told = RefCell::new(Vec::new());
        let mut tell = |event| told.borrow_mut().push(words(event));
        let open = |ear| Link::over(connection, limits, ear);
        let (end, ()) = tokio::join!(follow_once(open, &mut tell), async {
            play(&mut fake).await;
            drop(fake);
        });
        told.borrow_mut().push(words(WorkerEvent::Lost(end.expect_err("it ends").to_string())));
        told.into_inner()
    }

    fn words(event: WorkerEvent) -> String {
        match event {
            WorkerEvent::All(units) => format!("all: {units:?}"),
            WorkerEvent::Changed(worker, state) => format!("{worker} {state:?}"),
            WorkerEvent::Answers(worker, answers) => format!("{worker} answers: {answers}"),
            // What to do about it differs from machine to machine.
            WorkerEvent::Lost(error) => error.lines().next().unwrap_or_default().to_owned(),
        }
    }

    /// Answers the question for all units.
    async fn list(fake: &mut Fake, state: &str) {
        let call = fake.expect("ListUnitsByPatterns").await;
        fake.answer(&call, &vec![fake::listed(UNIT, state)]).await;
    }

    const CLOSED: &str =
        "cannot reach systemd over D-Bus: the connection to the system bus was closed";

    #[tokio::test]
    async fn tells_what_systemd_says_of_workers_and_nothing_that_others_say() {
        let told = told(PATIENT, async |fake| {
            list(fake, "active").await;
            let all = |sender: &str| -> Vec<Message> {
                vec![
                    fake::state(sender, UNIT, "deactivating"),
                    fake::state(sender, "other.service", "failed"),
                    fake::status(sender, "other.service", NO_ANSWER),
                    fake::status(sender, UNIT, &format!("{NO_ANSWER} for 2 s")),
                    fake::status(sender, UNIT, "it does"),
                    fake::unit_removed(sender, UNIT),
                    fake::reloading(sender, true),
                    fake::unit_removed(sender, UNIT),
                ]
            };
            for message in all(STRANGER).into_iter().chain(all(SYSTEMD)) {
                fake.say(message).await;
            }
            fake.say(fake::reloading(SYSTEMD, false)).await;
            list(fake, "failed").await;
        })
        .await;
        let expected = [
            "all: {\"shop:1\": Active}",
            "shop:1 Deactivating",
            "shop:1 answers: false",
            "shop:1 answers: true",
            "shop:1 Inactive",
            "all: {\"shop:1\": Failed}",
            CLOSED,
        ];
        assert_eq!(told, expected);
    }

    #[tokio::test]
    async fn looks_again_when_systemd_was_started_anew() {
        let told = told(PATIENT, async |fake| {
            list(fake, "active").await;
            fake.say(fake::owner_changed(BUS, SYSTEMD, "")).await;
            fake.say(fake::owner_changed(BUS, "", ":1.9")).await;
            list(fake, "activating").await;
            fake.say(fake::state(SYSTEMD, UNIT, "failed")).await;
            fake.say(fake::state(":1.9", UNIT, "active")).await;
            fake.say(fake::reloading(":1.9", false)).await;
            list(fake, "active").await;
        })
        .await;
        let expected = [
            "all: {\"shop:1\": Active}",
            "all: {\"shop:1\": Activating}",
            "shop:1 Active",
            "all: {\"shop:1\": Active}",
            CLOSED,
        ];
        assert_eq!(told, expected);
    }

    #[tokio::test]
    async fn looks_again_when_more_was_said_than_can_wait() {
        let mut told = told(PATIENT, async |fake| {
            list(fake, "active").await;
            // It waits for this answer, and what is said meanwhile for it.
            fake.say(fake::reloading(SYSTEMD, false)).await;
            let call = fake.expect("ListUnitsByPatterns").await;
            for _ in 0..2 * SIGNALS {
                fake.say(fake::state(SYSTEMD, UNIT, "activating")).await;
            }
            fake.say(fake::state(SYSTEMD, UNIT, "active")).await;
            fake.answer(&call, &vec![fake::listed(UNIT, "failed")]).await;
            list(fake, "active").await;
        })
        .await;
        assert_eq!(told.pop().as_deref(), Some(CLOSED));
        assert!(told.len() < SIGNALS + 10, "{}", told.len());
        assert!(told.contains(&"all: {\"shop:1\": Active}".to_owned()));
    }

    #[tokio::test]
    async fn a_bus_that_does_not_answer_counts_as_lost() {
        let told = told(IMPATIENT, async |fake| {
            list(fake, "active").await;
            fake.say(fake::reloading(SYSTEMD, false)).await;
            fake.serve().await; // without an answer to the question for all units
        })
        .await;
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[1].starts_with("ListUnitsByPatterns"), "{told:?}");
    }
}
