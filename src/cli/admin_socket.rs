//! The front that a command talks to.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::failure::Done;
use super::{front_down, manage, rights};
use crate::admin;
use crate::base::paths;

/// Which front a command talks to.
#[derive(Debug, Clone, Args)]
pub(super) struct AdminSocket {
    /// The admin socket of the front
    #[arg(long = "admin", value_name = "PATH", default_value = paths::ADMIN_SOCKET)]
    pub(super) path: PathBuf,
}

/// How long a command waits for an answer that needs no waiting.
const ANSWER: Duration = Duration::from_secs(30);

// === impl AdminSocket ===

impl AdminSocket {
    /// For what the helper is asked for: it talks to the front of this machine, wherever a member
    /// would like it to.
    pub(super) fn only_default(&self) -> Done {
        if self.path == std::path::Path::new(paths::ADMIN_SOCKET) {
            return Ok(());
        }
        Err(rights::root_alone("another --admin than the installed front's"))
    }

    /// Calls the front; shows its answer with `show`, or the error.
    pub(super) fn call<Q: Serialize, A: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<&Q>,
        show: impl FnOnce(A),
    ) -> ExitCode {
        let answer = admin::client::call(&self.path, method, path, body, ANSWER);
        manage::end(answer.map(show).map_err(|error| front_down::explain(&self.path, error)))
    }
}
