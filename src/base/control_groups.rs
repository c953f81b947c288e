//! In which control group a process is that `/proc` hides: everybody may read which processes are in
//! which group.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;

use super::unit::{self, Instance};

/// Where the kernel shows them.
const GROUPS: &str = "/sys/fs/cgroup";

/// Where workers are, unless the administrator chose another slice.
const WORKERS: &str = "roundsman.slice/roundsman-workers.slice";

/// How many groups are looked at. Everybody may make some below a service of their own; units come
/// first, since they are near the root.
const MOST: usize = 4096;

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

/// Breadth first.
fn search(root: &Path, pid: u32, most: usize) -> Found {
    if !root.join("cgroup.procs").exists() {
        return Found::Unknown;
    }
    let mut groups = VecDeque::from([root.to_owned()]);
    let mut seen = 0;
    while let Some(group) = groups.pop_front() {
        if has(&group, pid) {
            return from_root(root, &group);
        }
        seen += 1;
        if seen == most {
            return Found::Unknown;
        }
        let below = fs::read_dir(&group).into_iter().flatten().flatten();
        let directories = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        groups
            .extend(directories.take(most.saturating_sub(groups.len())).map(|entry| entry.path()));
    }
    Found::InNone
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
}
