//! Earlier fronts: those that have been restarted and finish what they have in flight.
//!
//! Each has a socket in the unit's runtime directory, where the present front asks it: a worker that
//! stops waits for all of its requests, whichever front has them, and so does a stop of the service.

use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::net::UnixListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::admin::client;
use crate::admin::model::{Drain, Drained};
use crate::base::dial;

/// How their names begin; the number of the process follows.
const PREFIX: &str = "earlier-";

/// How often it is looked whether they have ended.
const LOOK: Duration = Duration::from_millis(50);

/// For an answer, beyond what it waits for.
const MARGIN: Duration = Duration::from_secs(5);

/// What the present front says to them when it accepts.
pub(crate) const RELIEVE: &str = "/v1/relieve";

/// Where they are, and whether this front is one of them.
#[derive(Debug, Default)]
pub(crate) struct Earlier {
    directory: Option<PathBuf>,
    is_one: Cell<bool>,
    relieved: Notify,
}

/// This process's place among them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place(PathBuf);

impl Earlier {
    /// Those of this unit, by its runtime directory.
    pub(crate) fn beside(directory: Option<&Path>) -> Self {
        Self { directory: directory.map(Path::to_owned), ..Self::default() }
    }

    /// Makes this front one of them, which the next one asks at the listener that this returns.
    ///
    /// # Errors
    /// When it can listen nowhere.
    pub(crate) fn join(&self) -> io::Result<(UnixListener, Place)> {
        self.is_one.set(true);
        let directory = self.directory.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let path = directory.join(format!("{PREFIX}{}", std::process::id()));
        // One with this number has ended long ago.
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path)?;
        Ok((listener, Place(path)))
    }

    /// Whether this front is one of them.
    pub(crate) fn is_one(&self) -> bool {
        self.is_one.get()
    }

    /// Says that the next front accepts.
    pub(crate) fn be_relieved(&self) {
        self.relieved.notify_one();
    }

    /// Waits for [`Self::be_relieved`].
    pub(crate) async fn relieved(&self) {
        self.relieved.notified().await;
    }

    /// Has each of them accept nobody any more, and waits until they do not.
    pub(crate) async fn relieve(&self) {
        let mut calls = JoinSet::new();
        for socket in self.sockets() {
            calls.spawn_local(async move {
                let none = None::<&()>;
                let call = client::call_async::<_, Value>(&socket, "POST", RELIEVE, none, MARGIN);
                if let Err(error) = call.await {
                    tracing::warn!(%error, "an earlier front may accept for a while yet");
                }
            });
        }
        calls.join_all().await;
    }

    /// Has each of them wait for what it has in flight at a worker: how much that is at the end.
    pub(crate) async fn drain(&self, target: &str, end: Instant) -> u32 {
        let limit = end.saturating_duration_since(Instant::now());
        let mut calls = JoinSet::new();
        for socket in self.sockets() {
            let timeout_ms = u64::try_from(limit.as_millis()).ok();
            let request = Drain { target: target.to_owned(), hold: false, timeout_ms };
            calls.spawn_local(async move {
                let limit = limit + MARGIN;
                let drained =
                    client::call_async(&socket, "POST", "/v1/drain", Some(&request), limit);
                // It has ended, or knows no such worker: then it has nothing there.
                drained.await.map_or(0, |drained: Drained| drained.in_flight)
            });
        }
        calls.join_all().await.into_iter().sum()
    }

    /// Waits until all of them have ended.
    pub(crate) async fn end(&self, limit: Duration) {
        let end = Instant::now() + limit;
        while !self.sockets().is_empty() && Instant::now() < end {
            sleep(LOOK).await;
        }
    }

    /// Their sockets, without those of who was killed.
    fn sockets(&self) -> Vec<PathBuf> {
        let entries = self.directory.as_ref().and_then(|directory| directory.read_dir().ok());
        let is_theirs = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX))
        };
        let mut sockets: Vec<_> = entries
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(is_theirs)
            .collect();
        sockets.retain(|socket| {
            let left = dial::is_left_behind(socket);
            if left {
                let _ = std::fs::remove_file(socket);
            }
            !left
        });
        sockets
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn they_are_there_until_they_have_ended_however_they_end() {
        let directory = tempfile::tempdir().unwrap();
        let present = Earlier::beside(Some(directory.path()));
        assert!(present.sockets().is_empty());

        let earlier = Earlier::beside(Some(directory.path()));
        assert!(!earlier.is_one());
        let (listener, place) = earlier.join().unwrap();
        assert!(earlier.is_one() && !present.is_one());
        assert_eq!(present.sockets().len(), 1);
        drop(listener); // as with a process that was killed
        assert!(present.sockets().is_empty());
        assert_eq!(directory.path().read_dir().unwrap().count(), 0, "nothing is left of it");
        drop(place);

        let (_listener, place) = earlier.join().unwrap();
        std::fs::write(directory.path().join("held"), "").unwrap();
        assert_eq!(present.sockets().len(), 1, "what else is there is none");
        drop(place);
        present.end(Duration::from_mins(1)).await;
    }

    #[tokio::test]
    async fn without_a_directory_there_is_nobody() {
        let alone = Earlier::default();
        assert!(alone.sockets().is_empty() && alone.join().is_err());
        alone.end(Duration::from_mins(1)).await;
    }
}
