//! Whose a name is: no app takes another's place because it has the same name.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::failure::{Done, Failure};
use crate::base::origin;
use crate::base::user::User;
use crate::config::Loaded;
use crate::config::settings::App;

/// Fails when the app with this name is another one than that which is in `directory`: it has another
/// directory, or runs as another user than the one whose the directory is by now. `user` is the one
/// that was asked for.
pub(super) fn refuse(loaded: &Loaded, name: &str, directory: &Path, user: Option<&str>) -> Done {
    let Some(file) = loaded.app_files.get(name) else { return Ok(()) };
    let Some(app) = loaded.settings.apps.get(name) else {
        return Err(Failure::config(format!(
            "{} has errors, so it cannot be told whether it is this app: mend it (roundsman check \
             says how), give this one another name with --name, or replace that one with --replace",
            file.display()
        )));
    };
    let why = other_directory(app, directory)
        .or_else(|| user.is_none().then(|| other_owner(app, directory)).flatten());
    why.map_or(Ok(()), |why| {
        Err(Failure::new(format!(
            "there is another app \"{name}\" already ({}): {why}. Give this one a name of its own with \
             --name, or have it take the other's place with --replace",
            file.display()
        )))
    })
}

fn other_directory(app: &App, directory: &Path) -> Option<String> {
    let Some(present) = app.directory.as_deref() else {
        return Some("it has no directory".to_owned());
    };
    let physical = |path: &Path| fs::canonicalize(path).ok();
    let same = present == directory
        || physical(present).is_some_and(|present| Some(present) == physical(directory));
    (!same).then(|| format!("it is in {}, this one in {}", present.display(), directory.display()))
}

/// The app would run the code of whose the directory is as somebody else.
fn other_owner(app: &App, directory: &Path) -> Option<String> {
    let runs_as = app.user.as_deref()?;
    let owner = fs::metadata(directory).ok()?.uid();
    let same = User::named(runs_as).ok().flatten().is_some_and(|user| user.uid == owner);
    (owner != 0 && !same).then(|| {
        format!(
            "it runs as {runs_as}, and {} belongs to {}",
            directory.display(),
            origin::name_of(owner)
        )
    })
}
