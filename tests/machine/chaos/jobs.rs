//! Jobs in files, for workers that serve no HTTP (tests/apps/background/consumer.js): each is to be done,
//! and once.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::request::Went;

/// Longer than a worker's restart takes, and what waits before.
const PATIENCE: Duration = Duration::from_secs(20);

/// Who leaves jobs in a folder.
#[derive(Debug)]
pub(super) struct Jobs {
    folder: PathBuf,
    /// How much of each worker's list of what it has done was read.
    read: BTreeMap<PathBuf, usize>,
    /// How often each of the last jobs was done.
    done: BTreeMap<String, u32>,
}

// === impl Jobs ===

impl Jobs {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, read: BTreeMap::new(), done: BTreeMap::new() }
    }

    /// Leaves a job with this name, and waits until it is done.
    pub(super) fn leave_one(&mut self, mark: &str) -> Result<(), Went> {
        let file = self.folder.join("jobs").join(mark);
        fs::write(&file, "")
            .map_err(|error| Went::Refused(format!("{}: {error}", file.display())))?;
        let since = SystemTime::now();
        loop {
            self.look();
            if let Some((job, times)) = self.done.iter().find(|(_, times)| **times > 1) {
                return Err(Went::Wrong(format!("{job} was done {times} times")));
            }
            if self.done.contains_key(mark) {
                // A worker that does it again does so soon.
                self.done.retain(|job, _| job == mark);
                return Ok(());
            }
            if since.elapsed().unwrap_or_default() > PATIENCE {
                return Err(Went::Lost("the job was not done".to_owned()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Reads what is new in the workers' lists: a line is a job, and by which release it was done.
    fn look(&mut self) {
        for entry in fs::read_dir(self.folder.join("done")).into_iter().flatten().flatten() {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            let read = self.read.entry(entry.path()).or_default();
            let new = text.get(*read..).unwrap_or_default();
            let whole = new.rfind('\n').map_or(0, |end| end + 1);
            for line in new[..whole].lines() {
                let job = line.split(' ').next().unwrap_or_default();
                *self.done.entry(job.to_owned()).or_default() += 1;
            }
            *read += whole;
        }
    }
}
