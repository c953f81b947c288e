//! What happened on a simulated machine, in order, and where it is made to wait.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::common::waiting::{eventually, eventually_meanwhile};

/// Everything that the machine was told to do; shared by all who do it.
#[derive(Debug, Clone, Default)]
pub(super) struct History(Arc<Mutex<Events>>);

#[derive(Debug, Default)]
struct Events {
    happened: Vec<String>,
    /// What does not get beyond its beginning.
    held_up: Vec<String>,
}

// === impl History ===

impl History {
    /// Something begins.
    pub(super) fn add(&self, event: &str) {
        self.lock().happened.push(event.to_owned());
    }

    /// Something begins, and goes on when it may.
    pub(super) async fn begin(&self, event: &str) {
        self.add(event);
        eventually_meanwhile("it may go on", || !self.is_held_up(event)).await;
    }

    /// The same for a thread.
    pub(super) fn begin_blocking(&self, event: &str) {
        self.add(event);
        eventually("it may go on", || !self.is_held_up(event));
    }

    fn is_held_up(&self, event: &str) -> bool {
        self.lock().held_up.iter().any(|held| held == event)
    }

    /// From now on this does not get beyond its beginning, until it is let go on.
    pub(super) fn hold_up(&self, event: &str) {
        self.lock().held_up.push(event.to_owned());
    }

    /// Lets this go on.
    pub(super) fn let_go(&self, event: &str) {
        self.lock().held_up.retain(|held| held != event);
    }

    /// Lets go on whatever was held up.
    pub(super) fn go_on(&self) {
        self.lock().held_up.clear();
    }

    /// Waits until this has begun.
    #[track_caller]
    pub(super) fn wait_for(&self, event: &str) {
        eventually(event, || self.lock().happened.iter().any(|happened| happened == event));
    }

    /// What has happened since this was asked the last time.
    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().happened)
    }

    fn lock(&self) -> MutexGuard<'_, Events> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
