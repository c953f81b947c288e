//! The machine's control groups, which everybody may look at: in which worker's a process is that `/proc`
//! hides, and whether one is a unit's.
//!
//! Whoever has a service manager of their own may make thousands of groups below it. So nobody looks at
//! more than slices, where root alone makes groups, and workers' own.

use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::unit::{self, Instance};

/// Where the kernel shows them.
const GROUPS: &str = "/sys/fs/cgroup";

/// Where workers are, unless the administrator chose another slice.
const WORKERS: &str = "roundsman.slice/roundsman-workers.slice";

/// How many slices are looked at.
const MOST: usize = 1024;

/// How many of a worker's own groups are, whose app may make them (`Delegate=`) while others wait.
const MOST_OF_UNIT: usize = 64;

/// What a search has found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The process is in this worker's unit.
    In(Instance),
    /// It is in no worker's.
    InNone,
    /// It may be in one, or there is nothing to be seen.
    Unknown,
}

/// There are more groups than are looked at.
struct TooMany;

/// In which worker's unit this process of this user is. What is `likely` is looked at first.
pub(super) fn worker_of(pid: u32, uid: u32, likely: Option<&Instance>) -> Found {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    begin(&own).map_or(Found::Unknown, |root| search(&root, pid, uid, likely))
}

/// Where systemd's groups begin, for a process in one of its units with these groups. A user's own
/// service manager begins further down, and its units are not looked at from there.
fn begin(groups: &str) -> Option<PathBuf> {
    let path = unified(groups)?;
    if path.split('/').any(|part| part.starts_with("user@")) {
        return None;
    }
    around(groups, path.rsplit('/').next()?).map(|(begin, _)| begin)
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
    let group = group_of(root, service);
    let has_number = |group: &Path| has_number(group, number);
    group.is_some_and(|group| {
        matches!(find(&group, MOST_OF_UNIT, |_| true, has_number), Ok(Some(_)))
    })
}

/// The group of a worker's service, if it has one now.
pub(crate) fn of_service(service: &str) -> Option<PathBuf> {
    group_of(Path::new(GROUPS), service)
}

/// The group of a service, below the one where systemd's begin.
fn group_of(root: &Path, service: &str) -> Option<PathBuf> {
    let usual = root.join(WORKERS).join(service);
    if usual.exists() {
        return Some(usual);
    }
    // The administrator may have chosen another slice. Nobody but root makes groups in slices.
    let has_it = |slice: &Path| slice.join(service).exists();
    Some(find(root, MOST, is_slice, has_it).ok()??.join(service))
}

fn has_number(group: &Path, number: u64) -> bool {
    fs::metadata(group).is_ok_and(|metadata| metadata.ino() == number)
}

fn search(root: &Path, pid: u32, uid: u32, likely: Option<&Instance>) -> Found {
    if !root.join("cgroup.procs").exists() {
        return Found::Unknown;
    }
    let usual = root.join(WORKERS);
    if let Some(worker) = likely
        && has(&usual.join(unit::service(&worker.app, worker.number)), pid)
    {
        return Found::In(worker.clone());
    }
    let mut is_unsure = false;
    let mut slices = VecDeque::from([usual.clone(), root.to_owned()]);
    let mut seen = 0;
    while let Some(slice) = slices.pop_front() {
        seen += 1;
        if seen > MOST {
            return Found::Unknown;
        }
        for (name, group) in below(&slice) {
            if is_slice(&name) {
                slices.extend(Some(group).filter(|group| *group != usual));
            } else if let Some(worker) = Instance::of_apps_service(&name) {
                if let Ok(Some(_)) = find(&group, MOST_OF_UNIT, |_| true, |group| has(group, pid)) {
                    return Found::In(worker);
                }
                // Whose groups they are may make any number, and move a process to where it has been
                // looked for already. Another user's process does not come into them.
                is_unsure |= uid != 0 && fs::metadata(&group).is_ok_and(|it| it.uid() == uid);
            }
        }
    }
    if is_unsure { Found::Unknown } else { Found::InNone }
}

/// The groups below one, by their names.
fn below(group: &Path) -> impl Iterator<Item = (String, PathBuf)> {
    let entries = fs::read_dir(group).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
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
        let open = below(&group).filter(|(name, _)| open(name)).map(|(_, group)| group);
        groups.extend(open.take(most.saturating_sub(groups.len())));
    }
    Ok(None)
}

/// Whether this process is in this very group.
fn has(group: &Path, pid: u32) -> bool {
    let processes = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    processes.lines().any(|line| line.parse() == Ok(pid))
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

    /// Nobody's who has made these directories.
    const OTHER: u32 = 61_234;

    const SHOP: &str = "roundsman-worker@shop:1.service";

    #[test]
    fn a_process_is_found_in_a_workers_groups_alone() {
        let root = tempfile::tempdir().unwrap();
        add(root.path(), "", "1\n");
        add(root.path(), "user.slice/user-1000.slice/session-1.scope", "70\n71\n");
        add(root.path(), &format!("{WORKERS}/{SHOP}"), "6\n7\n");
        add(root.path(), "a.slice/a-b.slice/roundsman-worker@b:2.service/sub/group", "8\n");
        add(root.path(), &format!("user.slice/user-1000.slice/user@1000.service/{SHOP}"), "9\n");
        let found = |pid| search(root.path(), pid, OTHER, None);
        let worker = |text: &str| Found::In(text.parse().unwrap());
        assert_eq!(found(7), worker("shop:1"));
        assert_eq!(found(8), worker("b:2"), "where the administrator has put it");
        for elsewhere in [1, 71, 9, 12] {
            assert_eq!(found(elsewhere), Found::InNone, "{elsewhere}");
        }
        let nowhere = search(&root.path().join("user.slice"), 7, OTHER, None);
        assert_eq!(nowhere, Found::Unknown, "nothing is shown");
        let likely = search(root.path(), 7, OTHER, Some(&"b:2".parse().unwrap()));
        assert_eq!(likely, worker("shop:1"), "it is not what was likely");
    }

    #[test]
    fn nobodys_groups_make_the_search_long_or_vain() {
        let root = tempfile::tempdir().unwrap();
        add(root.path(), "", "1\n");
        let users = "user.slice/user-1000.slice/user@1000.service";
        let app = format!("{WORKERS}/roundsman-worker@evil:1.service");
        for n in 0..8 {
            fs::create_dir_all(root.path().join(format!("{users}/{n}"))).unwrap();
        }
        for n in 0..2 * MOST_OF_UNIT {
            fs::create_dir_all(root.path().join(format!("{app}/{n}"))).unwrap();
        }
        add(root.path(), &format!("{users}/0/last"), "7\n");
        add(root.path(), &format!("{app}/0/last"), "8\n");
        add(root.path(), &format!("z.slice/{SHOP}"), "9\n");
        assert_eq!(search(root.path(), 7, OTHER, None), Found::InNone);
        let shop = Found::In("shop:1".parse().unwrap());
        assert_eq!(search(root.path(), 9, OTHER, None), shop);
        // The app's own user is another matter: a process of the app's may be anywhere in there.
        let own = fs::metadata(root.path()).unwrap().uid();
        if own != 0 {
            assert_eq!(search(root.path(), 8, own, None), Found::Unknown);
        }
    }

    #[test]
    fn workers_are_looked_for_where_systemd_began() {
        let begin = |path: &str| {
            let begin = begin(&format!("0::{path}\n"))?;
            Some(begin.strip_prefix(GROUPS).unwrap().to_str().unwrap().to_owned())
        };
        let root = Some(String::new());
        assert_eq!(begin(&format!("/{WORKERS}/{SHOP}")), root);
        assert_eq!(begin("/roundsman.slice/roundsman.service"), root);
        assert_eq!(begin("/user.slice/user-1000.slice/session-1.scope"), root);
        assert_eq!(begin(&format!("/docker/1/{WORKERS}/{SHOP}")).as_deref(), Some("docker/1"));
        assert_eq!(begin("/user.slice/user-1000.slice/user@1000.service/app.slice/x.scope"), None);
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
        assert_eq!(group_of(root.path(), SERVICE), Some(root.path().join(WORKERS).join(SERVICE)));
        assert_eq!(group_of(root.path(), "roundsman-worker@a:2.service"), None);
    }
}
