//! Workers that a command starts: watched until all of them serve, or one is not going to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::advice;
use super::failure::{Done, Failure};
use super::intruder;
use super::last_words;
use super::manage::{Machine, say};
use crate::base::text;
use crate::base::unit;
use crate::config::settings::{App, Listen};
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
const ELSEWHERE: Duration = Duration::from_secs(3);

type Jobs = JoinSet<(u16, Result<(), SystemdError>)>;

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
        pending.insert(number);
        for number in pending {
            for unit in app.units_of(number).iter().rev() {
                let _ = self.systemd.begin(Verb::Stop, unit).await; // the reason counts
            }
        }
        let lines = last_words::lines_since(&unit::service(&app.name, number), began);
        let remedy = remedy(app, &lines);
        let advice = advice::about(&lines, app);
        let text = format!("{}: {reason}{intruder}{remedy}{lines}{advice}", app.instance(number));
        Err(Failure { listens_at: port_of(app, &reason), ..Failure::new(text) })
    }

    /// Removes from `pending` who is ready, and returns when nobody is left or one has failed.
    async fn wait_until_ready(&self, app: &App, pending: &mut BTreeSet<u16>) -> Option<Trouble> {
        let total = pending.len();
        let mut jobs = self.begin_to_start(app, pending);
        let mut told = BTreeMap::new();
        let mut runs: BTreeMap<u16, Vec<u8>> = BTreeMap::new();
        let begin = Instant::now();
        let failed = |number| say(&format!("{} FAILED", app.instance(number)));
        while !pending.is_empty() {
            let joined = tokio::select! {
                joined = jobs.join_next() => joined,
                () = sleep(LOOK) => {
                    let late = begin.elapsed() >= PATIENCE;
                    if let Some((number, text)) = self.look(app, pending, &mut told, late).await {
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
        told: &mut BTreeMap<String, Instant>,
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
            let waits = late && status.starts_with(WAITS);
            if !is_elsewhere && !waits {
                continue;
            }
            match told.get(status) {
                Some(since) if is_elsewhere && since.elapsed() >= ELSEWHERE => {
                    return Some((number, format!("{status}{}", way_out(app, status))));
                }
                Some(_) => {}
                None => {
                    say(&format!("{}: {}", app.instance(number), text::one_line(status)));
                    told.insert(status.to_owned(), Instant::now());
                }
            }
        }
        None
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

/// The port of an app that listens at one of its own choice, where the front can reach one worker of it:
/// the one that there is.
fn port_of(app: &App, status: &str) -> Option<u16> {
    own_port(status).filter(|_| app.workers == 1)
}

fn own_port(status: &str) -> Option<u16> {
    let list = status.strip_prefix(LISTENS_ELSEWHERE)?.split(", where").next()?;
    let addresses: Option<Vec<SocketAddr>> =
        list.split(" and ").map(|address| address.parse().ok()).collect();
    let addresses = addresses?;
    let port = addresses.first()?.port();
    let home = IpAddr::from(Ipv4Addr::LOCALHOST);
    let is_reached = addresses.iter().any(|a| a.ip().is_unspecified() || a.ip() == home);
    let is_one = addresses.iter().all(|address| address.port() == port);
    (is_reached && is_one).then_some(port)
}

/// What to do about a reason that many have: workers that want the same port, a folder that is root's.
fn remedy(app: &App, said: &str) -> String {
    const IN_USE: [&str; 4] = ["already in use", "eaddrinuse", "addrinuse", "in use?"];
    let said = said.to_lowercase();
    let is_clash = IN_USE.iter().any(|sign| said.contains(sign));
    if is_clash && app.workers > 1 && app.listen != Listen::Cluster {
        return "; several workers cannot have a port that the app chooses itself. Have it take HOST and PORT from its \
                environment, or start one worker: -n 1"
            .to_owned();
    }
    let is_read_only = said.contains("read-only file system") || said.contains("erofs");
    match &app.directory {
        Some(directory) if is_read_only && app.user.is_none() => format!(
            "; an app in a folder of root's may write to /tmp alone. If it has to write there, give the folder to a \
             user, as whom it then runs: chown -R USER {}",
            directory.display()
        ),
        _ => String::new(),
    }
}

/// What to type for such an app.
fn way_out(app: &App, status: &str) -> String {
    match own_port(status) {
        Some(port) if app.workers == 1 => {
            format!(". As options of start: --listen port --port {port}")
        }
        Some(port) => format!(". Or with one worker, as two cannot have {port}: -n 1"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::sample;

    #[test]
    fn reasons_that_many_have_are_told_with_what_to_do() {
        let app = |text: &str| sample::shop(text).apps["shop"].clone();
        let two = app("command = [\"/bin/true\"]\nworkers = 2\n");
        for said in [
            "2026/11/26 listen tcp :8090: bind: address already in use",
            "OSError: [Errno 98] Address already in use",
            "AddrInUse: Address already in use (os error 98)",
            "error: Failed to start server. Is port 3000 in use?",
        ] {
            assert!(remedy(&two, said).contains("-n 1"), "{said}");
        }
        assert_eq!(remedy(&two, "Error: Cannot find module 'x'"), "");
        let one = app("command = [\"/bin/true\"]\n");
        assert_eq!(remedy(&one, "address already in use"), "", "somebody else has it");
        let node = app("command = [\"node\", \"a.js\"]\nworkers = 2\n");
        assert_eq!(remedy(&node, "EADDRINUSE"), "", "its front's server has no port");
        let said = remedy(
            &app("command = [\"/bin/true\"]\ndirectory = \"/srv/x\"\n"),
            "Error: EROFS: read-only",
        );
        assert!(said.ends_with("chown -R USER /srv/x"), "{said}");
    }

    #[test]
    fn an_app_with_a_port_of_its_own_is_told_the_options() {
        let app = |workers: u16| {
            let text = format!("command = [\"/bin/true\"]\nworkers = {workers}\n");
            sample::shop(&text).apps["shop"].clone()
        };
        let status =
            format!("{LISTENS_ELSEWHERE}127.0.0.1:8000, where the front does not reach it");
        let said = way_out(&app(1), &status);
        assert!(said.ends_with("--listen port --port 8000"), "{said}");
        let said = way_out(&app(2), &status);
        assert!(said.ends_with("with one worker, as two cannot have 8000: -n 1"), "{said}");
        let port =
            |list: &str| port_of(&app(1), &format!("{LISTENS_ELSEWHERE}{list}, where it is"));
        assert_eq!(port("0.0.0.0:5000 and [::]:5000"), Some(5000));
        assert_eq!(port("127.0.0.1:80 and 127.0.0.1:9100"), None, "it is not known which");
        assert_eq!(port("[::1]:3000"), None, "it is not reached there");
        assert_eq!(way_out(&app(1), "still starting"), "");
    }
}
