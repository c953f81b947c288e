//! `roundsman start ecosystem.config.js`: every app of a list of PM2's, imported and started, as PM2's users type it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use super::edit::Edit;
use super::failure::{Done, Failure};
use super::import;
use super::manage::{self, Machine, say};
use super::rights;
use super::start::Start;
use super::{taken, whose};
use crate::base::{exit, paths, text, unit};
use crate::config::settings::App;
use crate::import::{File, Import};
use crate::start::infer::{self, Found};

/// Starts what is to be started: an app, or the apps of a list.
pub(super) fn run(start: &Start) -> ExitCode {
    match start.list() {
        Ok(Some((list, environment))) => of_list(start, list, environment),
        Ok(None) => start.run(),
        Err(failure) => manage::end(Err(failure)),
    }
}

/// Imports the list and starts its apps, one after the other: one that cannot be started is no reason to leave the
/// others.
fn of_list(start: &Start, list: &Path, environment: Option<&str>) -> ExitCode {
    let all = || -> Done<Vec<Listed>> {
        if !rustix::process::geteuid().is_root() {
            return Err(rights::root_alone(&format!("starting the apps of {}", list.display())));
        }
        let import = import::pm2(list, environment, Path::new(paths::CONFIGURATION))?;
        let listed = of(&import, start.only())?;
        tell(&import, &listed);
        Ok(listed)
    };
    match all() {
        Ok(listed) => rights::run_as_root("starting a list of apps", each(start, list, listed)),
        Err(failure) => manage::end(Err(failure)),
    }
}

/// An app of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Listed {
    name: String,
    /// Its file, and one of its secrets if it has any.
    files: Vec<File>,
}

/// The apps that are meant.
fn of(import: &Import, only: &[String]) -> Done<Vec<Listed>> {
    let mut listed: Vec<Listed> = Vec::new();
    for file in &import.files {
        let name =
            Path::new(&file.path).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        match listed.iter_mut().find(|app| app.name == name) {
            Some(app) => app.files.push(file.clone()),
            None => listed.push(Listed { name: name.to_owned(), files: vec![file.clone()] }),
        }
    }
    let names: BTreeSet<String> = listed.iter().map(|app| app.name.clone()).collect();
    for name in only {
        if !names.contains(&known_as(name)) {
            let all: Vec<&str> = names.iter().map(String::as_str).collect();
            return Err(Failure::new(format!(
                "the list has no app \"{name}\". It has: {}",
                all.join(", ")
            )));
        }
    }
    listed.retain(|app| only.is_empty() || only.iter().any(|name| known_as(name) == app.name));
    if listed.is_empty() {
        return Err(Failure::new("nothing of the list can be started"));
    }
    Ok(listed)
}

/// What an app of PM2's is called here.
fn known_as(name: &str) -> String {
    infer::app_name(name).unwrap_or_else(|| name.to_owned())
}

/// Says what is not in the files, or otherwise, of those that are meant and of the list as a whole.
fn tell(import: &Import, listed: &[Listed]) {
    let mut notes: Vec<_> = import.notes.iter().collect();
    notes.sort_by_key(|note| std::cmp::Reverse(note.severity));
    for note in notes {
        let of_another = import.files.iter().any(|file| {
            let stem = Path::new(&file.path).file_stem().and_then(|stem| stem.to_str());
            stem.is_some_and(|name| {
                note.at.starts_with(&format!("{name}: "))
                    && !listed.iter().any(|app| app.name == name)
            })
        });
        if !of_another {
            say(&text::one_line(&format!("{}: {}: {}", note.severity.word(), note.at, note.text)));
        }
    }
}

async fn each(start: &Start, list: &Path, listed: Vec<Listed>) -> Done {
    let count = listed.len();
    let mut failed = Vec::new();
    for app in &listed {
        if let Err(failure) = one(start, app).await {
            if failure.code == exit::INTERRUPTED {
                return Err(failure);
            }
            say(&format!(
                "error: {} is not started: {}",
                app.name,
                failure.message.trim_start_matches("error: ")
            ));
            failed.push(app.name.as_str());
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{} of {count} apps of {} are not started, for the reasons above: {}",
        failed.len(),
        list.display(),
        failed.join(", ")
    )))
}

async fn one(start: &Start, listed: &Listed) -> Done {
    let Listed { name, files } = listed;
    let loaded = manage::load();
    if loaded.app_files.contains_key(name) {
        let directory = edit(listed)?.judge_app(name)?.directory.unwrap_or_default();
        let of_directory = whose::look(std::slice::from_ref(&directory))?;
        // Another app with this name is left alone.
        taken::refuse(&loaded, name, None, &directory, None, &of_directory)?;
        say(&format!("{name} is there already: its file stays as it is"));
        return start.of_app(name).start().await;
    }
    let there = import::there_already(&manage::sources(), files);
    if !there.is_empty() {
        return Err(Failure::new(format!("there is already {}", import::list(&there))));
    }
    let edit = edit(listed)?;
    let app = edit.judge_app(name)?;
    // As `start` of its file alone would: of whom it is not known whose code it is nobody starts.
    if app.user.is_none() {
        let directory = app.directory.clone().unwrap_or_default();
        let found = Found { command: app.command.clone(), directory, ..Found::default() };
        if let Err(reason) = whose::look(&found.paths())? {
            return Err(whose::not_one(&found.directory, &reason));
        }
    }
    let started = match import::write(Path::new(paths::CONFIGURATION), files) {
        Ok(()) => start.of_app(name).start().await,
        failed => failed,
    };
    if started.is_err() {
        say("taking everything back");
        if let Err(failure) = take_back(start, listed, &app, &edit).await {
            say(&format!("error: {name} is not as it was: {}", failure.message));
        }
    }
    started
}

/// Its file as it is to be.
fn edit(listed: &Listed) -> Done<Edit> {
    let text = listed.files.iter().find(|file| !file.secret).map(|file| file.text.clone());
    Edit::whole(&listed.name, text.unwrap_or_default())
}

/// Leaves of an app that does not start what was there before: nothing.
async fn take_back(start: &Start, listed: &Listed, app: &App, edit: &Edit) -> Done {
    let machine = Machine::connect(start.admin()).await?;
    let stopped = machine.stop_all(&listed.name).await;
    machine.systemd.disable(&unit::target(&listed.name)).await?;
    for secret in listed.files.iter().filter(|file| file.secret) {
        let _ = fs::remove_file(Path::new(paths::CONFIGURATION).join(&secret.path)); // it may not be there yet
    }
    edit.undo();
    machine.apply_files_of(&listed.name, !app.is_background()).await?;
    stopped
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names(only: &[&str]) -> Result<Vec<String>, String> {
        let list = json!({ "apps": [
            { "name": "Web Shop", "script": "a.js", "env": { "DB_PASSWORD": "x" } },
            { "name": "api", "script": "b.js" },
        ] });
        let to = Path::new("/etc/roundsman");
        let import = crate::import::pm2::import(&list, Path::new("/srv"), None, to, None).unwrap();
        let only: Vec<String> = only.iter().map(|name| (*name).to_owned()).collect();
        let listed = of(&import, &only).map_err(|failure| failure.message)?;
        let files = listed.iter().find(|app| app.name == "web-shop").map(|app| app.files.len());
        assert!(files.is_none_or(|files| files == 2), "with its secrets");
        Ok(listed.into_iter().map(|app| app.name).collect())
    }

    #[test]
    fn those_that_are_named_are_started_by_either_name() {
        assert_eq!(names(&[]).unwrap(), ["web-shop", "api"]);
        assert_eq!(names(&["Web Shop"]).unwrap(), ["web-shop"]);
        assert_eq!(names(&["api", "web-shop"]).unwrap(), ["web-shop", "api"]);
        let said = names(&["api", "sohp"]).unwrap_err();
        assert!(said.contains("no app \"sohp\". It has: api, web-shop"), "{said}");
    }
}
