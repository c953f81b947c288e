//! Options of `start` for what an app's file says, beside the command, the route and the user.

use std::path::{Path, PathBuf};

use clap::Args;
use toml_edit::{Array, InlineTable, Value};

use super::failure::{Done, Failure};
use crate::start::file::Change;

/// What is to be in the app's file.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct AppOptions {
    /// The port of the app's server: PORT for a Node app, `port` for any other
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// The shared session store, in SESSION_URL
    #[arg(long)]
    session: bool,
    /// Replace the workers when files of the app change
    #[arg(long)]
    watch: bool,
    /// Replace a worker above this memory, as in 300M
    #[arg(long, value_name = "SIZE", alias = "max-memory-restart")]
    max_memory: Option<String>,
    /// When a worker is ready: listening, message (process.send('ready')) or notify
    #[arg(long, value_name = "WHEN")]
    ready: Option<String>,
    /// Read variables from this file before each start (repeatable)
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// The path at which the app says that it is well, as in /healthz
    #[arg(long, value_name = "PATH")]
    health: Option<String>,
}

// === impl AppOptions ===

impl AppOptions {
    /// Whether none is given.
    pub(super) fn is_empty(&self) -> bool {
        let Self { port, session, watch, max_memory, ready, env_file, health } = self;
        port.is_none()
            && !session
            && !watch
            && max_memory.is_none()
            && ready.is_none()
            && env_file.is_empty()
            && health.is_none()
    }

    /// Whether it is said at which port the app listens.
    pub(super) fn has_port(&self) -> bool {
        self.port.is_some()
    }

    /// Puts them into a change of the app's file. `is_node` is whether the app is Node's, which binds no
    /// port, whatever it asks for.
    pub(super) fn add_to(&self, change: &mut Change, is_node: bool) -> Done {
        if let Some(port) = self.port {
            let has_listen = change.listen.as_deref().is_some_and(|listen| listen != "auto");
            if is_node && !has_listen {
                change.environment.push(("PORT".to_owned(), port.to_string()));
            } else {
                change.listen = Some("port".to_owned());
                change.more.push(("port".to_owned(), i64::from(port).into()));
            }
        }
        for (key, is_on) in [("session", self.session), ("watch", self.watch)] {
            if is_on {
                change.more.push((key.to_owned(), true.into()));
            }
        }
        let texts = [("max-memory", &self.max_memory), ("ready", &self.ready)];
        for (key, text) in texts {
            if let Some(text) = text {
                change.more.push((key.to_owned(), text.as_str().into()));
            }
        }
        if !self.env_file.is_empty() {
            let files = self.env_file.iter().map(|file| there(file)).collect::<Done<Vec<_>>>()?;
            change.more.push(("environment-files".to_owned(), Array::from_iter(files).into()));
        }
        if let Some(path) = &self.health {
            let health = InlineTable::from_iter([("path", path.as_str())]);
            change.more.push(("health".to_owned(), Value::from(health)));
        }
        Ok(())
    }
}

/// The path of a file that is there, from the root on.
fn there(file: &Path) -> Done<String> {
    let path = std::path::absolute(file)?;
    match path.metadata() {
        Ok(_) => Ok(path.display().to_string()),
        Err(error) => Err(Failure::new(format!("--env-file {}: {error}", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(options: &AppOptions, is_node: bool) -> String {
        let mut change = Change::default();
        options.add_to(&mut change, is_node).unwrap();
        change.apply(Path::new("shop.toml"), "").unwrap()
    }

    #[test]
    fn a_port_means_what_the_app_makes_of_it() {
        let options = AppOptions { port: Some(8000), ..AppOptions::default() };
        assert_eq!(file(&options, true), "environment = { PORT = \"8000\" }\n");
        assert_eq!(file(&options, false), "listen = \"port\"\nport = 8000\n");
    }

    #[test]
    fn every_option_has_its_line() {
        let env = tempfile::NamedTempFile::new().unwrap();
        let options = AppOptions {
            session: true,
            watch: true,
            max_memory: Some("300M".to_owned()),
            ready: Some("message".to_owned()),
            env_file: vec![env.path().to_owned()],
            health: Some("/up".to_owned()),
            ..AppOptions::default()
        };
        assert!(!options.is_empty() && AppOptions::default().is_empty());
        let expected = format!(
            "session = true\nwatch = true\nmax-memory = \"300M\"\nready = \"message\"\n\
             environment-files = [\"{}\"]\nhealth = {{ path = \"/up\" }}\n",
            env.path().display()
        );
        assert_eq!(file(&options, true), expected);
        let missing = AppOptions { env_file: vec!["/no/such".into()], ..AppOptions::default() };
        let failure = missing.add_to(&mut Change::default(), true).unwrap_err();
        assert!(failure.message.contains("/no/such"), "{}", failure.message);
    }
}
