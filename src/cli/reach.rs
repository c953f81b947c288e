//! Whether the user as whom an app is to run gets to it at all.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;

use super::failure::{Done, Failure};
use crate::config::machine;
use crate::config::settings::App;

/// The app's user must be able to reach its directory: better said now than by a worker that does not
/// start. (What drop-ins give the user of an app that is there is not known here.)
pub(super) fn accessible(app: &App, is_new: bool) -> Done {
    let Some(directory) = &app.directory else { return Ok(()) };
    if let Some(user) = &app.user {
        let folder = machine::rights_of(app).with(|| out_of_reach(directory))?;
        return match folder.filter(|_| is_new) {
            None => Ok(()),
            Some(folder) => Err(Failure::new(format!(
                "{user} may not enter {}, so the app cannot run there. Move it to {}, say, or give another \
                 user to run as: --user",
                folder.display(),
                elsewhere(directory)
            ))),
        };
    }
    if let Some(folder) = closed(directory) {
        return Err(Failure::new(format!(
            "others may not enter {}, so the app's own user cannot either. Move the app to {}, say, or give \
             the user to run as: --user",
            folder.display(),
            elsewhere(directory)
        )));
    }
    let program = app.command.first().map(Path::new).filter(|program| program.is_absolute());
    if let Some((program, folder)) = program.and_then(|program| Some((program, closed(program)?))) {
        return Err(Failure::new(format!(
            "others may not enter {}, so the app's own user cannot run {}. Install it for all users, \
             in /usr/local/bin say, or give the user to run as: --user",
            folder.display(),
            program.display()
        )));
    }
    Ok(())
}

/// Where an app in this folder could be as well.
fn elsewhere(directory: &Path) -> String {
    Path::new("/srv").join(directory.file_name().unwrap_or_default()).display().to_string()
}

/// The first folder on the way that may not be entered with the rights of this thread.
fn out_of_reach(path: &Path) -> Option<&Path> {
    let folders: Vec<&Path> = path.ancestors().collect();
    let may = |folder: &Path| accessat(CWD, folder, Access::EXEC_OK, AtFlags::EACCESS);
    folders.into_iter().rev().find(|folder| may(folder) == Err(Errno::ACCESS))
}

/// The folder on the way that others may not enter, if there is one.
fn closed(path: &Path) -> Option<&Path> {
    path.ancestors().find(|folder| {
        let Ok(metadata) = fs::metadata(folder) else { return false };
        metadata.is_dir() && metadata.permissions().mode() & 0o001 == 0
    })
}
