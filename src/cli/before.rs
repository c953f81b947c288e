//! An app as it was before a command began to change it, so that a command that fails, or is told to
//! end, can leave exactly that.

use std::path::Path;

use super::deploy::{self, Options};
use super::describe;
use super::edit::Edit;
use super::failure::{Done, Failure};
use super::manage::{self, Machine, say};
use crate::base::interrupts::Interrupts;
use crate::base::paths;
use crate::base::unit;
use crate::config::settings::App;
use crate::deploy::progress::Progress;
use crate::systemd::dbus::Verb;

/// What was there of an app.
#[derive(Debug)]
pub(super) struct Before {
    app: String,
    /// Its workers that ran; who crashes over and over is none.
    running: Vec<u16>,
    /// Whether it started at boot.
    enabled: bool,
}

// === impl Before ===

impl Before {
    /// What is there now.
    pub(super) async fn look(machine: &Machine, app: &str) -> Done<Self> {
        let running = machine.serving(app).await?;
        let enabled = machine.systemd.is_enabled(&unit::target(app)).await?;
        Ok(Self { app: app.to_owned(), running, enabled })
    }

    /// Whether no worker ran.
    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// The workers that ran.
    pub(super) fn running(&self) -> &[u16] {
        &self.running
    }

    /// Makes it so again, and says when that cannot be done. `after` is the app as it was to be. Who does
    /// not want to wait for it can leave.
    pub(super) async fn put_back(&self, machine: &Machine, after: &App, edit: &Edit) {
        let left = || Failure::new("left in the middle of it; roundsman apply goes on");
        let restored = match Interrupts::new() {
            Ok(mut interrupts) => tokio::select! {
                restored = self.restore(machine, after, edit) => restored,
                () = interrupts.recv() => Err(left()),
            },
            Err(_) => self.restore(machine, after, edit).await,
        };
        if let Err(failure) = restored {
            say(&format!("error: {} is not as it was: {}", self.app, failure.message));
        }
    }

    async fn restore(&self, machine: &Machine, after: &App, edit: &Edit) -> Done {
        let target = unit::target(&self.app);
        // While their units are there: those of workers that the file does not have go with it.
        let new: Vec<u16> = (1..=after.workers).filter(|n| !self.running.contains(n)).collect();
        let mut stopped = Ok(());
        if self.is_empty() {
            stopped = stopped.and(machine.systemd.job(Verb::Stop, &target).await);
        }
        let stopped = stopped.map_err(Failure::from).and(machine.stop_workers(after, &new).await);
        if !self.enabled {
            machine.systemd.disable(&target).await?;
        }
        edit.undo();
        machine.apply_files_of(&self.app, !after.is_background()).await?;
        if !self.is_empty() {
            self.revive(machine).await?;
        }
        stopped
    }

    /// Has the workers run again that ran, with what they ran with.
    async fn revive(&self, machine: &Machine) -> Done {
        let app = manage::app(&manage::load(), &self.app)?;
        let run = machine.running(&self.app).await?;
        let (mut down, mut stale) = (Vec::new(), Vec::new());
        for number in self.running.iter().copied().filter(|number| *number <= app.workers) {
            if !run.contains(&number) {
                down.push(number);
            } else if describe::worker(machine, &app, number, None).await?.stale.is_some() {
                stale.push(number);
            }
        }
        // Those that serve nobody first, so that somebody serves while others are replaced.
        if !down.is_empty() {
            machine.start_workers(&app, &down).await?;
        }
        let deploys = Path::new(paths::DEPLOYS);
        let extra = Progress::load(deploys, &self.app).is_some_and(|left| !left.surge.is_empty());
        if extra {
            deploy::deploy(machine, &app, &Options::default()).await?;
        } else if !stale.is_empty() {
            deploy::deploy(machine, &app, &Options::of_workers(stale)).await?;
        }
        Progress::clear(deploys, &self.app);
        Ok(())
    }
}
