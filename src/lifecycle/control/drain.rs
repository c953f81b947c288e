//! Workers out of the rotation and back, by an administrator or a unit that stops.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use tokio::time::{Instant, sleep};

use super::Control;
use crate::admin::model;
use crate::balance::{Server, State};
use crate::config::settings::App;
use crate::systemd::dbus::UnitState;
use crate::thread::LAST_WORDS;

/// How often a drain looks whether the last request is done.
const DRAIN_POLL: Duration = Duration::from_millis(5);

impl Control {
    /// Takes workers out of the rotation and waits for what they have in flight.
    ///
    /// # Errors
    /// When no worker has that name.
    pub(crate) async fn drain(&self, drain: &model::Drain) -> Result<model::Drained, String> {
        let snapshot = self.front.snapshot();
        let servers = self.targets(&drain.target)?;
        let mut timeout = Duration::ZERO;
        let mut since = Instant::now();
        for server in &servers {
            let began = *self.draining.borrow_mut().entry(server.name.clone()).or_insert(since);
            since = since.min(began);
            let app = server.name.rsplit_once(':').map_or("", |(app, _)| app);
            let app_timeout = snapshot
                .settings
                .apps
                .get(app)
                .map_or(Duration::from_secs(30), |a| a.drain_timeout);
            timeout = timeout.max(app_timeout);
            if drain.hold {
                self.held.hold(&server.name);
            } else {
                // The unit is stopping and the bus will say so, perhaps after this call.
                self.note_stop(&server.name);
                if let Some(units) = &mut *self.units.borrow_mut() {
                    units.set(server.name.clone(), UnitState::Deactivating, true);
                }
            }
            self.set(server, app, State::Draining);
        }
        let timeout = drain.timeout_ms.map_or(timeout, Duration::from_millis);
        let end = since + timeout;
        let at_earlier = self.earlier.drain(&drain.target, end);
        let (here, there) = tokio::join!(self.in_flight_after(&servers, end), at_earlier);
        Ok(model::Drained { in_flight: here + there })
    }

    /// What is in flight at these in the end: nothing, or what was not done by then, and a little later.
    async fn in_flight_after(&self, servers: &[Arc<Server>], mut end: Instant) -> u32 {
        let mut over = false;
        loop {
            let in_flight = servers.iter().map(|s| s.in_flight()).sum();
            if in_flight > 0 && Instant::now() >= end && !over {
                for server in servers {
                    self.threads.end_conversations(server);
                }
                (over, end) = (true, Instant::now() + LAST_WORDS);
            }
            if in_flight == 0 || Instant::now() >= end {
                // What finished meanwhile went back to the pools.
                for server in servers {
                    self.threads.forget_idle(server.id);
                }
                return in_flight;
            }
            sleep(DRAIN_POLL).await;
        }
    }

    /// Puts workers that an administrator drained back into the rotation.
    ///
    /// # Errors
    /// When no worker has that name, or one drains because its unit stops.
    pub(crate) fn undrain(&self, target: &str) -> Result<(), (StatusCode, String)> {
        self.look_for_returned();
        let servers = self.targets(target).map_err(|error| (StatusCode::NOT_FOUND, error))?;
        for server in &servers {
            self.held.release(&server.name);
            self.apply(server);
        }
        match servers.iter().find(|server| server.state() == State::Draining) {
            Some(server) => {
                let error = format!(
                    "{} drains because its unit stops, or because it was drained without \"hold\"; it gets \
                     requests again when its unit has been started anew",
                    server.name
                );
                Err((StatusCode::CONFLICT, error))
            }
            None => Ok(()),
        }
    }

    fn targets(&self, target: &str) -> Result<Vec<Arc<Server>>, String> {
        let snapshot = self.front.snapshot();
        let found: Vec<_> = match snapshot.upstreams.get(&format!("app:{target}")) {
            Some(upstream) => upstream.servers.clone(),
            None => snapshot.server(target).cloned().into_iter().collect(),
        };
        let app = target.split_once(':').map_or(target, |(app, _)| app);
        if snapshot.settings.apps.get(app).is_some_and(App::is_background) {
            return Err(format!("{app} has listen = \"none\": it gets no requests that could end"));
        }
        if found.is_empty() {
            return Err(format!(
                "there is no worker or app \"{target}\" in the running configuration; \
                 roundsman status lists them"
            ));
        }
        Ok(found)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::super::state::Kept;
    use super::*;
    use crate::base::text;
    use crate::config::{Sources, sample};
    use crate::front::Front;
    use crate::systemd::dbus::workers::WorkerEvent;
    use crate::thread::Threads;

    /// A front with the app `shop` of two workers, which nobody runs.
    pub(in super::super) fn control() -> Control {
        let file = "command = [\"/bin/true\"]\nworkers = 2\ndrain-timeout = \"20s\"\n";
        let sources = Sources::directory("/nonexistent"); // nobody reloads it
        let front = Arc::new(Front::new(sample::shop(file), 1));
        let threads = Threads::start(Arc::clone(&front), &[0], false).unwrap();
        Control::new(front, threads, sources, Kept::default(), false, false, Vec::new())
    }

    fn server(control: &Control, worker: &str) -> Arc<Server> {
        Arc::clone(control.front.snapshot().server(worker).expect("it is configured"))
    }

    pub(in super::super) fn states(control: &Control) -> [State; 2] {
        ["shop:1", "shop:2"].map(|worker| server(control, worker).state())
    }

    pub(in super::super) fn asks(
        target: &str,
        hold: bool,
        timeout_ms: Option<u64>,
    ) -> model::Drain {
        model::Drain { target: target.to_owned(), hold, timeout_ms }
    }

    /// Whether something took as long as this, and no longer than the next look.
    #[track_caller]
    fn took(since: Instant, expected: Duration) {
        let took = since.elapsed();
        assert!(took >= expected && took <= expected + DRAIN_POLL * 2, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_ends_with_the_last_request_or_with_its_time() {
        let control = control();
        let worker = server(&control, "shop:1");
        let request = worker.begin(0).expect("it is up");
        let begin = Instant::now();
        let drained = control.drain(&asks("shop:1", true, Some(5000))).await.unwrap();
        assert_eq!(drained.in_flight, 1);
        took(begin, Duration::from_secs(5) + LAST_WORDS);
        control.undrain("shop:1").unwrap();

        // Without a time of its own it is the app's.
        let begin = Instant::now();
        assert_eq!(control.drain(&asks("shop", true, None)).await.unwrap().in_flight, 1);
        took(begin, Duration::from_secs(20) + LAST_WORDS);
        control.undrain("shop").unwrap();

        let begin = Instant::now();
        let drain = asks("shop:1", true, None);
        let (drained, ()) = tokio::join!(control.drain(&drain), async {
            sleep(Duration::from_secs(3)).await;
            drop(request);
        });
        assert_eq!(drained.unwrap().in_flight, 0);
        took(begin, Duration::from_secs(3));
    }

    /// A unit that stops after a deploy has drained it has had its time.
    #[tokio::test(start_paused = true)]
    async fn the_time_of_a_drain_does_not_begin_anew() {
        let control = control();
        let worker = server(&control, "shop:1");
        let _request = worker.begin(0).expect("it is up");
        let begin = Instant::now();
        let (first, second) = (asks("shop:1", true, None), asks("shop:1", false, None));
        let (first, second) = tokio::join!(control.drain(&first), async {
            sleep(Duration::from_secs(15)).await;
            control.drain(&second).await
        });
        assert_eq!((first.unwrap().in_flight, second.unwrap().in_flight), (1, 1));
        took(begin, Duration::from_secs(20) + LAST_WORDS);
        let begin = Instant::now();
        control.drain(&asks("shop:1", false, None)).await.unwrap();
        took(begin, LAST_WORDS);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_held_stays_out_whatever_its_unit_does() {
        let control = control();
        let all = ["shop:1", "shop:2"].map(|worker| (worker.to_owned(), UnitState::Active));
        control.on_bus(WorkerEvent::All(all.into()));
        assert_eq!(states(&control), [State::Up, State::Up]);
        control.drain(&asks("shop:1", true, None)).await.unwrap();
        for state in [UnitState::Deactivating, UnitState::Inactive, UnitState::Active] {
            control.on_bus(WorkerEvent::Changed("shop:1".to_owned(), state));
            assert_eq!(states(&control), [State::Draining, State::Up], "{state:?}");
        }
        control.undrain("shop:1").unwrap();
        assert_eq!(states(&control), [State::Up, State::Up]);

        // Without it the unit's next state counts.
        control.drain(&asks("shop:2", false, None)).await.unwrap();
        assert_eq!(states(&control), [State::Up, State::Draining]);
        let (status, error) = control.undrain("shop").unwrap_err();
        assert!(status == StatusCode::CONFLICT && error.starts_with("shop:2 drains"), "{error}");
        control.on_bus(WorkerEvent::Changed("shop:2".to_owned(), UnitState::Inactive));
        assert_eq!(states(&control), [State::Up, State::Down]);
        control.on_bus(WorkerEvent::Lost("it is gone".to_owned()));
        assert_eq!(states(&control), [State::Up, State::Down], "the last states stay");
        assert!(!control.status().bus);
        control.on_bus(WorkerEvent::Changed("shop:2".to_owned(), UnitState::Active));
        assert_eq!(states(&control), [State::Up, State::Up]);
        assert_eq!(control.status_line(), "serving 1 app, 2 of 2 workers up");
    }

    #[tokio::test]
    async fn who_does_not_answer_gets_nothing_until_it_does() {
        let control = control();
        let all = ["shop:1", "shop:2"].map(|worker| (worker.to_owned(), UnitState::Active));
        control.on_bus(WorkerEvent::All(all.clone().into()));
        let says = |answers| control.on_bus(WorkerEvent::Answers("shop:1".to_owned(), answers));
        says(false);
        assert_eq!(states(&control), [State::Down, State::Up]);
        control.on_bus(WorkerEvent::All(all.into()));
        assert_eq!(states(&control), [State::Down, State::Up], "systemd does not know it");
        says(true);
        assert_eq!(states(&control), [State::Up, State::Up]);
        says(false);
        for state in [UnitState::Deactivating, UnitState::Activating, UnitState::Active] {
            control.on_bus(WorkerEvent::Changed("shop:1".to_owned(), state));
        }
        assert_eq!(states(&control), [State::Up, State::Up], "it was started anew");
    }

    #[tokio::test]
    async fn nobody_is_told_so_in_words() {
        let control = control();
        for target in ["nobody", "shop:3", "app:shop", ""] {
            let error = control.drain(&asks(target, true, None)).await.unwrap_err();
            assert!(error.contains(&format!("no worker or app \"{target}\"")), "{error}");
            assert_eq!(control.undrain(target).unwrap_err().1, text::one_line(&error));
        }
        assert_eq!(states(&control), [State::Up, State::Up]);
    }
}
