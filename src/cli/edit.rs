//! Changing an app's file: judged by the configuration before it is put in place, shown as a
//! difference, and taken back when what follows fails. That it can be put in place is known before
//! anything is done.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::failure::{Done, Failure};
use super::manage::{self, say};
use super::rights;
use crate::base::exit;
use crate::base::file::{Links, read_text};
use crate::base::paths;
use crate::base::replace;
use crate::config::settings::App;
use crate::config::{self, Loaded, Problem, Problems, Settings};
use crate::deploy::able;
use crate::start::diff;
use crate::start::file::{AppFileError, Change};

/// One file as it is and as it is to be.
#[derive(Debug)]
pub(super) struct Edit {
    path: PathBuf,
    /// `None` when there is no such file.
    old: Option<String>,
    new: Option<String>,
}

/// The file of an app, there or not.
pub(super) fn path(app: &str) -> PathBuf {
    paths::app_file(app)
}

// === impl Edit ===

impl Edit {
    /// A change to an app's file, or to a new one.
    pub(super) fn change(app: &str, change: &Change) -> Done<Self> {
        Self::at(path(app), change)
    }

    /// A change to an app that may have its file in another place than the administrator's.
    pub(super) fn overlay(app: &str, change: &Change) -> Done<Self> {
        let main = path(app);
        if main.exists() {
            return Self::at(main, change);
        }
        Self::at(Path::new(paths::APPS).join(format!("{app}.toml.d/50-roundsman.toml")), change)
    }

    /// An app's file with this text.
    pub(super) fn whole(app: &str, text: String) -> Done<Self> {
        Self::to(path(app), |_| Ok(text))
    }

    fn at(path: PathBuf, change: &Change) -> Done<Self> {
        let file = path.clone();
        Self::to(path, |old| change.apply(&file, old).map_err(|error| unchanged(&file, &error)))
    }

    fn to(path: PathBuf, new: impl FnOnce(&str) -> Done<String>) -> Done<Self> {
        manage::room()?;
        replace::check(&path)?;
        let old = read(&path)?;
        let new = new(old.as_deref().unwrap_or_default())?;
        if old.as_ref() != Some(&new) {
            rights::may_write(&[&path])?;
            let directory = path.parent().unwrap_or(Path::new("/"));
            if let Some(full) = able::no_room_for_file(directory, new.len() as u64) {
                return Err(Failure::with(exit::OS, format!("{full}; nothing was changed")));
            }
        }
        Ok(Self { path, old, new: Some(new) })
    }

    /// The same with a further change.
    pub(super) fn and(&self, change: &Change) -> Done<Self> {
        let text = self.new.as_deref().unwrap_or_default();
        let new = change.apply(&self.path, text).map_err(|e| Failure::config(e.to_string()))?;
        Ok(Self { path: self.path.clone(), old: self.old.clone(), new: Some(new) })
    }

    /// The removal of an app's file.
    pub(super) fn remove(app: &str) -> Done<Self> {
        manage::room()?;
        let path = path(app);
        let old = read(&path)?;
        rights::may_write(&[&path])?;
        Ok(Self { path, old, new: None })
    }

    /// Whether there is a file.
    pub(super) fn is_new(&self) -> bool {
        self.old.is_none()
    }

    /// Where.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What changes, for people; empty when nothing does.
    pub(super) fn difference(&self) -> String {
        diff::text(self.old.as_deref().unwrap_or_default(), self.new.as_deref().unwrap_or_default())
    }

    /// The settings as they would be.
    ///
    /// # Errors
    /// When the change would make an error, or leave one in this file. One that is in another file
    /// already is no reason against this change.
    pub(super) fn judge(&self) -> Done<Settings> {
        Ok(self.loaded()?.settings)
    }

    /// The app as it would be.
    pub(super) fn judge_app(&self, name: &str) -> Done<App> {
        let mut loaded = self.loaded()?;
        let app = loaded.settings.apps.remove(name);
        app.ok_or_else(|| {
            if loaded.app_names.contains(name) {
                refused(&loaded)
            } else {
                Failure::config(format!("there would be no app \"{name}\"; is its file masked?"))
            }
        })
    }

    fn loaded(&self) -> Done<Loaded> {
        let loaded = config::load(&manage::sources().with_file(&self.path, self.new.clone()));
        if loaded.problems.errors() == 0 {
            return Ok(loaded);
        }
        let before = manage::load().problems;
        let is_old = |error: &Problem| before.iter().any(|b| b.to_string() == error.to_string());
        let concerns = |error: &Problem| error.path() == self.path || !is_old(error);
        let errors = loaded.problems.iter().filter(|problem| problem.is_error());
        let concerning = errors.filter(|error| concerns(error)).count();
        if concerning > 0 { Err(refused(&loaded)) } else { Ok(loaded) }
    }

    /// Puts it in place.
    pub(super) fn write(&self) -> Done {
        Ok(put(&self.path, self.new.as_deref())?)
    }

    /// Takes it back.
    pub(super) fn undo(&self) {
        if read(&self.path).is_ok_and(|present| present == self.old) {
            return; // it was not put in place
        }
        match put(&self.path, self.old.as_deref()) {
            Ok(()) if self.is_new() => say(&format!("{} is removed again", self.path.display())),
            Ok(()) => say(&format!("{} is as it was", self.path.display())),
            Err(error) => say(&format!("error: cannot take back the change of the file: {error}")),
        }
    }
}

/// Why a file cannot be changed. What is wrong with one that is no TOML is told as `check` tells it.
fn unchanged(path: &Path, error: &AppFileError) -> Failure {
    let all = manage::load().problems;
    let mut of_file = Problems::default();
    of_file.extend(all.iter().filter(|problem| problem.path() == path).cloned());
    match error {
        AppFileError::Syntax { .. } if of_file.errors() > 0 => Failure::config(format!(
            "this file is not valid TOML, so that no command can change it; nothing was changed:\n{}",
            of_file.render(false)
        )),
        _ => Failure::config(error.to_string()),
    }
}

fn refused(loaded: &Loaded) -> Failure {
    Failure::config(format!(
        "the configuration would have errors; nothing was changed:\n{}",
        loaded.problems.render(false)
    ))
}

/// The most that is read of an app's file.
const MOST: u64 = 1024 * 1024;

fn read(path: &Path) -> Done<Option<String>> {
    match read_text(path, Links::Follow, MOST) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display()))
                .into())
        }
    }
}

fn put(path: &Path, text: Option<&str>) -> io::Result<()> {
    match text {
        Some(text) => {
            let parent = path.parent().unwrap_or(Path::new("/"));
            fs::create_dir_all(parent).map_err(|error| {
                io::Error::new(error.kind(), format!("cannot create {}: {error}", parent.display()))
            })?;
            replace::replace(path, text.as_bytes(), replace::OPEN)
        }
        None => match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(|error| {
                io::Error::new(error.kind(), format!("cannot remove {}: {error}", path.display()))
            }),
        },
    }
}
