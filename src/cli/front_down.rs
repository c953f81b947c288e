//! Why the front does not answer: what systemd knows of its units, and who has taken its port.

use std::path::Path;
use std::thread;
use std::time::Duration;

use tokio::time::timeout;

use super::failure::Failure;
use crate::admin::client::AdminError;
use crate::base::exit;
use crate::base::holder;
use crate::base::paths;
use crate::base::unit::FRONT;
use crate::systemd::dbus::{Systemd, SystemdError, UnitState};

/// How long systemd may take to say it.
const LONGEST: Duration = Duration::from_secs(5);

/// The socket units of the front's ports.
const PORTS: [&str; 2] = ["roundsman-http.socket", "roundsman-https.socket"];

/// What a call to the front with this socket failed of: the installed front's units may say more.
pub(super) fn explain(socket: &Path, error: AdminError) -> Failure {
    let is_down = match &error {
        AdminError::Connect { source, .. } => source.kind() != std::io::ErrorKind::PermissionDenied,
        AdminError::Broken(_) => true,
        AdminError::Refused(_) | AdminError::Configuration(_) | AdminError::NoRoom(_) => false,
    };
    let why = (is_down && socket == Path::new(paths::ADMIN_SOCKET)).then(why).flatten();
    why.map_or_else(
        || error.into(),
        |why| Failure::with(exit::UNAVAILABLE, format!("the front does not run: {why}")),
    )
}

/// Why, and what to do; `None` where systemd knows of nothing.
fn why() -> Option<String> {
    // The caller may be in a runtime of its own.
    let ask = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        runtime.block_on(async { timeout(LONGEST, ask()).await.ok()?.ok()? })
    };
    thread::spawn(ask).join().ok()?
}

async fn ask() -> Result<Option<String>, SystemdError> {
    let systemd = Systemd::connect().await?;
    for socket in PORTS {
        let unit = systemd.unit(socket).await?;
        if unit.state() != UnitState::Failed {
            continue;
        }
        let ports = unit
            .listens_on()
            .iter()
            .filter_map(|address| holder::port(address))
            .collect::<Vec<_>>();
        if let Some(text) = ports.into_iter().find_map(taken) {
            return Ok(Some(text));
        }
        return Ok(Some(format!(
            "{socket} has failed: systemctl status {socket} says why. Then: {}",
            again(socket)
        )));
    }
    let front = systemd.unit(FRONT).await?;
    if front.state() == UnitState::Failed {
        let reason = front.trouble().unwrap_or_else(|| "it has failed".to_owned());
        return Ok(Some(format!(
            "{FRONT}: {reason}. journalctl -u roundsman says why. Then: {}",
            again(PORTS[0])
        )));
    }
    let http = systemd.unit(PORTS[0]).await?;
    Ok((http.state() == UnitState::Inactive).then(|| {
        format!(
            "{} is stopped, and the front with it. To start both: {}",
            PORTS[0],
            again(PORTS[0])
        )
    }))
}

/// What starts everything once the reason is gone.
fn again(socket: &str) -> String {
    format!(
        "systemctl reset-failed 'roundsman*'; systemctl restart roundsman-admin.socket {socket} roundsman"
    )
}

/// What is said of a port that somebody else has.
fn taken(port: u16) -> Option<String> {
    let (is_held, holder) = holder::of(port);
    if !is_held {
        return None;
    }
    let (by, stop) = match &holder {
        Some(holder) => {
            let stop = match holder.unit.as_deref().filter(|unit| unit.ends_with(".service")) {
                Some(unit) => format!(" (systemctl disable --now {unit})"),
                None => String::new(),
            };
            (holder.to_string(), stop)
        }
        None => ("another program (run this as root to see which)".to_owned(), String::new()),
    };
    Some(format!(
        "port {port} is taken by {by}, so the front cannot listen there.\n\
         To listen on another port: roundsman listen 8080\n\
         Or end that program{stop}: the front has the port some seconds later"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_told_with_the_way_out() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let bound = socket.local_addr().unwrap().port();
        let text = taken(bound).expect("it is taken");
        for part in [
            &format!("port {bound} is taken by "),
            &format!("(process {}", std::process::id()),
            "roundsman listen 8080",
            "some seconds later",
        ] {
            assert!(text.contains(part), "no {part} in {text}");
        }
        drop(socket);
        assert_eq!(taken(bound), None);
    }
}
