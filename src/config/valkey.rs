//! The Valkey server that an app with `session = "valkey"` has for itself: how it is set up, and what the
//! app is told of it.
//!
//! Libraries choose their own keys, so no pattern of keys could keep apps apart within one server: each app
//! has a process of its own, which runs as the app's user and is reached by that user alone. The secret is
//! one for each boot, for apps that share a user.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::copy;
use super::settings::{Session, SessionSync};
use crate::base::{paths, program, text};

/// The name under which the server finds its configuration among its credentials.
pub(crate) const CONFIGURATION: &str = "valkey.conf";

/// The name under which a worker finds the secret among its credentials.
pub(crate) const SECRET: &str = "roundsman.valkey";

/// What Debian calls the server, the one that is taken first in front.
const PROGRAMS: [&str; 2] = ["valkey-server", "redis-server"];

/// Where Debian has it; nowhere that somebody installs by hand what has another configuration.
const PLACE: &str = "/usr/bin";

/// Directories of data, each with the name of its app.
pub(crate) const DATA: &str = "/var/lib/roundsman-valkey";

/// What the app may not do: what reaches out of its own data, to files, settings and other servers.
const RIGHTS: &str =
    "~* &* +@all -@admin +client +config|get +config|resetstat +slowlog +latency +monitor";

/// What of `[session]` counts for every app's server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    sync: SessionSync,
    /// Bytes of all keys and values.
    max_size: u64,
    connections: usize,
}

/// The server that this machine has.
pub(crate) fn program() -> Option<PathBuf> {
    PROGRAMS.iter().find_map(|name| program::find(name, PLACE))
}

/// The server's configuration. Of the secret it has a hash alone.
pub(crate) fn configuration(app: &str, limits: &Limits, secret: &str) -> String {
    let hash = text::hex(Sha256::digest(secret));
    // An app of this name is the user who is there anyway.
    let nobody = if app == "default" { "" } else { "user default off\n" };
    let sync = match limits.sync {
        SessionSync::Always => "always",
        SessionSync::EverySecond => "everysec",
    };
    format!(
        "port 0\n\
         unixsocket {socket}\n\
         unixsocketperm 700\n\
         dir {DATA}/{app}\n\
         supervised systemd\n\
         appendonly yes\n\
         appendfsync {sync}\n\
         save \"\"\n\
         maxmemory {max_size}\n\
         maxmemory-policy noeviction\n\
         maxmemory-clients 25%\n\
         maxclients {connections}\n\
         sanitize-dump-payload yes\n\
         {nobody}user {app} on #{hash} {RIGHTS}\n",
        socket = paths::valkey_socket(app).display(),
        max_size = limits.max_size,
        connections = limits.connections,
    )
}

/// What the app finds in its environment: the URL, and its parts for libraries that read none like it.
pub(crate) fn variables(
    app: &str,
    secret: Option<&str>,
) -> impl Iterator<Item = (&'static str, String)> {
    let socket = paths::valkey_socket(app).display().to_string();
    let url = match secret {
        Some(secret) => format!("unix://{app}:{secret}@{socket}"),
        None => format!("unix://{socket}"),
    };
    let user = secret.map(|_| app.to_owned());
    [
        ("SESSION_URL", Some(url.clone())),
        ("REDIS_URL", Some(url)),
        ("REDIS_SOCKET", Some(socket)),
        ("REDIS_USERNAME", user),
        ("REDIS_PASSWORD", secret.map(str::to_owned)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
}

/// What an app and its server know each other by, in a file system that is mounted at `root`.
pub(crate) fn secret_file(root: &Path, app: &str) -> PathBuf {
    noted(root, app, "secret")
}

/// The server's configuration, there.
pub(crate) fn configuration_file(root: &Path, app: &str) -> PathBuf {
    noted(root, app, "conf")
}

fn noted(root: &Path, app: &str, kind: &str) -> PathBuf {
    root.join(copy::DIRECTORY).join("valkey").join(format!("{app}.{kind}"))
}

/// Whether the server of an app runs, in the file system that is mounted at `root`.
pub(crate) fn runs(root: &Path, app: &str) -> bool {
    let socket = paths::valkey_socket(app);
    let directory = socket.parent().and_then(|path| path.strip_prefix("/").ok());
    directory.is_some_and(|directory| root.join(directory).exists())
}

// === impl Limits ===

impl Limits {
    /// The limits that `[session]` sets.
    pub fn of(session: &Session) -> Self {
        let Session { sync, max_size, connections, .. } = *session;
        Self { sync, max_size, connections }
    }

    /// What the service may have in memory: while it writes its file anew, a process has a copy of what
    /// changes meanwhile.
    pub(crate) fn memory(&self) -> u64 {
        self.max_size.saturating_mul(2).saturating_add(256 * 1024 * 1024)
    }

    /// The descriptors that it needs.
    pub(crate) fn descriptors(&self) -> usize {
        self.connections + 128
    }

    /// As it is noted.
    pub(crate) fn to_text(self) -> String {
        let always = self.sync == SessionSync::Always;
        format!("{always} {} {}\n", self.max_size, self.connections)
    }

    /// What [`Limits::to_text`] made.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let always: bool = words.next()?.parse().ok()?;
        let sync = if always { SessionSync::Always } else { SessionSync::EverySecond };
        let (max_size, connections) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(Self { sync, max_size, connections })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::sample;

    #[test]
    fn a_server_has_one_user_and_of_the_secret_a_hash() {
        let limits = Limits::of(&Session::default());
        let text = configuration("shop", &limits, "sesame");
        let hash = "d0c04f4b1951e4aeaaec8223ed2039e542f3aae805a6fa7f6d794e5afff5d272";
        assert!(
            text.contains(&format!("\nuser default off\nuser shop on #{hash} ~* &* ")),
            "{text}"
        );
        assert!(!text.contains("sesame"));
        for line in [
            "port 0",
            "unixsocket /run/roundsman/valkey/shop/valkey.sock",
            "dir /var/lib/roundsman-valkey/shop",
            "appendfsync everysec",
            "maxmemory 1073741824",
            "maxclients 10000",
        ] {
            assert!(text.lines().any(|is| is == line), "{line}: {text}");
        }
        let always = Limits { sync: SessionSync::Always, ..limits };
        assert!(configuration("shop", &always, "x").contains("\nappendfsync always\n"));
        assert_eq!(configuration("default", &limits, "x").matches("user default").count(), 1);
    }

    #[test]
    fn what_is_noted_is_read_again() {
        for sync in [SessionSync::Always, SessionSync::EverySecond] {
            let limits = Limits { sync, max_size: 7, connections: 9 };
            assert_eq!(Limits::from_text(&limits.to_text()), Some(limits));
        }
        for bad in ["", "true", "true x 1", "2 3 4"] {
            assert_eq!(Limits::from_text(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_app_has_the_way_to_its_server_in_one_piece_and_in_parts() {
        let all: Vec<_> = variables("shop", Some("abc")).collect();
        let url = "unix://shop:abc@/run/roundsman/valkey/shop/valkey.sock";
        assert_eq!(all[0], ("SESSION_URL", url.to_owned()));
        assert_eq!(all[1], ("REDIS_URL", url.to_owned()));
        assert_eq!(all[2].1, "/run/roundsman/valkey/shop/valkey.sock");
        assert_eq!((&*all[3].1, &*all[4].1), ("shop", "abc"));
        assert_eq!(variables("shop", None).count(), 3, "at a terminal");
    }

    #[test]
    fn the_longest_name_of_an_app_leaves_room_for_the_path_of_its_socket() {
        let path = paths::valkey_socket(&"a".repeat(64));
        assert!(path.as_os_str().len() < 108);
    }

    #[test]
    fn an_app_uses_the_server_of_another_one_of_its_user() {
        let problems = |shop: &str, consumer: &str| {
            let directory = tempfile::tempdir().expect("a directory");
            let apps = directory.path().join("apps");
            std::fs::create_dir(&apps).expect("a directory");
            for (name, text) in [("shop", shop), ("consumer", consumer)] {
                let text = format!("command = [\"/bin/x\"]\n{text}\n");
                std::fs::write(apps.join(format!("{name}.toml")), text).expect("a file");
            }
            let loaded = crate::config::load(&crate::config::Sources::directory(directory.path()));
            loaded.problems.to_string()
        };
        let (shop, consumer) =
            ("user = \"a\"\nsession = \"valkey\"", "session = \"valkey:shop\"\nlisten = \"none\"");
        let of = |user: &str| format!("user = \"{user}\"\n{consumer}");
        assert_eq!(problems(shop, &of("a")), "");
        for (shop, consumer) in [
            (shop, of("b")),
            (shop, consumer.to_owned()),
            ("session = \"valkey\"", consumer.to_owned()),
        ] {
            assert!(problems(shop, &consumer).contains("cannot use the Valkey server of shop"));
        }
        assert!(
            problems("user = \"a\"", &of("a")).contains("cannot use the Valkey server of shop")
        );
        assert!(!problems(shop, "session = \"valkey:\"").is_empty(), "no name");
    }

    #[test]
    fn root_has_no_server_of_its_own() {
        let text = "command = [\"/bin/x\"]\nsession = \"valkey\"\n";
        assert!(sample::shop(text).apps["shop"].has_valkey());
        let loaded = sample::loaded(&format!("{text}user = \"root\"\n"));
        assert!(loaded.problems.to_string().contains("runs as root"), "{}", loaded.problems);
    }
}
