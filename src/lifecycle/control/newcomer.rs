//! Workers that are ready and of which the configuration at work knows nothing: somebody has written an app's file,
//! or raised its number of workers, and started the units. That is enough to be served.

use std::time::Duration;

use tokio::time::Instant;

use super::Control;
use crate::base::unit::Instance;
use crate::config;
use crate::systemd::dbus::UnitState;

/// How long files that were refused are not read again for the next worker of the same app.
const AGAIN: Duration = Duration::from_secs(5);

impl Control {
    /// Puts the files to work, by the same rules as a reload, if it is for a worker that they have by now.
    pub(super) fn take_in(&self, worker: &str, unit: UnitState) {
        let Ok(Instance { app, number }) = worker.parse() else { return };
        let has = |app: &config::settings::App| number <= app.workers;
        let is_known = self.front.snapshot().settings.apps.get(&app).is_some_and(has);
        if unit != UnitState::Active || is_known {
            return;
        }
        let now = Instant::now();
        let mut refused = self.newcomers.borrow_mut();
        refused.retain(|_, at| now.duration_since(*at) < AGAIN);
        if refused.contains_key(&app)
            || !config::load(&self.sources).settings.apps.get(&app).is_some_and(has)
        {
            return;
        }
        tracing::info!(
            roundsman_app = app,
            roundsman_worker = worker,
            "{worker} is ready and new: the files are read"
        );
        if self.reload(Some(&app)).is_err() {
            refused.insert(app, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use super::super::super::state::Kept;
    use super::*;
    use crate::balance::State;
    use crate::config::{Sources, load};
    use crate::front::Front;
    use crate::systemd::dbus::workers::WorkerEvent;
    use crate::thread::Threads;

    const FILE: &str = "command = [\"/bin/true\"]\nworkers = 2\n";

    /// A front that was started before there was a file.
    fn control(directory: &std::path::Path) -> Control {
        fs::create_dir(directory.join("apps")).unwrap();
        let sources = Sources::directory(directory);
        let front = Arc::new(Front::new(load(&sources).strict().unwrap(), 1));
        let threads = Threads::start(Arc::clone(&front), &[0], false).unwrap();
        Control::new(front, threads, sources, Kept::default(), false, false, Vec::new())
    }

    fn ready(control: &Control, worker: &str) {
        control.on_bus(WorkerEvent::Changed(worker.to_owned(), UnitState::Active));
    }

    fn state(control: &Control, worker: &str) -> Option<State> {
        control.front().snapshot().server(worker).map(|server| server.state())
    }

    #[tokio::test]
    async fn an_app_is_served_when_its_first_worker_is_ready() {
        let directory = tempfile::tempdir().unwrap();
        let control = control(directory.path());
        control.on_bus(WorkerEvent::All([].into()));
        let file = directory.path().join("apps/shop.toml");
        fs::write(&file, FILE).unwrap();
        control.on_bus(WorkerEvent::Changed("shop:1".to_owned(), UnitState::Activating));
        assert_eq!(state(&control, "shop:1"), None, "it is not ready");
        ready(&control, "shop:1");
        assert_eq!(state(&control, "shop:1"), Some(State::Up));
        assert_eq!(state(&control, "shop:2"), Some(State::Down));

        // So is a worker that its file has got meanwhile, and none that it does not have.
        ready(&control, "shop:3");
        assert_eq!(state(&control, "shop:3"), None);
        fs::write(&file, FILE.replace('2', "3")).unwrap();
        ready(&control, "shop:3");
        assert_eq!(state(&control, "shop:3"), Some(State::Up));
        fs::remove_file(&file).unwrap();
        ready(&control, "shop:4");
        assert_eq!(state(&control, "shop:3"), Some(State::Up), "nothing was read for it");
    }

    #[tokio::test(start_paused = true)]
    async fn errors_refuse_it_as_they_refuse_a_reload() {
        let directory = tempfile::tempdir().unwrap();
        let control = control(directory.path());
        let app = |name: &str, text: &str| {
            fs::write(directory.path().join(format!("apps/{name}.toml")), text).unwrap();
        };
        app("shop", FILE);
        ready(&control, "shop:1");
        app("blog", FILE); // for every host, too
        ready(&control, "blog:1");
        assert_eq!(state(&control, "blog:1"), None);
        assert_eq!(state(&control, "shop:1"), Some(State::Up));
        app("blog", &format!("{FILE}route = [{{ host = \"b\" }}]\n"));
        ready(&control, "blog:2");
        assert_eq!(state(&control, "blog:2"), None, "not again at once");
        tokio::time::advance(AGAIN).await;
        ready(&control, "blog:2");
        assert_eq!(state(&control, "blog:2"), Some(State::Up));
    }
}
