//! `roundsman worker-ended`: not for people; what a worker's unit runs when the worker has ended.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::manage;
use crate::base::exit;
use crate::base::file::{self, Links};
use crate::base::paths;
use crate::base::unit;
use crate::base::unit::Instance;
use crate::config::copy::{self, AppCopy};
use crate::deploy::release;
use crate::supervise::crashes::{Crashes, End};
use crate::supervise::life::{self, Life};
use crate::systemd::dbus::{Systemd, Verb};

/// Note how a worker ended (used by its unit)
#[derive(Debug, Args)]
#[command(hide = true)]
pub(super) struct WorkerEnded {
    /// Which one, as in shop:1
    #[arg(value_name = "APP:N")]
    instance: Instance,
    /// It is about to begin
    #[arg(long)]
    begins: bool,
}

/// What an app's workers are started with now, by the settings that they get.
fn release_of(app: &str) -> Option<PathBuf> {
    let copy = AppCopy::path(Path::new("/"), app);
    let text = file::read_text(&copy, Links::Refuse, copy::MOST).ok()?;
    let directory = AppCopy::from_text(&text)?.app().ok()?.directory?;
    release::current(&directory)
}

impl WorkerEnded {
    /// Notes it; where the worker is not to be started again, sees to it that no connection does.
    pub(super) fn run(&self) -> ExitCode {
        if self.begins {
            let instance = self.instance.to_string();
            let release = release_of(&self.instance.app);
            let begun = Crashes::begin(Path::new(paths::CRASHES), &instance, release.as_deref());
            return manage::run(async { Ok(begun?) });
        }
        let variable = |name| std::env::var(name).unwrap_or_default();
        let (result, status) = (variable("SERVICE_RESULT"), variable("EXIT_STATUS"));
        let instance = self.instance.to_string();
        let directory = Path::new(paths::CRASHES);
        let stays_down = variable("EXIT_CODE") == "exited"
            && [exit::WORKER_DONE, exit::WORKER_GIVEN_UP, exit::WORKER_REFUSED]
                .map(|code| code.to_string())
                .contains(&status);
        let after = if stays_down {
            Crashes::default()
        } else {
            Crashes::load(directory, &instance).after(&End {
                result: &result,
                status: &status,
                life: Life::read(&Path::new(paths::WORKERS).join(&instance)),
                now: life::now(),
            })
        };
        manage::run(async {
            after.save(directory, &instance)?;
            Crashes::end(directory, &instance);
            if stays_down {
                // Its unit waits for us, and the socket for the unit: no waiting here.
                let socket = unit::socket(&self.instance.app, self.instance.number);
                Systemd::connect().await?.begin(Verb::Stop, &socket).await?;
            }
            Ok(())
        })
    }
}
