//! `roundsman rollback`: back to the release before.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::deploy::{self, Options};
use super::failure::{Done, Failure};
use super::manage::{self, Machine, say};
use super::{AdminSocket, names, rights};
use crate::base::text;
use crate::deploy::record;
use crate::deploy::release::{self, ReleaseError};
use crate::helper::Request;
use crate::helper::request::Verb;

/// Go back to the release before: point the app's directory at it, and deploy
///
/// The app's directory must be a link to a release, such as /srv/shop/current -> releases/42. It
/// is pointed at the release that was deployed before the present one, or else at the next older
/// one beside it, and the workers are replaced as roundsman reload does it.
#[derive(Debug, Args)]
pub(super) struct Rollback {
    /// The app
    #[arg(value_name = "APP", add = names::apps())]
    app: String,
    /// Go to this release instead
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// Run by the helper: only to a release beside the present one
    #[arg(long, hide = true)]
    for_member: bool,
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    admin: AdminSocket,
}

// === impl Rollback ===

impl Rollback {
    /// Goes back.
    pub(super) fn run(&self) -> ExitCode {
        rights::run(|| self.request(), async {
            let app = manage::app(&manage::load(), &self.app)?;
            let _lock = manage::lock(&self.app, self.options.wait)?;
            let failed = |error: ReleaseError| Failure::new(error.to_string());
            let directory = app.directory.clone().ok_or_else(|| {
                Failure::new(format!("{} has no directory, so it has no releases", app.name))
            })?;
            rights::may_write(&[&directory])?;
            let to = match &self.to {
                // Not looked up before it is known that they may know.
                Some(to) if self.for_member => release::beside(&directory, to).map_err(failed)?,
                Some(to) => std::fs::canonicalize(to)
                    .map_err(|_| failed(ReleaseError::NotThere(to.clone())))?,
                None => {
                    release::previous(&directory, record::last(&app).as_deref()).map_err(failed)?
                }
            };
            let machine = Machine::connect(&self.admin.path).await?;
            release::switch(&directory, &to).map_err(|error| match error {
                // It was there a moment ago, and is a link by now.
                ReleaseError::NotThere(_) | ReleaseError::Elsewhere { .. } if self.for_member => {
                    failed(ReleaseError::NotBeside(to.clone()))
                }
                error => failed(error),
            })?;
            say(&format!("{} -> {}", text::path(&directory), text::path(&to)));
            deploy::deploy(&machine, &app, &self.options).await
        })
    }

    fn request(&self) -> Done<Request> {
        self.admin.only_default()?;
        // What this directory is, the helper does not know.
        let to = self.to.as_deref().map(std::path::absolute).transpose()?;
        let verb = Verb::Rollback(to, self.options.request()?);
        Ok(Request { app: self.app.clone(), verb, json: self.options.json })
    }
}
