//! How long a machine takes for a command, whatever else this one has to do.

use std::fs;
use std::process::Command;
use std::time::Duration;

use tokio::time::Instant;

use super::command::Said;
use super::machine::Machine;

impl Machine {
    /// Runs a shell command as root, whatever becomes of it, and how long that took on the machine: without
    /// the time in which something on it waited for a processor that others had (`cpu.pressure`).
    pub(crate) fn timed(&self, command: &str) -> (Said, Duration) {
        // In a control group below the machine's, so that what it waits for is the machine's waiting, too.
        let group = self.cgroup().join("typed");
        let _ = fs::create_dir(&group); // it may be there
        let nsenter = self.command(command);
        let mut typed = Command::new("sh");
        typed.args(["-c", r#"echo $$ > "$0/cgroup.procs" && exec "$@""#]).arg(&group);
        typed.arg(nsenter.get_program()).args(nsenter.get_args());
        let (waited, begin) = (self.waited(), Instant::now());
        let mut said = Said::by(&mut typed);
        let took = begin.elapsed().saturating_sub(self.waited().saturating_sub(waited));
        command.clone_into(&mut said.command);
        (said, took)
    }

    /// How long something of the machine's has been waiting for a processor so far.
    fn waited(&self) -> Duration {
        let pressure =
            fs::read_to_string(self.cgroup().join("cpu.pressure")).expect("Linux has it");
        let total = pressure.split_whitespace().find_map(|word| word.strip_prefix("total="));
        Duration::from_micros(total.and_then(|total| total.parse().ok()).expect("microseconds"))
    }
}
