//! What `systemctl` does for enable, daemon-reload and the like, and what it shows of units.

use tokio::sync::watch;
use zbus::proxy::CacheProperties;

use super::error::SystemdError;
use super::hearing::Signal;
use super::interface::{MANAGER, MANAGER_PATH, UNIT, UnitPropertiesProxy};
use super::job_table::JobTable;
use super::link::{Ear, Link};
use super::unit::{Unit, UnitState};
use crate::base::unit::WORKER;

/// A connection to the service manager, which sees what becomes of every job that it begins.
#[derive(Debug)]
pub(crate) struct Systemd {
    pub(super) link: Link,
    pub(super) jobs: JobTable,
    /// Counts how often systemd came to the bus anew.
    pub(super) arrivals: watch::Receiver<u64>,
}

// === impl Systemd ===

impl Systemd {
    /// Connects. Must be called inside a tokio runtime, which follows the jobs from then on.
    ///
    /// # Errors
    /// When there is no systemd behind the system bus.
    pub(crate) async fn connect() -> Result<Self, SystemdError> {
        Self::with(Link::open).await
    }

    /// Over a connection that `open` makes, told all signals.
    pub(super) async fn with<O>(open: impl FnOnce(Ear) -> O) -> Result<Self, SystemdError>
    where
        O: Future<Output = Result<Link, SystemdError>>,
    {
        let jobs = JobTable::default();
        let (arrived, arrivals) = watch::channel(0);
        let closes = Closes(jobs.clone());
        let ear = Box::new(move |signal| match signal {
            Signal::JobRemoved { job, result } => closes.0.ended(job, result),
            Signal::Systemd(true) => arrived.send_modify(|n| *n += 1),
            Signal::Systemd(false)
            | Signal::State(..)
            | Signal::Status(..)
            | Signal::UnitRemoved(_)
            | Signal::Reloading(_) => {}
        });
        Ok(Self { link: open(ear).await?, jobs, arrivals })
    }

    /// Makes a unit start at boot; does not start it.
    ///
    /// # Errors
    /// When systemd refuses.
    pub(crate) async fn enable(&self, unit: &str) -> Result<(), SystemdError> {
        let call = || format!("EnableUnitFiles {unit}");
        // Not only for this boot; links that point elsewhere are replaced, as systemctl does.
        let units = [unit];
        let enable = || self.link.manager.enable_unit_files(&units, false, true);
        let (_, changes) = self.link.ask_slowly(call, enable).await?;
        self.reload_after(changes.is_empty()).await
    }

    /// The contrary of [`Systemd::enable`].
    ///
    /// # Errors
    /// When systemd refuses.
    pub(crate) async fn disable(&self, unit: &str) -> Result<(), SystemdError> {
        let call = || format!("DisableUnitFiles {unit}");
        let units = [unit];
        let disable = || self.link.manager.disable_unit_files(&units, false);
        let changes = self.link.ask_slowly(call, disable).await?;
        self.reload_after(changes.is_empty()).await
    }

    /// As systemctl does it: systemd 257 takes every unit for outdated otherwise.
    async fn reload_after(&self, nothing_changed: bool) -> Result<(), SystemdError> {
        if nothing_changed { Ok(()) } else { self.daemon_reload().await }
    }

    /// Whether the unit starts at boot.
    ///
    /// # Errors
    /// When systemd cannot be asked.
    pub(crate) async fn is_enabled(&self, unit: &str) -> Result<bool, SystemdError> {
        let call = || format!("GetUnitFileState {unit}");
        match self.link.ask(call, || self.link.manager.get_unit_file_state(unit)).await {
            Ok(state) => Ok(state.starts_with("enabled")),
            Err(SystemdError::Refused(_)) => Ok(false), // no such unit file
            Err(error) => Err(error),
        }
    }

    /// Runs the generators and reads all unit files again.
    ///
    /// # Errors
    /// When systemd refuses.
    pub(crate) async fn daemon_reload(&self) -> Result<(), SystemdError> {
        let call = || "Reload".to_owned();
        self.link.ask_slowly(call, || self.link.manager.reload()).await
    }

    /// Forgets that a unit failed, and how often it was started lately.
    ///
    /// # Errors
    /// When systemd cannot be asked. That the unit is not loaded is none.
    pub(crate) async fn reset_failed(&self, unit: &str) -> Result<(), SystemdError> {
        let call = || format!("ResetFailedUnit {unit}");
        match self.link.ask(call, || self.link.manager.reset_failed_unit(unit)).await {
            Ok(()) | Err(SystemdError::Refused(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// All that systemd knows about a unit, loaded or not.
    ///
    /// # Errors
    /// When systemd cannot be asked.
    pub(crate) async fn unit(&self, unit: &str) -> Result<Unit, SystemdError> {
        let object = self.object(unit).await?;
        let call = || format!("GetAll of {unit}");
        let properties = self.link.ask(call, || object.get_all("")).await?;
        Ok(Unit { properties })
    }

    /// The state of a unit, without the rest.
    ///
    /// # Errors
    /// When systemd cannot be asked.
    pub(crate) async fn state(&self, unit: &str) -> Result<UnitState, SystemdError> {
        let object = self.object(unit).await?;
        let call = || format!("Get ActiveState of {unit}");
        let value = self.link.ask(call, || object.get(UNIT, "ActiveState")).await?;
        let state = <&str>::try_from(&value).ok().and_then(UnitState::parse);
        Ok(state.unwrap_or_default())
    }

    async fn object(&self, unit: &str) -> Result<UnitPropertiesProxy<'static>, SystemdError> {
        let call = || format!("LoadUnit {unit}");
        let path = self.link.ask(call, || self.link.manager.load_unit(unit)).await?;
        let object = UnitPropertiesProxy::builder(&self.link.connection)
            .path(path)
            .cache_properties(CacheProperties::No);
        Ok(object.build().await?)
    }

    /// The number of its version, without what a distribution adds.
    ///
    /// # Errors
    /// When systemd cannot be asked.
    pub(crate) async fn version(&self) -> Result<u32, SystemdError> {
        let call = || "Get Version".to_owned();
        let manager = UnitPropertiesProxy::builder(&self.link.connection)
            .path(MANAGER_PATH)
            .cache_properties(CacheProperties::No)
            .build()
            .await?;
        let value = self.link.ask(call, || manager.get(MANAGER, "Version")).await?;
        Ok(<&str>::try_from(&value).map(number).unwrap_or_default())
    }

    /// systemd's process, as the bus knows it; `None` when it does not say.
    pub(crate) async fn process(&self) -> Option<u32> {
        self.link.process().await.ok()
    }

    /// The loaded units whose names match, with their states.
    ///
    /// # Errors
    /// When systemd cannot be asked.
    pub(crate) async fn loaded(
        &self,
        pattern: &str,
    ) -> Result<Vec<(String, UnitState)>, SystemdError> {
        self.link.list(pattern).await
    }

    /// The names of those that run, are about to, or have a job.
    ///
    /// # Errors
    /// When systemd cannot be asked.
    pub(crate) async fn busy(&self, pattern: &str) -> Result<Vec<String>, SystemdError> {
        self.link.list_busy(pattern).await
    }

    /// Whether a unit is to be started or stopped, or is right now.
    ///
    /// # Errors
    /// When systemd cannot be asked.
    pub(crate) async fn has_job(&self, unit: &str) -> Result<bool, SystemdError> {
        Ok(!self.link.with_jobs(unit).await?.is_empty())
    }

    /// Whether systemd is to open or close a listener of anybody but workers.
    ///
    /// # Errors
    /// When systemd cannot be asked.
    pub(crate) async fn changes_listeners(&self) -> Result<bool, SystemdError> {
        let sockets = self.link.with_jobs("*.socket").await?;
        Ok(sockets.iter().any(|(socket, _)| !socket.starts_with(WORKER)))
    }

    /// Whether systemd is to close a socket, to open it again perhaps.
    ///
    /// # Errors
    /// When systemd cannot be asked.
    pub(crate) async fn is_to_close(&self, socket: &str) -> Result<bool, SystemdError> {
        let jobs = self.link.with_jobs(socket).await?;
        Ok(jobs.iter().any(|(_, job)| matches!(&**job, "stop" | "restart" | "try-restart")))
    }
}

/// 252 of `252.39-1~deb12u1`.
fn number(version: &str) -> u32 {
    let digits = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version[..digits].parse().unwrap_or_default()
}

/// Tells those who wait for jobs when there is nobody any more who hears.
#[derive(Debug)]
struct Closes(JobTable);

impl Drop for Closes {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{self, Fake, IMPATIENT, PATIENT};
    use super::super::verb::Verb;
    use super::*;

    #[test]
    fn a_version_is_a_number_and_more() {
        for (version, expected) in
            [("252.39-1~deb12u1", 252), ("257", 257), ("v258", 0), ("", 0), ("260~rc1", 260)]
        {
            assert_eq!(number(version), expected, "{version}");
        }
    }

    #[tokio::test]
    async fn a_listener_that_is_to_be_closed_is_known_by_its_job() {
        for (socket, job, changes) in [
            ("roundsman-http.socket", 0, false),
            ("roundsman-http.socket", 7, true),
            ("own.socket", 7, true),
            ("roundsman-worker@shop:1.socket", 7, false),
        ] {
            let (connection, mut fake) = Fake::bus().await;
            let asks = async {
                let systemd = Systemd::with(|ear| Link::over(connection, PATIENT, ear)).await?;
                systemd.changes_listeners().await
            };
            let (known, ()) = tokio::join!(asks, async {
                let call = fake.expect("ListUnitsByPatterns").await;
                let mut listed = fake::listed(socket, "active");
                listed.7 = job;
                fake.answer(&call, &vec![listed]).await;
            });
            assert_eq!(known.unwrap(), changes, "{socket} {job}");
        }
    }

    #[tokio::test]
    async fn whoever_waits_at_a_socket_that_is_opened_or_kept_goes_on_waiting() {
        for (number, job, closes) in
            [(0, "", false), (7, "start", false), (7, "stop", true), (7, "restart", true)]
        {
            let (connection, mut fake) = Fake::bus().await;
            let asks = async {
                let systemd = Systemd::with(|ear| Link::over(connection, PATIENT, ear)).await?;
                systemd.is_to_close("a.socket").await
            };
            let (known, ()) = tokio::join!(asks, async {
                let call = fake.expect("ListUnitsByPatterns").await;
                let mut listed = fake::listed("a.socket", "active");
                (listed.7, listed.8) = (number, job.to_owned());
                fake.answer(&call, &vec![listed]).await;
            });
            assert_eq!(known.unwrap(), closes, "{job}");
        }
    }

    #[tokio::test]
    async fn systemd_itself_is_asked_and_heard_without_a_bus() {
        let (connection, mut fake) = Fake::direct().await;
        let asks = async {
            let systemd = Systemd::with(|ear| Link::over(connection, PATIENT, ear)).await?;
            assert_eq!(systemd.process().await, Some(1));
            systemd.job(Verb::Stop, "a.service").await
        };
        let (done, ()) = tokio::join!(asks, async {
            let call = fake.expect("StopUnit").await;
            fake.answer_job(&call, 7).await;
            fake.say(fake::job_removed("", 7, "a.service", "done")).await;
        });
        done.unwrap();
    }

    #[tokio::test]
    async fn nobody_waits_for_a_bus_that_does_not_let_us_in() {
        let (connection, mut fake) = Fake::bus().await;
        fake.mute = true;
        let systemd = Systemd::with(|ear| Link::over(connection, IMPATIENT, ear));
        tokio::select! {
            result = systemd => assert!(matches!(result, Err(SystemdError::Silent { .. }))),
            () = fake.serve() => unreachable!("it is connected"),
        }
    }
}
