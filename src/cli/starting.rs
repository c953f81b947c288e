//! Workers that a command starts: watched until all of them serve, or one is not going to.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::advice;
use super::failure::{Done, Failure};
use super::intruder;
use super::last_words;
use super::manage::{Machine, say};
use super::own_port;
use crate::base::text;
use crate::base::unit;
use crate::config::settings::App;
use crate::deploy::sockets;
use crate::supervise::crashes;
use crate::systemd::dbus::{SystemdError, UnitState, Verb};
use crate::worker::{ALSO_LISTENS, HAS_ENDED, LISTENS_ELSEWHERE, WAITS};

/// How often is looked what workers say that are waited for.
const LOOK: Duration = Duration::from_millis(500);

/// From when on it is said what a worker is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long the last worker must have been ready: what crashes at once was not up.
const PROOF: Duration = Duration::from_millis(500);

/// How long an app may go on listening elsewhere: then that is its server, and no other one comes.
const ELSEWHERE: Duration = Duration::from_secs(4);

/// The same when all of its workers do, at the same port: what could come they cannot all have.
const ALL_ELSEWHERE: Duration = Duration::from_secs(1);

type Jobs = JoinSet<(u16, Result<(), SystemdError>)>;

/// What workers that are waited for have said.
#[derive(Debug, Default)]
struct Heard {
    /// Where those listen that are not reached there, and since when.
    elsewhere: BTreeMap<u16, (String, Instant)>,
    /// What was told of it.
    told: BTreeSet<String>,
}

/// Why a worker is not going to be ready.
#[derive(Debug)]
enum Trouble {
    /// Its job has failed.
    Job(u16, SystemdError),
    /// What it says of itself.
    Said(u16, String),
    /// It was ready, and is not any more.
    Gone(u16),
}

impl Machine {
    /// Starts workers at once and waits until all are ready; or says which is not and why, and has
    /// those stopped that are not. Whoever waits at the terminal needs no further attempts.
    pub(super) async fn start_workers(&self, app: &App, numbers: &[u16]) -> Done {
        let began = SystemTime::now();
        let mut pending: BTreeSet<u16> = numbers.iter().copied().collect();
        let Some(trouble) = self.wait_until_ready(app, &mut pending).await else { return Ok(()) };
        let (number, reason) = match trouble {
            Trouble::Job(_, error) if !matches!(error, SystemdError::Job { .. }) => {
                return Err(error.into());
            }
            // At once: the next attempt begins soon, and nothing is known of it yet.
            Trouble::Job(number, error) => {
                (number, self.reason(app, number, &error.to_string()).await)
            }
            Trouble::Gone(number) => {
                (number, self.reason(app, number, "it was ready, and ended at once").await)
            }
            Trouble::Said(number, text) => (number, text::one_line(&text).into_owned()),
        };
        let intruder = intruder::told(app, number);
        let chosen = own_port::listens(app, &reason).await;
        pending.insert(number);
        for number in pending {
            for unit in app.units_of(number).iter().rev() {
                let _ = self.systemd.begin(Verb::Stop, unit).await; // the reason counts
            }
        }
        let lines = last_words::lines_since(&unit::service(&app.name, number), began);
        let remedy = own_port::remedy(app, &lines);
        let advice = advice::about(&lines, app);
        let text = format!("{}: {reason}{intruder}{remedy}{lines}{advice}", app.instance(number));
        let chosen = chosen.or_else(|| own_port::said(app, &lines));
        Err(Failure { chosen, ..Failure::new(text) })
    }

    /// Removes from `pending` who is ready, and returns when nobody is left or one has failed.
    async fn wait_until_ready(&self, app: &App, pending: &mut BTreeSet<u16>) -> Option<Trouble> {
        let total = pending.len();
        let mut jobs = self.begin_to_start(app, pending);
        let mut heard = Heard::default();
        let mut runs: BTreeMap<u16, Vec<u8>> = BTreeMap::new();
        let begin = Instant::now();
        let failed = |number| say(&format!("{} FAILED", app.instance(number)));
        while !pending.is_empty() {
            let joined = tokio::select! {
                joined = jobs.join_next() => joined,
                () = sleep(LOOK) => {
                    let late = begin.elapsed() >= PATIENCE;
                    if let Some((number, text)) = self.look(app, pending, &mut heard, late).await {
                        failed(number);
                        return Some(Trouble::Said(number, text));
                    }
                    continue;
                }
            };
            let Some(joined) = joined else { break };
            let Ok((number, result)) = joined else { continue };
            if let Err(error) = result {
                failed(number);
                return Some(Trouble::Job(number, error));
            }
            pending.remove(&number);
            if let Ok(unit) = self.systemd.unit(&unit::service(&app.name, number)).await {
                runs.insert(number, unit.invocation());
            }
            let (instance, ready) = (app.instance(number), total - pending.len());
            say(&format!("{instance} is ready ({ready} of {total})"));
        }
        sleep(PROOF).await;
        let mut also = None;
        for (number, run) in runs {
            // A bus that does not answer says nothing about the worker.
            let Ok(unit) = self.systemd.unit(&unit::service(&app.name, number)).await else {
                continue;
            };
            if unit.state() != UnitState::Active || unit.invocation() != run {
                failed(number);
                return Some(Trouble::Gone(number));
            }
            if let Some((_, others)) = unit.text("StatusText").split_once(ALSO_LISTENS) {
                also = Some((number, others.to_owned()));
            }
        }
        if let Some((number, others)) = also {
            say(&format!(
                "{} listens on {} too, where the front does not reach it: if that is its server, \
                 --port with its number (PORT in `environment`) says so",
                app.instance(number),
                text::one_line(&others)
            ));
        }
        None
    }

    fn begin_to_start(&self, app: &App, numbers: &BTreeSet<u16>) -> Jobs {
        let mut jobs = JoinSet::new();
        for number in numbers.iter().copied() {
            let systemd = Rc::clone(&self.systemd);
            let units = app.units_of(number);
            crashes::forget(&app.instance(number));
            let (service, app) = (unit::service(&app.name, number), app.clone());
            jobs.spawn_local(async move {
                // It has its full number of attempts again.
                let _ = systemd.reset_failed(&service).await;
                let start = async {
                    // One that waits after a crash would go on waiting.
                    if systemd.state(&service).await? == UnitState::Activating {
                        systemd.job(Verb::Stop, &service).await?;
                    }
                    sockets::mend(&systemd, &app, number).await?;
                    systemd.jobs(Verb::Start, &units).await
                };
                (number, start.await)
            });
        }
        jobs
    }

    /// Says, once each, what workers that are waited for say of themselves; returns one that is not
    /// going to be ready.
    async fn look(
        &self,
        app: &App,
        pending: &BTreeSet<u16>,
        heard: &mut Heard,
        late: bool,
    ) -> Option<(u16, String)> {
        for number in pending.iter().copied() {
            let Ok(unit) = self.systemd.unit(&unit::service(&app.name, number)).await else {
                continue;
            };
            let status = unit.text("StatusText");
            if status.starts_with(HAS_ENDED) {
                return Some((number, status.to_owned()));
            }
            let is_elsewhere = status.starts_with(LISTENS_ELSEWHERE);
            heard.note(number, is_elsewhere.then_some(status));
            let is_news = is_elsewhere || status.starts_with(WAITS);
            if late && is_news && heard.told.insert(status.to_owned()) {
                say(&format!("{}: {}", app.instance(number), text::one_line(status)));
            }
        }
        let (number, status) = heard.settled(pending)?;
        Some((number, format!("{status}{}", own_port::way_out(app, status))))
    }

    /// Why a worker is not well, with what it has said.
    pub(super) async fn why(&self, app: &App, number: u16, otherwise: &str) -> Failure {
        let reason = self.reason(app, number, otherwise).await;
        let lines = last_words::last_lines(&unit::service(&app.name, number));
        let intruder = intruder::told(app, number);
        let advice = advice::about(&lines, app);
        Failure::new(format!("{}: {reason}{intruder}{lines}{advice}", app.instance(number)))
    }

    async fn reason(&self, app: &App, number: u16, otherwise: &str) -> String {
        let unit = self.systemd.unit(&unit::service(&app.name, number)).await.ok();
        unit.and_then(|unit| unit.trouble()).unwrap_or_else(|| otherwise.to_owned())
    }
}

// === impl Heard ===

impl Heard {
    /// A worker listens there, or not elsewhere any more.
    fn note(&mut self, number: u16, status: Option<&str>) {
        let since = self.elsewhere.remove(&number).filter(|(before, _)| Some(&**before) == status);
        if let Some(status) = status {
            let now = || (status.to_owned(), Instant::now());
            self.elsewhere.insert(number, since.unwrap_or_else(now));
        }
    }

    /// A worker that goes on listening elsewhere, and what it says of that.
    fn settled(&self, pending: &BTreeSet<u16>) -> Option<(u16, &str)> {
        let mut all = self.elsewhere.iter().filter(|(number, _)| pending.contains(number));
        let ports = |status: &str| own_port::all(status);
        let first = all.clone().next().map(|(_, (status, _))| ports(status)).unwrap_or_default();
        let are_all = pending.len() > 1
            && all.clone().count() == pending.len()
            && all
                .clone()
                .all(|(_, (status, _))| ports(status).iter().any(|port| first.contains(port)));
        let patience = if are_all { ALL_ELSEWHERE } else { ELSEWHERE };
        let (number, (status, _)) = all.find(|(_, (_, since))| since.elapsed() >= patience)?;
        Some((*number, status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: &str = ", where the front does not reach it";

    #[tokio::test(start_paused = true)]
    async fn one_that_listens_elsewhere_is_given_time_for_its_server() {
        let mut heard = Heard::default();
        let status = format!("{LISTENS_ELSEWHERE}127.0.0.1:9100{AT}");
        let pending = BTreeSet::from([1]);
        heard.note(1, Some(&status));
        sleep(Duration::from_secs(3)).await;
        heard.note(1, Some(&status));
        assert_eq!(heard.settled(&pending), None);
        let both = format!("{LISTENS_ELSEWHERE}127.0.0.1:9100 and 0.0.0.0:3000{AT}");
        heard.note(1, Some(&both));
        sleep(Duration::from_secs(3)).await;
        assert_eq!(heard.settled(&pending), None, "it has only just come to that");
        sleep(Duration::from_secs(1)).await;
        assert_eq!(heard.settled(&pending), Some((1, &*both)));
        heard.note(1, None);
        assert_eq!(heard.settled(&pending), None, "it listens where it should");
    }

    #[tokio::test(start_paused = true)]
    async fn all_at_the_same_port_are_not_waited_for() {
        let mut heard = Heard::default();
        let status = format!("{LISTENS_ELSEWHERE}0.0.0.0:3000{AT}");
        heard.note(1, Some(&status));
        sleep(ALL_ELSEWHERE).await;
        assert_eq!(heard.settled(&BTreeSet::from([1, 2])), None, "the other may come to more");
        heard.note(2, Some(&status));
        assert_eq!(heard.settled(&BTreeSet::from([1, 2])), Some((1, &*status)));
        let other = format!("{LISTENS_ELSEWHERE}0.0.0.0:3001{AT}");
        heard.note(2, Some(&other));
        assert_eq!(heard.settled(&BTreeSet::from([1, 2])), None, "each has one of its own");
    }
}
