//! The machine's control groups, which everybody may look at: in which one a process is that `/proc`
//! hides, and whether one is a unit's.

use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::unit::{self, Instance};

/// Where the kernel shows them.
const GROUPS: &str = "/sys/fs/cgroup";

/// Where workers are, unless the administrator chose another slice.
const WORKERS: &str = "roundsman.slice/roundsman-workers.slice";

/// How many groups are looked at. Everybody may make some below a service of their own; units come
/// first, since they are near the root.
const MOST: usize = 4096;

/// How many of a worker's own are, whose app may make them (`Delegate=`) while others wait.
const MOST_OF_UNIT: usize = 64;

/// What a search has found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The group, as a path from the root.
    In(String),
    /// The process is in no group of this machine, or has ended.
    InNone,
    /// There are too many groups, or none to be seen.
    Unknown,
}

/// There are more groups than are looked at.
struct TooMany;

/// Where this process is. What is `likely` is looked at first.
pub(super) fn of(pid: u32, likely: Option<&Instance>) -> Found {
    let root = Path::new(GROUPS);
    let likely =
        likely.map(|worker| root.join(WORKERS).join(unit::service(&worker.app, worker.number)));
    match likely {
        Some(group) if has(&group, pid) => from_root(root, &group),
        _ => search(root, pid, MOST),
    }
}

/// Where systemd's groups begin, and the group of a process with these groups (`/proc/PID/cgroup`), if
/// it is in this unit.
pub(super) fn around(groups: &str, unit: &str) -> Option<(PathBuf, PathBuf)> {
    let path = unified(groups)?;
    // Above a unit are slices; above those may be a container.
    let mut begin = path.strip_suffix(unit)?.strip_suffix('/')?;
    while let Some((above, last)) = begin.rsplit_once('/')
        && is_slice(last)
    {
        begin = above;
    }
    let below = |path: &str| Path::new(GROUPS).join(path.trim_start_matches('/'));
    Some((below(begin), below(path)))
}

/// Whether the group of this number is the one of this worker's service, or below it. `root` is where
/// systemd's groups begin.
pub(super) fn is_of_worker(root: &Path, service: &str, number: u64) -> bool {
    let usual = root.join(WORKERS).join(service);
    if has_number(&usual, number) {
        return true;
    }
    // The administrator may have chosen another slice. Nobody but root makes groups in slices.
    let elsewhere = || {
        let has_it = |slice: &Path| slice.join(service).exists();
        Some(find(root, MOST, is_slice, has_it).ok()??.join(service))
    };
    let group = if usual.exists() { Some(usual) } else { elsewhere() };
    let has_number = |group: &Path| has_number(group, number);
    group.is_some_and(|group| {
        matches!(find(&group, MOST_OF_UNIT, |_| true, has_number), Ok(Some(_)))
    })
}

fn has_number(group: &Path, number: u64) -> bool {
    fs::metadata(group).is_ok_and(|metadata| metadata.ino() == number)
}

fn search(root: &Path, pid: u32, most: usize) -> Found {
    if !root.join("cgroup.procs").exists() {
        return Found::Unknown;
    }
    match find(root, most, |_| true, |group| has(group, pid)) {
        Ok(Some(group)) => from_root(root, &group),
        Ok(None) => Found::InNone,
        Err(TooMany) => Found::Unknown,
    }
}

/// The first group that is it, breadth first, below those alone whose names are `open`.
fn find(
    root: &Path,
    most: usize,
    open: impl Fn(&str) -> bool,
    is_it: impl Fn(&Path) -> bool,
) -> Result<Option<PathBuf>, TooMany> {
    let mut groups = VecDeque::from([root.to_owned()]);
    let mut seen = 0;
    while let Some(group) = groups.pop_front() {
        if is_it(&group) {
            return Ok(Some(group));
        }
        seen += 1;
        if seen == most {
            return Err(TooMany);
        }
        let below = fs::read_dir(&group).into_iter().flatten().flatten();
        let directories = below.filter(|entry| {
            entry.file_type().is_ok_and(|kind| kind.is_dir())
                && entry.file_name().to_str().is_some_and(&open)
        });
        groups
            .extend(directories.take(most.saturating_sub(groups.len())).map(|entry| entry.path()));
    }
    Ok(None)
}

/// Whether this process is in this very group.
fn has(group: &Path, pid: u32) -> bool {
    let processes = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    processes.lines().any(|line| line.parse() == Ok(pid))
}

fn from_root(root: &Path, group: &Path) -> Found {
    let path = group.strip_prefix(root).ok().and_then(Path::to_str);
    path.map_or(Found::Unknown, |path| Found::In(format!("/{path}")))
}

pub(super) fn is_slice(name: &str) -> bool {
    name.strip_suffix(".slice").is_some_and(|name| !name.is_empty())
}

/// The path in the one hierarchy that systemd keeps its units in.
pub(super) fn unified(groups: &str) -> Option<&str> {
    groups.lines().find_map(|line| line.strip_prefix("0::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(root: &Path, group: &str, processes: &str) {
        fs::create_dir_all(root.join(group)).unwrap();
        fs::write(root.join(group).join("cgroup.procs"), processes).unwrap();
    }

    #[test]
    fn a_process_is_found_in_its_group_alone() {
        let root = tempfile::tempdir().unwrap();
        add(root.path(), "", "1\n");
        add(root.path(), "user.slice/user-1000.slice/session-1.scope", "70\n71\n");
        add(
            root.path(),
            "roundsman.slice/roundsman-workers.slice/roundsman-worker@a:1.service",
            "7\n",
        );
        let found = |path: &str| Found::In(path.to_owned());
        let worker = "/roundsman.slice/roundsman-workers.slice/roundsman-worker@a:1.service";
        assert_eq!(search(root.path(), 7, 16), found(worker));
        assert_eq!(
            search(root.path(), 71, 16),
            found("/user.slice/user-1000.slice/session-1.scope")
        );
        assert_eq!(search(root.path(), 1, 16), found("/"));
        assert_eq!(search(root.path(), 9, 16), Found::InNone);
        assert_eq!(
            search(&root.path().join("user.slice"), 71, 16),
            Found::Unknown,
            "nothing is shown"
        );
    }

    #[test]
    fn nobody_makes_the_search_long() {
        let root = tempfile::tempdir().unwrap();
        for n in 0..16 {
            fs::create_dir_all(root.path().join(format!("evil.service/{n}"))).unwrap();
        }
        add(root.path(), "", "1\n");
        add(root.path(), "evil.service/0/last", "7\n");
        add(root.path(), "b.slice/b.service", "8\n");
        assert_eq!(search(root.path(), 7, 16), Found::Unknown);
        assert_eq!(search(root.path(), 8, 16), Found::In("/b.slice/b.service".to_owned()));
    }

    #[test]
    fn systemds_groups_begin_above_the_slices_of_a_unit() {
        let around = |path: &str| {
            let (begin, group) = around(&format!("0::{path}\n"), "roundsman.service")?;
            let below =
                |path: PathBuf| path.strip_prefix(GROUPS).unwrap().to_str().unwrap().to_owned();
            Some([below(begin), below(group)])
        };
        let both = |begin: &str, group: &str| Some([begin.to_owned(), group.to_owned()]);
        let front = "roundsman.slice/roundsman.service";
        assert_eq!(around(&format!("/{front}")), both("", front));
        assert_eq!(around("/roundsman.service"), both("", "roundsman.service"));
        let path = format!("docker/1/a.slice/{front}");
        assert_eq!(around(&format!("/{path}")), both("docker/1", &path));
        assert_eq!(around("/user.slice/session-1.scope"), None);
        assert_eq!(around("/a.slice/other-roundsman.service"), None);
    }

    #[test]
    fn a_workers_groups_are_its_units_and_those_below() {
        const SERVICE: &str = "roundsman-worker@a:1.service";
        let root = tempfile::tempdir().unwrap();
        let number = |group: &str| fs::metadata(root.path().join(group)).unwrap().ino();
        let is_of_worker = |group: &str| is_of_worker(root.path(), SERVICE, number(group));
        let (other, evil) = ("roundsman.slice/roundsman-workers.slice/b", "evil.service/x.slice");
        add(root.path(), other, "");
        add(root.path(), &format!("{evil}/{SERVICE}"), "");
        assert!(!is_of_worker(other) && !is_of_worker(&format!("{evil}/{SERVICE}")));
        for slice in ["a.slice/a-b.slice", WORKERS] {
            let group = format!("{slice}/{SERVICE}");
            add(root.path(), &format!("{group}/sub/group"), "");
            assert!(is_of_worker(&group) && is_of_worker(&format!("{group}/sub/group")));
            assert!(!is_of_worker(slice) && !is_of_worker(other));
        }
        assert!(!is_of_worker(&format!("a.slice/a-b.slice/{SERVICE}")), "only one is the unit's");
    }
}
