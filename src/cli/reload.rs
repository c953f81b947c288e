//! `roundsman reload`: put the present configuration to work; with an app, replace its workers one
//! after the other.

use std::process::ExitCode;

use clap::Args;

use super::deploy::{self, Options};
use super::failure::Done;
use super::manage::{self, Machine};
use super::{AdminSocket, names, rights};
use crate::helper::Request;
use crate::helper::request::Verb;

/// Put the present configuration to work; with APP, replace its workers without losing a request
///
/// Without APP the front reads its configuration again; on errors it prints them and keeps the
/// old one.
///
/// With APP its workers are replaced one after the other: drained, restarted, proven, and only
/// then given requests again. The first that fails stops the deploy: those not yet touched keep
/// serving with the old code.
#[derive(Debug, Args)]
pub(super) struct Reload {
    /// The app to deploy, or all
    #[arg(value_name = "APP", add = names::apps())]
    app: Option<String>,
    #[command(flatten, next_help_heading = "Deploying an app")]
    options: Options,
    #[command(flatten)]
    admin: AdminSocket,
}

// === impl Reload ===

impl Reload {
    /// Reloads the front, or deploys.
    pub(super) fn run(&self) -> ExitCode {
        let Some(name) = &self.app else {
            return self.admin.call::<(), serde_json::Value>("POST", "/v1/reload", None, |_| {
                if self.options.json {
                    manage::print("{\"result\": \"reloaded\"}");
                }
            });
        };
        manage::each(name, |name| self.deploy(name))
    }

    fn deploy(&self, name: &str) -> ExitCode {
        rights::run(|| self.request(name), async {
            let app = manage::app(&manage::load(), name)?;
            let _lock = manage::lock(name, self.options.wait)?;
            let machine = Machine::connect(&self.admin.path).await?;
            deploy::deploy(&machine, &app, &self.options).await
        })
    }

    fn request(&self, app: &str) -> Done<Request> {
        self.admin.only_default()?;
        let verb = Verb::Reload(self.options.request()?);
        Ok(Request { app: app.to_owned(), verb, json: self.options.json })
    }
}
