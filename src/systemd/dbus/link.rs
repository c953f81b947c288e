//! A connection to systemd, over the system bus or, for root, its own socket: where every call is made, with a limit of time,
//! and every signal is heard.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_core::Stream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use zbus::fdo::DBusProxy;
use zbus::proxy::CacheProperties;
use zbus::{Connection, MessageStream};

use super::direct;
use super::error::SystemdError;
use super::hearing::{Hearing, Signal};
use super::interface::{ListedUnit, ManagerProxy, NAME};
use super::unit::UnitState;

/// How long systemd has for its answers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Most of them. systemctl has 25 s.
    pub(super) call: Duration,
    /// The one to `Reload`, for which generators run. systemctl has as much.
    pub(super) reload: Duration,
    /// How long a job is waited for before it is asked how long it may take, and how much longer than
    /// that it is waited for.
    pub(super) job: Duration,
}

/// systemd's own socket, for root alone, below a directory where root alone makes anything.
const PRIVATE: &str = "/run/systemd/private";

/// How long root waits for the bus. Whoever connects to it often enough, and says nothing, keeps all
/// others from it; systemctl does not need it either.
const BUS_LIMIT: Duration = Duration::from_secs(2);

/// How long systemd is waited for that has just left the bus, to be started anew, and how often it is looked for
/// meanwhile.
const RETURN: Duration = Duration::from_secs(20);
const AGAIN: Duration = Duration::from_millis(50);

/// What is told all that systemd says. It must not block.
pub(super) type Ear = Box<dyn FnMut(Signal) + Send>;

/// A connection. Nothing is heard any more once it is dropped.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) connection: Connection,
    pub(super) manager: ManagerProxy<'static>,
    pub(super) limits: Limits,
    hears: JoinHandle<()>,
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        let (call, job) = (Duration::from_secs(30), Duration::from_secs(10));
        Self { call, reload: Duration::from_mins(3), job }
    }
}

impl Limits {
    /// Waits for the answer to a call, which is named in the error when there is none.
    async fn answer<T, E: Into<SystemdError>>(
        &self,
        call: impl FnOnce() -> String,
        answer: impl Future<Output = Result<T, E>>,
    ) -> Result<T, SystemdError> {
        within(self.call, call, answer).await
    }
}

/// Over the bus, which also knows a systemd that is started anew; for root, when it lets nobody in or
/// systemd has left it, without it.
async fn connect(limits: Limits) -> Result<Connection, SystemdError> {
    if rustix::process::geteuid().is_root() && Path::new(PRIVATE).exists() {
        if let Ok(Ok(connection)) = timeout(BUS_LIMIT, bus_with_systemd()).await {
            return Ok(connection);
        }
        if let Ok(Ok(connection)) = timeout(BUS_LIMIT, direct::connect(PRIVATE)).await {
            return Ok(connection);
        }
    }
    let call = || "connecting to the system bus".to_owned();
    limits.answer(call, Connection::system()).await
}

/// The bus, once systemd is on it: it may be about to come back.
async fn bus_with_systemd() -> zbus::Result<Connection> {
    let connection = Connection::system().await?;
    let bus = DBusProxy::builder(&connection).cache_properties(CacheProperties::No).build().await?;
    while !bus.name_has_owner(zbus::names::BusName::from_static_str(NAME)?).await? {
        sleep(AGAIN).await;
    }
    Ok(connection)
}

async fn within<T, E: Into<SystemdError>>(
    limit: Duration,
    call: impl FnOnce() -> String,
    answer: impl Future<Output = Result<T, E>>,
) -> Result<T, SystemdError> {
    match timeout(limit, answer).await {
        Ok(answer) => answer.map_err(Into::into),
        Err(_) => Err(SystemdError::Silent { call: call(), limit }),
    }
}

async fn ask_within<T, E: Into<SystemdError>, F: Future<Output = Result<T, E>>>(
    limit: Duration,
    call: impl Fn() -> String,
    ask: impl Fn() -> F,
) -> Result<T, SystemdError> {
    let end = Instant::now() + RETURN;
    loop {
        match within(limit, &call, ask()).await {
            Err(SystemdError::Away(_)) if Instant::now() < end => sleep(AGAIN).await,
            answer => return answer,
        }
    }
}

// === impl Link ===

impl Link {
    /// Connects to the system bus and has `on_signal` told all that systemd says, until the
    /// connection is closed or this is dropped; then it is dropped. To be called inside a tokio
    /// runtime.
    pub(super) async fn open(on_signal: Ear) -> Result<Self, SystemdError> {
        let limits = Limits::default();
        Self::over(connect(limits).await?, limits, on_signal).await
    }

    /// The same over a connection that is there.
    pub(super) async fn over(
        connection: Connection,
        limits: Limits,
        mut on_signal: Ear,
    ) -> Result<Self, SystemdError> {
        let has_bus = connection.is_bus();
        let hearing = if has_bus { Hearing::default() } else { Hearing::of_systemd_alone() };
        let hearing = Arc::new(Mutex::new(hearing));
        // Reads on whatever else waits: zbus stops reading when nobody takes what has come.
        let mut messages = MessageStream::from(&connection);
        let hears = tokio::spawn({
            let hearing = Arc::clone(&hearing);
            async move {
                while let Some(Ok(message)) = next(&mut messages).await {
                    let signal = lock(&hearing).hear(&message);
                    if let Some(signal) = signal {
                        on_signal(signal);
                    }
                }
            }
        });
        let manager = ManagerProxy::builder(&connection)
            .cache_properties(CacheProperties::No)
            .build()
            .await?;
        let link = Self { connection, manager, limits, hears };
        if !has_bus {
            link.subscribe().await?;
            return Ok(link);
        }
        let bus = DBusProxy::builder(&link.connection)
            .cache_properties(CacheProperties::No)
            .build()
            .await?;
        for rule in Hearing::rules()? {
            let call = || "asking the system bus for signals".to_owned();
            limits.answer(call, bus.add_match_rule(rule)).await?;
        }
        // At boot this waits for systemd to be on the bus.
        link.subscribe().await?;
        let name = zbus::names::BusName::from_static_str(NAME)?;
        let call = || "asking the system bus for systemd".to_owned();
        let systemd = link.ask(call, || bus.get_name_owner(name.clone())).await?;
        lock(&hearing).learn(systemd.as_str());
        Ok(link)
    }

    /// Asks systemd, and asks again where it leaves the bus over that: it is being started anew, and goes on with all
    /// that it has begun. So what is asked must be such that it may be asked twice. `call` is named in the error when
    /// there is no answer.
    pub(super) async fn ask<T, E: Into<SystemdError>, F: Future<Output = Result<T, E>>>(
        &self,
        call: impl Fn() -> String,
        ask: impl Fn() -> F,
    ) -> Result<T, SystemdError> {
        ask_within(self.limits.call, call, ask).await
    }

    /// The same for what takes its time.
    pub(super) async fn ask_slowly<T, E: Into<SystemdError>, F: Future<Output = Result<T, E>>>(
        &self,
        call: impl Fn() -> String,
        ask: impl Fn() -> F,
    ) -> Result<T, SystemdError> {
        ask_within(self.limits.reload, call, ask).await
    }

    /// Has systemd send signals: to be asked again of one that was started anew.
    pub(super) async fn subscribe(&self) -> Result<(), SystemdError> {
        let call = || "Subscribe".to_owned();
        match self.ask(call, || self.manager.subscribe()).await {
            // It has kept that we are.
            Ok(()) | Err(SystemdError::Refused(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// systemd's process.
    pub(super) async fn process(&self) -> Result<u32, SystemdError> {
        if !self.connection.is_bus() {
            return Ok(1);
        }
        let bus = DBusProxy::builder(&self.connection)
            .cache_properties(CacheProperties::No)
            .build()
            .await?;
        let name = zbus::names::BusName::from_static_str(NAME)?;
        let call = || "asking the system bus for systemd's process".to_owned();
        self.ask(call, || bus.get_connection_unix_process_id(name.clone())).await
    }

    /// The loaded units whose names match, with their states.
    pub(super) async fn list(
        &self,
        pattern: &str,
    ) -> Result<Vec<(String, UnitState)>, SystemdError> {
        let units = self.units(pattern).await?;
        Ok(units.into_iter().map(|unit| (unit.0, state(&unit.3))).collect())
    }

    /// Of these, the names of those that are not down or have a job.
    pub(super) async fn list_busy(&self, pattern: &str) -> Result<Vec<String>, SystemdError> {
        let is_busy = |unit: &ListedUnit| {
            let is_down = matches!(state(&unit.3), UnitState::Inactive | UnitState::Failed);
            !is_down || unit.7 != 0
        };
        let units = self.units(pattern).await?.into_iter();
        Ok(units.filter(is_busy).map(|unit| unit.0).collect())
    }

    /// Of these, those that have a job, and what it is to do: `start` or `stop`, say.
    pub(super) async fn with_jobs(
        &self,
        pattern: &str,
    ) -> Result<Vec<(String, String)>, SystemdError> {
        let units = self.units(pattern).await?.into_iter();
        Ok(units.filter(|unit| unit.7 != 0).map(|unit| (unit.0, unit.8)).collect())
    }

    async fn units(&self, pattern: &str) -> Result<Vec<ListedUnit>, SystemdError> {
        let call = || format!("ListUnitsByPatterns {pattern}");
        let patterns = [pattern];
        self.ask(call, || self.manager.list_units_by_patterns(&[], &patterns)).await
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // It holds the connection.
        self.hears.abort();
    }
}

fn state(active_state: &str) -> UnitState {
    UnitState::parse(active_state).unwrap_or_default()
}

fn lock(hearing: &Mutex<Hearing>) -> MutexGuard<'_, Hearing> {
    hearing.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn next(messages: &mut MessageStream) -> Option<zbus::Result<zbus::Message>> {
    std::future::poll_fn(|context| Stream::poll_next(Pin::new(&mut *messages), context)).await
}
