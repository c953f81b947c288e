//! What the generator keeps between its runs, so that a mistake in a file takes nothing away from an
//! app that runs: each app's files when they were last right, which are also what its workers are
//! given.
//!
//! Below `/run`, in a directory of root's alone: the next boot begins anew, nobody else can write
//! there, and secrets in it are read by nobody.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::base::file::{Links, read_text, write_atomically};
use crate::base::text;
use crate::config::copy::{self, AppCopy};
use crate::config::networks::{self, Networks};
use crate::config::valkey::{self, Limits};

/// The directory.
#[derive(Debug)]
pub(super) struct Memory {
    root: PathBuf,
}

impl Memory {
    /// In the file system that is mounted at `root`.
    pub(super) fn below(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Notes an app that is right; this is also what its workers are given.
    pub(super) fn note(&self, app: &AppCopy) -> io::Result<()> {
        self.write(&AppCopy::path(&self.root, &app.app), &app.to_text())
    }

    /// The app as it was last noted.
    pub(super) fn app(&self, name: &str) -> Option<AppCopy> {
        let path = AppCopy::path(&self.root, name);
        let text = read_text(&path, Links::Refuse, copy::MOST).ok()?;
        AppCopy::from_text(&text).filter(|copy| copy.app == name)
    }

    /// Which networks apps have: as is written down, and else as each app was last noted.
    pub(super) fn networks(&self) -> Networks {
        let mut networks = networks::remembered(&self.root);
        for name in self.names() {
            if !networks.contains_key(&name)
                && let Some(copy) = self.app(&name)
            {
                networks.insert(name, copy.slot);
            }
        }
        networks
    }

    /// Writes down which they are.
    pub(super) fn note_networks(&self, networks: &Networks) -> io::Result<()> {
        networks::remember(&self.root, networks)
    }

    /// The apps that are noted.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.root.join(copy::DIRECTORY).join("apps"));
        let name = |entry: fs::DirEntry| Some(entry.path().file_stem()?.to_str()?.to_owned());
        entries.into_iter().flatten().flatten().filter_map(name).collect()
    }

    /// Forgets all apps but these.
    pub(super) fn keep_only(&self, names: &BTreeSet<String>) {
        for name in self.names().into_iter().filter(|name| !names.contains(name)) {
            let _ = fs::remove_file(AppCopy::path(&self.root, &name)); // it is forgotten the next time
        }
    }

    /// Notes where the session store listens beside its socket.
    pub(super) fn note_session(&self, listen: Option<&str>) -> io::Result<()> {
        match (listen, fs::remove_file(self.session())) {
            (Some(listen), _) => self.write(&self.session(), listen),
            (None, Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
            (None, _) => Ok(()),
        }
    }

    /// What was last noted of it.
    pub(super) fn session_listen(&self) -> Option<String> {
        read_text(&self.session(), Links::Refuse, copy::MOST).ok()
    }

    /// The secret of an app and its Valkey server: the one that it has had since the boot, or a new one.
    /// With it goes the server's configuration.
    pub(super) fn note_valkey(&self, app: &str, limits: &Limits) -> io::Result<()> {
        let path = valkey::secret_file(&self.root, app);
        let secret = match read_text(&path, Links::Refuse, copy::MOST) {
            Ok(secret) if secret.len() == 64 => secret,
            _ => {
                let secret = new_secret()?;
                self.write(&path, &secret)?;
                secret
            }
        };
        let configuration = valkey::configuration(app, limits, &secret);
        self.write(&valkey::configuration_file(&self.root, app), &configuration)
    }

    /// Forgets those of all apps but these.
    pub(super) fn keep_only_valkey(&self, names: &BTreeSet<&str>) {
        let entries = fs::read_dir(self.root.join(copy::DIRECTORY).join("valkey"));
        for path in entries.into_iter().flatten().flatten().map(|entry| entry.path()) {
            let name = path.file_stem().and_then(|name| name.to_str());
            if name.is_none_or(|name| !names.contains(name)) {
                let _ = fs::remove_file(path); // it is forgotten the next time
            }
        }
    }

    /// Notes what `[session]` says of Valkey servers.
    pub(super) fn note_limits(&self, limits: Limits) -> io::Result<()> {
        self.write(&self.limits_file(), &limits.to_text())
    }

    /// What was last noted of it.
    pub(super) fn limits(&self) -> Option<Limits> {
        let text = read_text(&self.limits_file(), Links::Refuse, copy::MOST).ok()?;
        Limits::from_text(&text)
    }

    fn limits_file(&self) -> PathBuf {
        self.root.join(copy::DIRECTORY).join("valkey-limits")
    }

    fn session(&self) -> PathBuf {
        self.root.join(copy::DIRECTORY).join("session-listen")
    }

    fn write(&self, path: &Path, text: &str) -> io::Result<()> {
        let directory = self.root.join(copy::DIRECTORY);
        for below in ["apps", "valkey"] {
            DirBuilder::new().recursive(true).mode(0o700).create(directory.join(below))?;
        }
        fs::set_permissions(&directory, Permissions::from_mode(0o700))?;
        write_atomically(path, text.as_bytes(), 0o600)
    }
}

/// 256 bits that nobody guesses. At the boot the kernel may have few to give, but never keeps anybody waiting.
fn new_secret() -> io::Result<String> {
    let mut bytes = [0; 32];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(text::hex(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::Session;

    #[test]
    fn an_app_and_its_server_know_each_other_until_the_boot() {
        let root = tempfile::tempdir().unwrap();
        let memory = Memory::below(root.path());
        let limits = Limits::of(&Session::default());
        let secret = |app: &str| fs::read_to_string(valkey::secret_file(root.path(), app)).ok();
        memory.note_valkey("shop", &limits).unwrap();
        memory.note_valkey("blog", &limits).unwrap();
        let first = secret("shop").unwrap();
        assert_eq!(first.len(), 64);
        assert_ne!(secret("blog"), Some(first.clone()));
        let path = valkey::secret_file(root.path(), "shop");
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o7777, 0o600);
        memory.note_valkey("shop", &limits).unwrap();
        assert_eq!(secret("shop"), Some(first));
        memory.keep_only_valkey(&BTreeSet::from(["shop"]));
        assert!(secret("shop").is_some() && secret("blog").is_none());
        assert_eq!(memory.limits(), None);
        memory.note_limits(limits).unwrap();
        assert_eq!(memory.limits(), Some(limits));
    }

    #[test]
    fn what_is_kept_is_roots_alone() {
        let root = tempfile::tempdir().unwrap();
        let memory = Memory::below(root.path());
        assert_eq!(memory.session_listen(), None);
        memory.note_session(None).unwrap();
        memory.note_session(Some("127.0.0.1:7100")).unwrap();
        assert_eq!(memory.session_listen().as_deref(), Some("127.0.0.1:7100"));
        let mode = |path: &str| {
            let path = root.path().join("run/roundsman.generator").join(path);
            fs::metadata(path).unwrap().permissions().mode() & 0o7777
        };
        assert_eq!((mode(""), mode("session-listen")), (0o700, 0o600));
        memory.note_session(None).unwrap();
        assert_eq!(memory.session_listen(), None);
    }
}
