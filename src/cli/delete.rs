//! `roundsman delete`: stop an app for good and remove its file.

use std::fs;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::edit::Edit;
use super::failure::{Done, Failure};
use super::manage::{self, Machine, done};
use super::secrets::Secrets;
use super::{AdminSocket, companions, names, rights};
use crate::base::paths;
use crate::base::unit;
use crate::deploy::progress::Progress;
use crate::deploy::{record, surge};

/// Stop an app for good and remove its file; the app's own files stay
#[derive(Debug, Args)]
pub(super) struct Delete {
    /// The app, or all
    #[arg(value_name = "APP", add = names::apps())]
    app: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminSocket,
}

// === impl Delete ===

impl Delete {
    /// Deletes.
    pub(super) fn run(&self) -> ExitCode {
        manage::each(&self.app, |name| self.delete(name))
    }

    fn delete(&self, name: &str) -> ExitCode {
        rights::run_as_root("deleting an app", async {
            if !manage::load().app_names.contains(name) {
                manage::app(&manage::load(), name)?;
            }
            let edit = Edit::remove(name)?;
            if edit.is_new() {
                return Err(Failure::new(format!(
                    "{name} has no file {}: something else has installed it, and must remove it. \
                     roundsman stop {name} stops it",
                    edit.path().display()
                )));
            }
            // Also says whether something else needs it: a route in another file, for instance.
            edit.judge()?;
            self.ask(name, &edit)?;
            rights::may_write(&[Path::new(rights::BOOT)])?;
            let machine = Machine::connect(&self.admin.path).await?;
            let _lock = companions::lock_to_end(&machine, name).await?;
            machine.stop_all(name).await?;
            machine.systemd.disable(&unit::target(name)).await?;
            surge::lower(Path::new("/"), name)?;
            Progress::clear(Path::new(paths::DEPLOYS), name);
            edit.write()?;
            record::forget(name);
            match fs::remove_file(Secrets::path(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
            machine.apply_files_of(name, false).await?;
            let text = format!("{name} is deleted: {} is removed", edit.path().display());
            done(self.json, &text, "deleted", name, &json!({ "file": edit.path() }));
            Ok(())
        })
    }

    fn ask(&self, name: &str, edit: &Edit) -> Done {
        if self.yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            return Err(Failure::new("nobody can be asked here: add --yes to delete it"));
        }
        let _ = write!(
            io::stderr(),
            "{}This stops {} and removes {}. Go on? [y/N] ",
            edit.difference(),
            name,
            edit.path().display()
        );
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        match answer.trim().to_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => Err(Failure::new("nothing was changed")),
        }
    }
}
