//! A systemd on a bus of its own: units that start, fail, crash and stop as they are told to, with
//! a process for each worker that runs.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Write as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::task::{LocalSet, spawn_local};
use zbus::connection::Builder;
use zbus::{Connection, DynamicType, Message, MessageStream, OwnedObjectPath, Variant};

use super::history::History;

/// Its connection to the bus.
const NAME: &str = ":1.1";

/// What becomes of a worker's unit that is started.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fate {
    /// It is ready at once.
    Well,
    /// It ends before it is ready, with this exit status.
    Exits(i32),
    /// It is ready, and ends when "end of" it may go on.
    Crashes,
    /// The job is done, and the unit has ended.
    EndsAtOnce,
    /// The job ends with this word of systemd's, and the unit is as it was.
    Job(&'static str),
    /// systemd refuses with this error.
    Refused(&'static str),
    /// It ends before it is ready, and is started again and again.
    Loops,
}

/// A simulated systemd; it ends with the value.
#[derive(Debug, Clone, Default)]
pub(super) struct Systemd(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    units: BTreeMap<String, Unit>,
    enabled: Vec<String>,
    masked: Vec<String>,
    fates: HashMap<String, VecDeque<Fate>>,
    /// Where the workers' processes are started.
    directory: PathBuf,
    /// Whether calls that change something are answered with "access denied".
    denies: bool,
    jobs: u32,
    /// The last job of each unit.
    latest: HashMap<String, u32>,
    runs: u8,
    connections: Vec<UnixStream>,
    paths: HashMap<String, String>,
}

#[derive(Debug, Default)]
struct Unit {
    state: &'static str,
    result: &'static str,
    status: i32,
    run: Vec<u8>,
    process: Option<Child>,
    started: u64,
    says: &'static str,
}

// === impl Systemd ===

impl Systemd {
    /// Starts one on this bus, with all that it does in `history`. Workers start in `directory`.
    pub(super) fn start(bus: &Path, directory: &Path, history: &History) -> Self {
        let listener = UnixListener::bind(bus).expect("the directory is new");
        let systemd = Self::default();
        directory.clone_into(&mut systemd.lock().directory);
        let (serves, history) = (systemd.clone(), history.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("descriptors are left");
            LocalSet::new().block_on(&runtime, async {
                listener.set_nonblocking(true).expect("it is a socket");
                let listener = tokio::net::UnixListener::from_std(listener).expect("it is one");
                while let Ok((stream, _)) = listener.accept().await {
                    let stream = stream.into_std().expect("it is one");
                    stream.set_nonblocking(false).expect("it is a socket");
                    spawn_local(serves.clone().serve(stream, history.clone()));
                }
            });
        });
        systemd
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What becomes of a unit the next times that it is started; afterwards all is well.
    pub(super) fn fates(&self, unit: &str, fates: &[Fate]) {
        self.lock().fates.insert(unit.to_owned(), fates.iter().copied().collect());
    }

    /// Every call that would change something is refused from now on.
    pub(super) fn deny(&self) {
        self.lock().denies = true;
    }

    /// The bus breaks off all connections, as when it is restarted.
    pub(super) fn hang_up(&self) {
        for stream in self.lock().connections.drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both); // the other end may be gone
        }
    }

    /// Has a unit run, without a job.
    pub(super) fn run(&self, unit: &str) {
        let mut state = self.lock();
        state.start_unit(unit);
    }

    /// Has a unit fail, without a job.
    pub(super) fn fail(&self, unit: &str) {
        self.lock().end_unit(unit, "failed", "exit-code", 80);
    }

    /// Has nobody start a unit any more.
    pub(super) fn mask(&self, unit: &str) {
        self.lock().masked.push(unit.to_owned());
    }

    /// Has a unit crash over and over.
    pub(super) fn loops(&self, unit: &str) {
        self.lock().end_unit(unit, "activating", "exit-code", 1);
    }

    /// Has a unit that is being started say this of itself.
    pub(super) fn says(&self, unit: &str, text: &'static str) {
        let mut state = self.lock();
        state.end_unit(unit, "activating", "success", 0);
        state.units.entry(unit.to_owned()).or_default().says = text;
    }

    /// Has a unit start at boot.
    pub(super) fn enable(&self, unit: &str) {
        self.lock().enabled.push(unit.to_owned());
    }

    /// Whether it does.
    pub(super) fn is_enabled(&self, unit: &str) -> bool {
        self.lock().enabled.iter().any(|enabled| enabled == unit)
    }

    /// The state of a unit.
    pub(super) fn state(&self, unit: &str) -> &'static str {
        self.lock().units.get(unit).map_or("inactive", |unit| unit.state)
    }

    /// The directory in which the process of a unit runs.
    pub(super) fn directory(&self, unit: &str) -> Option<PathBuf> {
        let state = self.lock();
        let process = state.units.get(unit)?.process.as_ref()?;
        std::fs::read_link(format!("/proc/{}/cwd", process.id())).ok()
    }

    async fn serve(self, stream: UnixStream, history: History) {
        self.lock().connections.extend(stream.try_clone());
        let guid = "0123456789abcdef0123456789abcdef";
        let builder = Builder::unix_stream(stream).server(guid).p2p();
        // A command that is killed at once does not even come to this.
        let Ok(mut messages) = builder.build_message_stream().await else { return };
        let connection = Connection::from(&messages);
        let history = Rc::new(history);
        while let Some(message) = next(&mut messages).await {
            // Each for itself: a job takes its time.
            let (systemd, connection) = (self.clone(), connection.clone());
            let history = Rc::clone(&history);
            spawn_local(async move {
                // The caller may be gone.
                let _ = systemd.answer(&connection, &message, &history).await;
            });
        }
    }

    async fn answer(
        &self,
        connection: &Connection,
        call: &Message,
        history: &History,
    ) -> zbus::Result<()> {
        let header = call.header();
        let member = header.member().map(ToString::to_string).unwrap_or_default();
        let body = call.body();
        let changes = !matches!(
            &*member,
            "Hello"
                | "AddMatch"
                | "Subscribe"
                | "GetNameOwner"
                | "LoadUnit"
                | "GetAll"
                | "Get"
                | "ListUnitsByPatterns"
                | "GetUnitFileState"
                | "GetJob"
        );
        if changes && self.lock().denies {
            let denied = "org.freedesktop.DBus.Error.AccessDenied";
            return connection.reply_error(&header, denied, &"denied").await;
        }
        match &*member {
            "Hello" => connection.reply(&header, &":1.7").await,
            "GetNameOwner" => connection.reply(&header, &NAME).await,
            "StartUnit" | "StopUnit" | "RestartUnit" => {
                let (unit, _): (String, String) = body.deserialize()?;
                self.job(connection, call, history, &member, &unit).await
            }
            "LoadUnit" => {
                let unit: String = body.deserialize()?;
                let path = path(&unit);
                self.lock().paths.insert(path.clone(), unit);
                let path = OwnedObjectPath::try_from(path)?;
                connection.reply(&header, &path).await
            }
            "GetAll" => {
                let path = header.path().map(ToString::to_string).unwrap_or_default();
                let properties = self.properties(&path);
                connection.reply(&header, &properties).await
            }
            "Get" => {
                let path = header.path().map(ToString::to_string).unwrap_or_default();
                let unit = self.lock().paths.get(&path).cloned().unwrap_or_default();
                connection.reply(&header, &Variant::from(self.state(&unit))).await
            }
            "ListUnitsByPatterns" => {
                let (_, patterns): (Vec<String>, Vec<String>) = body.deserialize()?;
                let list = self.list(&patterns)?;
                connection.reply(&header, &list).await
            }
            "GetUnitFileState" => {
                let unit: String = body.deserialize()?;
                let state = if self.is_enabled(&unit) { "enabled" } else { "disabled" };
                connection.reply(&header, &state).await
            }
            "EnableUnitFiles" => {
                let (units, _, _): (Vec<String>, bool, bool) = body.deserialize()?;
                history.add(&format!("enable {}", short(&units[0])));
                self.lock().enabled.extend(units);
                let changes: Vec<(String, String, String)> = Vec::new();
                connection.reply(&header, &(true, changes)).await
            }
            "DisableUnitFiles" => {
                let (units, _): (Vec<String>, bool) = body.deserialize()?;
                history.add(&format!("disable {}", short(&units[0])));
                self.lock().enabled.retain(|enabled| !units.contains(enabled));
                let changes: Vec<(String, String, String)> = Vec::new();
                connection.reply(&header, &changes).await
            }
            "ResetFailedUnit" => {
                let unit: String = body.deserialize()?;
                self.lock().forget_failure(&unit);
                connection.reply(&header, &()).await
            }
            "Reload" => {
                history.begin("daemon-reload").await;
                connection.reply(&header, &()).await
            }
            // AddMatch, Subscribe
            _ => connection.reply(&header, &()).await,
        }
    }

    /// A job: answered at once, and done when it is done.
    async fn job(
        &self,
        connection: &Connection,
        call: &Message,
        history: &History,
        member: &str,
        unit: &str,
    ) -> zbus::Result<()> {
        let verb = member.trim_end_matches("Unit").to_lowercase();
        let starts = verb != "stop";
        let fate = match self.lock().fates.get_mut(unit).filter(|_| starts) {
            Some(fates) => fates.pop_front().unwrap_or(Fate::Well),
            None => Fate::Well,
        };
        if let Fate::Refused(error) = fate {
            history.add(&format!("{verb} {}", short(unit)));
            return connection.reply_error(&call.header(), error, &"because").await;
        }
        let number = {
            let mut state = self.lock();
            state.jobs += 1;
            let number = state.jobs;
            state.latest.insert(unit.to_owned(), number);
            number
        };
        let job = OwnedObjectPath::try_from(format!("/org/freedesktop/systemd1/job/{number}"))?;
        connection.reply(&call.header(), &job).await?;
        history.begin(&format!("{verb} {}", short(unit))).await;
        let is_latest = self.lock().latest.get(unit) == Some(&number);
        // A later one has taken its place.
        let result = if is_latest { self.do_job(starts, unit, fate, history) } else { "canceled" };
        let body = (number, job, unit, result);
        connection.send(&signal("JobRemoved", &body)?).await
    }

    fn do_job(&self, starts: bool, unit: &str, fate: Fate, history: &History) -> &'static str {
        let mut state = self.lock();
        if !starts {
            state.end_unit(unit, "inactive", "success", 0);
            if let Some(app) =
                unit.strip_prefix("roundsman-app@").and_then(|u| u.strip_suffix(".target"))
            {
                let own = format!("roundsman-worker@{app}:");
                let all: Vec<_> =
                    state.units.keys().filter(|u| u.starts_with(&own)).cloned().collect();
                for unit in all {
                    state.end_unit(&unit, "inactive", "success", 0);
                }
            }
            return "done";
        }
        match fate {
            Fate::Well => state.start_unit(unit),
            Fate::Exits(status) => {
                state.end_unit(unit, "failed", "exit-code", status);
                return "failed";
            }
            Fate::Loops => {
                state.end_unit(unit, "activating", "exit-code", 1);
                return "failed";
            }
            Fate::EndsAtOnce => state.end_unit(unit, "inactive", "success", 0),
            Fate::Job(result) => return result,
            Fate::Refused(_) => unreachable!("it has no job"),
            Fate::Crashes => {
                state.start_unit(unit);
                let (systemd, history, unit) = (self.clone(), history.clone(), unit.to_owned());
                let run = state.units[&unit].run.clone();
                spawn_local(async move {
                    history.begin(&format!("end of {}", short(&unit))).await;
                    let mut state = systemd.lock();
                    if state.units[&unit].run == run {
                        state.end_unit(&unit, "activating", "exit-code", 1);
                    }
                });
            }
        }
        "done"
    }

    fn properties(&self, path: &str) -> HashMap<&'static str, Variant<'static>> {
        let state = self.lock();
        let none = Unit::default();
        let name = state.paths.get(path);
        let is_masked = name.is_some_and(|name| state.masked.contains(name));
        let unit = name.and_then(|name| state.units.get(name)).unwrap_or(&none);
        let active = if unit.state.is_empty() { "inactive" } else { unit.state };
        HashMap::from([
            ("ActiveState", Variant::from(active)),
            ("LoadState", Variant::from(if is_masked { "masked" } else { "loaded" })),
            ("Result", Variant::from(unit.result)),
            ("ExecMainStatus", Variant::from(unit.status)),
            ("StatusText", Variant::from(unit.says)),
            ("InvocationID", Variant::from(unit.run.clone())),
            ("MainPID", Variant::from(unit.process.as_ref().map_or(0, Child::id))),
            ("ExecMainStartTimestamp", Variant::from(unit.started)),
            ("NeedDaemonReload", Variant::from(false)),
        ])
    }

    fn list(&self, patterns: &[String]) -> zbus::Result<Vec<Listed>> {
        let state = self.lock();
        let matches = |name: &str| patterns.iter().any(|pattern| is_like(name, pattern));
        let units = state.units.iter().filter(|(name, _)| matches(name));
        units
            .map(|(name, unit)| {
                let none = || OwnedObjectPath::try_from("/");
                let (text, active) = (String::new, unit.state.to_owned());
                let (name, loaded) = (name.clone(), "loaded".to_owned());
                Ok((name, text(), loaded, active, text(), text(), none()?, 0, text(), none()?))
            })
            .collect()
    }
}

/// A unit in a list.
type Listed =
    (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

// === impl State ===

impl State {
    fn forget_failure(&mut self, unit: &str) {
        if let Some(unit) = self.units.get_mut(unit).filter(|unit| unit.state == "failed") {
            *unit = Unit { state: "inactive", ..Unit::default() };
        }
    }

    fn start_unit(&mut self, unit: &str) {
        self.end_unit(unit, "active", "success", 0);
        // It requires its socket.
        if let Some(worker) = unit.strip_suffix(".service").filter(|w| w.contains(':')) {
            self.end_unit(&format!("{worker}.socket"), "active", "success", 0);
        }
        self.runs += 1;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later");
        let directory = std::fs::canonicalize(&self.directory).unwrap_or_else(|_| "/".into());
        if let Some(mark) = self.mark(unit) {
            std::fs::create_dir_all(mark.parent().expect("it is no root")).expect("there is room");
            std::fs::write(mark, directory.as_os_str().as_encoded_bytes()).expect("there is room");
        }
        let process = is_like(unit, "roundsman-worker@*.service").then(|| {
            let mut command = Command::new("sleep");
            let command = command.arg("600").current_dir(directory).stdin(Stdio::null());
            command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("coreutils are there")
        });
        let run = vec![self.runs; 16];
        if let Some(unit) = self.units.get_mut(unit) {
            unit.run = run;
            unit.process = process;
            unit.started = u64::try_from(now.as_micros()).expect("it fits");
        }
    }

    /// Where the line of a worker's unit that root runs notes the release that it begins with.
    fn mark(&self, unit: &str) -> Option<PathBuf> {
        let instance = unit.strip_prefix("roundsman-worker@")?.strip_suffix(".service")?;
        let root = self.directory.ancestors().nth(3)?;
        Some(root.join("run/roundsman/crashes/running").join(instance))
    }

    fn end_unit(&mut self, unit: &str, active: &'static str, result: &'static str, status: i32) {
        if let Some(mark) = self.mark(unit) {
            let _ = std::fs::remove_file(mark); // it may not have begun
        }
        let unit = self.units.entry(unit.to_owned()).or_default();
        if let Some(mut process) = unit.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        *unit = Unit { state: active, result, status, ..Unit::default() };
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let units: Vec<String> = self.units.keys().cloned().collect();
        for unit in units {
            self.end_unit(&unit, "inactive", "success", 0);
        }
    }
}

/// A worker's service by its name, any other unit by its own and its kind.
fn short(unit: &str) -> String {
    let worker = unit.strip_prefix("roundsman-worker@");
    if let Some(worker) = worker.and_then(|worker| worker.strip_suffix(".service")) {
        return worker.to_owned();
    }
    worker.or(unit.strip_prefix("roundsman-app@")).unwrap_or(unit).to_owned()
}

/// Whether a name is like a pattern with stars.
fn is_like(name: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => name == pattern,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).any(|at| rest.is_char_boundary(at) && is_like(&rest[at..], after))
        }),
    }
}

fn signal<B: serde::Serialize + DynamicType>(member: &str, body: &B) -> zbus::Result<Message> {
    let interface = "org.freedesktop.systemd1.Manager";
    let signal = Message::signal("/org/freedesktop/systemd1", interface, member);
    signal.sender(NAME).build(body)
}

/// The path of a unit's object.
fn path(unit: &str) -> String {
    let mut path = "/org/freedesktop/systemd1/unit/".to_owned();
    for c in unit.chars() {
        if c.is_ascii_alphanumeric() {
            path.push(c);
        } else {
            let _ = write!(path, "_{:02x}", u32::from(c)); // which cannot fail
        }
    }
    path
}

async fn next(messages: &mut MessageStream) -> Option<Message> {
    use futures_core::Stream;
    std::future::poll_fn(|context| Stream::poll_next(Pin::new(&mut *messages), context)).await?.ok()
}
