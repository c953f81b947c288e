//! Unit jobs over D-Bus: what `systemctl` does for start, stop, restart, enable and daemon-reload,
//! with the results that systemd reports for each job.

use std::collections::HashMap;
use std::num::NonZero;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use zbus::zvariant::DynamicType;
use zbus::{Connection, MatchRule, Message, MessageStream, OwnedObjectPath, OwnedVariant, message};

use super::bus::UnitState;

const MANAGER: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER_INTERFACE: &str = "org.freedesktop.systemd1.Manager";
const UNIT_INTERFACE: &str = "org.freedesktop.systemd1.Unit";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// Signals that may wait for us: a job of a whole app has a few dozen.
const SIGNALS: usize = 4096;

/// Why systemd did not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No system bus, no systemd behind it, or it is gone.
    #[error("cannot reach systemd over D-Bus: {0}\nIs this a machine that systemd has booted?")]
    Unreachable(String),
    /// It says that we may not.
    #[error(
        "systemd does not allow this: {0}\nRun it as root (sudo), or as a member of the group \
         \"roundsman\" where polkit is installed."
    )]
    Denied(String),
    /// It refuses.
    #[error("{0}")]
    Refused(String),
    /// The job was done, and failed.
    #[error("{unit}: {}", explain(.result))]
    Job {
        /// Which unit.
        unit: String,
        /// systemd's word for it: `failed`, `timeout`, `dependency`, …
        result: String,
    },
}

/// systemd's one-word results of a job, for people.
fn explain(result: &str) -> String {
    match result {
        "failed" => "did not start".to_owned(),
        "timeout" => "was not done in the time it has".to_owned(),
        "dependency" => "something that it needs did not start".to_owned(),
        "canceled" => "something else, a stop for instance, came in between".to_owned(),
        "skipped" => "systemd skipped it, because a condition of the unit does not hold".to_owned(),
        other => format!("the job ended as \"{other}\""),
    }
}

/// What is done to a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Start it, or do nothing when it runs.
    Start,
    /// Stop it.
    Stop,
    /// Stop it if it runs, then start it.
    Restart,
    /// Have it read its configuration again.
    Reload,
}

/// What systemd knows about a unit.
#[derive(Debug, Clone, Default)]
pub struct Unit {
    properties: HashMap<String, OwnedVariant>,
}

/// A connection to the service manager, which sees what becomes of every job.
#[derive(Debug)]
pub struct Systemd {
    connection: Connection,
    /// Results by job, of all jobs that ended since the connection was made.
    results: Arc<Mutex<HashMap<String, String>>>,
    /// Counts signals; it is closed when the connection is.
    ended: watch::Receiver<u64>,
}

// === impl Error ===

impl From<zbus::Error> for Error {
    fn from(error: zbus::Error) -> Self {
        if let zbus::Error::MethodError(name, text, _) = &error {
            let text = text.as_deref().unwrap_or(name.as_str()).to_owned();
            return match name.as_str() {
                "org.freedesktop.DBus.Error.AccessDenied"
                | "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired" => {
                    Self::Denied(text)
                }
                "org.freedesktop.DBus.Error.ServiceUnknown"
                | "org.freedesktop.DBus.Error.NoReply"
                | "org.freedesktop.DBus.Error.Disconnected" => Self::Unreachable(text),
                _ => Self::Refused(text),
            };
        }
        // Proxies of the standard interfaces give standard errors in this form.
        if let zbus::Error::FDO(error) = &error
            && let zbus::fdo::Error::AccessDenied(text)
            | zbus::fdo::Error::InteractiveAuthorizationRequired(text) = &**error
        {
            return Self::Denied(text.clone());
        }
        Self::Unreachable(error.to_string())
    }
}

/// Links that were made or removed: what was done, where, and to what.
type Changes = Vec<(String, String, String)>;

// === impl Verb ===

impl Verb {
    fn method(self) -> &'static str {
        match self {
            Self::Start => "StartUnit",
            Self::Stop => "StopUnit",
            Self::Restart => "RestartUnit",
            Self::Reload => "ReloadUnit",
        }
    }
}

// === impl Systemd ===

impl Systemd {
    /// Connects. Must be called inside a tokio runtime, which follows the jobs from then on.
    ///
    /// # Errors
    /// When there is no systemd behind the system bus.
    pub async fn connect() -> Result<Self, Error> {
        let connection = Connection::system().await?;
        let rule = MatchRule::builder()
            .msg_type(message::Type::Signal)
            .sender(MANAGER)
            .interface(MANAGER_INTERFACE)
            .member("JobRemoved")
            .build()?;
        let signals =
            MessageStream::for_match_rule(rule, &connection, NonZero::new(SIGNALS)).await?;
        let results = Arc::<Mutex<HashMap<String, String>>>::default();
        let (count, ended) = watch::channel(0);
        tokio::spawn(follow(signals, Arc::clone(&results), count));
        let systemd = Self { connection, results, ended };
        systemd.manager("Subscribe", &()).await?;
        Ok(systemd)
    }

    /// Does something to a unit and waits until the job is done.
    ///
    /// # Errors
    /// When systemd refuses, or the job fails.
    pub async fn job(&self, verb: Verb, unit: &str) -> Result<(), Error> {
        let reply = self.manager(verb.method(), &(unit, "replace")).await?;
        self.wait(&reply, unit).await
    }

    /// Has something done to a unit, without waiting for it.
    ///
    /// # Errors
    /// When systemd refuses. That there is no such unit is none.
    pub async fn begin(&self, verb: Verb, unit: &str) -> Result<(), Error> {
        match self.manager(verb.method(), &(unit, "replace")).await {
            Ok(_) | Err(Error::Refused(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Does something to several units at once and waits for all jobs.
    ///
    /// # Errors
    /// The first that failed; the others are waited for all the same.
    pub async fn jobs(&self, verb: Verb, units: &[String]) -> Result<(), Error> {
        let mut replies = Vec::with_capacity(units.len());
        let mut first = Ok(());
        for unit in units {
            match self.manager(verb.method(), &(unit.as_str(), "replace")).await {
                Ok(reply) => replies.push((unit, reply)),
                Err(error) => first = first.and(Err(error)),
            }
        }
        for (unit, reply) in replies {
            first = first.and(self.wait(&reply, unit).await);
        }
        first
    }

    /// Waits for the job that a reply names.
    async fn wait(&self, reply: &Message, unit: &str) -> Result<(), Error> {
        let job: OwnedObjectPath = reply.body().deserialize()?;
        let mut ended = self.ended.clone();
        loop {
            ended.mark_unchanged();
            // The signal may well have come before the reply.
            let result = self.results().remove(job.as_str());
            match result.as_deref() {
                Some("done") => return Ok(()),
                Some(result) => {
                    return Err(Error::Job { unit: unit.to_owned(), result: result.to_owned() });
                }
                None if ended.changed().await.is_err() => {
                    return Err(Error::Unreachable("the connection was closed".to_owned()));
                }
                None => {}
            }
        }
    }

    fn results(&self) -> std::sync::MutexGuard<'_, HashMap<String, String>> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a unit start at boot; does not start it.
    ///
    /// # Errors
    /// When systemd refuses.
    pub async fn enable(&self, unit: &str) -> Result<(), Error> {
        // Not only for this boot; links that point elsewhere are replaced, as systemctl does.
        let reply = self.manager("EnableUnitFiles", &(&[unit][..], false, true)).await?;
        let changes = reply.body().deserialize().map(|(_, changes): (bool, Changes)| changes);
        self.reload_after(changes.unwrap_or_default()).await
    }

    /// The contrary of [`Systemd::enable`].
    ///
    /// # Errors
    /// When systemd refuses.
    pub async fn disable(&self, unit: &str) -> Result<(), Error> {
        let reply = self.manager("DisableUnitFiles", &(&[unit][..], false)).await?;
        self.reload_after(reply.body().deserialize().unwrap_or_default()).await
    }

    /// As systemctl does it: systemd 257 takes every unit for outdated otherwise.
    async fn reload_after(&self, changes: Changes) -> Result<(), Error> {
        if changes.is_empty() { Ok(()) } else { self.daemon_reload().await }
    }

    /// Whether the unit starts at boot.
    ///
    /// # Errors
    /// When systemd refuses.
    pub async fn is_enabled(&self, unit: &str) -> Result<bool, Error> {
        match self.manager("GetUnitFileState", &unit).await {
            Ok(reply) => {
                let state: String = reply.body().deserialize().unwrap_or_default();
                Ok(state.starts_with("enabled"))
            }
            Err(Error::Refused(_)) => Ok(false), // no such unit file
            Err(error) => Err(error),
        }
    }

    /// Runs the generators and reads all unit files again.
    ///
    /// # Errors
    /// When systemd refuses.
    pub async fn daemon_reload(&self) -> Result<(), Error> {
        self.manager("Reload", &()).await.map(drop)
    }

    /// Forgets that a unit failed, and how often it was started lately.
    ///
    /// # Errors
    /// When systemd refuses. That the unit is not loaded is none.
    pub async fn reset_failed(&self, unit: &str) -> Result<(), Error> {
        match self.manager("ResetFailedUnit", &unit).await {
            Ok(_) | Err(Error::Refused(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// All that systemd knows about a unit, loaded or not.
    ///
    /// # Errors
    /// When systemd cannot be asked.
    pub async fn unit(&self, unit: &str) -> Result<Unit, Error> {
        let reply = self.manager("LoadUnit", &unit).await?;
        let path: OwnedObjectPath = reply.body().deserialize()?;
        let reply = self
            .connection
            .call_method(Some(MANAGER), path.as_str(), Some(PROPERTIES), "GetAll", &"")
            .await?;
        let properties = reply.body().deserialize()?;
        Ok(Unit { properties })
    }

    /// The state of a unit and the process that it runs, without the rest.
    ///
    /// # Errors
    /// When systemd cannot be asked.
    pub async fn state(&self, unit: &str) -> Result<UnitState, Error> {
        let reply = self.manager("LoadUnit", &unit).await?;
        let path: OwnedObjectPath = reply.body().deserialize()?;
        let arguments = (UNIT_INTERFACE, "ActiveState");
        let reply = self
            .connection
            .call_method(Some(MANAGER), path.as_str(), Some(PROPERTIES), "Get", &arguments)
            .await?;
        let value: OwnedVariant = reply.body().deserialize()?;
        let state = <&str>::try_from(&value).ok().and_then(UnitState::parse);
        Ok(state.unwrap_or(UnitState::Inactive))
    }

    /// The loaded units whose names match, with their states.
    ///
    /// # Errors
    /// When systemd cannot be asked.
    pub async fn loaded(&self, pattern: &str) -> Result<Vec<(String, UnitState)>, Error> {
        type Listed = (
            String,
            String,
            String,
            String,
            String,
            String,
            OwnedObjectPath,
            u32,
            String,
            OwnedObjectPath,
        );
        let none: [&str; 0] = [];
        let reply = self.manager("ListUnitsByPatterns", &(&none[..], &[pattern][..])).await?;
        let units: Vec<Listed> = reply.body().deserialize()?;
        Ok(units
            .into_iter()
            .map(|unit| (unit.0, UnitState::parse(&unit.3).unwrap_or(UnitState::Inactive)))
            .collect())
    }

    async fn manager<B: Serialize + DynamicType>(
        &self,
        method: &str,
        body: &B,
    ) -> Result<Message, Error> {
        self.connection
            .call_method(Some(MANAGER), MANAGER_PATH, Some(MANAGER_INTERFACE), method, body)
            .await
            .map_err(Error::from)
    }
}

/// Notes the results of jobs until the connection is gone.
async fn follow(
    mut signals: MessageStream,
    results: Arc<Mutex<HashMap<String, String>>>,
    count: watch::Sender<u64>,
) {
    loop {
        let next = std::future::poll_fn(|context| {
            futures_core::Stream::poll_next(Pin::new(&mut signals), context)
        });
        let Some(Ok(signal)) = next.await else { return };
        let body = signal.body();
        let Ok((_, job, _, result)) = body.deserialize::<(u32, OwnedObjectPath, String, String)>()
        else {
            continue;
        };
        results
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(job.as_str().to_owned(), result);
        count.send_modify(|n| *n += 1);
    }
}

// === impl Unit ===

impl Unit {
    /// Its state.
    pub fn state(&self) -> UnitState {
        UnitState::parse(self.text("ActiveState")).unwrap_or(UnitState::Inactive)
    }

    /// Whether systemd found a file for it.
    pub fn exists(&self) -> bool {
        self.text("LoadState") == "loaded"
    }

    /// A string property; empty when it has none.
    pub fn text(&self, property: &str) -> &str {
        self.properties.get(property).and_then(|v| <&str>::try_from(v).ok()).unwrap_or_default()
    }

    /// A property that holds or not; `false` when there is none of that name.
    pub fn flag(&self, property: &str) -> bool {
        self.properties.get(property).is_some_and(|v| matches!(bool::try_from(v), Ok(true)))
    }

    /// A numeric property. systemd's "not set", the largest number, is `None`.
    pub fn number(&self, property: &str) -> Option<u64> {
        let value = self.properties.get(property)?;
        u64::try_from(value)
            .or_else(|_| u32::try_from(value).map(u64::from))
            .ok()
            .filter(|number| *number != u64::MAX)
    }

    /// The main process, when there is one.
    pub fn main_pid(&self) -> Option<u32> {
        self.number("MainPID").and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0)
    }

    /// What tells one run of the unit from the next.
    pub fn invocation(&self) -> Vec<u8> {
        self.properties
            .get("InvocationID")
            .and_then(|value| value.try_clone().ok())
            .and_then(|value| Vec::<u8>::try_from(value).ok())
            .unwrap_or_default()
    }

    /// How long the unit has been as it is.
    pub fn since(&self) -> Option<Duration> {
        let entered = self.number("StateChangeTimestampMonotonic")?;
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let now =
            u64::try_from(now.tv_sec).ok()? * 1_000_000 + u64::try_from(now.tv_nsec).ok()? / 1000;
        Some(Duration::from_micros(now.saturating_sub(entered)))
    }

    /// Why it is not well, in a few words; `None` when it is.
    pub fn trouble(&self) -> Option<String> {
        let status = self
            .properties
            .get("ExecMainStatus")
            .and_then(|v| i32::try_from(v).ok())
            .unwrap_or_default();
        Some(match self.text("Result") {
            "success" | "" => return None,
            "exit-code" if status == i32::from(crate::base::exit::WORKER_GIVEN_UP) => {
                match self.text("StatusText") {
                    "" => "it crashed too often and was given up".to_owned(),
                    text => text.to_owned(),
                }
            }
            "exit-code" => format!("it exited with status {status}"),
            "signal" => format!("it was killed by signal {status}"),
            "core-dump" => format!("it crashed with signal {status} and dumped core"),
            "timeout" => "it was not ready (or not gone) in time".to_owned(),
            "watchdog" => "it did not answer and was restarted by the watchdog".to_owned(),
            "oom-kill" => "the kernel killed it for its memory".to_owned(),
            "start-limit-hit" => "it failed too often and was given up".to_owned(),
            "protocol" => "it ended before it was ready".to_owned(),
            other => format!("its result is \"{other}\""),
        })
    }
}
