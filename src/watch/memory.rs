//! How much memory a worker has: what its processes allocated, swapped out or not. Pages of files,
//! which the kernel drops when it needs room, do not count: they would make a worker that reads a
//! lot look like one that leaks.

use std::fs;
use std::path::{Path, PathBuf};

/// The memory of a unit, found by its main process; `None` when that cannot be known.
pub(crate) fn of_unit(unit: &str, main: u32) -> Option<u64> {
    let groups = fs::read_to_string(format!("/proc/{main}/cgroup")).ok()?;
    directories(&groups, unit).into_iter().find_map(|directory| of_group(&directory))
}

/// Where the unit's control group may be, from `/proc/PID/cgroup`. The process may be another one by
/// now, which is not in the unit's group.
fn directories(groups: &str, unit: &str) -> Vec<PathBuf> {
    let mut directories = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let Some((slice, rest)) = path.split_once(unit) else { continue };
        if !(rest.is_empty() || rest.starts_with('/')) {
            continue; // processes that have a group of their own below the unit's belong to it
        }
        let below = format!("{}{unit}", slice.trim_start_matches('/'));
        let roots: &[&str] = match controllers {
            "" => &["/sys/fs/cgroup", "/sys/fs/cgroup/unified"],
            "name=systemd" => &["/sys/fs/cgroup/systemd"],
            _ => continue,
        };
        directories.extend(roots.iter().map(|root| Path::new(root).join(&below)));
    }
    directories
}

/// By the kernel's own account; without a memory controller by adding up the processes.
fn of_group(directory: &Path) -> Option<u64> {
    if let Ok(stat) = fs::read_to_string(directory.join("memory.stat")) {
        let swap = fs::read_to_string(directory.join("memory.swap.current")).unwrap_or_default();
        return Some(of_stat(&stat) + swap.trim().parse::<u64>().unwrap_or_default());
    }
    let mut pids = Vec::new();
    processes(directory, &mut pids)?;
    let status = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/status")).ok();
    Some(pids.iter().filter_map(status).map(|status| of_status(&status)).sum())
}

fn of_stat(stat: &str) -> u64 {
    let value = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        matches!(name, "anon" | "shmem").then(|| value.trim().parse::<u64>().ok())?
    };
    stat.lines().filter_map(value).sum()
}

fn of_status(status: &str) -> u64 {
    let kibibytes = |line: &str| {
        let (name, value) = line.split_once(':')?;
        let counts = matches!(name, "RssAnon" | "RssShmem" | "VmSwap");
        counts.then(|| value.trim().trim_end_matches(" kB").parse::<u64>().ok())?
    };
    status.lines().filter_map(kibibytes).sum::<u64>() * 1024
}

/// The processes of a group and of those below it.
fn processes(directory: &Path, pids: &mut Vec<u32>) -> Option<()> {
    let text = fs::read_to_string(directory.join("cgroup.procs")).ok()?;
    pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
    for entry in fs::read_dir(directory).ok()?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            processes(&entry.path(), pids);
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: &str = "roundsman-worker@shop:1.service";

    #[test]
    fn the_group_of_the_unit_is_found_in_every_hierarchy() {
        let two = format!("0::/roundsman.slice/{UNIT}/app\n");
        assert_eq!(
            directories(&two, UNIT)[0],
            Path::new("/sys/fs/cgroup/roundsman.slice").join(UNIT)
        );
        let one = format!("9:memory:/x/{UNIT}\n1:name=systemd:/a/{UNIT}\n");
        assert_eq!(directories(&one, UNIT), [Path::new("/sys/fs/cgroup/systemd/a").join(UNIT)]);
        for other in
            ["0::/user.slice/session-1.scope\n", "0::/x/roundsman-worker@shop:1.service.d\n", ""]
        {
            assert!(directories(other, UNIT).is_empty(), "{other}");
        }
    }

    #[test]
    fn files_do_not_count() {
        assert_eq!(of_stat("anon 1000\nfile 5000\nkernel 70\nshmem 200\nanon_thp 9\n"), 1200);
        let status = "VmRSS:\t  9000 kB\nRssAnon:\t  10 kB\nRssFile:\t 8000 kB\nRssShmem:\t 2 kB\nVmSwap:\t 1 kB\n";
        assert_eq!(of_status(status), 13 * 1024);
    }

    #[test]
    fn processes_of_a_group_without_a_controller_are_added_up() {
        let directory = tempfile::tempdir().unwrap();
        let pid = format!("{}\n", std::process::id());
        assert_eq!(of_group(directory.path()), None);
        fs::create_dir(directory.path().join("below")).unwrap();
        fs::write(directory.path().join("cgroup.procs"), "").unwrap();
        assert_eq!(of_group(directory.path()), Some(0));
        fs::write(directory.path().join("below/cgroup.procs"), pid).unwrap();
        assert!(of_group(directory.path()).is_some_and(|bytes| bytes > 100_000));
        // The kernel's account wins where there is one.
        fs::write(directory.path().join("memory.stat"), "anon 5\n").unwrap();
        assert_eq!(of_group(directory.path()), Some(5));
        fs::write(directory.path().join("memory.swap.current"), "7\n").unwrap();
        assert_eq!(of_group(directory.path()), Some(12));
    }
}
