//! Why systemd did not do what it was asked to.

use std::time::Duration;

use libsystemd::daemon::booted;
use zbus::fdo;

use super::verb::Verb;

/// Why systemd did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SystemdError {
    /// No system bus, no systemd behind it, or it is gone.
    #[error("cannot reach systemd over D-Bus: {0}\n{remedy}", remedy = remedy(booted()))]
    Unreachable(String),
    /// It has left the bus, to be started anew perhaps.
    #[error("cannot reach systemd over D-Bus: {0}\n{remedy}", remedy = remedy(booted()))]
    Away(String),
    /// It has not answered.
    #[error(
        "{call}: no answer over D-Bus within {limit:?}\nEither the bus or systemd is stuck: \
         systemctl status dbus, and systemctl is-system-running, say more."
    )]
    Silent {
        /// What it was asked.
        call: String,
        /// How long it had.
        limit: Duration,
    },
    /// It says that we may not.
    #[error(
        "systemd does not allow this: {0}\nRun it as root (sudo), or as a member of the group \
         \"roundsman\" where polkit is installed."
    )]
    Denied(String),
    /// It refuses.
    #[error("{0}")]
    Refused(String),
    /// The job was done, and failed.
    #[error("{unit}: {}", explain(.result))]
    Job {
        /// Which unit.
        unit: String,
        /// systemd's word for it: `failed`, `timeout`, `dependency`, …
        result: String,
    },
    /// The job goes on for longer than all that its unit has for it, so nobody waits any more.
    #[error(
        "{unit}: the {} has not ended within {limit:?}, which is all that its unit's time-outs leave it; it goes on\n\
         See systemctl status '{unit}'. {}",
        .verb.noun(), .verb.way_out(unit)
    )]
    Endless {
        /// Which unit.
        unit: String,
        /// What was to be done to it.
        verb: Verb,
        /// How long it was waited for.
        limit: Duration,
    },
    /// systemd was started anew meanwhile, and did not say what became of the job.
    #[error(
        "{unit}: systemd was started anew and has not said what became of the job\n\
         See systemctl status '{unit}', and try again."
    )]
    Lost {
        /// Which unit.
        unit: String,
    },
}

/// What to do about a systemd that cannot be reached.
fn remedy(booted: bool) -> &'static str {
    if booted {
        "It, or its bus, may have been started anew at this moment: try again; systemctl status dbus says more."
    } else {
        "Is this a machine that systemd has booted?"
    }
}

/// systemd's one-word results of a job, for people.
fn explain(result: &str) -> String {
    match result {
        "failed" => "did not start".to_owned(),
        "timeout" => "was not done in the time it has".to_owned(),
        "dependency" => "something that it needs did not start".to_owned(),
        "canceled" => "something else, a stop for instance, came in between".to_owned(),
        "skipped" => "systemd skipped it, because a condition of the unit does not hold".to_owned(),
        other => format!("the job ended as \"{other}\""),
    }
}

// === impl SystemdError ===

impl SystemdError {
    /// The connection was closed.
    pub(super) fn closed() -> Self {
        Self::Unreachable("the connection to the system bus was closed".to_owned())
    }
}

impl From<zbus::Error> for SystemdError {
    fn from(error: zbus::Error) -> Self {
        match error {
            // systemd's own errors.
            zbus::Error::MethodError(name, text, _) => {
                Self::Refused(text.unwrap_or_else(|| name.to_string()))
            }
            zbus::Error::FDO(error) => (*error).into(),
            error => Self::Unreachable(error.to_string()),
        }
    }
}

impl From<fdo::Error> for SystemdError {
    fn from(error: fdo::Error) -> Self {
        use fdo::Error;
        match error {
            Error::AccessDenied(text) | Error::InteractiveAuthorizationRequired(text) => {
                Self::Denied(text)
            }
            Error::ServiceUnknown(text) | Error::NameHasNoOwner(text) | Error::NoReply(text) => {
                Self::Away(text)
            }
            Error::Disconnected(text) | Error::NoServer(text) => Self::Unreachable(text),
            Error::ZBus(error) => match error {
                zbus::Error::FDO(_) => Self::Unreachable(error.to_string()),
                error => error.into(),
            },
            error => Self::Refused(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_where_systemd_has_not_booted_is_that_the_question() {
        assert!(remedy(false).contains("booted"));
        assert!(remedy(true).contains("try again") && !remedy(true).contains("booted"));
    }
}
