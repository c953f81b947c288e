//! A damaged store at the start of the service: what can be read of it is served.

use std::path::Path;
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::session::store::{OpenError, Options, Outcome, Store};

/// What `roundsman session salvage --json` says.
#[derive(Debug, Deserialize)]
struct Salvaged {
    lost: Vec<String>,
}

/// Opens the store. Whatever was damaged is said aloud; returns where the last of it lies.
pub(super) fn open(options: Options) -> Result<(Store, Option<String>), OpenError> {
    let (store, problems) = Store::open_or_salvage(options, &salvage)?;
    let mut last = None;
    for problem in problems {
        let aside = problem.aside.display().to_string();
        let keys: u64 = store.all_spaces().map(|record| record.keys).sum();
        let outcome = match problem.outcome {
            Outcome::Kept => format!("everything else was kept: {keys} keys are served"),
            Outcome::Salvaged(lost) if lost.is_empty() => {
                format!("all that could be read was salvaged: {keys} keys are served")
            }
            Outcome::Salvaged(lost) => format!(
                "what could be read was salvaged: {keys} keys are served. Lost: {}",
                lost.join("; ")
            ),
            Outcome::Lost(reason) => format!(
                "it could not be salvaged ({reason}), and the store begins empty. To try again: \
                 roundsman session salvage {aside} --to DIR"
            ),
        };
        tracing::error!(
            "session data was damaged: {}. It was set aside in {aside}; {outcome}",
            problem.what
        );
        last = Some(aside);
    }
    Ok((store, last))
}

/// Has another process do it: what reads a damaged file may meet anything, and must not take the service
/// with it.
fn salvage(damaged: &Path, scratch: &Path) -> Result<Vec<String>, String> {
    tracing::warn!("salvaging what can be read in {}", damaged.display());
    let failed = |error: std::io::Error| format!("cannot run roundsman session salvage: {error}");
    // This very program, also where an upgrade has put another one in its place.
    let output = Command::new("/proc/self/exe")
        .args(["session", "salvage", "--json", "--to"])
        .arg(scratch)
        .arg(damaged)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .map_err(failed)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {}", output.status, said.lines().last().unwrap_or_default()));
    }
    let salvaged: Salvaged = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("roundsman session salvage said nothing of use: {error}"))?;
    Ok(salvaged.lost)
}
