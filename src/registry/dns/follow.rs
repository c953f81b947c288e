//! Follows the names in a front's configuration, and puts what they stand for to work.
//!
//! It lives on the control thread. Each name has a task of its own, so that one whose DNS servers
//! are silent delays no other.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::schedule::{News, Schedule};
use super::{DnsError, Lookup, MAX_SERVERS};
use crate::config::Settings;
use crate::config::settings::{Dns, DnsName};
use crate::front::Front;
use crate::front::found::Found;
use crate::systemd::message;

/// More servers than this are counted instead of listed in the journal.
const LISTED: usize = 16;

/// Looks up the names of this front's upstreams, until it is dropped.
pub async fn run(front: Arc<Front>, lookup: impl Lookup) {
    let lookup = Arc::new(lookup);
    let mut changes = front.changes();
    let (found, mut heard) = mpsc::channel(64);
    let mut known: Option<Arc<Settings>> = None;
    let mut asked: BTreeMap<DnsName, Task> = BTreeMap::new();
    loop {
        changes.mark_unchanged();
        let snapshot = front.snapshot();
        if known.as_ref().is_none_or(|known| !Arc::ptr_eq(known, &snapshot.settings)) {
            let dns = &snapshot.settings.front.dns;
            let mut before = std::mem::take(&mut asked);
            for name in snapshot.settings.upstreams.values().flat_map(|u| &u.names) {
                let name = &name.name;
                let start = || {
                    let known = snapshot.found.get(name).cloned().unwrap_or_default();
                    let task = ask(name.clone(), dns.clone(), known, lookup.clone(), found.clone());
                    Task { dns: dns.clone(), handle: tokio::spawn(task).abort_handle() }
                };
                let stays = before.remove(name).filter(|task| task.dns == *dns);
                asked.entry(name.clone()).or_insert_with(|| stays.unwrap_or_else(start));
            }
            known = Some(Arc::clone(&snapshot.settings));
        }
        drop(snapshot);
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            Some((name, servers)) = heard.recv() => {
                // An answer to a name that a reload has taken away comes too late.
                if asked.contains_key(&name) {
                    put_to_work(&front, &name, servers);
                }
            }
        }
    }
}

/// The look-ups of one name, until this is dropped.
struct Task {
    dns: Dns,
    handle: AbortHandle,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

async fn ask(
    name: DnsName,
    dns: Dns,
    known: Vec<Found>,
    lookup: Arc<impl Lookup>,
    found: mpsc::Sender<(DnsName, Vec<Found>)>,
) {
    let mut schedule = Schedule::new(known);
    loop {
        let wait = match lookup.look_up(&name, &dns).await {
            Ok(answer) => {
                let (wait, news) = schedule.answered(answer, &dns);
                if news == News::Recovered {
                    tracing::info!(
                        message_id = message::DNS_RECOVERED,
                        roundsman_server = %name,
                        "{name} resolves again"
                    );
                }
                if news == News::TooMany {
                    tracing::warn!(
                        roundsman_server = %name,
                        "{name} stands for more than {MAX_SERVERS} servers; the rest are left out"
                    );
                }
                if found.send((name.clone(), schedule.known().to_vec())).await.is_err() {
                    return; // nobody listens any more
                }
                wait
            }
            Err(failed) => {
                let (wait, news) = schedule.failed();
                if news == News::Fails {
                    say_failed(&name, &failed, schedule.known().len());
                }
                wait
            }
        };
        tokio::time::sleep(wait).await;
    }
}

fn say_failed(name: &DnsName, failed: &DnsError, known: usize) {
    let what = match known {
        0 => "it has no servers until it does".to_owned(),
        1 => "the server of the last answer stays".to_owned(),
        count => format!("the {count} servers of the last answer stay"),
    };
    tracing::warn!(
        message_id = message::DNS_FAILED,
        roundsman_server = %name,
        "{name} does not resolve ({failed}); {what}. It is tried again"
    );
}

fn put_to_work(front: &Front, name: &DnsName, servers: Vec<Found>) {
    let Some(before) = front.resolved(name, servers) else { return };
    let snapshot = front.snapshot();
    let now = snapshot.found.get(name).map_or(&[][..], Vec::as_slice);
    let mut text = format!("{name} is {}", list(now));
    for (title, here, there) in [("new", now, &*before), ("gone", &*before, now)] {
        let is_in = |f: &&Found| there.iter().any(|other| other.address == f.address);
        let changed: Vec<_> = here.iter().filter(|f| !is_in(f)).cloned().collect();
        if !changed.is_empty() && !before.is_empty() {
            let _ = write!(text, "; {title}: {}", list(&changed)); // cannot fail: it is a string
        }
    }
    tracing::info!(message_id = message::DNS_CHANGED, roundsman_server = %name, "{text}");
}

fn list(servers: &[Found]) -> String {
    if servers.len() > LISTED {
        return format!("{} servers", servers.len());
    }
    servers.iter().map(|f| f.address.to_string()).collect::<Vec<_>>().join(", ")
}
