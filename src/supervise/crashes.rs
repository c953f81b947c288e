//! Crashes in a row: what each leads to.
//!
//! Every end of a worker is noted by `roundsman worker-ended`, which the unit runs as root whatever
//! ended it (`ExecStopPost=`): so a crash counts also when the worker's main process was killed, by
//! the kernel or the watchdog, and could write nothing itself. What is noted is only the facts; what
//! follows from them the next run decides, by the settings as they are then.
//!
//! Who kills all processes of a unit at once may hit that one, too: after `systemctl kill
//! --signal=KILL` of systemd 257, Linux kills whatever is started in the control group until that is
//! made anew. So each start leaves a mark that its end takes away, and a start that finds one counts
//! the crash.

use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::life::Life;
use crate::base::file::{self, Links, write_atomically};
use crate::base::paths;
use crate::config::settings::Restart;

/// More than any limit that can be configured.
const MOST: usize = 128;

/// The crashes of a worker since it last ended well.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Crashes {
    /// For how many seconds the app had been ready at each; 0 when it never was.
    pub ready_for: Vec<u64>,
    /// What the last one was.
    pub last: String,
}

/// Forgets a worker's crashes, before somebody starts it who wants it to start now. Where that is not
/// allowed, it waits.
pub(crate) fn forget(instance: &str) {
    let _ = Crashes::default().save(Path::new(paths::CRASHES), instance);
}

/// How a run ended, as systemd says (`$SERVICE_RESULT` and so on, systemd.exec(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct End<'a> {
    /// `success`, `exit-code`, `signal`, `watchdog`, …
    pub result: &'a str,
    /// The exit code, or the name of the signal.
    pub status: &'a str,
    /// What the worker said of itself.
    pub life: Option<Life>,
    /// Now, as [`Life`] counts.
    pub now: u64,
}

/// What is to be done before the app is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing.
    Start,
    /// Wait so long.
    Wait(Duration),
    /// It is not started any more.
    GiveUp,
}

// === impl Crashes ===

impl Crashes {
    /// What is noted of a worker.
    pub(crate) fn load(directory: &Path, instance: &str) -> Self {
        let text = file::read_text(&directory.join(instance), Links::Refuse, super::MOST)
            .unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Notes it; nothing when there were no crashes.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn save(&self, directory: &Path, instance: &str) -> io::Result<()> {
        let path: PathBuf = directory.join(instance);
        if self.ready_for.is_empty() {
            return match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        std::fs::create_dir_all(directory)?;
        write_atomically(&path, serde_json::to_string(self)?.as_bytes(), 0o644)
    }

    /// Marks that a run begins, and of which release. An earlier one whose end could not be noted counts
    /// as a crash.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub(crate) fn begin(
        directory: &Path,
        instance: &str,
        release: Option<&Path>,
    ) -> io::Result<()> {
        let mark = Self::mark(directory, instance);
        if let Ok(began) = std::fs::metadata(&mark).and_then(|metadata| metadata.modified()) {
            let mut crashes = Self::load(directory, instance);
            // What it said of itself is gone with it.
            crashes.add(began.elapsed().unwrap_or_default());
            "it was killed with all its processes".clone_into(&mut crashes.last);
            crashes.save(directory, instance)?;
        }
        if let Some(parent) = mark.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let release = release.unwrap_or(Path::new("")).as_os_str();
        // Where an app's releases are is nobody's business, and none but root's commands ask.
        write_atomically(&mark, release.as_bytes(), 0o600)
    }

    /// The release that a worker runs, as root has seen it when the run began: no process of the app's
    /// user is asked, which says what it likes.
    pub(crate) fn release(directory: &Path, instance: &str) -> Option<PathBuf> {
        let text = file::read(&Self::mark(directory, instance), Links::Refuse, super::MOST).ok()?;
        let path = PathBuf::from(std::ffi::OsString::from_vec(text));
        path.is_absolute().then_some(path)
    }

    /// Takes the mark of the run away: its end is noted.
    pub(crate) fn end(directory: &Path, instance: &str) {
        let _ = std::fs::remove_file(Self::mark(directory, instance));
    }

    fn mark(directory: &Path, instance: &str) -> PathBuf {
        directory.join("running").join(instance)
    }

    fn add(&mut self, ready_for: Duration) {
        self.ready_for.push(ready_for.as_secs());
        let surplus = self.ready_for.len().saturating_sub(MOST);
        self.ready_for.drain(..surplus);
    }

    /// What is noted after a run has ended.
    #[must_use]
    pub(crate) fn after(mut self, end: &End<'_>) -> Self {
        if end.result == "success" || end.life.is_some_and(|life| life.stopping) {
            return Self::default();
        }
        let ready_for = end.life.and_then(|life| life.age(end.now)).unwrap_or_default();
        self.add(ready_for);
        self.last = end.to_string();
        self
    }

    /// How many there were in a row: one that came after the app had been well for long begins anew.
    pub(crate) fn in_a_row(&self, restart: &Restart) -> u32 {
        let mut count = 0;
        for seconds in self.ready_for.iter().rev() {
            count += 1;
            if *seconds >= restart.reset_after.as_secs().max(1) {
                break;
            }
        }
        count
    }

    /// What is to be done before the next start.
    pub(crate) fn next(&self, restart: &Restart) -> Next {
        let count = self.in_a_row(restart);
        if restart.limit.is_some_and(|limit| count >= limit) {
            return Next::GiveUp;
        }
        let Some(doublings) = count.checked_sub(2) else { return Next::Start };
        let factor = 2_u32.saturating_pow(doublings);
        match restart.delay.saturating_mul(factor).min(restart.max_delay) {
            Duration::ZERO => Next::Start,
            delay => Next::Wait(delay),
        }
    }
}

// === impl End ===

impl std::fmt::Display for End<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let status = self.status;
        match self.result {
            "exit-code" => match status.parse::<u8>() {
                Ok(code @ 129..=192) => write!(f, "its app was killed by signal {}", code - 128),
                _ => write!(f, "exit code {status}"),
            },
            "signal" => write!(f, "it was killed by SIG{status}"),
            "core-dump" => write!(f, "SIG{status}, with a core dump"),
            "watchdog" => write!(f, "it did not answer (watchdog)"),
            "oom-kill" => write!(f, "the kernel killed it for its memory"),
            "timeout" => write!(f, "it was not ready in time"),
            "protocol" => write!(f, "it ended before it was ready"),
            other => write!(f, "\"{other}\""),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn end<'a>(result: &'a str, status: &'a str, ready_for: Option<u64>) -> End<'a> {
        let ready = ready_for.map(|seconds| 1_000_000 - seconds * 1000);
        let life = Some(Life { pid: 1, ready, ..Life::default() });
        End { result, status, life, now: 1_000_000 }
    }

    fn crashed(ready_for: &[u64]) -> Crashes {
        ready_for.iter().fold(Crashes::default(), |crashes, seconds| {
            crashes.after(&end("exit-code", "1", (*seconds > 0).then_some(*seconds)))
        })
    }

    #[test]
    fn the_time_between_starts_grows_up_to_the_limit() {
        let restart = Restart::default();
        let mut waits = Vec::new();
        let mut crashes = Crashes::default();
        loop {
            match crashes.next(&restart) {
                Next::Start => waits.push(0),
                Next::Wait(time) => waits.push(time.as_secs()),
                Next::GiveUp => break,
            }
            crashes = crashes.after(&end("signal", "KILL", Some(1)));
        }
        assert_eq!(waits, [0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60, 60, 60, 60]);
        assert_eq!(crashes.last, "it was killed by SIGKILL");
    }

    #[test]
    fn what_a_worker_runs_is_noted_when_it_begins() {
        let directory = tempfile::tempdir().unwrap();
        let runs = || Crashes::release(directory.path(), "shop:1");
        assert_eq!(runs(), None);
        Crashes::begin(directory.path(), "shop:1", Some(Path::new("/srv/shop/1"))).unwrap();
        assert_eq!(runs().as_deref(), Some(Path::new("/srv/shop/1")));
        let note = std::fs::metadata(directory.path().join("running/shop:1")).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&note.permissions());
        assert_eq!(mode & 0o777, 0o600, "it is for root alone");
        Crashes::begin(directory.path(), "shop:1", None).unwrap();
        assert_eq!(runs(), None, "an app without a directory");
        Crashes::end(directory.path(), "shop:1");
        assert_eq!(runs(), None);
    }

    #[test]
    fn an_end_that_nobody_noted_is_a_crash() {
        let directory = tempfile::tempdir().unwrap();
        let count = || Crashes::load(directory.path(), "shop:1").ready_for.len();
        Crashes::begin(directory.path(), "shop:1", None).unwrap();
        Crashes::end(directory.path(), "shop:1");
        Crashes::begin(directory.path(), "shop:1", None).unwrap();
        assert_eq!(count(), 0);
        Crashes::begin(directory.path(), "shop:1", None).unwrap();
        Crashes::begin(directory.path(), "shop:1", None).unwrap();
        assert_eq!(count(), 2);
        Crashes::end(directory.path(), "shop:1");
        Crashes::end(directory.path(), "shop:1");
        Crashes::begin(directory.path(), "shop:1", None).unwrap();
        assert_eq!(count(), 2);
    }

    #[test]
    fn who_was_well_for_long_begins_anew() {
        let restart = Restart::default();
        assert_eq!(crashed(&[0, 0, 0]).in_a_row(&restart), 3);
        assert_eq!(crashed(&[0, 0, 61]).in_a_row(&restart), 1);
        assert_eq!(crashed(&[0, 0, 61, 5]).in_a_row(&restart), 2);
        assert_eq!(crashed(&[59; 20]).next(&restart), Next::GiveUp);
        assert_eq!(crashed(&[60; 20]).next(&restart), Next::Start);
    }

    #[test]
    fn an_end_that_was_asked_for_is_none() {
        let crashes = crashed(&[0, 0]);
        assert_eq!(crashes.clone().after(&end("success", "0", Some(1))), Crashes::default());
        // It had to be killed, but somebody wanted it to end.
        let life = Some(Life { pid: 1, ready: Some(0), stopping: true, ..Life::default() });
        for result in ["exit-code", "signal", "timeout"] {
            let end = End { result, status: "1", life, now: 5 };
            assert_eq!(crashes.clone().after(&end), Crashes::default());
        }
        // A process that could say nothing has crashed.
        let end = End { result: "exit-code", status: "78", life: None, now: 5 };
        assert_eq!(crashes.after(&end).ready_for, [0, 0, 0]);
    }

    #[test]
    fn an_end_is_told_in_words() {
        for (result, status, words) in [
            ("exit-code", "1", "exit code 1"),
            ("exit-code", "128", "exit code 128"),
            ("exit-code", "137", "its app was killed by signal 9"),
            ("exit-code", "193", "exit code 193"),
            ("signal", "KILL", "it was killed by SIGKILL"),
            ("core-dump", "SEGV", "SIGSEGV, with a core dump"),
            ("watchdog", "ABRT", "it did not answer (watchdog)"),
            ("new", "", "\"new\""),
        ] {
            assert_eq!(End { result, status, life: None, now: 0 }.to_string(), words);
        }
    }

    #[test]
    fn without_a_limit_it_goes_on_for_ever() {
        let restart = Restart { limit: None, ..Restart::default() };
        assert_eq!(crashed(&[0; 300]).next(&restart), Next::Wait(restart.max_delay));
        let at_once = Restart { delay: Duration::ZERO, ..restart };
        assert_eq!(crashed(&[0; 300]).next(&at_once), Next::Start);
    }

    #[test]
    fn it_is_kept_in_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let below = directory.path().join("new");
        let crashes = crashed(&[3, 0]);
        crashes.save(&below, "shop:1").unwrap();
        assert_eq!(Crashes::load(&below, "shop:1"), crashes);
        assert_eq!(Crashes::load(&below, "shop:2"), Crashes::default());
        Crashes::default().save(&below, "shop:1").unwrap();
        assert_eq!(Crashes::load(&below, "shop:1"), Crashes::default());
        std::fs::create_dir(below.join("shop:3")).unwrap();
        Crashes::default().save(&below, "shop:3").expect_err("it is no file");
        Crashes::default().save(&below, "shop:1").unwrap();
    }

    proptest! {
        #[test]
        fn the_wait_never_shrinks_in_a_row_and_never_exceeds_the_longest(
            count in 0_usize..200, delay in 0_u64..2_000_000, longest in 0_u64..2_000_000
        ) {
            let restart = Restart {
                delay: Duration::from_millis(delay),
                max_delay: Duration::from_millis(longest),
                limit: None,
                reset_after: Duration::from_mins(1),
            };
            let wait = |count: usize| match crashed(&vec![0; count]).next(&restart) {
                Next::Wait(time) => time,
                _ => Duration::ZERO,
            };
            prop_assert!(wait(count) <= wait(count + 1));
            prop_assert!(wait(count) <= restart.max_delay);
        }
    }
}
