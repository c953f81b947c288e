//! `roundsman drain` and `roundsman undrain`.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::time::Instant;

use super::send::{AppOrWorker, Runtime};
use super::{AdminSocket, manage, names};
use crate::admin::client::{self, AdminError};
use crate::admin::model::{Drain as Request, Drained, Undrain as UndrainRequest};
use crate::base::exit;
use crate::base::lock;
use crate::base::paths;
use crate::base::worker_socket;

/// A drain waits no longer than this, whatever it was asked: half of systemd's largest extension.
const LONGEST: Duration = Duration::from_mins(30);

/// What telling the workers may take together.
const ANNOUNCE: Duration = Duration::from_secs(2);

/// Take workers out of the rotation and wait until their requests are done
#[derive(Debug, Args)]
pub(super) struct Drain {
    /// An app, or one of its workers, as in shop or shop:2
    #[arg(value_name = "APP[:N]", add = names::apps())]
    target: String,
    /// Wait this many seconds at most [default: the app's drain-timeout]
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// What the worker units do when they stop: do nothing if the front does not run, and let the
    /// unit's next start end the drain
    #[arg(long)]
    worker: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminSocket,
    #[command(flatten)]
    runtime: Runtime,
}

/// Put drained workers back into the rotation
#[derive(Debug, Args)]
pub(super) struct Undrain {
    /// An app, or one of its workers, as in shop or shop:2
    #[arg(value_name = "APP[:N]", add = names::apps())]
    target: String,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminSocket,
}

// === impl Drain ===

impl Drain {
    /// Drains and says how it went.
    pub(super) fn run(self) -> ExitCode {
        self.announce();
        let socket: PathBuf = self.admin.path;
        if self.worker
            && !socket.parent().is_some_and(|beside| lock::held(&paths::front_lock(beside)))
        {
            // Connecting would start a front, which at shutdown is the last thing that is wanted.
            return ExitCode::from(exit::OK);
        }
        let tell = |in_flight: u32| {
            if self.json {
                let result = if in_flight == 0 { "drained" } else { "not drained" };
                let target = &self.target;
                let report = json!({ "result": result, "target": target, "in-flight": in_flight });
                manage::print(&report.to_string());
            }
        };
        let request = Request {
            target: self.target.clone(),
            hold: !self.worker,
            timeout_ms: self.timeout.map(|seconds| seconds.saturating_mul(1000)),
        };
        match client::call::<_, Drained>(&socket, "POST", "/v1/drain", Some(&request), LONGEST) {
            Ok(Drained { in_flight: 0 }) => {
                tell(0);
                if !self.worker && !self.json {
                    let target = &self.target;
                    manage::print(&format!(
                        "{target} is drained; roundsman undrain {target} ends it"
                    ));
                }
                ExitCode::from(exit::OK)
            }
            Ok(Drained { in_flight }) => {
                tell(in_flight);
                let plural = if in_flight == 1 { "request was" } else { "requests were" };
                manage::say(&format!(
                    "{}: {in_flight} {plural} still in flight when the time was up",
                    self.target
                ));
                // For a unit that stops this is not a failure: it said how long it waits.
                ExitCode::from(if self.worker { exit::OK } else { exit::FAILURE })
            }
            Err(AdminError::Refused(_)) if self.worker => ExitCode::from(exit::OK),
            Err(error) => manage::end(Err(error.into())),
        }
    }

    /// Tells the workers, so that who follows them sees it. That they do not run is no reason not
    /// to drain them, and neither is that they may not be told.
    fn announce(&self) {
        let Ok(target) = self.target.parse::<AppOrWorker>() else { return };
        let base = &self.runtime.base;
        let numbers = match target.number {
            Some(number) => vec![number],
            None => paths::workers_in(base, &target.app),
        };
        let end = Instant::now() + ANNOUNCE;
        for number in numbers {
            let limit = end.saturating_duration_since(Instant::now());
            if limit.is_zero() {
                return;
            }
            let socket = paths::control_socket(base, &target.app, number);
            match worker_socket::control(limit, &socket) {
                Ok(mut stream) => drop(stream.write_all(b"draining\n")),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    manage::say(&format!("warning: {}: {error}", socket.display()));
                }
                Err(_) => {}
            }
        }
    }
}

// === impl Undrain ===

impl Undrain {
    /// Undrains.
    pub(super) fn run(self) -> ExitCode {
        let request = UndrainRequest { target: self.target.clone() };
        self.admin.call::<_, serde_json::Value>("POST", "/v1/undrain", Some(&request), |_| {
            if self.json {
                let report = json!({ "result": "undrained", "target": self.target });
                manage::print(&report.to_string());
            }
        })
    }
}
