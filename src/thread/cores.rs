//! How many cores the service may use: those of its affinity mask, and no more than its cgroup's
//! quota pays for.

use std::io;
use std::path::Path;

/// The cores to run a thread on each, in ascending order; never none.
pub fn usable_cores() -> Vec<usize> {
    let allowed = allowed_cores().unwrap_or_else(|_| vec![0]);
    limit(allowed, quota(Path::new("/sys/fs/cgroup"), Path::new("/proc/self/cgroup")))
}

/// Runs the current thread on this core only.
pub(super) fn pin(core: usize) -> io::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

fn allowed_cores() -> io::Result<Vec<usize>> {
    let set = rustix::thread::sched_getaffinity(None)?;
    Ok((0..rustix::thread::CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
}

/// Takes as many cores as the quota is worth, rounded up: two threads that are throttled at times
/// do more than one that cannot use half a core.
fn limit(mut allowed: Vec<usize>, quota: Option<f64>) -> Vec<usize> {
    if let Some(quota) = quota {
        let most = quota.ceil().max(1.0);
        #[expect(clippy::cast_sign_loss, reason = "at least 1")]
        allowed.truncate(most as usize);
    }
    if allowed.is_empty() {
        allowed.push(0);
    }
    allowed
}

/// The smallest quota, in cores, of this process' cgroup and those it is in.
fn quota(root: &Path, own: &Path) -> Option<f64> {
    let list = std::fs::read_to_string(own).ok()?;
    let path = own_cgroup(&list)?;
    let mut smallest: Option<f64> = None;
    let group = root.join(path.trim_start_matches('/'));
    for directory in group.ancestors().take_while(|d| d.starts_with(root)) {
        let Ok(text) = std::fs::read_to_string(directory.join("cpu.max")) else { continue };
        if let Some(quota) = parse_cpu_max(&text) {
            smallest = Some(smallest.map_or(quota, |s| s.min(quota)));
        }
    }
    smallest
}

/// The path in `/proc/self/cgroup` of the unified hierarchy.
fn own_cgroup(list: &str) -> Option<&str> {
    list.lines().find_map(|line| line.strip_prefix("0::"))
}

/// `"$QUOTA $PERIOD"` in cores; `None` for `max`.
fn parse_cpu_max(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period) = (quota.parse::<u64>().ok()?, period.parse::<u64>().ok()?);
    (period > 0 && quota > 0).then(|| quota as f64 / period as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_max() {
        assert_eq!(parse_cpu_max("150000 100000\n"), Some(1.5));
        for none in ["max 100000\n", "", "0 100000", "1 0", "x y", "100000"] {
            assert_eq!(parse_cpu_max(none), None, "{none:?}");
        }
    }

    #[test]
    fn the_quota_limits_the_mask() {
        assert_eq!(limit(vec![2, 3, 6], None), [2, 3, 6]);
        assert_eq!(limit(vec![2, 3, 6], Some(1.5)), [2, 3]);
        assert_eq!(limit(vec![2, 3], Some(0.1)), [2]);
        assert_eq!(limit(vec![2, 3], Some(64.0)), [2, 3]);
        assert_eq!(limit(vec![], None), [0]);
    }

    #[test]
    fn the_smallest_quota_on_the_way_up_counts() {
        let root = tempfile::tempdir().unwrap();
        let group = root.path().join("system.slice/roundsman.service");
        std::fs::create_dir_all(&group).unwrap();
        std::fs::write(group.join("cpu.max"), "max 100000\n").unwrap();
        std::fs::write(root.path().join("system.slice/cpu.max"), "200000 100000\n").unwrap();
        let own = root.path().join("cgroup");
        std::fs::write(&own, "1:name=x:/y\n0::/system.slice/roundsman.service\n").unwrap();
        assert_eq!(quota(root.path(), &own), Some(2.0));
        std::fs::write(&own, "0::/elsewhere\n").unwrap();
        assert_eq!(quota(root.path(), &own), None);
    }

    #[test]
    fn a_thread_can_be_pinned_to_each_usable_core() {
        let cores = usable_cores();
        assert!(!cores.is_empty());
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
        let range = |part: &str| {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            from.parse::<usize>().unwrap()..=to.parse().unwrap()
        };
        let allowed: Vec<usize> = list.trim().split(',').flat_map(range).collect();
        assert_eq!(allowed_cores().unwrap(), allowed);
        assert!(allowed.starts_with(&cores), "{cores:?} of {allowed:?}");
        for core in cores {
            std::thread::spawn(move || {
                pin(core).unwrap();
                assert_eq!(allowed_cores().unwrap(), [core]);
            })
            .join()
            .unwrap();
        }
    }
}
