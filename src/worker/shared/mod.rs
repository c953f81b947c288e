//! What the workers of an app have in common, as the workers of one Node primary do: the sockets of servers
//! that are not the front's, and the keys of TLS tickets.
//!
//! There is no process in the middle. Who needs something first asks all siblings over their control sockets
//! whether one has it by this name, and makes it only if none has. So that no two make the same at a time,
//! such questions have an order: a claim is as old as the machine's clock said when it began, and a worker
//! answers a younger claim than its own only when its own is decided. A worker that begins later than
//! another has looked for its siblings finds that one, which has been there since before its own claim.

mod held;
mod turn;
mod wire;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use serde_json::Value;
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::held::File;
pub(super) use self::held::Held;
use self::turn::Turn;
pub(super) use self::wire::Question;
use crate::base::paths;

/// How long a sibling may take to answer. It waits for older claims, each of which is decided within this.
const PATIENCE: Duration = Duration::from_secs(5);

/// What one worker has in common with others; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Shared(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Below which the siblings' control sockets are; without it there are no siblings.
    base: Option<PathBuf>,
    app: String,
    number: u16,
    /// The claim of this worker's own that is not decided.
    claiming: watch::Sender<Option<Turn>>,
    /// One claim at a time.
    one: AsyncMutex<()>,
    held: Mutex<HashMap<String, Held>>,
}

/// A claim that is being decided.
struct Claim<'a>(&'a Inner, Turn);

// === impl Shared ===

impl Shared {
    pub(super) fn new(base: Option<PathBuf>, app: &str, number: u16) -> Self {
        Self(Arc::new(Inner {
            base,
            app: app.to_owned(),
            number,
            claiming: watch::Sender::new(None),
            one: AsyncMutex::new(()),
            held: Mutex::default(),
        }))
    }

    /// Gets what a sibling has by this name, or else what `make` makes; `path` is the file that comes with it.
    pub(super) async fn claim(
        &self,
        name: &str,
        data: Value,
        path: Option<&Path>,
        make: impl FnOnce() -> Result<Option<OwnedFd>, Errno>,
    ) -> Result<Held, Errno> {
        let _one = self.0.one.lock().await;
        let claim = self.0.begin();
        let found = self.0.ask(claim.1, name).await;
        let (socket, data) = match found {
            Some((socket, data)) => (socket, data),
            None => (make()?, data),
        };
        let file = path.and_then(File::at);
        let held = Held { socket: socket.map(Arc::new), data, file };
        self.0.held().insert(name.to_owned(), held.clone());
        Ok(held)
    }

    /// The app has closed it. Its file goes when no sibling has it open; `token` is kept until then.
    pub(super) fn release<T: Send + 'static>(&self, name: &str, token: T) {
        let mut held = self.0.held();
        if held.get(name).is_some_and(|held| held.file.is_some()) {
            let (inner, name) = (Arc::clone(&self.0), name.to_owned());
            tokio::spawn(async move {
                inner.leave(&name).await;
                drop(token);
            });
        } else {
            held.remove(name);
        }
    }

    /// The app has ended.
    pub(super) fn release_all<T: Clone + Send + 'static>(&self, token: &T) {
        let names: Vec<String> = self.0.held().keys().cloned().collect();
        for name in names {
            self.release(&name, token.clone());
        }
    }

    /// What a sibling may have by this name.
    pub(super) async fn answer(&self, question: &Question) -> Option<Held> {
        let mut claiming = self.0.claiming.subscribe();
        let decided = |own: &Option<Turn>| own.is_none_or(|own| question.turn < own);
        let _ = claiming.wait_for(decided).await; // it is there as long as we are
        self.0.held().get(&question.name).cloned()
    }
}

// === impl Inner ===

impl Inner {
    fn held(&self) -> MutexGuard<'_, HashMap<String, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) -> Claim<'_> {
        let turn = Turn::now(self.number);
        self.claiming.send_replace(Some(turn));
        Claim(self, turn)
    }

    /// Asks all siblings, at the same time.
    async fn ask(&self, turn: Turn, name: &str) -> Option<(Option<OwnedFd>, Value)> {
        let base = self.base.as_ref()?;
        let mut asked = JoinSet::new();
        for number in paths::workers_in(base, &self.app).into_iter().filter(|n| *n != self.number) {
            let path = paths::control_socket(base, &self.app, number);
            let question = Question { turn, name: name.to_owned() };
            asked.spawn(async move { timeout(PATIENCE, question.ask(&path)).await });
        }
        while let Some(answer) = asked.join_next().await {
            // Who does not answer has nothing, or is beyond help.
            if let Ok(Ok(Ok(Some(found)))) = answer {
                return Some(found);
            }
        }
        None
    }

    async fn leave(&self, name: &str) {
        let _one = self.one.lock().await;
        let claim = self.begin();
        let is_others = self.ask(claim.1, name).await.is_some();
        let held = self.held().remove(name);
        if let Some(file) = held.and_then(|held| held.file)
            && !is_others
        {
            file.remove();
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.0.claiming.send_replace(None);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use serde_json::json;

    use super::*;

    fn alone() -> Shared {
        Shared::new(None, "shop", 1)
    }

    fn socket() -> OwnedFd {
        std::os::unix::net::UnixStream::pair().unwrap().0.into()
    }

    fn question(at: u64, name: &str) -> Question {
        Question { turn: Turn::at(at, 2), name: name.to_owned() }
    }

    #[tokio::test]
    async fn what_was_made_is_a_siblings_too_until_it_is_closed() {
        let shared = alone();
        shared.claim("a", json!("keys"), None, || Ok(Some(socket()))).await.unwrap();
        let held = shared.answer(&question(1, "a")).await.unwrap();
        assert!(held.socket.is_some() && held.data == json!("keys"));
        assert!(shared.answer(&question(1, "b")).await.is_none());
        shared.release("a", ());
        assert!(shared.answer(&question(1, "a")).await.is_none());
    }

    #[tokio::test]
    async fn what_cannot_be_made_is_nobodys() {
        let shared = alone();
        let error = shared.claim("a", Value::Null, None, || Err(Errno::ADDRINUSE)).await;
        assert_eq!(error.unwrap_err(), Errno::ADDRINUSE);
        assert!(shared.answer(&question(u64::MAX, "a")).await.is_none(), "nor is it claimed");
    }

    #[tokio::test]
    async fn a_younger_question_waits_for_our_own_and_an_older_one_does_not() {
        let shared = alone();
        let claim = shared.0.begin();
        assert!(shared.answer(&question(0, "a")).await.is_none());
        let late = shared.clone();
        let late = tokio::spawn(async move { late.answer(&question(u64::MAX, "a")).await });
        tokio::task::yield_now().await;
        assert!(!late.is_finished());
        let held = Held { socket: None, data: json!(1), file: None };
        shared.0.held().insert("a".to_owned(), held);
        drop(claim);
        assert_eq!(late.await.unwrap().unwrap().data, json!(1));
    }

    #[tokio::test]
    async fn the_file_goes_with_the_last_one_unless_it_is_another_by_then() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let make = || Ok(Some(UnixListener::bind(&path).unwrap().into()));
        for is_another in [false, true] {
            let shared = alone();
            shared.claim("a", Value::Null, Some(&path), make).await.unwrap();
            if is_another {
                std::fs::rename(&path, directory.path().join("b.sock")).unwrap();
                std::fs::write(&path, "").unwrap();
            }
            let (token, mut done) = tokio::sync::mpsc::channel::<()>(1);
            shared.release_all(&token);
            drop(token);
            assert!(done.recv().await.is_none());
            assert_eq!(path.exists(), is_another);
        }
    }
}
