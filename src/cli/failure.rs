//! Why a command did not do what it was asked to: the exit status and the words, of every command.

use std::io;

use crate::admin::client::AdminError;
use crate::base::exit;
use crate::deploy::execute::DeployError;
use crate::deploy::progress::LockError;
use crate::helper::client::HelperError;
use crate::session::remote::RemoteError;
use crate::session::store::OpenError;
use crate::systemd::dbus::SystemdError;

/// What there is to try with an app that chooses itself where it listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chosen {
    /// Its workers are in each other's way: one alone.
    OneWorker,
    /// Its one worker is reached at this port.
    Port(u16),
}

/// Why a command did not do it.
#[derive(Debug)]
pub(super) struct Failure {
    /// Its exit status.
    pub(super) code: u8,
    /// For people; may have several lines, empty when all was said.
    pub(super) message: String,
    /// What there is to try, where that is known.
    pub(super) chosen: Option<Chosen>,
    /// systemd has had all the time that it has for an answer.
    pub(super) is_silence: bool,
}

/// What a command comes to.
pub(super) type Done<T = ()> = Result<T, Failure>;

// === impl Failure ===

impl Failure {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self::with(exit::FAILURE, message)
    }

    pub(super) fn config(message: impl Into<String>) -> Self {
        Self::with(exit::CONFIG, message)
    }

    pub(super) fn with(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), chosen: None, is_silence: false }
    }
}

impl From<SystemdError> for Failure {
    fn from(error: SystemdError) -> Self {
        let code = match error {
            SystemdError::Unreachable(_) | SystemdError::Away(_) | SystemdError::Silent { .. } => {
                exit::UNAVAILABLE
            }
            SystemdError::Denied(_) => exit::DENIED,
            SystemdError::Refused(_)
            | SystemdError::Job { .. }
            | SystemdError::Endless { .. }
            | SystemdError::Lost { .. } => exit::FAILURE,
        };
        let is_silence = matches!(error, SystemdError::Silent { .. });
        Self { is_silence, ..Self::with(code, error.to_string()) }
    }
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Self {
        let code = match &error {
            AdminError::Refused(_) => exit::FAILURE,
            AdminError::Configuration(_) => exit::CONFIG,
            AdminError::NoRoom(_) => exit::OS,
            AdminError::Connect { source, .. }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                exit::DENIED
            }
            AdminError::Connect { .. } | AdminError::Broken(_) => exit::UNAVAILABLE,
        };
        Self::with(code, error.to_string())
    }
}

impl From<HelperError> for Failure {
    fn from(error: HelperError) -> Self {
        let code = match error {
            HelperError::NotAllowed => exit::DENIED,
            HelperError::Unreachable(_) | HelperError::Lost => exit::UNAVAILABLE,
        };
        Self::with(code, error.to_string())
    }
}

impl From<DeployError> for Failure {
    fn from(error: DeployError) -> Self {
        match error {
            DeployError::Systemd(error) => error.into(),
            DeployError::Front(error) => error.into(),
            DeployError::Io(error) => error.into(),
            DeployError::Left(_) => Self::with(exit::INTERRUPTED, error.to_string()),
        }
    }
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        let code = match &error {
            LockError::Held { .. } => exit::BUSY,
            LockError::Io { source, .. } => os(source),
        };
        Self::with(code, error.to_string())
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let code = match error {
            OpenError::InUse(_) => exit::UNAVAILABLE,
            _ => exit::OS,
        };
        Self::with(code, error.to_string())
    }
}

impl From<RemoteError> for Failure {
    fn from(error: RemoteError) -> Self {
        let code = match &error {
            RemoteError::Io(_, error) if error.kind() == io::ErrorKind::PermissionDenied => {
                exit::DENIED
            }
            RemoteError::Io(..) => exit::UNAVAILABLE,
            RemoteError::Access(..) => exit::DENIED,
            RemoteError::Refused(..) | RemoteError::Foreign(..) => exit::FAILURE,
        };
        Self::with(code, error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let advice = match error.kind() {
            io::ErrorKind::PermissionDenied => "\nRun this as root (sudo).",
            _ => "",
        };
        Self::with(os(&error), format!("{error}{advice}"))
    }
}

fn os(error: &io::Error) -> u8 {
    match error.kind() {
        io::ErrorKind::PermissionDenied => exit::DENIED,
        _ => exit::OS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_is_silent_when_it_has_had_its_time_and_not_when_it_is_not_there() {
        let limit = std::time::Duration::from_secs(30);
        let silent = Failure::from(SystemdError::Silent { call: "StopUnit".to_owned(), limit });
        assert!(silent.is_silence && silent.code == exit::UNAVAILABLE);
        let gone = Failure::from(SystemdError::Unreachable("closed".to_owned()));
        assert!(!gone.is_silence && gone.code == exit::UNAVAILABLE);
    }

    #[test]
    fn who_may_not_open_the_sessions_hears_that() {
        let of = |kind: io::ErrorKind| {
            Failure::from(RemoteError::Io("the store".to_owned(), io::Error::from(kind))).code
        };
        assert_eq!(of(io::ErrorKind::PermissionDenied), exit::DENIED);
        assert_eq!(of(io::ErrorKind::ConnectionRefused), exit::UNAVAILABLE);
    }
}
