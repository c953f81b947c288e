//! `roundsman session migrate`: an app's sessions to a Redis or Valkey server, while the app runs.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::live::Live;
use super::passwords;
use super::switch::{self, Side};
use crate::base::exit;
use crate::base::paths;
use crate::cli::failure::{Done, Failure};
use crate::cli::manage;
use crate::session::remote::{Copy, Pass, Rule, Target, Url, UrlError};

/// Copy an app's sessions, with their times, to a Redis or Valkey server while the app runs
///
/// A session that is there already is overwritten unless it expires later there than here. It is
/// safe to break off and to run again.
///
/// With --to valkey the app moves to the Valkey server of its own that its file says by then (session =
/// "valkey"), with --to embedded from there into the store that all apps share (session = true): the
/// data is copied, the workers are replaced one after the other, and what the old ones write meanwhile is
/// copied, too.
#[derive(Debug, Args)]
pub(super) struct Migrate {
    /// Where to: redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], with TLS rediss://, for a cluster
    /// redis+cluster:// or rediss+cluster:// and any of its servers; or valkey; or embedded
    #[arg(long, value_name = "URL")]
    to: String,
    /// Whose sessions; may be left out when there is one app only
    #[arg(long, value_name = "NAME")]
    app: Option<String>,
    /// The app's database, as in SELECT
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    database: u8,
    /// A file with the server's password, instead of one in the URL that other users can see
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// With TLS: the certificates to trust, instead of those that this machine trusts
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Copy only what is not there at all
    #[arg(long)]
    missing: bool,
    /// Go on copying what changes, and removing what is removed, until interrupted
    #[arg(long)]
    follow: bool,
    /// Where the store listens
    #[arg(long, value_name = "PATH", default_value = paths::SESSION_SOCKET)]
    socket: PathBuf,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Between two passes with `--follow`: each reads every session, and the store has other work.
const PAUSE: Duration = Duration::from_secs(1);
/// Passes without `--follow`: the second copies what changed during the first.
const PASSES: u64 = 2;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

impl Migrate {
    pub(super) fn run(self) -> Done {
        if let Some(target) = Side::of(&self.to) {
            let name = self.app.as_deref().ok_or_else(|| {
                Failure::with(exit::USAGE, "say which app is to move: --app NAME")
            })?;
            let of_url = self.missing || self.follow || self.database != 0;
            if of_url || self.password_file.is_some() || self.ca_file.is_some() {
                return Err(Failure::with(
                    exit::USAGE,
                    format!(
                        "--to {} moves all of an app, and goes with no option for a server's URL",
                        self.to
                    ),
                ));
            }
            return switch::run(name, target, &Live::at(&self.socket), self.json);
        }
        let mut url = Url::parse(&self.to)
            .map_err(|error: UrlError| Failure::with(exit::USAGE, format!("--to: {error}")))?;
        if let Some(path) = &self.password_file {
            url.password = Some(passwords::of_server(path)?);
        }
        let live = Live::at(&self.socket);
        let app = self.app(&live)?;
        let mut from = live.connect_to(&app, self.database)?;
        url.trusted.clone_from(&self.ca_file);
        let mut to = Target::connect(&url)?;
        if self.follow {
            interrupt_politely()?;
        }
        let rule = if self.missing { Rule::Missing } else { Rule::Newer };
        let mut copy = Copy::new(rule);
        let mut total = Pass::default();
        for pass in 1.. {
            let done = copy.pass(&mut from, &mut to)?;
            total.copied += done.copied;
            total.removed += done.removed;
            total.kept = done.kept;
            total.unsupported = done.unsupported;
            if pass == 1 && self.follow && !self.json {
                manage::print(&format!(
                    "{} of {} keys of {app} copied to {url}; following",
                    done.copied, done.seen
                ));
            }
            let ended =
                if self.follow { INTERRUPTED.load(Ordering::Relaxed) } else { pass == PASSES };
            if ended {
                total.seen = done.seen;
                break;
            }
            if self.follow {
                pause();
            }
        }
        let Pass { seen, copied, kept, removed, unsupported } = total;
        if self.json {
            manage::print_json(&json!({
                "app": app, "keys": seen, "copied": copied, "kept": kept, "removed": removed,
                "unsupported": unsupported,
            }));
        } else {
            manage::print(&format!(
                "{app}: {seen} keys; {copied} copied to {url}, {kept} kept there, {removed} removed there"
            ));
        }
        if unsupported > 0 {
            return Err(Failure::new(format!(
                "{unsupported} keys are of a kind that cannot be copied"
            )));
        }
        Ok(())
    }

    /// Whose sessions it is about.
    fn app(&self, live: &Live) -> Done<String> {
        if let Some(app) = &self.app {
            return Ok(app.clone());
        }
        let mut apps: Vec<String> = live.spaces(None)?.into_iter().map(|(app, _)| app).collect();
        apps.dedup();
        match apps.as_slice() {
            [app] => Ok(app.clone()),
            [] => Err(Failure::new("there are no sessions to copy")),
            several => Err(Failure::with(
                exit::USAGE,
                format!(
                    "there are sessions of several apps; choose one with --app: {}",
                    several.join(", ")
                ),
            )),
        }
    }
}

/// Has an interrupt end it after the pass, so that what it says last is true.
fn interrupt_politely() -> Done {
    let failed = |error: std::io::Error| Failure::with(exit::OS, format!("cannot start: {error}"));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (interrupt, terminate) = runtime
        .block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            Ok((signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?))
        })
        .map_err(failed)?;
    std::thread::spawn(move || {
        let (mut interrupt, mut terminate) = (interrupt, terminate);
        runtime.block_on(async {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        });
        INTERRUPTED.store(true, Ordering::Relaxed);
    });
    Ok(())
}

fn pause() {
    let step = Duration::from_millis(50);
    let mut left = PAUSE;
    while left > Duration::ZERO && !INTERRUPTED.load(Ordering::Relaxed) {
        std::thread::sleep(step);
        left = left.saturating_sub(step);
    }
}
