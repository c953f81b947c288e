//! `roundsman listen`: the front on another port, where something else has port 80.

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::time::sleep;

use super::failure::{Done, Failure};
use super::manage::{print, print_json, say};
use super::rights;
use crate::base::holder;
use crate::base::replace;
use crate::base::unit::FRONT;
use crate::systemd::dbus::{Systemd, UnitState, Verb};

const SOCKET: &str = "roundsman-http.socket";
const ADMIN: &str = "roundsman-admin.socket";

/// The drop-in that this command makes, and takes away again.
const DROP_IN: &str = "/etc/systemd/system/roundsman-http.socket.d/50-roundsman-listen.conf";

/// The port that the package has.
const OWN: u16 = 80;

/// How often is looked whether a port is free.
const LOOK: Duration = Duration::from_secs(2);

/// Have the front listen for HTTP on another port than 80, or on 80 again
///
/// Writes a drop-in of roundsman-http.socket, and restarts that and the front. What else can be said of
/// a socket (addresses, several ports) is in systemd.socket(5): systemctl edit roundsman-http.socket.
#[derive(Debug, Args)]
#[command(override_usage = "roundsman listen [OPTIONS] <PORT>")]
pub(super) struct Listen {
    /// The port
    #[arg(value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..), required_unless_present = "when_free")]
    port: Option<u16>,
    /// Run by roundsman-port.service: wait until nobody else has the port, and open it
    #[arg(long, hide = true, conflicts_with = "port")]
    when_free: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

// === impl Listen ===

impl Listen {
    /// Moves the front there.
    pub(super) fn run(&self) -> ExitCode {
        rights::run_as_root("choosing the front's port", async {
            let Some(port) = self.port else { return when_free().await };
            free(port)?;
            let drop_in = Path::new(DROP_IN);
            let before = fs::read(drop_in).ok();
            rights::may_write(&[drop_in])?;
            write(port)?;
            let systemd = Systemd::connect().await?;
            if let Err(failure) = restart(&systemd).await {
                match before {
                    Some(text) => replace::replace(drop_in, &text, replace::OPEN)?,
                    None => remove(drop_in)?,
                }
                systemd.daemon_reload().await?;
                return Err(failure);
            }
            if self.json {
                print_json(&json!({ "result": "listens", "port": port }));
            } else {
                let port = if port == OWN { String::new() } else { format!(":{port}") };
                print(&format!("the front listens at http://localhost{port}/"));
            }
            Ok(())
        })
    }
}

/// Waits until nobody has the ports of the failed socket, and starts it; not, when somebody else has
/// started or stopped it meanwhile.
async fn when_free() -> Done {
    let systemd = Systemd::connect().await?;
    loop {
        let socket = systemd.unit(SOCKET).await?;
        if socket.state() != UnitState::Failed {
            return Ok(());
        }
        let ports = socket.listens_on().into_iter().filter_map(|address| holder::port(&address));
        if !ports.into_iter().any(|port| holder::of(port).0) {
            say("the port is free: opening it");
            return restart(&systemd).await;
        }
        sleep(LOOK).await;
    }
}

/// Fails when somebody else has the port.
fn free(port: u16) -> Done {
    let (is_held, holder) = holder::of(port);
    let holder = holder.filter(|holder| !holder.is_ours());
    match holder {
        Some(holder) if is_held => Err(Failure::new(format!(
            "port {port} is taken by {holder}; nothing was changed. Choose another port"
        ))),
        _ => Ok(()),
    }
}

fn write(port: u16) -> io::Result<()> {
    let path = Path::new(DROP_IN);
    if port == OWN {
        return remove(path);
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let text = format!(
        "# Made by roundsman listen {port}\n[Socket]\nListenStream=\nListenStream={port}\n"
    );
    replace::replace(path, text.as_bytes(), replace::OPEN)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

async fn restart(systemd: &Systemd) -> Done {
    systemd.daemon_reload().await?;
    for unit in [ADMIN, SOCKET, FRONT] {
        systemd.reset_failed(unit).await?;
    }
    // A running front keeps the socket from being started.
    systemd.job(Verb::Restart, SOCKET).await?;
    if systemd.state(ADMIN).await? != UnitState::Active {
        // It cannot start under a front that the port has just started.
        systemd.job(Verb::Stop, FRONT).await?;
        systemd.job(Verb::Start, ADMIN).await?;
    }
    Ok(systemd.job(Verb::Start, FRONT).await?)
}
