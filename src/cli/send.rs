//! `roundsman send`: a message to an app's workers.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use serde::de::IgnoredAny;

use super::failure::{Done, Failure};
use super::manage;
use crate::base::dial::Bounded;
use crate::base::exit;
use crate::base::paths;
use crate::base::text;
use crate::base::worker_socket;

/// How long a worker may take to accept, and then to take the message and say so.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest message: what a worker takes in one line of root's. It takes less of members'.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// Send a message to an app's workers: process.on("message") in Node
#[derive(Debug, Args)]
pub(super) struct Send {
    /// An app, or one of its workers, as in shop or shop:2
    #[arg(value_name = "APP[:N]")]
    target: AppOrWorker,
    /// The message, as JSON; - reads it from the standard input
    #[arg(value_name = "JSON", allow_hyphen_values = true)]
    message: String,
    /// Print who got it as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    runtime: Runtime,
}

/// Where the workers are.
#[derive(Debug, Args)]
pub(super) struct Runtime {
    /// The directory below which the workers' control sockets are
    #[arg(long = "runtime", value_name = "DIR", default_value = paths::WORKERS)]
    pub(super) base: PathBuf,
}

/// An app, or one worker of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AppOrWorker {
    pub(super) app: String,
    pub(super) number: Option<u16>,
}

#[derive(Debug, Default, Serialize)]
struct Sent {
    sent: Vec<String>,
    failed: BTreeMap<String, String>,
}

/// Why a worker did not get it.
#[derive(Debug)]
enum Undelivered {
    NotThere,
    Denied(String),
    Other(String),
}

// === impl Send ===

impl Send {
    /// Sends.
    pub(super) fn run(&self) -> ExitCode {
        match self.send() {
            Ok(code) => ExitCode::from(code),
            Err(failure) => manage::end(Err(failure)),
        }
    }

    fn send(&self) -> Done<u8> {
        let message = self.message().map_err(|text| Failure::with(exit::USAGE, text))?;
        let app = &self.target.app;
        let numbers = match self.target.number {
            Some(number) => vec![number],
            None => paths::workers_in(&self.runtime.base, app),
        };
        let mut sent = Sent::default();
        let mut code = exit::OK;
        for number in numbers {
            let worker = format!("{app}:{number}");
            match deliver(&paths::control_socket(&self.runtime.base, app, number), &message) {
                Ok(()) => sent.sent.push(worker),
                Err(Undelivered::NotThere) => {} // its directory is there a little longer than it is
                Err(Undelivered::Denied(why)) => return Err(Failure::with(exit::DENIED, why)),
                Err(Undelivered::Other(why)) => {
                    code = exit::FAILURE;
                    sent.failed.insert(worker, why);
                }
            }
        }
        if sent.sent.is_empty() && sent.failed.is_empty() {
            let text = match self.target.number {
                Some(number) => format!("worker {app}:{number} does not run"),
                None => format!("no worker of {app:?} runs"),
            };
            return Err(Failure::with(
                exit::UNAVAILABLE,
                format!("{text}: see `roundsman status`"),
            ));
        }
        self.show(&sent);
        Ok(code)
    }

    /// The message on one line.
    fn message(&self) -> Result<String, String> {
        let text = if self.message == "-" {
            let mut text = String::new();
            let limit = MAX_MESSAGE as u64 + 1;
            let read = io::stdin().lock().take(limit).read_to_string(&mut text);
            read.map_err(|error| format!("cannot read the message: {error}"))?;
            text
        } else {
            self.message.clone()
        };
        one_line(text.trim())
    }

    fn show(&self, sent: &Sent) {
        if self.json {
            return manage::print(&serde_json::to_string(sent).unwrap_or_default());
        }
        for worker in &sent.sent {
            manage::print(&format!("{worker} got it"));
        }
        for (worker, why) in &sent.failed {
            manage::say(&format!("error: {worker} did not get it: {why}"));
        }
    }
}

/// Checks that `text` is JSON. A line end can only be between two tokens then.
fn one_line(text: &str) -> Result<String, String> {
    if text.len() > MAX_MESSAGE {
        return Err(format!("the message is longer than {MAX_MESSAGE} bytes"));
    }
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        let is_word = !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '-');
        let example = if is_word { text } else { "flush" };
        return Err(format!(
            "the message is not JSON: {error}\n  help: a text has quotes of its own, inside the \
             shell's: '\"{example}\"'; an object is as in '{{\"cmd\": \"{example}\"}}'"
        ));
    }
    Ok(text.replace(['\n', '\r'], " "))
}

fn deliver(socket: &Path, message: &str) -> Result<(), Undelivered> {
    let stream = worker_socket::control(PATIENCE, socket).map_err(|error| {
        if let Some(why) = worker_socket::denial(&error) {
            return Undelivered::Denied(why.to_owned());
        }
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Undelivered::NotThere,
            _ => Undelivered::Other(error.to_string()),
        }
    })?;
    let other = |error: io::Error| Undelivered::Other(error.to_string());
    let mut worker = Bounded::new(stream, PATIENCE);
    let written = worker.write_all(format!("send\n{message}\n").as_bytes());
    // One that refuses does so before it has read everything.
    let read = worker.line(4096);
    let answer = read.as_deref().unwrap_or_default();
    match answer.trim_end().split_once(": ") {
        None if answer == "ok\n" => Ok(()),
        Some(("denied", why)) => Err(Undelivered::Denied(text::one_line(why).into_owned())),
        Some(("error", why)) => Err(Undelivered::Other(text::one_line(why).into_owned())),
        _ => {
            written.and(read.map(drop)).map_err(other)?;
            Err(Undelivered::Other("it ended before it had the message".to_owned()))
        }
    }
}

// === impl AppOrWorker ===

impl std::str::FromStr for AppOrWorker {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (app, number) = match text.split_once(':') {
            Some((app, number)) => {
                let number = number.parse().ok().filter(|number| *number > 0);
                (app, Some(number.ok_or("write a worker's number from 1, as in shop:2")?))
            }
            None => (text, None),
        };
        if app.is_empty() || app.contains('/') || app.starts_with('.') {
            return Err("write an app's name, as in shop".to_owned());
        }
        Ok(Self { app: app.to_owned(), number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_json_on_one_line() {
        assert_eq!(
            one_line("{\n  \"a\": \"\\n\",\r\n \"b\": 1 }").unwrap(),
            "{   \"a\": \"\\n\",   \"b\": 1 }"
        );
        for good in ["null", "1e400", "\"x\"", "[]", r#"{"__proto__":null}"#] {
            assert_eq!(one_line(good).unwrap(), good);
        }
        let error = one_line("flush").unwrap_err();
        assert!(error.contains("'\"flush\"'"), "{error}");
        assert!(one_line("").is_err() && one_line("{\"a\": 1,}").is_err());
    }

    #[test]
    fn a_target_is_an_app_or_a_worker_and_no_path() {
        let of = |text: &str| text.parse::<AppOrWorker>();
        assert_eq!(of("shop").unwrap(), AppOrWorker { app: "shop".into(), number: None });
        assert_eq!(of("shop:2").unwrap(), AppOrWorker { app: "shop".into(), number: Some(2) });
        for bad in ["", ":1", "shop:", "shop:0", "shop:x", "../shop", "a/b"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
