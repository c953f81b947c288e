//! An app's files as they were when they were last right: what the generator gives to the app's
//! workers, and falls back on when the files have errors.
//!
//! The texts are kept, not what was made of them, so that any version of the program can read them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::diagnostic::Problems;
use super::fingerprint;
use super::load::{Loaded, load};
use super::settings::App;
use super::source::Sources;

/// The directory below `/run` that the generator keeps them in. Root's alone: they hold secrets.
pub(crate) const DIRECTORY: &str = "run/roundsman.generator";

/// The most that one may have: what systemd takes for all credentials of a unit.
pub(crate) const MOST: u64 = 1024 * 1024;

/// The name under which a worker finds its app's copy among its credentials.
pub(crate) const CREDENTIAL: &str = "roundsman.app";

/// The name under which a worker finds its app's file of variables number `index`, where root may
/// read that for it.
pub(crate) fn variables_credential(index: usize) -> String {
    format!("roundsman.environment.{index}")
}

/// The copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AppCopy {
    /// The app's name.
    pub app: String,
    /// The app's main file.
    pub source: Option<PathBuf>,
    /// A number for all that reaches workers when they start ([`fingerprint`]).
    pub fingerprint: String,
    /// Which loopback network the app has ([`super::networks`]).
    pub(crate) slot: u16,
    /// What `workers = "auto"` meant.
    cores: usize,
    /// The app's files by their path below the configuration directory.
    files: BTreeMap<PathBuf, String>,
}

impl AppCopy {
    /// Where the copy of an app is, in a file system that is mounted at `root`.
    pub(crate) fn path(root: &Path, app: &str) -> PathBuf {
        root.join(DIRECTORY).join("apps").join(format!("{app}.json"))
    }

    /// Of an app that was just read.
    pub(crate) fn of(loaded: &Loaded, app: &App, source: Option<PathBuf>) -> Self {
        let main = Path::new("apps").join(format!("{}.toml", app.name));
        let drop_ins = Path::new("apps").join(format!("{}.toml.d", app.name));
        let files = loaded.files.iter().filter_map(|(path, text)| {
            let is_ours = *path == main || path.parent() == Some(&*drop_ins);
            is_ours.then(|| (path.clone(), String::from_utf8_lossy(text).into_owned()))
        });
        Self {
            app: app.name.clone(),
            source,
            fingerprint: fingerprint::of_worker(app),
            slot: app.slot,
            cores: loaded.cores,
            files: files.collect(),
        }
    }

    /// What [`AppCopy::to_text`] made; `None` when it is no such thing.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// As it is kept and handed over.
    pub(crate) fn to_text(&self) -> String {
        serde_json::to_string(self).expect("names and texts are JSON")
    }

    /// The app's settings.
    ///
    /// # Errors
    /// When this version of the program finds an error in them.
    pub(crate) fn app(&self) -> Result<App, Problems> {
        let mut loaded = load(&Sources::texts(&self.files).with_cores(self.cores));
        match loaded.settings.apps.remove(&self.app) {
            Some(mut app) => {
                app.slot = self.slot;
                Ok(app)
            }
            None => Err(loaded.problems),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(files: &[(&str, &str)]) -> Loaded {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = directory.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        load(&Sources::directory(directory.path()).with_cores(3))
    }

    #[test]
    fn a_copy_is_the_app_and_nothing_of_others() {
        let loaded = loaded(&[
            ("apps/shop.toml", "command = [\"node\", \"a.js\"]\nworkers = \"auto\"\n"),
            ("apps/shop.toml.d/more.toml", "environment = { A = \"1\" }\n"),
            ("apps/shop-2.toml", "command = [\"/bin/x\"]\n"),
            ("apps/bad.toml", "command = \n"),
        ]);
        let app = &loaded.settings.apps["shop"];
        let copy = AppCopy::of(&loaded, app, None);
        let again = AppCopy::from_text(&copy.to_text()).unwrap();
        assert_eq!(again, copy);
        assert_eq!(again.files.len(), 2);
        assert_eq!(&again.app().unwrap(), app);
        assert_eq!(app.workers, 3);
    }

    #[test]
    fn generator_and_workers_mean_the_same_names() {
        assert_eq!(variables_credential(2), "roundsman.environment.2");
        let path = "/run/roundsman.generator/apps/shop.json";
        assert_eq!(AppCopy::path(Path::new("/"), "shop"), Path::new(path));
    }

    #[test]
    fn what_cannot_be_read_is_no_copy() {
        assert_eq!(AppCopy::from_text("{"), None);
        let loaded = loaded(&[("apps/shop.toml", "command = [\"/bin/x\"]\n")]);
        let mut copy = AppCopy::of(&loaded, &loaded.settings.apps["shop"], None);
        copy.files.insert("apps/shop.toml".into(), "kommand = []".to_owned());
        assert!(copy.app().unwrap_err().errors() > 0);
    }
}
