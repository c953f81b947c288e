//! Extra workers during a deploy: a drop-in under `/run/roundsman.d` that raises `workers`.
//!
//! So nothing has to be told about them in a way of its own: the generator makes their units, the
//! front makes them servers, and a reboot forgets them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::progress::MOST;
use crate::base::file::write_atomically;
use crate::base::paths;
use crate::config::settings::App;

/// How many extra workers a deploy starts, unless the command says it. A background app gets none of itself:
/// two of one bot or scheduler would be in each other's way.
pub(crate) fn usual(app: &App) -> u16 {
    app.surge.unwrap_or(u16::from(app.workers == 1 && !app.is_background()))
}

/// The numbers of the extra workers of an app that has `workers` of them; fewer than asked for
/// where the most that an app can have does not leave room.
pub(crate) fn numbers(workers: u16, surge: u16) -> BTreeSet<u16> {
    let last = workers.saturating_add(surge).min(MOST);
    (workers.saturating_add(1)..=last).collect()
}

fn drop_in(root: &Path, app: &str) -> PathBuf {
    root.join(format!("run/roundsman.d/apps/{app}.toml.d")).join(paths::DEPLOY_DROP_IN)
}

/// The drop-ins of all apps that have extra workers, or have had some when a deploy was cut off.
/// Without them the files say how many workers there are to be.
pub(crate) fn drop_ins(root: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(root.join("run/roundsman.d/apps")) else { return Vec::new() };
    let app =
        |entry: fs::DirEntry| Some(entry.file_name().to_str()?.strip_suffix(".toml.d")?.to_owned());
    let paths = entries.flatten().filter_map(app).map(|app| drop_in(root, &app));
    paths.filter(|path| path.exists()).collect()
}

/// Raises the number of workers; `false` when it was so already.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn raise(root: &Path, app: &str, workers: u16) -> io::Result<bool> {
    let path = drop_in(root, app);
    let text =
        format!("# While a deploy runs; roundsman reload {app} removes it.\nworkers = {workers}\n");
    if fs::read_to_string(&path).is_ok_and(|present| present == text) {
        return Ok(false);
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    write_atomically(&path, text.as_bytes(), 0o644)?;
    Ok(true)
}

/// Takes it back; `false` when there was nothing to take back.
///
/// # Errors
/// When the file cannot be removed.
pub(crate) fn lower(root: &Path, app: &str) -> io::Result<bool> {
    let path = drop_in(root, app);
    match fs::remove_file(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    }
    // Only if it is empty: an administrator may have drop-ins there, too.
    let _ = path.parent().map(fs::remove_dir);
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Sources};

    #[test]
    fn the_drop_in_is_what_the_configuration_makes_of_it() {
        let root = tempfile::tempdir().unwrap();
        let apps = root.path().join("etc/roundsman/apps");
        fs::create_dir_all(&apps).unwrap();
        fs::write(apps.join("shop.toml"), "command = [\"/bin/true\"]\nworkers = 2\n").unwrap();
        let workers = || {
            let loaded = config::load(&Sources::system_below(root.path()));
            assert!(loaded.problems.is_empty(), "{}", loaded.problems.render(false));
            loaded.settings.apps["shop"].workers
        };
        assert!(raise(root.path(), "shop", 3).unwrap());
        assert!(!raise(root.path(), "shop", 3).unwrap());
        assert_eq!(workers(), 3);
        assert_eq!(drop_ins(root.path()), [drop_in(root.path(), "shop")]);
        assert!(lower(root.path(), "shop").unwrap());
        assert_eq!(drop_ins(root.path()), <[PathBuf; 0]>::default());
        assert!(!lower(root.path(), "shop").unwrap());
        assert_eq!(workers(), 2);
    }

    #[test]
    fn a_drop_in_that_cannot_be_removed_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(drop_in(root.path(), "shop")).unwrap();
        lower(root.path(), "shop").unwrap_err();
    }

    #[test]
    fn the_only_worker_of_a_web_app_gets_another_for_the_while() {
        let usual = |text: &str| {
            usual(
                &crate::config::sample::shop(&format!("command = [\"/bin/x\"]\n{text}")).apps["shop"],
            )
        };
        assert_eq!(usual(""), 1);
        assert_eq!(usual("workers = 2"), 0);
        assert_eq!(usual("listen = \"none\"\nready = \"running\""), 0);
        assert_eq!(usual("surge = 0"), 0, "it insists on one port, say");
        assert_eq!(usual("workers = 2\nsurge = 3"), 3);
    }

    #[test]
    fn an_app_never_has_more_workers_than_it_can() {
        assert_eq!(numbers(4, 1), [5].into());
        assert_eq!(numbers(249, 3), [250].into());
        assert!(numbers(250, 1).is_empty());
    }
}
