//! Asking a worker about its messages.

use std::fmt;
use std::io::Write as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::dial::Bounded;
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
    let stream =
        worker_socket::control(PATIENCE, &paths::control_socket(base, app, number)).ok()?;
    let mut worker = Bounded::new(stream, PATIENCE);
    worker.write_all(b"status\n").ok()?;
    let line = worker.line(4096).ok()?;
    Some(serde_json::from_str::<Status>(&line).ok()?.dropped)
}

/// The same of several, who are asked at the same time: those that do not answer keep nobody waiting
/// longer than one of them would.
pub(crate) fn all_dropped(base: &Path, workers: &[(String, u16)]) -> Vec<Option<Dropped>> {
    thread::scope(|scope| {
        let ask = |(app, number): &(String, u16)| {
            let (app, number) = (app.clone(), *number);
            // Where there can be no more threads, this one is not asked.
            thread::Builder::new().spawn_scoped(scope, move || dropped(base, &app, number)).ok()
        };
        let asked: Vec<_> = workers.iter().map(ask).collect();
        asked.into_iter().map(|thread| thread?.join().ok().flatten()).collect()
    })
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

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use tokio::time::Instant;

    use super::*;

    #[test]
    fn workers_that_drip_hide_no_other() {
        let base = tempfile::tempdir().unwrap();
        let mut workers = Vec::new();
        for number in 1..=4 {
            let path = paths::control_socket(base.path(), "shop", number);
            std::fs::create_dir(path.parent().unwrap()).unwrap();
            let listener = UnixListener::bind(&path).unwrap();
            workers.push(("shop".to_owned(), number));
            thread::spawn(move || {
                let (mut client, _) = listener.accept().unwrap();
                if number == 4 {
                    let text = r#"{"dropped":{"app":1,"siblings":2,"events":3}}"#;
                    client.write_all(format!("{text}\n").as_bytes()).unwrap();
                }
                while client.write_all(b"x").is_ok() {
                    thread::sleep(Duration::from_millis(100));
                }
            });
        }
        let begun = Instant::now();
        let dropped = all_dropped(base.path(), &workers);
        assert!(begun.elapsed() < PATIENCE * 3, "{:?}", begun.elapsed());
        assert_eq!(dropped[..3], [None; 3]);
        assert_eq!(dropped[3], Some(Dropped { app: 1, siblings: 2, events: 3 }));
    }
}
