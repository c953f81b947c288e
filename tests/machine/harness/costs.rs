//! What a scenario costs: where `make test` has its time from.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

/// Names the file that gets a line for each machine.
const FILE: &str = "ROUNDSMAN_COSTS";

/// Of one machine, since it was booted.
#[derive(Debug)]
pub(super) struct Costs(Instant);

impl Costs {
    pub(super) fn begin() -> Self {
        Self(Instant::now())
    }

    /// Adds a line to the file, where one is named: seconds that passed, seconds of a core in the machine's
    /// control group, the same of this process and the commands that it has run, and the test.
    pub(super) fn end(&self, cgroup: &Path) {
        let Some(file) = std::env::var_os(FILE) else { return };
        let thread = std::thread::current();
        let line = format!(
            "{:.1} {:.1} {:.1} {}\n",
            self.0.elapsed().as_secs_f64(),
            of_cgroup(cgroup).as_secs_f64(),
            of_this_process().as_secs_f64(),
            thread.name().unwrap_or_default()
        );
        let file = OpenOptions::new().append(true).create(true).open(file);
        let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
        written.unwrap_or_else(|error| eprintln!("{FILE}: {error}"));
    }
}

fn of_cgroup(cgroup: &Path) -> Duration {
    let text = fs::read_to_string(cgroup.join("cpu.stat")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
    Duration::from_micros(line.and_then(|number| number.parse().ok()).unwrap_or_default())
}

/// The kernel counts hundredths, for the process itself and for its children that have ended.
fn of_this_process() -> Duration {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = text.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let numbers = after_name.split_whitespace().skip(11).take(4);
    Duration::from_millis(numbers.filter_map(|number| number.parse::<u64>().ok()).sum::<u64>() * 10)
}
