//! `roundsman status`: apps, workers, threads at a glance.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tokio::time::timeout;

use super::send::AppOrWorker;
use super::{AdminSocket, describe, manage};
use crate::admin::model;
use crate::base::paths;
use crate::base::unit;
use crate::base::unit::Instance;
use crate::deploy::sockets::{self, SocketFault};
use crate::systemd::dbus::{Systemd, SystemdError, UnitState};
use crate::worker::control::client;

/// How long systemd may take to answer.
const LONGEST: Duration = Duration::from_secs(5);

/// Show apps, workers and threads of the running front
#[derive(Debug, Args)]
pub(super) struct Status {
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminSocket,
}

// === impl Status ===

impl Status {
    /// Asks the front and prints.
    pub(super) fn run(&self) -> ExitCode {
        self.admin.call::<(), model::Status>("GET", "/v1/status", None, |status| {
            let unwell = unwell();
            if self.json {
                let all = All { status: &status, unwell };
                manage::print_json(&all);
            } else {
                // A reason may be an app's word.
                let text = table(&status, &unwell) + &messages(&status);
                manage::print(&text);
            }
        })
    }
}

/// A line for each worker that has dropped messages.
fn messages(status: &model::Status) -> String {
    let mut out = String::new();
    let servers = status.upstreams.iter().flat_map(|upstream| &upstream.servers);
    let worker = |server: &model::Server| match server.name.parse() {
        Ok(AppOrWorker { app, number: Some(number) }) => Some((app, number)),
        _ => None,
    };
    let workers: Vec<_> = servers.filter_map(worker).collect();
    let dropped = client::all_dropped(Path::new(paths::WORKERS), &workers);
    for ((app, number), dropped) in workers.iter().zip(dropped) {
        if let Some(dropped) = dropped.filter(|dropped| !dropped.is_none()) {
            let _ = writeln!(out, "{app}:{number}: {dropped}"); // which cannot fail
        }
    }
    out
}

/// What is printed as JSON.
#[derive(Debug, Serialize)]
struct All<'a> {
    #[serde(flatten)]
    status: &'a model::Status,
    unwell: Vec<Unwell>,
}

/// A worker that was given up, or waits before it starts again.
#[derive(Debug, Serialize)]
struct Unwell {
    worker: String,
    reason: String,
}

/// What only systemd knows. Where it cannot be asked (no systemd, no bus), what the front says is all.
fn unwell() -> Vec<Unwell> {
    of_systemd(ask())
}

/// What is wrong with the sockets of workers that run, as far as systemd can be asked.
pub(super) fn socket_faults() -> Vec<(Instance, SocketFault)> {
    of_systemd(async { sockets::all_faults(&Systemd::connect().await?).await })
}

fn of_systemd<T>(ask: impl Future<Output = Result<Vec<T>, SystemdError>>) -> Vec<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return Vec::new() };
    let ask = async { timeout(LONGEST, ask).await.ok()?.ok() };
    runtime.block_on(ask).unwrap_or_default()
}

async fn ask() -> Result<Vec<Unwell>, SystemdError> {
    let systemd = Systemd::connect().await?;
    let mut unwell = Vec::new();
    for (name, state) in systemd.loaded(unit::ALL_SERVICES).await? {
        if !matches!(state, UnitState::Activating | UnitState::Failed) {
            continue;
        }
        let Some(worker) = Instance::of_service(&name) else { continue };
        let unit = systemd.unit(&name).await?;
        if let Some(reason) = describe::trouble(&unit) {
            unwell.push(Unwell { worker: worker.to_string(), reason });
        }
    }
    let lost = sockets::all_faults(&systemd).await?;
    unwell.extend(lost.into_iter().map(|(worker, fault)| Unwell {
        worker: worker.to_string(),
        reason: format!("{fault}: its next start would fail; roundsman apply mends it"),
    }));
    Ok(unwell)
}

fn table(status: &model::Status, unwell: &[Unwell]) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "roundsman {}, process {}, up for {}",
        status.version,
        status.pid,
        duration(status.uptime_seconds)
    );
    for listener in &status.listeners {
        let _ = writeln!(out, "listening on {} ({})", listener.address, listener.name);
    }
    if status.last_good {
        let _ = writeln!(
            out,
            "THE CONFIGURATION HAS ERRORS: this is the last good one; see roundsman check"
        );
    }
    if !status.bus {
        let _ = writeln!(out, "The system bus is out of reach: workers' states may be old.");
    }
    let _ = writeln!(out);
    let mut rows = vec![
        ["SERVER", "STATE", "IN FLIGHT", "REQUESTS", "FAILED", "ADDRESS"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for upstream in &status.upstreams {
        if upstream.servers.is_empty() {
            let state = "unresolved".to_owned(); // its names have not been looked up yet
            rows.push([vec![upstream.name.clone(), state], vec!["-".to_owned(); 4]].concat());
        }
        for server in &upstream.servers {
            rows.push(vec![
                server.name.clone(),
                server.state.clone(),
                server.in_flight.to_string(),
                server.requests.to_string(),
                server.failures.to_string(),
                server.address.clone(),
            ]);
        }
    }
    if rows.len() == 1 {
        let _ = writeln!(
            out,
            "No app yet. Put a file like this at /etc/roundsman/apps/hello.toml:\n\n    \
             command = [\"node\", \"server.js\"]\n    directory = \"/srv/hello\"\n    workers = 2\n\n\
             then: systemctl daemon-reload\n      systemctl enable --now \
             roundsman-app@hello.target\n      systemctl reload roundsman"
        );
    } else {
        align(&mut out, &rows);
    }
    let waiting: u64 = status.upstreams.iter().map(|upstream| upstream.waiting).sum();
    if waiting > 0 {
        let _ = writeln!(out, "\n{waiting} requests wait for a server.");
    }
    if !unwell.is_empty() {
        let _ = writeln!(out);
    }
    for Unwell { worker, reason } in unwell {
        let _ = writeln!(out, "{worker}: {reason}");
    }
    let _ = writeln!(out);
    let mut rows =
        vec![["THREAD", "CORE", "CONNECTIONS", "OPEN", "REQUESTS"].map(str::to_owned).to_vec()];
    for (number, thread) in status.threads.iter().enumerate() {
        rows.push(vec![
            number.to_string(),
            thread.core.to_string(),
            thread.accepted.to_string(),
            thread.open.to_string(),
            thread.requests.to_string(),
        ]);
    }
    align(&mut out, &rows);
    out
}

/// Writes rows with their columns under each other.
fn align(out: &mut String, rows: &[Vec<String>]) {
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> model::Status {
        model::Status {
            version: "1.2.3".to_owned(),
            pid: 7,
            uptime_seconds: 3720,
            last_good: false,
            bus: true,
            threads: vec![model::Thread { core: 0, accepted: 5, open: 1, requests: 9 }],
            listeners: vec![model::Listener {
                name: "http".to_owned(),
                address: "[::]:80".to_owned(),
            }],
            upstreams: Vec::new(),
        }
    }

    #[test]
    fn says_how_to_add_an_app_while_there_is_none() {
        let text = table(&status(), &[]);
        assert!(text.contains("up for 1 h 2 min"), "{text}");
        assert!(text.contains("roundsman-app@hello.target"), "{text}");
    }

    #[test]
    fn lists_servers_in_columns() {
        let mut status = status();
        status.upstreams.push(model::Upstream {
            name: "app:shop".to_owned(),
            waiting: 0,
            servers: vec![model::Server {
                name: "shop:1".to_owned(),
                address: "127.64.0.1:7080".to_owned(),
                state: "up".to_owned(),
                in_flight: 3,
                requests: 100,
                failures: 1,
                transitions: std::collections::BTreeMap::new(),
            }],
        });
        let reason = "given up after 16 crashes in a row".to_owned();
        let unwell = [Unwell { worker: "shop:2".to_owned(), reason }];
        let text = table(&status, &unwell);
        assert!(text.contains("\nshop:2: given up after 16 crashes in a row\n"), "{text}");
        assert!(text.contains("SERVER  STATE  IN FLIGHT  REQUESTS  FAILED  ADDRESS\n"), "{text}");
        assert!(text.contains("shop:1  up     3          100       1       127."), "{text}");
    }
}
