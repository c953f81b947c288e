//! What the kernel knows of a proxy's processes: CPU time, memory, system calls.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// A process and all its descendants.
#[derive(Debug, Clone)]
pub(crate) struct Family {
    pids: Vec<u32>,
}

/// CPU time of a family so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CpuTime {
    /// User and system, over all threads.
    pub(crate) total: Duration,
    /// Clock ticks in user mode and in the kernel: coarse, for their proportion only.
    pub(crate) user_ticks: u64,
    pub(crate) system_ticks: u64,
}

// === impl Family ===

impl Family {
    /// This process and those that it and its children have started by now.
    pub(crate) fn of(root: u32) -> Result<Self> {
        let mut pids = vec![root];
        let mut next = 0;
        while let Some(&pid) = pids.get(next) {
            for task in tasks(pid)? {
                let path = format!("/proc/{pid}/task/{task}/children");
                let children = fs::read_to_string(&path).with_context(|| path.clone())?;
                pids.extend(children.split_whitespace().filter_map(|c| c.parse::<u32>().ok()));
            }
            next += 1;
        }
        Ok(Self { pids })
    }

    /// CPU time of all threads.
    pub(crate) fn cpu(&self) -> Result<CpuTime> {
        let mut sum = CpuTime::default();
        for &pid in &self.pids {
            for task in tasks(pid)? {
                let path = format!("/proc/{pid}/task/{task}/schedstat");
                let text = fs::read_to_string(&path).with_context(|| path.clone())?;
                let nanoseconds = text.split_whitespace().next().and_then(|n| n.parse().ok());
                sum.total += Duration::from_nanos(nanoseconds.context("schedstat")?);
            }
            let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
            let (_, fields) = text.rsplit_once(')').context("stat")?;
            let mut ticks = fields.split_whitespace().skip(11).map_while(|n| n.parse::<u64>().ok());
            sum.user_ticks += ticks.next().context("utime")?;
            sum.system_ticks += ticks.next().context("stime")?;
        }
        Ok(sum)
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> Result<u64> {
        let mut sum = 0;
        for pid in &self.pids {
            let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
            let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("VmRSS")?;
            let kilobytes = line.trim().trim_end_matches(" kB").parse::<u64>()?;
            sum += kilobytes * 1024;
        }
        Ok(sum)
    }

    /// Runs `work`; returns also how many system calls the family made meanwhile, or why they could
    /// not be counted.
    pub(crate) fn system_calls<T>(
        &self,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<(T, Result<u64>)> {
        let counter = Counter::attach(&self.pids);
        let done = work()?;
        Ok((done, counter.and_then(Counter::read)))
    }
}

impl CpuTime {
    /// From an earlier moment to this one.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            total: self.total.saturating_sub(earlier.total),
            user_ticks: self.user_ticks - earlier.user_ticks,
            system_ticks: self.system_ticks - earlier.system_ticks,
        }
    }
}

fn tasks(pid: u32) -> Result<Vec<u32>> {
    let path = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&path).with_context(|| format!("{path}: has it ended?"))?;
    Ok(entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// A `perf stat` that counts.
struct Counter {
    perf: Child,
}

impl Counter {
    fn attach(pids: &[u32]) -> Result<Self> {
        let pids: Vec<_> = pids.iter().map(ToString::to_string).collect();
        let perf = Command::new("perf")
            .args(["stat", "--field-separator", ",", "--event", "raw_syscalls:sys_enter", "--pid"])
            .arg(pids.join(","))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("perf (Debian: linux-perf)")?;
        let mut counter = Self { perf };
        let limit = Instant::now() + Duration::from_secs(5);
        while !counter.attached() {
            if counter.perf.try_wait()?.is_some() || Instant::now() > limit {
                let said = counter.finish()?;
                bail!("perf counts no system calls here: {}", said.trim());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(counter)
    }

    /// perf holds one event per thread once it counts.
    fn attached(&self) -> bool {
        let Ok(entries) = fs::read_dir(format!("/proc/{}/fd", self.perf.id())) else {
            return false;
        };
        entries.flatten().any(|e| {
            fs::read_link(e.path()).is_ok_and(|to| to.to_string_lossy().contains("[perf_event]"))
        })
    }

    fn read(mut self) -> Result<u64> {
        let said = self.finish()?;
        let line =
            said.lines().find(|l| l.contains("sys_enter")).context("perf printed no count")?;
        let count = line.split(',').next().unwrap_or_default();
        count.parse().with_context(|| format!("perf counted {count:?}"))
    }

    fn finish(&mut self) -> Result<String> {
        use std::io::Read as _;
        interrupt(&self.perf, Signal::INT);
        let mut said = String::new();
        if let Some(mut stderr) = self.perf.stderr.take() {
            stderr.read_to_string(&mut said)?;
        }
        let status = self.perf.wait()?;
        ensure!(
            status.success() || status.signal() == Some(2) || !said.is_empty(),
            "perf: {status}"
        );
        Ok(said)
    }
}

/// Sends a signal to a child that has not been waited for.
pub(crate) fn interrupt(child: &Child, signal: Signal) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal); // it may have ended by itself
    }
}
