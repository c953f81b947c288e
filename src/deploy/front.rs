//! What a deploy asks of the front: reload, drain, undrain. Where no front runs, nothing is routed
//! to anybody, and there is nothing to ask.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::admin::client::{self, AdminError};
use crate::admin::model::{Drain, Drained, Reload, Undrain};
use crate::base::lock;
use crate::base::paths;

/// A front, by its admin socket.
#[derive(Debug, Clone)]
pub(crate) struct Front {
    socket: PathBuf,
}

/// For answers that need no waiting.
const ANSWER: Duration = Duration::from_secs(30);

/// What a drain may take beyond the app's `drain-timeout`.
const MARGIN: Duration = Duration::from_secs(10);

// === impl Front ===

impl Front {
    /// The front with this admin socket.
    pub(crate) fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Where it is reached.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Whether it runs. Connecting would start it. Only root sees the lock, and only root deploys.
    fn runs(&self) -> bool {
        self.socket.parent().is_some_and(|beside| lock::held(&paths::front_lock(beside)))
    }

    /// Whether it answers, which starts it where it does not run.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) async fn answers(&self) -> Result<(), AdminError> {
        let status =
            client::call_async::<(), Value>(&self.socket, "GET", "/v1/status", None, ANSWER);
        status.await.map(drop)
    }

    /// Puts the present files to work, also where it was not running, unless there is nothing in them that
    /// it `serves`.
    ///
    /// # Errors
    /// When the files have errors, or the front cannot be reached.
    pub(crate) async fn reload(&self, serves: bool) -> Result<(), AdminError> {
        if !serves && !self.runs() {
            return Ok(());
        }
        self.call::<(), Value>("/v1/reload", None, ANSWER).await.map(drop)
    }

    /// The same for a change of one app: files of others that have errors stay as they are at work.
    ///
    /// # Errors
    /// When files have errors that concern it, or the front cannot be reached.
    pub(crate) async fn reload_for(&self, app: &str, serves: bool) -> Result<(), AdminError> {
        if !serves && !self.runs() {
            return Ok(());
        }
        let request = Reload { app: Some(app.to_owned()) };
        self.call::<_, Value>("/v1/reload", Some(&request), ANSWER).await.map(drop)
    }

    /// Takes a worker out of the rotation until [`Front::undrain`], and waits for its requests.
    ///
    /// # Errors
    /// When the front cannot be reached. That it does not know the worker is none: then nothing is
    /// routed to it.
    pub(crate) async fn drain(&self, worker: &str, limit: Duration) -> Result<(), AdminError> {
        if !self.runs() {
            return Ok(());
        }
        let request = Drain { target: worker.to_owned(), hold: true, timeout_ms: None };
        match self.call::<_, Drained>("/v1/drain", Some(&request), limit + MARGIN).await {
            Ok(_) | Err(AdminError::Refused(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Puts a worker back into the rotation.
    ///
    /// # Errors
    /// When the front cannot be reached.
    pub(crate) async fn undrain(&self, worker: &str) -> Result<(), AdminError> {
        if !self.runs() {
            return Ok(());
        }
        let request = Undrain { target: worker.to_owned() };
        match self.call::<_, Value>("/v1/undrain", Some(&request), ANSWER).await {
            Ok(_) | Err(AdminError::Refused(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn call<Q, A>(
        &self,
        path: &str,
        body: Option<&Q>,
        limit: Duration,
    ) -> Result<A, AdminError>
    where
        Q: serde::Serialize,
        A: serde::de::DeserializeOwned,
    {
        client::call_async(&self.socket, "POST", path, body, limit).await
    }
}
