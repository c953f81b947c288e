//! `roundsman check`: what is wrong with the configuration, before it is put to work.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::credentials;
use crate::base::exit;
use crate::base::paths;
use crate::base::unit::Instance;
use crate::config::{self, Loaded, Problem, Severity, Sources, addresses};
use crate::deploy::sockets::SocketFault;
use crate::tls::Tls;

/// Print every error of every configuration file, with its place and what to write instead
///
/// Run it as root: what others may not read, as the key of a certificate, is an error for them.
#[derive(Debug, Args)]
pub(super) struct Check {
    /// Check the files of this directory, instead of those of the system and what they expect of it
    #[arg(long, value_name = "DIR")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    valid: bool,
    problems: Vec<Entry<'a>>,
}

#[derive(Debug, Serialize)]
struct Entry<'a> {
    severity: &'static str,
    path: String,
    /// From 1; absent for problems with a file as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<&'a str>,
}

// === impl Check ===

impl Check {
    /// Checks and prints.
    pub(super) fn run(self) -> ExitCode {
        let mut loaded = if let Some(directory) = self.config {
            config::load(&Sources::directory(directory))
        } else {
            let mut loaded = config::load(&Sources::system());
            let found = config::machine::missing(&loaded).into_iter();
            for warning in found.chain(moves(&loaded)).chain(sockets(&loaded)) {
                loaded.problems.push(warning);
            }
            loaded
        };
        loaded.problems.extend(credentials::find(&mut loaded.settings.front));
        let (_, problems) = Tls::load(&loaded.settings.front, None);
        loaded.problems.extend(problems);
        // A reader that went away, as in `check | head`, is no reason to fail differently.
        let _ = if self.json { print_json(&loaded) } else { print_text(&loaded) };
        let valid = loaded.problems.errors() == 0;
        ExitCode::from(if valid { exit::OK } else { exit::CONFIG })
    }
}

/// A warning for every worker that runs and will listen elsewhere when it is started anew.
fn moves(loaded: &Loaded) -> Vec<Problem> {
    let mut warnings = Vec::new();
    for app in loaded.settings.apps.values() {
        let Some(file) = loaded.app_files.get(&app.name) else { continue };
        for number in 1..=app.workers {
            if let Some(from) = addresses::moves(Path::new(paths::ADDRESSES), app, number) {
                let (worker, to) = (app.instance(number), app.worker_address(number));
                let title = format!("{worker} will move from {from} to {to}");
                let help = "until it is started anew it is reached where it is; `roundsman apply` moves \
                            one worker after the other";
                warnings.push(Problem::file(Severity::Warning, file, title).help(help));
            }
        }
    }
    warnings
}

/// A warning for every worker that runs and has lost its socket. Where systemd cannot be asked, or there
/// is none, nothing is known of them.
fn sockets(loaded: &Loaded) -> Vec<Problem> {
    let warning = |(worker, fault): (Instance, SocketFault)| {
        let file = loaded.app_files.get(&worker.app)?;
        let title = format!("{worker} {fault}: its next start would fail");
        let help = "`roundsman apply` makes the socket anew";
        Some(Problem::file(Severity::Warning, file, title).help(help))
    };
    super::status::socket_faults().into_iter().filter_map(warning).collect()
}

fn print_json(loaded: &Loaded) -> io::Result<()> {
    let report = Report {
        valid: loaded.problems.errors() == 0,
        problems: loaded.problems.iter().map(entry).collect(),
    };
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &report)?;
    writeln!(out)
}

fn entry(problem: &Problem) -> Entry<'_> {
    Entry {
        severity: if problem.is_error() { "error" } else { "warning" },
        path: problem.path().display().to_string(),
        line: problem.place().map(config::Place::line),
        column: problem.place().map(config::Place::column),
        message: problem.title(),
        help: problem.help_text(),
    }
}

fn print_text(loaded: &Loaded) -> io::Result<()> {
    let stderr = io::stderr();
    let color = stderr.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    stderr.lock().write_all(loaded.problems.render(color).as_bytes())?;
    if loaded.problems.errors() > 0 {
        return Ok(());
    }
    let settings = &loaded.settings;
    let workers: usize = settings.apps.values().map(|app| usize::from(app.workers)).sum();
    writeln!(
        io::stdout(),
        "The configuration is valid: {}, {}, {}, {}.",
        count(settings.apps.len(), "app"),
        count(workers, "worker"),
        count(settings.upstreams.len(), "upstream"),
        count(settings.routes.len(), "route"),
    )
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}
