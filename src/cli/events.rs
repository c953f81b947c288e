//! `roundsman events`: what workers send and what happens to them, as it happens.
//!
//! One thread reads from each worker; this one looks for new workers and prints. A worker keeps its
//! last events, so nothing is missed between its start and the moment when it is found.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::failure::{Done, Failure};
use super::manage;
use super::send::{AppOrWorker, Runtime};
use crate::base::exit;
use crate::base::paths;
use crate::base::text;
use crate::base::worker_socket;

/// How often is looked for new workers.
const LOOK: Duration = Duration::from_millis(100);

/// How long a worker may take to accept.
const PATIENCE: Duration = Duration::from_secs(2);

/// The longest line: a worker's longest message and what is around it.
const MAX_LINE: u64 = 17 * 1024 * 1024;

/// What one worker may say in a second, and what a line counts beside its bytes; the rest waits, so
/// that it does not keep the others from being heard.
const IN_A_SECOND: usize = 32 * 1024 * 1024;
const LINE: usize = 1024;

/// Lines that may wait to be printed; workers keep what comes after that, and count what they
/// cannot keep.
const QUEUE: usize = 64;

/// Follow what workers send, and their starts, stops and exits
#[derive(Debug, Args)]
pub(super) struct Events {
    /// An app, or one of its workers, as in shop or shop:2 [default: all]
    #[arg(value_name = "APP[:N]")]
    target: Option<AppOrWorker>,
    /// Print JSON, one event a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    runtime: Runtime,
}

type Worker = (String, u16);

/// How far a worker is followed.
#[derive(Debug, Default)]
struct Followed {
    /// A thread reads from it at this moment.
    now: bool,
    /// Its socket: another one is another run's.
    socket: Option<u64>,
    /// When its last event was that was read.
    last: Option<u64>,
    /// It said that it does not want this.
    refused: bool,
}

/// What a thread has read.
enum Heard {
    Line(Worker, Vec<u8>),
    /// Why it ended, if that is not for a worker to decide again.
    End(Worker, Option<Refusal>),
}

/// It said that it does not want this.
enum Refusal {
    Denied(String),
    Other(String),
}

// === impl Events ===

impl Events {
    /// Follows until it is interrupted.
    pub(super) fn run(&self) -> ExitCode {
        manage::end(self.follow())
    }

    /// Returns when nobody reads what is printed, or when it is not allowed.
    fn follow(&self) -> Done {
        let since = now();
        let (sender, receiver) = sync_channel(QUEUE);
        let mut workers: BTreeMap<Worker, Followed> = BTreeMap::new();
        self.look(&mut workers, since, &sender);
        if workers.is_empty() {
            let who = self.target.as_ref().map_or("any app", |target| &target.app);
            manage::say(&format!("no worker of {who} runs; waiting for one"));
        }
        let mut looked = Instant::now();
        loop {
            if looked.elapsed() >= LOOK {
                self.look(&mut workers, since, &sender);
                looked = Instant::now();
            }
            let printed = match receiver.recv_timeout(LOOK) {
                Ok(Heard::Line(worker, line)) => {
                    let followed = workers.entry(worker.clone()).or_default();
                    self.print(&worker, &line, followed)
                }
                Ok(Heard::End(worker, None)) => {
                    workers.entry(worker).or_default().now = false;
                    Ok(())
                }
                Ok(Heard::End(worker, Some(refusal))) => {
                    let failure = refusal.of_worker(&worker);
                    let followed = workers.entry(worker).or_default();
                    (followed.now, followed.refused) = (false, true);
                    // It may have been an app that speaks in its shim's place: not for the others.
                    if workers.values().all(|followed| followed.refused) {
                        return Err(failure);
                    }
                    manage::say(&format!("warning: {}", failure.message));
                    Ok(())
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Ok(()),
            };
            if printed.is_err() {
                return Ok(()); // as with `| head`
            }
        }
    }

    fn look(
        &self,
        workers: &mut BTreeMap<Worker, Followed>,
        since: u64,
        sender: &SyncSender<Heard>,
    ) {
        let base = &self.runtime.base;
        let apps = match &self.target {
            Some(target) => vec![target.app.clone()],
            None => paths::apps_in(base),
        };
        for app in apps {
            let only = self.target.as_ref().and_then(|target| target.number);
            for number in paths::workers_in(base, &app) {
                let worker = (app.clone(), number);
                let is_followed = workers.get(&worker).is_some_and(|followed| followed.now);
                if only.is_some_and(|only| only != number) || is_followed {
                    continue;
                }
                let path = paths::control_socket(base, &app, number);
                let socket = std::fs::symlink_metadata(&path).map(|metadata| metadata.ino()).ok();
                let known = workers.get(&worker);
                if known.is_some_and(|known| known.refused && known.socket == socket) {
                    continue;
                }
                let stream = match worker_socket::control(PATIENCE, &path) {
                    Ok(stream) => stream,
                    Err(error) => {
                        // Or it is just starting, or just ending.
                        if let Some(why) = worker_socket::denial(&error) {
                            let why = Refusal::Denied(why.to_owned());
                            workers.entry(worker.clone()).or_default().socket = socket;
                            let _ = sender.try_send(Heard::End(worker, Some(why)));
                        }
                        continue;
                    }
                };
                let known = workers.get(&worker);
                let again = known.is_some_and(|followed| followed.socket != socket);
                let last = known.and_then(|followed| followed.last).map(|last| last + 1);
                let since = last.unwrap_or_default().max(since);
                let followed = Followed { now: true, socket, last, refused: false };
                workers.insert(worker.clone(), followed);
                let sender = sender.clone();
                thread::spawn(move || read(stream, &worker, since, again, &sender));
            }
        }
    }

    fn print(&self, worker: &Worker, line: &[u8], followed: &mut Followed) -> io::Result<()> {
        // The socket is in the hands of the app's user, who may write on it what he likes.
        let name = format!("{}:{}", worker.0, worker.1);
        let Ok(event) = serde_json::from_slice::<BTreeMap<&str, &RawValue>>(line) else {
            manage::say(&format!("warning: {name} says what is no event"));
            return Ok(());
        };
        if !is_of(&event, &name) {
            manage::say(&format!(
                "warning: {name} says that it is another worker; its event is not shown"
            ));
            return Ok(());
        }
        let at = event.get("at").and_then(|raw| raw.get().parse::<u64>().ok());
        followed.last = followed.last.max(at.filter(|at| *at <= now()));
        let mut out = io::stdout().lock();
        if self.json {
            // Not the line itself: a name may be in it twice, and others may heed the first.
            serde_json::to_writer(&mut out, &event)?;
            return out.write_all(b"\n");
        }
        writeln!(out, "{}", readable(&event))
    }
}

fn read(mut stream: UnixStream, worker: &Worker, since: u64, again: bool, out: &SyncSender<Heard>) {
    if again {
        let name = format!("{}:{}", worker.0, worker.1);
        let event = json!({ "at": now(), "worker": name, "event": "restart" });
        let _ = out.send(Heard::Line(worker.clone(), event.to_string().into_bytes()));
    }
    // One that refuses does so before it has read what is asked.
    let _ = stream.write_all(format!("events {since}\n").as_bytes());
    let mut refusal = None;
    if stream.set_read_timeout(None).is_ok() {
        let mut reader = BufReader::new(stream);
        let (mut second, mut said) = (Instant::now(), 0);
        loop {
            let mut line = Vec::new();
            let read = (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line);
            if !matches!(read, Ok(1..)) || line.pop() != Some(b'\n') {
                break; // the end, or one that was cut off by it
            }
            refusal = Refusal::of(&line);
            if refusal.is_some() {
                break;
            }
            said += line.len() + LINE;
            if out.send(Heard::Line(worker.clone(), line)).is_err() {
                return;
            }
            let left = Duration::from_secs(1).saturating_sub(second.elapsed());
            if said > IN_A_SECOND {
                thread::sleep(left);
            }
            if said > IN_A_SECOND || left.is_zero() {
                (second, said) = (Instant::now(), 0);
            }
        }
    }
    let _ = out.send(Heard::End(worker.clone(), refusal));
}

/// Whether an event names the worker whose socket it came from, in the one way that a shim does.
fn is_of(event: &BTreeMap<&str, &RawValue>, name: &str) -> bool {
    let named = event.get("worker").and_then(|raw| serde_json::from_str::<&str>(raw.get()).ok());
    named == Some(name)
}

impl Refusal {
    fn of(line: &[u8]) -> Option<Self> {
        let why = |rest: &[u8]| text::one_line(&String::from_utf8_lossy(rest)).into_owned();
        if let Some(rest) = line.strip_prefix(b"denied: ") {
            return Some(Self::Denied(why(rest)));
        }
        line.strip_prefix(b"error: ").map(|rest| Self::Other(why(rest)))
    }

    fn of_worker(self, (app, number): &Worker) -> Failure {
        match self {
            Self::Denied(why) => Failure::with(exit::DENIED, why),
            Self::Other(why) => Failure::new(format!("{app}:{number}: {why}")),
        }
    }
}

/// One event for people: when, who, what, and the rest of it.
fn readable(event: &BTreeMap<&str, &RawValue>) -> String {
    let of = |name: &str| -> String {
        event.get(name).and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
    };
    let at = event.get("at").and_then(|raw| raw.get().parse().ok()).unwrap_or(0_u64);
    let (seconds, millis) = (at / 1000 % 86_400, at % 1000);
    let mut line = format!(
        "{:02}:{:02}:{:02}.{millis:03}Z {:<12} {:<9}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        of("worker"),
        of("event"),
    );
    let rest = event.iter().filter(|(name, _)| !matches!(**name, "at" | "worker" | "event"));
    for (name, raw) in rest {
        line.push(' ');
        if *name != "message" {
            line.push_str(name);
            line.push('=');
        }
        match serde_json::from_str::<Value>(raw.get()) {
            Ok(Value::String(text)) if *name != "message" => line.push_str(&text),
            _ => line.push_str(raw.get()),
        }
    }
    // What a terminal takes for commands is not for apps to send.
    text::one_line(line.trim_end()).into_owned()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> String {
        readable(&serde_json::from_str(line).unwrap())
    }

    #[test]
    fn an_event_is_of_the_worker_whose_socket_it_came_from() {
        let of = |line: &str| is_of(&serde_json::from_str(line).unwrap(), "shop:1");
        assert!(of(r#"{"at":0,"worker":"shop:1","event":"ready"}"#));
        for forged in [
            r#"{"at":0,"worker":"users:1","event":"ready"}"#,
            r#"{"at":0,"worker":"shop:1","event":"ready","worker":"users:1"}"#,
            r#"{"at":0,"worker":["shop:1"],"event":"ready"}"#,
            r#"{"at":0,"event":"ready"}"#,
        ] {
            assert!(!of(forged), "{forged}");
        }
    }

    #[test]
    fn people_see_when_who_and_what() {
        assert_eq!(
            shown(
                r#"{"at":3723004,"worker":"shop:1","event":"message","message":{"a":[1, null]}}"#
            ),
            "01:02:03.004Z shop:1       message   {\"a\":[1, null]}"
        );
        assert_eq!(
            shown(r#"{"at":0,"worker":"shop:12","event":"exit","signal":"SIGKILL","asked":false}"#),
            "00:00:00.000Z shop:12      exit      asked=false signal=SIGKILL"
        );
        assert_eq!(
            shown(r#"{"at":0,"worker":"shop:1","event":"ready"}"#),
            "00:00:00.000Z shop:1       ready"
        );
        let hostile = format!(
            "{{\"at\":0,\"worker\":\"a:1\",\"event\":\"message\",\"message\":\"{}\"}}",
            '\u{9b}'
        );
        assert!(shown(&hostile).ends_with("\"\u{fffd}\""));
    }
}
