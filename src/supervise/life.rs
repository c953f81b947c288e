//! What a worker says of its present run, in a file of its runtime directory: for whoever counts its
//! crashes when it has ended, and for whoever replaces workers that have become too old or too large.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::base::file::{self, Links, write_atomically};

/// One run of a worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Life {
    /// The main process of the unit.
    pub pid: u32,
    /// When the app was started, in milliseconds since the machine was booted.
    pub started: Option<u64>,
    /// Since when the app has been ready, in milliseconds since the machine was booted.
    pub ready: Option<u64>,
    /// Whether it was asked to end: what follows is no crash.
    pub stopping: bool,
}

/// Milliseconds since the machine was booted, its time asleep included.
pub(crate) fn now() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    seconds * 1000 + u64::try_from(now.tv_nsec).unwrap_or_default() / 1_000_000
}

// === impl Life ===

impl Life {
    fn path(directory: &Path) -> PathBuf {
        directory.join("life")
    }

    /// What the worker with this runtime directory says; `None` when it does not run, or says nothing.
    pub(crate) fn read(directory: &Path) -> Option<Self> {
        serde_json::from_str(
            &file::read_text(&Self::path(directory), Links::Refuse, super::MOST).ok()?,
        )
        .ok()
    }

    /// Says it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn write(&self, directory: &Path) -> io::Result<()> {
        let text = serde_json::to_string(self)?;
        write_atomically(&Self::path(directory), text.as_bytes(), 0o644)
    }

    /// How long it has been ready.
    pub(crate) fn age(&self, now: u64) -> Option<Duration> {
        Some(Duration::from_millis(now.saturating_sub(self.ready?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Life::read(directory.path()), None);
        let life = Life { pid: 7, started: Some(900), ready: Some(1000), stopping: false };
        life.write(directory.path()).unwrap();
        assert_eq!(Life::read(directory.path()), Some(life));
        assert_eq!(life.age(3500), Some(Duration::from_millis(2500)));
        assert_eq!(life.age(500), Some(Duration::ZERO), "whatever a worker writes");
        assert_eq!(Life { ready: None, ..life }.age(3500), None);
    }

    #[test]
    fn the_time_is_that_since_the_machine_was_booted() {
        let booted = || {
            let text = std::fs::read_to_string("/proc/uptime").unwrap();
            let (seconds, hundredths) = text.split(' ').next().unwrap().split_once('.').unwrap();
            seconds.parse::<u64>().unwrap() * 1000 + hundredths.parse::<u64>().unwrap() * 10
        };
        for _ in 0..10 {
            let (before, now, after) = (booted(), now(), booted());
            assert!((before..=after + 10).contains(&now), "{before} {now} {after}");
            std::thread::sleep(Duration::from_millis(7));
        }
    }

    #[test]
    fn links_and_nonsense_are_not_believed() {
        let directory = tempfile::tempdir().unwrap();
        let other = directory.path().join("other");
        std::fs::write(&other, r#"{"pid":7,"started":null,"ready":null,"stopping":false}"#)
            .unwrap();
        std::os::unix::fs::symlink(&other, Life::path(directory.path())).unwrap();
        assert_eq!(Life::read(directory.path()), None);
        std::fs::remove_file(Life::path(directory.path())).unwrap();
        std::fs::write(Life::path(directory.path()), "{\"pid\":").unwrap();
        assert_eq!(Life::read(directory.path()), None);
    }
}
