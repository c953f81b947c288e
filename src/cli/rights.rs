//! Who may do what a command is for, asked before its first step: so that a command which is refused
//! has changed nothing.

use std::future::Future;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::failure::{Done, Failure};
use super::manage;
use crate::base::{exit, paths};
use crate::helper::{Request, client};

/// Where it is noted which apps start at boot.
pub(super) const BOOT: &str = "/etc/systemd/system/roundsman-apps.target.wants";

/// Does it, as root; has the helper do it, for everybody else. `request` says what the helper is
/// asked for, or why this is for root alone.
pub(super) fn run(
    request: impl FnOnce() -> Done<Request>,
    command: impl Future<Output = Done>,
) -> ExitCode {
    if rustix::process::geteuid().is_root() {
        return manage::run(command);
    }
    let mut status = exit::OK;
    let asked = manage::run(async {
        status = client::ask(Path::new(paths::HELPER_SOCKET), &request()?).await?;
        Ok(())
    });
    if status == exit::OK { asked } else { ExitCode::from(status) }
}

/// The same for what no member may have done.
pub(super) fn run_as_root(what: &str, command: impl Future<Output = Done>) -> ExitCode {
    run(|| Err(root_alone(what)), command)
}

/// Says that this is for root.
pub(super) fn root_alone(what: &str) -> Failure {
    Failure::with(
        exit::DENIED,
        format!("{what} is for root alone; nothing was changed.\nRun this as root (sudo)."),
    )
}

/// Whether all of these can be written, made or removed.
///
/// # Errors
/// When one cannot; it says which.
pub(super) fn may_write(paths: &[&Path]) -> Done {
    for path in paths {
        let denied = |error: io::Error| {
            let why = format!("cannot write {}: {error}; nothing was changed", path.display());
            Failure::from(io::Error::new(error.kind(), why))
        };
        let effective =
            |path: &Path, access, flags| accessat(CWD, path, access, AtFlags::EACCESS | flags);
        // A link is itself replaced, wherever it leads.
        match effective(path, Access::WRITE_OK, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(denied(error.into())),
        }
        // It is replaced or removed, not written to; and what is above it may have yet to be made.
        let Some(folder) = path.ancestors().skip(1).find(|folder| folder.exists()) else {
            continue;
        };
        effective(folder, Access::WRITE_OK | Access::EXEC_OK, AtFlags::empty())
            .map_err(|error| denied(error.into()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_written_is_known_beforehand() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        may_write(&[&file, &directory.path().join("new"), &directory.path().join("a/b/c")])
            .unwrap();
        let failure = may_write(&[&file, Path::new("/proc/version/x")]).unwrap_err();
        assert!(failure.message.contains("/proc/version/x"), "{}", failure.message);
    }
}
