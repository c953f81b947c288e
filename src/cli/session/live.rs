//! The running store, as the tools reach it.

use std::path::{Path, PathBuf};

use crate::base::exit;
use crate::cli::failure::{Done, Failure};
use crate::session::command::is_namespace;
use crate::session::remote::{Address, Client, RemoteError, Url, Value};

/// The store that runs.
pub(super) struct Live {
    socket: PathBuf,
}

impl Live {
    pub(super) fn at(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// A connection in a namespace.
    pub(super) fn connect(&self, namespace: &str) -> Done<Client> {
        self.connect_to(namespace, 0)
    }

    /// A connection in a database of a namespace.
    pub(super) fn connect_to(&self, namespace: &str, database: u8) -> Done<Client> {
        if !is_namespace(namespace) {
            return Err(Failure::with(
                exit::USAGE,
                format!("'{namespace}' is not the name of an app ([a-z0-9_-]+)"),
            ));
        }
        let url = Url {
            user: Some(namespace.to_owned()),
            database: database.into(),
            ..Url::at(Address::Unix(self.socket.clone()))
        };
        Client::connect(&url).map_err(|error| match error {
            RemoteError::Io(_, error) => Failure::with(
                exit::UNAVAILABLE,
                format!(
                    "the session store does not answer at {}: {error}; is roundsman-session.socket \
                     started?",
                    self.socket.display()
                ),
            ),
            RemoteError::Access(_, text) => Failure::with(exit::DENIED, text),
            other => other.into(),
        })
    }

    /// Every namespace and database that has keys, or those of one app.
    pub(super) fn spaces(&self, app: Option<&str>) -> Done<Vec<(String, u8)>> {
        let mut client = self.connect("default")?;
        let reply = client.call(&["INFO", "roundsman"])?;
        let Value::Bulk(text) = reply else { return Err(client.unexpected(&reply).into()) };
        let text = String::from_utf8_lossy(&text);
        let spaces = text.lines().filter_map(|line| {
            let mut fields = line.strip_prefix("namespace:name=")?.split(',');
            let name = fields.next()?;
            let database = fields.next()?.strip_prefix("db=")?.parse().ok()?;
            let keys: u64 = fields.next()?.strip_prefix("keys=")?.parse().ok()?;
            (keys > 0 && app.is_none_or(|app| app == name)).then(|| (name.to_owned(), database))
        });
        let mut spaces: Vec<_> = spaces.collect();
        spaces.sort();
        Ok(spaces)
    }
}
