//! `roundsman stop` where systemd does not answer.
//!
//! Any user can keep PID 1 busy with messages to its own sockets, and an app too, as long as it runs. What PID 1
//! is asked over D-Bus it does not do until that is over. But the kernel ends all processes of a control
//! group for root at once, and whoever was it that kept PID 1 busy is gone then.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::{sleep, timeout};

use super::failure::{Done, Failure};
use super::manage;
use crate::base::{control_groups, unit};
use crate::config::settings::App;

/// How often the processes are ended: systemd starts anew what has ended, until it gets to stopping it.
const AGAIN: Duration = Duration::from_secs(1);

/// How long that is tried.
const LIMIT: Duration = Duration::from_mins(1);

/// Ends the processes of these workers at once and has systemd stop their units, and the app's where `all` are
/// meant, as soon as it can. `why` is what the orderly way has come to.
pub(super) async fn stop(why: Failure, app: &App, numbers: &[u16], all: bool) -> Done {
    let services = numbers.iter().map(|number| unit::service(&app.name, *number));
    let groups: Vec<PathBuf> =
        services.filter_map(|service| control_groups::of_service(&service)).collect();
    if groups.is_empty() {
        return Err(why); // it is not they who keep systemd from answering
    }
    manage::say(&format!("warning: {}", why.message));
    manage::say(&format!("Ending the processes of {} at once, without a drain.", app.name));
    let mut units: Vec<String> = numbers.iter().flat_map(|number| app.units_of(*number)).collect();
    if all {
        units.push(unit::target(&app.name));
    }
    // As root it speaks with PID 1 itself, which may not be on the bus any more.
    let mut command = Command::new("systemctl");
    let mut systemctl = command.arg("stop").arg("--").args(&units).kill_on_drop(true).spawn()?;
    let stopped = timeout(LIMIT, async {
        loop {
            for group in &groups {
                let _ = fs::write(group.join("cgroup.kill"), "1"); // or it is gone
            }
            tokio::select! {
                ended = systemctl.wait() => return ended,
                () = sleep(AGAIN) => {}
            }
        }
    });
    match stopped.await {
        Ok(Ok(ended)) if ended.success() => {}
        _ => return Err(Failure::with(why.code, "systemd has not stopped them, either")),
    }
    // As after a stop in good order: that they were killed is no failure. Some systemd has forgotten by now.
    let mut command = Command::new("systemctl");
    let _ = command.arg("reset-failed").arg("--").args(&units).stderr(Stdio::null()).status().await;
    Ok(())
}
