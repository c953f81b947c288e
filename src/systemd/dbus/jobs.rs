//! What `systemctl` does for start, stop and restart, with the results that systemd reports for each
//! job.

use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until};
use zbus::OwnedObjectPath;

use super::error::SystemdError;
use super::job_limit;
use super::manager::Systemd;
use super::unit::UnitState;
use super::verb::Verb;

/// A job that is under way.
#[derive(Debug)]
struct Job<'a> {
    verb: Verb,
    unit: &'a str,
    path: OwnedObjectPath,
    begun: Instant,
    result: oneshot::Receiver<String>,
    /// Whether systemd came to the bus anew since before the job was made.
    arrivals: watch::Receiver<u64>,
}

// === impl Systemd ===

impl Systemd {
    /// Does something to a unit and waits until the job is done.
    ///
    /// # Errors
    /// When systemd refuses, or the job fails.
    pub(crate) async fn job(&self, verb: Verb, unit: &str) -> Result<(), SystemdError> {
        let job = self.start(verb, unit).await?;
        self.wait(job).await
    }

    /// Has something done to a unit, without waiting for it.
    ///
    /// # Errors
    /// When systemd refuses. That there is no such unit is none.
    pub(crate) async fn begin(&self, verb: Verb, unit: &str) -> Result<(), SystemdError> {
        match self.start(verb, unit).await {
            Ok(_) | Err(SystemdError::Refused(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Does something to several units at once and waits for all jobs.
    ///
    /// # Errors
    /// The first that failed; the others are waited for all the same.
    pub(crate) async fn jobs(&self, verb: Verb, units: &[String]) -> Result<(), SystemdError> {
        let mut jobs = Vec::with_capacity(units.len());
        let mut first = Ok(());
        for unit in units {
            match self.start(verb, unit).await {
                Ok(job) => jobs.push(job),
                Err(error) => first = first.and(Err(error)),
            }
        }
        for job in jobs {
            first = first.and(self.wait(job).await);
        }
        first
    }

    async fn start<'a>(&self, verb: Verb, unit: &'a str) -> Result<Job<'a>, SystemdError> {
        let made = self.jobs.call();
        let mut arrivals = self.arrivals.clone();
        arrivals.mark_unchanged();
        let manager = &self.link.manager;
        let call = || format!("{} {unit}", verb.method());
        let start = async || match verb {
            Verb::Start => manager.start_unit(unit, "replace").await,
            Verb::Stop => manager.stop_unit(unit, "replace").await,
            Verb::Restart => manager.restart_unit(unit, "replace").await,
        };
        let path = self.link.ask(call, start).await?;
        let result = made.made(path.as_str());
        Ok(Job { verb, unit, path, begun: Instant::now(), result, arrivals })
    }

    /// Waits for a job, which takes as long as its unit may, and no longer.
    async fn wait(&self, mut job: Job<'_>) -> Result<(), SystemdError> {
        let mut limit: Option<Duration> = None;
        loop {
            let end = job.begun + limit.unwrap_or(self.link.limits.job);
            tokio::select! {
                result = &mut job.result => {
                    return match result.as_deref() {
                        Ok("done") => Ok(()),
                        Ok(result) => {
                            let (unit, result) = (job.unit.to_owned(), result.to_owned());
                            Err(SystemdError::Job { unit, result })
                        }
                        Err(_) => Err(SystemdError::closed()),
                    };
                }
                () = sleep_until(end) => match limit {
                    // Only now: hardly any job takes so long.
                    None => limit = Some(self.limit_of(&job).await?),
                    Some(limit) => {
                        let (unit, verb) = (self.holds_up(&job).await?, job.verb);
                        return Err(SystemdError::Endless { unit, verb, limit });
                    }
                },
                Ok(()) = job.arrivals.changed() => {
                    // It goes on with its jobs, and may have ended this one unheard.
                    self.link.subscribe().await?;
                    if !self.is_under_way(&job).await? {
                        return self.made_up_for(job).await;
                    }
                }
            }
        }
    }

    /// What the time-outs of its unit leave a job. A target has none, and waits for its members.
    async fn limit_of(&self, job: &Job<'_>) -> Result<Duration, SystemdError> {
        let unit = self.unit(job.unit).await?;
        let mut units = Vec::new();
        for member in unit.texts("ConsistsOf") {
            units.push(self.unit(&member).await?);
        }
        units.push(unit);
        Ok(job_limit::of(job.verb, &units, self.link.limits.job))
    }

    /// The unit that a job waits for: its own, or the member of its target that does not come to an end.
    async fn holds_up(&self, job: &Job<'_>) -> Result<String, SystemdError> {
        for member in self.unit(job.unit).await?.texts("ConsistsOf") {
            let state = self.state(&member).await?;
            if matches!(state, UnitState::Deactivating | UnitState::Activating) {
                return Ok(member);
            }
        }
        Ok(job.unit.to_owned())
    }

    async fn is_under_way(&self, job: &Job<'_>) -> Result<bool, SystemdError> {
        let number = job.path.as_str().rsplit('/').next().and_then(|number| number.parse().ok());
        let Some(number) = number else { return Ok(false) };
        let call = || format!("GetJob {number}");
        match self.link.ask(call, || self.link.manager.get_job(number)).await {
            Ok(_) => Ok(true),
            Err(SystemdError::Refused(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What became of a job whose end was perhaps not heard.
    async fn made_up_for(&self, mut job: Job<'_>) -> Result<(), SystemdError> {
        let state = self.state(job.unit).await?;
        match job.result.try_recv().as_deref() {
            Ok("done") => Ok(()),
            Ok(result) => {
                let (unit, result) = (job.unit.to_owned(), result.to_owned());
                Err(SystemdError::Job { unit, result })
            }
            Err(_) if job.verb.makes(state) => Ok(()),
            Err(_) => Err(SystemdError::Lost { unit: job.unit.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use zbus::Variant;

    use super::super::fake::{self, BUS, BUSY, Fake, IMPATIENT, PATIENT, STRANGER, SYSTEMD};
    use super::super::link::{Limits, Link};
    use super::*;

    const UNIT_NAME: &str = "roundsman-worker@shop:1.service";

    async fn systemd(limits: Limits) -> (Systemd, Fake) {
        let (connection, mut fake) = Fake::bus().await;
        let systemd = Systemd::with(|ear| Link::over(connection, limits, ear));
        let systemd = tokio::select! {
            systemd = systemd => systemd.expect("all is well"),
            () = fake.serve() => unreachable!("it is connected"),
        };
        (systemd, fake)
    }

    /// A restart, and what a systemd does that is played like this.
    async fn restart(play: impl AsyncFnOnce(&mut Fake)) -> Result<(), SystemdError> {
        let (systemd, mut fake) = systemd(PATIENT).await;
        tokio::select! {
            result = systemd.job(Verb::Restart, UNIT_NAME) => result,
            () = async { play(&mut fake).await; fake.serve().await } => unreachable!("it is there"),
        }
    }

    fn words(result: Result<(), SystemdError>) -> String {
        result.expect_err("it fails").to_string()
    }

    #[tokio::test]
    async fn a_job_ends_as_systemd_says() {
        for (result, words_for_it) in [
            ("done", None),
            ("failed", Some("did not start")),
            ("timeout", Some("was not done in the time it has")),
            ("canceled", Some("something else, a stop for instance, came in between")),
            ("dependency", Some("something that it needs did not start")),
            ("skipped", Some("systemd skipped it")),
            ("collected", Some("the job ended as \"collected\"")),
        ] {
            for before_the_answer in [true, false] {
                let end = restart(async |fake| {
                    let call = fake.expect("RestartUnit").await;
                    let end = fake::job_removed(SYSTEMD, 7, UNIT_NAME, result);
                    if before_the_answer {
                        fake.say(end).await;
                        fake.answer_job(&call, 7).await;
                    } else {
                        fake.answer_job(&call, 7).await;
                        fake.say(end).await;
                    }
                })
                .await;
                match words_for_it {
                    None => end.expect("it is done"),
                    Some(text) => {
                        let words = words(end);
                        assert!(words.starts_with(UNIT_NAME) && words.contains(text), "{words}");
                    }
                }
            }
        }
    }

    #[tokio::test]
    async fn only_systemd_ends_a_job() {
        let end = restart(async |fake| {
            let call = fake.expect("RestartUnit").await;
            fake.say(fake::job_removed(STRANGER, 7, UNIT_NAME, "failed")).await;
            fake.answer_job(&call, 7).await;
            fake.say(fake::owner_changed(STRANGER, SYSTEMD, STRANGER)).await;
            fake.say(fake::job_removed(STRANGER, 7, UNIT_NAME, "failed")).await;
            fake.say(fake::job_removed(SYSTEMD, 8, UNIT_NAME, "failed")).await;
            fake.say(fake::job_removed(SYSTEMD, 7, UNIT_NAME, "done")).await;
        })
        .await;
        end.expect("what systemd says counts");
    }

    #[tokio::test]
    async fn several_jobs_are_waited_for_and_the_first_failure_is_told() {
        let (systemd, mut fake) = systemd(PATIENT).await;
        let units: Vec<String> = (1..=3).map(|n| format!("{n}.service")).collect();
        let (result, ()) = tokio::join!(systemd.jobs(Verb::Start, &units), async {
            for id in 1..=3 {
                let call = fake.expect("StartUnit").await;
                fake.answer_job(&call, id).await;
            }
            for (id, result) in [(3, "failed"), (1, "done"), (2, "timeout")] {
                fake.say(fake::job_removed(SYSTEMD, id, &format!("{id}.service"), result)).await;
            }
        });
        assert!(words(result).starts_with("2.service: was not done"));
    }

    #[tokio::test]
    async fn a_unit_that_there_is_not_is_refused_in_systemds_words() {
        let end = restart(async |fake| {
            let call = fake.expect("RestartUnit").await;
            fake.refuse(&call, "org.freedesktop.systemd1.NoSuchUnit").await;
        })
        .await;
        assert!(matches!(end, Err(SystemdError::Refused(text)) if text == "because"));
    }

    #[tokio::test]
    async fn what_is_not_allowed_is_said_to_be_so() {
        for error in ["AccessDenied", "InteractiveAuthorizationRequired"] {
            let end = restart(async |fake| {
                let call = fake.expect("RestartUnit").await;
                fake.refuse(&call, &format!("org.freedesktop.DBus.Error.{error}")).await;
            })
            .await;
            assert!(matches!(end, Err(SystemdError::Denied(text)) if text == "because"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_bus_that_goes_away_ends_the_wait() {
        let (systemd, mut fake) = systemd(PATIENT).await;
        let (result, ()) = tokio::join!(systemd.job(Verb::Restart, UNIT_NAME), async {
            let call = fake.expect("RestartUnit").await;
            fake.answer_job(&call, 7).await;
            drop(fake);
        });
        assert!(matches!(result, Err(SystemdError::Unreachable(_))), "{result:?}");
    }

    #[tokio::test]
    async fn a_bus_that_does_not_answer_is_not_waited_for() {
        let (systemd, mut fake) = systemd(IMPATIENT).await;
        fake.mute = true;
        let (result, ()) = tokio::join!(
            async {
                let result = systemd.job(Verb::Restart, UNIT_NAME).await;
                drop(systemd);
                result
            },
            fake.serve()
        );
        let words = words(result);
        let call = "RestartUnit roundsman-worker@shop:1.service: no answer over D-Bus within 1s";
        assert!(words.contains(call), "{words}");
        assert!(words.contains("systemctl status dbus"), "{words}");
    }

    /// A unit whose program extends its time for ever, and a target that waits for such a one.
    #[tokio::test]
    async fn a_job_is_waited_for_as_long_as_its_unit_may_take_and_no_longer() {
        for is_target in [false, true] {
            let name = if is_target { "roundsman-app@shop.target" } else { UNIT_NAME };
            let (systemd, mut fake) = systemd(BUSY).await;
            let (result, ()) = tokio::join!(
                async {
                    let result = systemd.job(Verb::Stop, name).await;
                    drop(systemd);
                    result
                },
                async {
                    let call = fake.expect("StopUnit").await;
                    fake.answer_job(&call, 7).await;
                    let times = HashMap::from([("TimeoutStopUSec", Variant::from(1000_u64))]);
                    let members = || HashMap::from([("ConsistsOf", vec![UNIT_NAME].into())]);
                    // How long it may take; then, what holds it up.
                    let asked = if is_target { vec![members(), times] } else { vec![times] };
                    for properties in asked {
                        fake.unit("GetAll", &properties).await;
                    }
                    fake.unit("GetAll", &if is_target { members() } else { HashMap::new() }).await;
                    if is_target {
                        fake.unit("Get", &Variant::from("deactivating")).await;
                    }
                    fake.serve().await;
                }
            );
            let words = words(result);
            let what = format!("{UNIT_NAME}: the stop has not ended within 53ms");
            assert!(words.contains(&what), "{name}: {words}");
            let way_out = format!("systemctl kill --signal=KILL '{UNIT_NAME}'");
            assert!(words.contains(&way_out), "{name}: {words}");
        }
    }

    /// systemd is started anew just when it is asked: it may or may not have heard it.
    #[tokio::test(start_paused = true)]
    async fn who_is_being_started_anew_is_asked_again() {
        let end = restart(async |fake| {
            for error in ["NoReply", "NameHasNoOwner", "NoReply"] {
                let call = fake.expect("RestartUnit").await;
                fake.refuse(&call, &format!("org.freedesktop.DBus.Error.{error}")).await;
            }
            let call = fake.expect("RestartUnit").await;
            fake.answer_job(&call, 7).await;
            fake.say(fake::job_removed(SYSTEMD, 7, UNIT_NAME, "done")).await;
        })
        .await;
        end.expect("it is done");
        let end = restart(async |fake| {
            while let Some(call) = fake.call().await {
                fake.refuse(&call, "org.freedesktop.DBus.Error.NoReply").await;
            }
        })
        .await;
        assert!(matches!(end, Err(SystemdError::Away(_))), "it is not waited for without end");
    }

    /// systemd is started anew, with a job that is under way, has ended, and has ended well.
    #[tokio::test]
    async fn a_job_is_followed_to_systemds_next_connection() {
        let end = restart(async |fake| {
            let call = fake.expect("RestartUnit").await;
            fake.answer_job(&call, 7).await;
            fake.say(fake::owner_changed(BUS, SYSTEMD, "")).await;
            fake.say(fake::owner_changed(BUS, "", ":1.9")).await;
            let call = fake.expect("GetJob").await;
            fake.answer_job(&call, 7).await;
            fake.say(fake::job_removed(SYSTEMD, 7, UNIT_NAME, "done")).await;
            fake.say(fake::job_removed(":1.9", 7, UNIT_NAME, "failed")).await;
        })
        .await;
        assert!(matches!(end, Err(SystemdError::Job { .. })), "{end:?}");
        for (state, good) in [("active", true), ("activating", false)] {
            let end = restart(async |fake| {
                let call = fake.expect("RestartUnit").await;
                fake.answer_job(&call, 7).await;
                fake.say(fake::owner_changed(BUS, SYSTEMD, ":1.9")).await;
                let call = fake.expect("GetJob").await;
                fake.refuse(&call, "org.freedesktop.systemd1.NoSuchJob").await;
                fake.unit("Get", &Variant::from(state)).await;
            })
            .await;
            assert_eq!(end.is_ok(), good, "{state}: {end:?}");
            assert!(good || matches!(end, Err(SystemdError::Lost { .. })), "{state}: {end:?}");
        }
    }
}
