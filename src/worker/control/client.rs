//! Asking a worker about its messages.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::paths;
use crate::base::worker_socket;

/// A worker answers at once, or is of no use.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many messages were dropped because somebody does not read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// For the worker's own app.
    pub app: u64,
    /// For its siblings.
    pub siblings: u64,
    /// For who follows its events.
    pub events: u64,
}

#[derive(Deserialize)]
struct Status {
    dropped: Dropped,
}

/// What worker `number` of `app` has dropped; `None` if it does not run or may not be asked.
pub fn dropped(base: &Path, app: &str, number: u16) -> Option<Dropped> {
    let mut stream =
        worker_socket::control(PATIENCE, &paths::control_socket(base, app, number)).ok()?;
    stream.write_all(b"status\n").ok()?;
    let mut line = String::new();
    BufReader::new(stream.take(4096)).read_line(&mut line).ok()?;
    Some(serde_json::from_str::<Status>(&line).ok()?.dropped)
}

impl Dropped {
    /// Whether there is nothing to tell.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { app, siblings, events } = self;
        write!(
            f,
            "messages dropped because nobody read them: {app} for the app, {siblings} for its \
             siblings, {events} for roundsman events"
        )
    }
}
