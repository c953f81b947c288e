//! The last good configuration: a copy of the files of the last successful start or reload.
//!
//! It is used, loudly, when the present files have errors at start, so that a restart never takes
//! down what a reload would have refused to.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::{Loaded, Sources};

/// Where the copy is kept.
#[derive(Debug, Clone)]
pub(crate) struct LastGood {
    directory: PathBuf,
}

// === impl LastGood ===

impl LastGood {
    /// The copy in this state directory.
    pub(crate) fn new(state: &Path) -> Self {
        Self { directory: state.join("last-good") }
    }

    /// Where to load it from, if there is one.
    pub(crate) fn sources(&self) -> Option<Sources> {
        self.directory.is_dir().then(|| Sources::directory(&self.directory))
    }

    /// The present files, but instead of what has an error, and is not of `app`, what is kept of it: a
    /// file with its drop-ins, or nothing where it is new.
    pub(crate) fn instead_of_broken(
        &self,
        sources: &Sources,
        loaded: &Loaded,
        app: &str,
    ) -> Sources {
        let roots = sources.roots();
        let relative = |path: &Path| {
            roots.iter().find_map(|root| path.strip_prefix(root).ok()).map(Path::to_owned)
        };
        let broken: BTreeSet<PathBuf> = loaded
            .problems
            .iter()
            .filter(|problem| problem.is_error())
            .filter_map(|problem| Some(main_file(&relative(problem.path())?)))
            .filter(|main| *main != Path::new("apps").join(format!("{app}.toml")))
            .collect();
        let mut names: BTreeSet<PathBuf> =
            loaded.paths.iter().filter_map(|path| relative(path)).collect();
        names.extend(kept_in(&self.directory, Path::new("")));
        // What cannot even be read is in neither.
        names.extend(broken.iter().cloned());
        let mut instead = sources.clone();
        for name in names.into_iter().filter(|name| broken.contains(&main_file(name))) {
            match fs::read_to_string(self.directory.join(&name)).ok() {
                Some(text) => {
                    let root = roots.last().map_or(Path::new("/"), PathBuf::as_path);
                    instead = instead.with_file(root.join(name), Some(text));
                }
                None => {
                    for root in roots {
                        instead = instead.with_file(root.join(&name), None);
                    }
                }
            }
        }
        instead
    }

    /// Replaces the copy by these files (relative path and content).
    ///
    /// The new copy is complete before the old one goes, so that a crash in between leaves one.
    pub(crate) fn save(&self, files: &[(PathBuf, Vec<u8>)]) -> io::Result<()> {
        let new = self.directory.with_extension("new");
        let old = self.directory.with_extension("old");
        remove(&new)?;
        fs::create_dir_all(&new)?;
        for (path, content) in files {
            let path = new.join(path);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(path, content)?;
        }
        remove(&old)?;
        match fs::rename(&self.directory, &old) {
            // An overlay does not rename a directory of what it lies over, a machine's image, ever.
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => remove(&self.directory)?,
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::rename(&new, &self.directory)?;
        remove(&old)
    }
}

/// The file to which a drop-in belongs; of any other file itself.
fn main_file(relative: &Path) -> PathBuf {
    let folder = relative.parent().and_then(Path::to_str);
    match folder.and_then(|folder| folder.strip_suffix(".d")) {
        Some(main) => main.into(),
        None => relative.to_owned(),
    }
}

/// The files below a directory, by their paths from there.
fn kept_in(directory: &Path, below: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory.join(below)).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| {
            let path = below.join(entry.file_name());
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => kept_in(directory, &path),
                _ => vec![path],
            }
        })
        .collect()
}

fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_replaces_the_one_before_it_whole() {
        let state = tempfile::tempdir().unwrap();
        let copy = LastGood::new(state.path());
        assert!(copy.sources().is_none());
        copy.save(&[("roundsman.toml".into(), b"".into()), ("apps/a.toml".into(), b"x".into())])
            .unwrap();
        copy.save(&[("apps/b.toml".into(), b"y".into())]).unwrap();
        assert!(copy.sources().is_some());
        let kept = state.path().join("last-good");
        assert_eq!(fs::read(kept.join("apps/b.toml")).unwrap(), b"y");
        assert!(!kept.join("apps/a.toml").exists());
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn one_broken_file_keeps_no_other_from_being_put_to_work() {
        let (state, etc) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let write = |name: &str, text: &str| {
            let path = etc.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let app = |host: &str, workers: u16| {
            format!(
                "command = [\"/bin/x\"]\nworkers = {workers}\nroute = [{{ host = \"{host}\" }}]\n"
            )
        };
        write("apps/a.toml", &app("a", 2));
        write("apps/a.toml.d/x.toml", "workers = 3\n");
        write("apps/b.toml", &app("b", 1));
        let sources = Sources::directory(etc.path());
        let load = || crate::config::load(&sources);
        let copy = LastGood::new(state.path());
        copy.save(&load().files).unwrap();

        write("apps/a.toml.d/x.toml", "workers = nonsense\n");
        write("apps/b.toml", &app("b", 5));
        write("apps/new.toml", "command = 1\n");
        let loaded = load();
        assert!(loaded.problems.errors() > 0);
        let of = |app: &str| crate::config::load(&copy.instead_of_broken(&sources, &loaded, app));
        let settings = of("b").strict().unwrap();
        let workers = |app: &str| settings.apps.get(app).map(|app| app.workers);
        assert_eq!((workers("a"), workers("b"), workers("new")), (Some(3), Some(5), None));
        // One's own errors are not looked over.
        assert!(of("a").problems.errors() > 0 && of("new").problems.errors() > 0);
    }
}
