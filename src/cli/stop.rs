//! `roundsman stop` and `roundsman restart`.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::failure::{Done, Failure};
use super::manage::{self, Machine, done};
use super::{AdminSocket, by_force, companions, names, rights};
use crate::base::{exit, paths, unit};
use crate::config::settings::App;
use crate::deploy::progress::Lock;
use crate::deploy::sockets;
use crate::helper::Request;
use crate::helper::request::Verb as Asked;
use crate::supervise::crashes;
use crate::systemd::dbus::{SystemdError, Verb};

/// Stop an app, or one of its workers: drain, then end; it starts again at boot
#[derive(Debug, Args)]
pub(super) struct Stop {
    #[command(flatten)]
    of: Of,
}

/// Restart an app's workers all at once, while connections wait; see reload for one by one
#[derive(Debug, Args)]
pub(super) struct Restart {
    #[command(flatten)]
    of: Of,
}

/// Whose workers.
#[derive(Debug, Clone, Args)]
struct Of {
    /// An app, or one of its workers, as in shop or shop:2, or all
    #[arg(value_name = "APP[:N]", add = names::apps())]
    target: String,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminSocket,
}

// === impl Of ===

impl Of {
    /// The same for this app.
    fn with(&self, target: &str) -> Self {
        Self { target: target.to_owned(), ..self.clone() }
    }

    /// The app and the workers that are meant, and whether that is all of them.
    fn workers(&self) -> Done<(App, Vec<u16>, bool)> {
        let loaded = manage::load();
        let Some((name, number)) = self.target.split_once(':') else {
            let app = manage::app_as_it_is(&loaded, &self.target)?;
            let all = (1..=app.workers).collect();
            return Ok((app, all, true));
        };
        let app = manage::app_as_it_is(&loaded, name)?;
        match number.parse() {
            Ok(number) if (1..=app.workers).contains(&number) => Ok((app, vec![number], false)),
            _ => {
                Err(Failure::new(format!("{name} has workers {name}:1 to {name}:{}", app.workers)))
            }
        }
    }

    /// What the helper is asked for.
    fn request(&self, verb: fn(Option<u16>) -> Asked) -> Done<Request> {
        self.admin.only_default()?;
        let (app, number) = match self.target.split_once(':') {
            None => (&*self.target, None),
            Some((app, number)) => {
                let wrong = |_| Failure::new(format!("{number} is no number of a worker"));
                (app, Some(number.parse().map_err(wrong)?))
            }
        };
        Ok(Request { app: app.to_owned(), verb: verb(number), json: self.json })
    }

    /// Tells that it is done.
    fn done(&self, app: &App, numbers: &[u16], past: &str) {
        let workers: Vec<String> = numbers.iter().map(|number| app.instance(*number)).collect();
        let text = format!("{} has {past}", self.target);
        done(self.json, &text, past, &app.name, &json!({ past: workers }));
    }
}

// === impl Stop ===

impl Stop {
    /// Stops.
    pub(super) fn run(&self) -> ExitCode {
        manage::each(&self.of.target, |target| stop(&self.of.with(target)))
    }
}

fn stop(of: &Of) -> ExitCode {
    rights::run(|| of.request(Asked::Stop), async {
        let (app, mut numbers, all) = of.workers()?;
        let mut lock = None;
        let mut stopped = in_order(of, &app, &mut numbers, all, &mut lock).await;
        if stopped.as_ref().is_err_and(|why| why.code == exit::UNAVAILABLE && !why.is_silence) {
            // It has left the bus meanwhile, and there is another way to it.
            lock = None;
            stopped = in_order(of, &app, &mut numbers, all, &mut lock).await;
        }
        if let Err(why) = stopped {
            if !why.is_silence {
                return Err(why);
            }
            let _lock = match lock.take() {
                Some(lock) => lock,
                None => manage::lock(&app.name, false)?,
            };
            if all {
                numbers.extend(paths::workers_in(Path::new(paths::WORKERS), &app.name));
                numbers.sort_unstable();
                numbers.dedup();
            }
            by_force::stop(why, &app, &numbers, all).await?;
        }
        of.done(&app, &numbers, "stopped");
        Ok(())
    })
}

async fn in_order(
    of: &Of,
    app: &App,
    numbers: &mut Vec<u16>,
    all: bool,
    lock: &mut Option<Lock>,
) -> Done {
    let machine = Machine::connect(&of.admin.path).await?;
    *lock = Some(if all {
        companions::lock_to_end(&machine, &app.name).await?
    } else {
        manage::lock(&app.name, false)?
    });
    if all {
        machine.systemd.job(Verb::Stop, &unit::target(&app.name)).await?;
        // Also such as the file does not have any more, or not yet.
        numbers.extend(machine.running(&app.name).await?);
        numbers.sort_unstable();
        numbers.dedup();
    }
    machine.stop_workers(app, numbers).await
}

// === impl Restart ===

impl Restart {
    /// Restarts.
    pub(super) fn run(&self) -> ExitCode {
        manage::each(&self.of.target, |target| restart(&self.of.with(target)))
    }
}

fn restart(of: &Of) -> ExitCode {
    rights::run(|| of.request(Asked::Restart), async {
        let (app, numbers, _) = of.workers()?;
        let _lock = manage::lock(&app.name, false)?;
        let machine = Machine::connect(&of.admin.path).await?;
        let then = format!("roundsman restart {}", of.target);
        machine.could_start(&app, numbers.iter().copied(), Some(&then)).await?;
        let services: Vec<String> =
            numbers.iter().map(|number| unit::service(&app.name, *number)).collect();
        for number in &numbers {
            crashes::forget(&app.instance(*number));
        }
        for service in &services {
            machine.systemd.reset_failed(service).await?;
        }
        for number in &numbers {
            sockets::mend(&machine.systemd, &app, *number).await?;
        }
        if let Err(error) = machine.systemd.jobs(Verb::Restart, &services).await {
            let failed = numbers.iter().find(|number| {
                    matches!(&error, SystemdError::Job { unit, .. } if *unit == unit::service(&app.name, **number))
                });
            return Err(match failed {
                Some(number) => machine.why(&app, *number, &error.to_string()).await,
                None => error.into(),
            });
        }
        of.done(&app, &numbers, "restarted");
        Ok(())
    })
}
