//! Workers that are back while the bus does not say so. Anybody can keep others from it for a while, and
//! what a worker notes of its run in its own directory tells the front of that worker alone.

use std::path::Path;
use std::time::Duration;

use tokio::time::sleep;

use super::Control;
use crate::balance::State;
use crate::base::paths;
use crate::supervise::life::{self, Life};
use crate::systemd::dbus::UnitState;
use crate::systemd::dbus::workers::WorkerEvent;

/// How often it is looked, as long as the bus is not heard.
const LOOK: Duration = Duration::from_millis(500);

impl Control {
    /// Sees to it for ever; does nothing while the bus is heard.
    pub(crate) async fn look_without_bus(&self) {
        loop {
            self.unheard.notified().await;
            while !self.bus.get() {
                self.look_for_returned();
                sleep(LOOK).await;
            }
        }
    }

    /// Takes in which workers have become ready, where the bus is not heard.
    pub(super) fn look_for_returned(&self) {
        if !self.bus.get() {
            self.look_in(Path::new(paths::WORKERS));
        }
    }

    fn look_in(&self, directory: &Path) {
        let snapshot = self.front.snapshot();
        for (_, server) in snapshot.servers() {
            let worker = &server.name;
            let Some((app, _)) = worker.rsplit_once(':') else { continue };
            let stopping = self.stopping.borrow().get(worker).copied();
            let is_out = server.state() != State::Up || stopping.is_some();
            if !is_out || !snapshot.settings.apps.contains_key(app) {
                continue;
            }
            // What it noted before it was to stop is of the run that ends.
            let since = stopping.unwrap_or_default();
            let ready = Life::read(&directory.join(worker)).and_then(|life| life.ready);
            if ready.is_some_and(|ready| ready > since) {
                self.stopping.borrow_mut().remove(worker);
                if let Some(units) = &mut *self.units.borrow_mut() {
                    // What the last run did not answer is no matter of this one.
                    units.set(worker.clone(), UnitState::Deactivating, true);
                }
                self.on_bus(WorkerEvent::Changed(worker.clone(), UnitState::Active));
            }
        }
    }

    /// Notes that the unit of this worker stops, or is about to.
    pub(super) fn note_stop(&self, worker: &str) {
        self.stopping.borrow_mut().insert(worker.to_owned(), life::now());
        self.unheard.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::super::drain::tests::{asks, control, states};
    use super::*;

    fn says(directory: &Path, worker: &str, ready: Option<u64>) {
        let own = directory.join(worker);
        std::fs::create_dir_all(&own).unwrap();
        Life { pid: 1, started: Some(1), ready, stopping: false }.write(&own).unwrap();
    }

    #[tokio::test]
    async fn a_worker_that_is_ready_again_is_sent_requests_also_without_the_bus() {
        let directory = tempfile::tempdir().unwrap();
        for was_heard in [false, true] {
            let control = control();
            if was_heard {
                let all = ["shop:1", "shop:2"].map(|worker| (worker.to_owned(), UnitState::Active));
                control.on_bus(WorkerEvent::All(all.into()));
                control.on_bus(WorkerEvent::Lost("somebody blocks it".to_owned()));
            }
            says(directory.path(), "shop:1", Some(life::now()));
            control.drain(&asks("shop:1", false, None)).await.unwrap();
            control.look_in(directory.path());
            control.apply_all(); // as a reload does
            assert_eq!(states(&control), [State::Draining, State::Up], "the run that ends");
            says(directory.path(), "shop:1", None);
            control.look_in(directory.path());
            assert_eq!(states(&control), [State::Draining, State::Up], "it is not ready yet");
            says(directory.path(), "shop:1", Some(life::now() + 1));
            control.look_in(directory.path());
            assert_eq!(states(&control), [State::Up, State::Up], "was heard: {was_heard}");
            assert!(control.stopping.borrow().is_empty());
        }
    }

    #[tokio::test]
    async fn a_worker_that_did_not_answer_is_sent_requests_when_it_has_been_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let control = control();
        let all = ["shop:1", "shop:2"].map(|worker| (worker.to_owned(), UnitState::Active));
        control.on_bus(WorkerEvent::All(all.into()));
        says(directory.path(), "shop:1", Some(life::now()));
        control.on_bus(WorkerEvent::Answers("shop:1".to_owned(), false));
        control.on_bus(WorkerEvent::Lost("somebody blocks it".to_owned()));
        control.look_in(directory.path());
        assert_eq!(states(&control), [State::Down, State::Up]);
        says(directory.path(), "shop:1", Some(life::now() + 1));
        control.look_in(directory.path());
        assert_eq!(states(&control), [State::Up, State::Up]);
    }

    #[tokio::test]
    async fn what_an_administrator_holds_stays_out() {
        let directory = tempfile::tempdir().unwrap();
        let control = control();
        control.drain(&asks("shop:2", true, None)).await.unwrap();
        control.drain(&asks("shop:2", false, None)).await.unwrap();
        says(directory.path(), "shop:2", Some(life::now() + 1));
        control.look_in(directory.path());
        assert_eq!(states(&control), [State::Up, State::Draining]);
        control.undrain("shop:2").unwrap();
        assert_eq!(states(&control), [State::Up, State::Up]);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_looks_while_the_bus_is_heard() {
        let control = control();
        control.on_bus(WorkerEvent::All([("shop:1".to_owned(), UnitState::Active)].into()));
        control.drain(&asks("shop:1", false, None)).await.unwrap();
        tokio::select! {
            () = control.look_without_bus() => unreachable!("it goes on for ever"),
            () = sleep(LOOK * 10) => {}
        }
        assert_eq!(states(&control), [State::Draining, State::Down]);
        control.on_bus(WorkerEvent::Changed("shop:1".to_owned(), UnitState::Inactive));
        assert!(control.stopping.borrow().is_empty(), "the bus has said what became of it");
    }
}
