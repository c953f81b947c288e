//! `roundsman watch`: what `roundsman-watch@APP.service` runs.

use std::process::ExitCode;

use clap::Args;

use super::failure::Failure;
use super::manage;
use super::names;
use super::worker::stop_signals;
use crate::systemd::journal;
use crate::watch::agent::Agent;

/// Replace an app's workers when files change, or when they grow too large or too old (what
/// roundsman-watch@APP.service runs)
#[derive(Debug, Args)]
pub(super) struct WatchCommand {
    /// The app
    #[arg(value_name = "APP", add = names::apps())]
    app: String,
}

impl WatchCommand {
    /// Returns when it is told to end, or there is nothing to do.
    pub(super) fn run(&self) -> ExitCode {
        journal::init();
        let code = manage::run(async {
            let app = manage::app(&manage::load(), &self.app)?;
            if !app.is_watched() {
                return Err(Failure::config(format!(
                    "{} has neither watch nor max-memory nor max-age in its file",
                    self.app
                )));
            }
            let load = || manage::app(&manage::load(), &self.app).ok();
            // This very program, also when the package was upgraded meanwhile.
            let agent = Agent::new(app, "/proc/self/exe".into(), load);
            let done = agent.run(stop_signals()?).await;
            done.map_err(|error| Failure::new(error.to_string()))
        });
        journal::flush();
        code
    }
}
