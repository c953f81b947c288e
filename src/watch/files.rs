//! Changes of files below a directory, as the kernel tells them (inotify(7)): one watch for each
//! directory that may have a file which counts.
//!
//! The files are the app's, and this is root: it looks at them with the app's rights, through no
//! link, and at no more of them than a project has.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::inotify::{ReadFlags, WatchFlags};

use super::error::{LeftOut, Limit, MOST_ENTRIES, WatchError};
use super::inotify::{Event, Inotify};
use crate::base::rights::Rights;
use crate::base::text::escaped;
use crate::config::pattern::{GITIGNORE, Rules, Selector};
use crate::config::settings::Watch;

/// Where the kernel says how many watches each user's programs may have together: half of it, and no more
/// than this, are one app's.
const KERNELS: &str = "/proc/sys/fs/inotify/max_user_watches";
const MOST: usize = 50_000;

/// Where it does not say so. It allows 8192 at least.
const USUAL: usize = 4096;

/// Nested deeper than any project is.
const DEEPEST: usize = 100;

/// Changes that are told of one look: nobody reads more names.
const MOST_TOLD: usize = 1000;

/// The files below a directory.
#[derive(Debug)]
pub(crate) struct Files {
    directory: PathBuf,
    watch: Watch,
    rights: Rights,
    inotify: Inotify,
    selector: Selector,
    /// By watch descriptor.
    watched: HashMap<i32, Watched>,
    most: usize,
    left_out: Option<LeftOut>,
    /// When the newest file that counts had changed when all were looked at.
    newest: Option<SystemTime>,
}

/// What one look at directories has met.
#[derive(Debug, Default)]
struct Look {
    /// Files that count, and directories that are new; the first of them.
    found: Vec<PathBuf>,
    /// When the newest of all that count had changed.
    newest: Option<SystemTime>,
    entries: usize,
}

#[derive(Debug)]
enum Watched {
    Directory {
        path: PathBuf,
        rules: Rules,
    },
    /// A directory with a link in it that leads to the one that is watched, by the link's name.
    Link(OsString),
}

/// What one read of events came to.
#[derive(Debug, Default)]
struct Seen {
    /// The first of what has changed.
    changed: Vec<PathBuf>,
    /// All must be looked at anew: another root, other rules, or events that were lost.
    anew: bool,
}

impl Files {
    /// Begins to watch, with the rights that are given.
    ///
    /// # Errors
    /// When that is not possible.
    pub(crate) fn new(
        directory: &Path,
        watch: &Watch,
        rights: &Rights,
    ) -> Result<Self, WatchError> {
        let kernels = fs::read_to_string(KERNELS).ok().and_then(|text| text.trim().parse().ok());
        let most = kernels.map_or(USUAL, |most: usize| (most / 2).min(MOST));
        Self::with_limit(directory, watch, rights, most)
    }

    fn with_limit(
        directory: &Path,
        watch: &Watch,
        rights: &Rights,
        most: usize,
    ) -> Result<Self, WatchError> {
        let at = |source| WatchError::Io { path: directory.to_owned(), source };
        let mut files = Self {
            directory: directory.to_owned(),
            watch: watch.clone(),
            rights: rights.clone(),
            inotify: Inotify::new(directory)?,
            selector: Selector::new(directory, watch),
            watched: HashMap::new(),
            most,
            left_out: None,
            newest: None,
        };
        rights.with(|| files.look_at_all()).map_err(at)??;
        if let Some((path, why)) = files.selector.take_unread() {
            tracing::warn!("{} says nothing about what is watched: {why}", escaped(&path));
        }
        Ok(files)
    }

    fn look_at_all(&mut self) -> Result<(), WatchError> {
        let root = fs::canonicalize(&self.directory)
            .map_err(|source| WatchError::Io { path: self.directory.clone(), source })?;
        self.selector = Selector::new(&root, &self.watch);
        self.watch_links()?;
        let rules = self.selector.rules_of_root();
        let mut look = Look::default();
        self.enter(&root, &rules, 0, &mut look)?;
        self.newest = look.newest;
        Ok(())
    }

    /// How many directories are watched.
    pub(crate) fn directories(&self) -> usize {
        self.watched.len()
    }

    /// What is not watched since it is too much.
    pub(crate) fn left_out(&self) -> Option<&LeftOut> {
        self.left_out.as_ref()
    }

    /// Whether a file that counts had changed after this moment when the watch began.
    pub(crate) fn changed_since(&self, moment: SystemTime) -> bool {
        self.newest.is_some_and(|newest| newest > moment)
    }

    /// Waits for changes; the files that count, or none if none of them does.
    ///
    /// # Errors
    /// When the directory is not there any more.
    pub(crate) async fn changed(&mut self) -> Result<Vec<PathBuf>, WatchError> {
        let at = |source| WatchError::Io { path: self.directory.clone(), source };
        self.inotify.readable().await.map_err(at)?;
        let mut seen = Seen::default();
        self.read(&mut seen)?;
        if seen.anew {
            *self = Self::with_limit(&self.directory, &self.watch, &self.rights, self.most)?;
        }
        Ok(seen.changed)
    }

    fn read(&mut self, seen: &mut Seen) -> Result<(), WatchError> {
        let (directory, rights) = (self.directory.clone(), self.rights.clone());
        let at = |source| WatchError::Io { path: directory.clone(), source };
        let Some(events) = self.inotify.read().map_err(at)? else {
            seen.all_anew(&self.directory);
            return Ok(());
        };
        let take = || events.into_iter().try_for_each(|event| self.take(&event, seen));
        rights.with(take).map_err(at)?
    }

    fn take(&mut self, event: &Event, seen: &mut Seen) -> Result<(), WatchError> {
        let (what, name) = (event.what, event.name.as_deref());
        if what.contains(ReadFlags::QUEUE_OVERFLOW) {
            seen.all_anew(&self.directory);
            return Ok(());
        }
        let (directory, rules) = match self.watched.get(&event.watch) {
            Some(Watched::Directory { path, rules }) => (path.clone(), rules.clone()),
            Some(Watched::Link(link)) => {
                if name == Some(link) {
                    seen.all_anew(&self.directory);
                }
                return Ok(());
            }
            None => return Ok(()),
        };
        if what.contains(ReadFlags::IGNORED) {
            self.watched.remove(&event.watch);
        }
        if what.intersects(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF) {
            // Of a directory below, the one above it tells.
            seen.anew |= self.directory == directory
                || fs::canonicalize(&self.directory).ok().as_deref() != Some(self.selector.root());
        }
        let Some(name) = name else { return Ok(()) };
        let path = directory.join(name);
        if what.contains(ReadFlags::ISDIR) {
            if what.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
                // What is new is as deep as it is.
                let depth = path.strip_prefix(self.selector.root()).map_or(0, |p| p.iter().count());
                let mut look = Look::default();
                self.enter(&path, &rules, depth, &mut look)?;
                look.found.into_iter().for_each(|path| seen.tell(path));
            } else if self.selector.enters(&rules, &path) {
                self.leave(&path);
                seen.tell(path);
            }
            return Ok(());
        }
        if name == GITIGNORE {
            seen.anew = true;
        }
        // Sockets and the like are no code.
        let new = what.contains(ReadFlags::CREATE);
        let is_file = |path: &Path| {
            fs::symlink_metadata(path)
                .is_ok_and(|data| data.file_type().is_file() || data.file_type().is_symlink())
        };
        if self.selector.counts(&rules, &path, false) && (!new || is_file(&path)) {
            seen.tell(path);
        }
        Ok(())
    }

    /// Watches a directory and those below it; `look` gets the files there that count. Those that are
    /// near come first: where there are too many, the deepest are left out.
    fn enter(
        &mut self,
        directory: &Path,
        above: &Rules,
        depth: usize,
        look: &mut Look,
    ) -> Result<(), WatchError> {
        let mut next = VecDeque::from([(directory.to_owned(), above.clone(), depth)]);
        while let Some((directory, above, depth)) = next.pop_front() {
            self.enter_one(&directory, &above, depth, (&mut *look, &mut next))?;
        }
        Ok(())
    }

    fn enter_one(
        &mut self,
        directory: &Path,
        above: &Rules,
        depth: usize,
        (look, next): (&mut Look, &mut VecDeque<(PathBuf, Rules, usize)>),
    ) -> Result<(), WatchError> {
        if !self.selector.enters(above, directory) || depth > DEEPEST {
            return Ok(());
        }
        let flags = WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::EXCL_UNLINK;
        let rules = self.selector.rules_in(above, directory);
        let watched = Watched::Directory { path: directory.to_owned(), rules: rules.clone() };
        if !self.add(directory, flags, watched, depth)? {
            return Ok(());
        }
        // Only now: what is made from here on is told by the kernel.
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(_) if depth > 0 => return Ok(()), // gone again, or nobody's business
            Err(source) => return Err(WatchError::Io { path: directory.to_owned(), source }),
        };
        for entry in entries.flatten() {
            look.entries += 1;
            if look.entries > MOST_ENTRIES {
                self.leave_out(directory, Limit::Entries);
                next.clear();
                return Ok(());
            }
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => next.push_back((path, rules.clone(), depth + 1)),
                Ok(_) if self.selector.counts(&rules, &path, false) => look.takes(path),
                _ => {}
            }
        }
        Ok(())
    }

    /// Adds one watch; `false` where there is nothing to watch.
    fn add(
        &mut self,
        directory: &Path,
        flags: WatchFlags,
        watched: Watched,
        depth: usize,
    ) -> Result<bool, WatchError> {
        if self.watched.len() >= self.most && depth > 0 {
            self.leave_out(directory, Limit::Directories(self.most));
            return Ok(false);
        }
        let descriptor = match self.inotify.add(directory, flags, depth > 0) {
            Ok(Some(descriptor)) => descriptor,
            Ok(None) => return Ok(false),
            Err(WatchError::Kernel { .. }) if depth > 0 => {
                self.leave_out(directory, Limit::Kernel);
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        self.watched.insert(descriptor, watched);
        Ok(true)
    }

    fn leave_out(&mut self, directory: &Path, limit: Limit) {
        self.left_out.get_or_insert_with(|| LeftOut { path: directory.to_owned(), limit });
    }

    /// Forgets a directory that was moved away, with what is below it.
    fn leave(&mut self, directory: &Path) {
        let inotify = &self.inotify;
        self.watched.retain(|descriptor, watched| match watched {
            Watched::Directory { path, .. } if path.starts_with(directory) => {
                inotify.remove(*descriptor);
                false
            }
            _ => true,
        });
    }

    /// A link on the way (`current -> releases/42`) that is pointed elsewhere is a change, too.
    fn watch_links(&mut self) -> Result<(), WatchError> {
        let directory = self.directory.clone();
        for path in directory.ancestors().filter(|path| path.is_symlink()) {
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { continue };
            let parent = fs::canonicalize(parent)
                .map_err(|source| WatchError::Io { path: parent.to_owned(), source })?;
            let flags = WatchFlags::CREATE | WatchFlags::MOVED_TO;
            self.add(&parent, flags, Watched::Link(name.to_owned()), 0)?;
        }
        Ok(())
    }
}

// === impl Seen ===

impl Seen {
    fn tell(&mut self, path: PathBuf) {
        if self.changed.len() < MOST_TOLD {
            self.changed.push(path);
        }
    }

    fn all_anew(&mut self, directory: &Path) {
        self.anew = true;
        self.tell(directory.to_owned());
    }
}

// === impl Look ===

impl Look {
    fn takes(&mut self, path: PathBuf) {
        // By the change of status, which no copy brings along.
        let changed = fs::symlink_metadata(&path).ok().and_then(|data| {
            let seconds = Duration::from_secs(u64::try_from(data.ctime()).ok()?);
            Some(UNIX_EPOCH + seconds + Duration::from_nanos(data.ctime_nsec().unsigned_abs()))
        });
        self.newest = self.newest.max(changed);
        if self.found.len() < MOST_TOLD {
            self.found.push(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// The next files that changed and count, relative to the directory.
    async fn next(files: &mut Files) -> Vec<String> {
        let root = fs::canonicalize(&files.directory).unwrap();
        let wait = async {
            loop {
                let changed = files.changed().await.unwrap();
                if !changed.is_empty() {
                    break changed;
                }
            }
        };
        let mut names: Vec<String> = timeout(PATIENCE, wait)
            .await
            .expect("a change is seen")
            .iter()
            .map(|path| path.strip_prefix(&root).unwrap_or(path).display().to_string())
            .collect();
        names.dedup();
        names
    }

    #[tokio::test]
    async fn files_that_count_are_told_and_others_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for below in ["src/deep", "node_modules/x", "dist"] {
            fs::create_dir_all(root.join(below)).unwrap();
        }
        fs::write(root.join(GITIGNORE), "dist\n*.log\n").unwrap();
        let mut files = Files::new(root, &Watch::All, &Rights::of_number(0)).unwrap();
        assert_eq!(files.directories(), 3, "the root, src and src/deep");
        for ignored in ["dist/a.js", "node_modules/x/i.js", "src/a.log", "src/.a.js.swp"] {
            fs::write(root.join(ignored), "x").unwrap();
        }
        fs::write(root.join("src/deep/a.js"), "x").unwrap();
        assert_eq!(next(&mut files).await, ["src/deep/a.js"]);
        // As editors save: a new file over the old one.
        fs::write(root.join("src/.#b"), "x").unwrap();
        fs::rename(root.join("src/.#b"), root.join("src/b.js")).unwrap();
        assert_eq!(next(&mut files).await, ["src/b.js"]);
        fs::remove_file(root.join("src/b.js")).unwrap();
        assert_eq!(next(&mut files).await, ["src/b.js"]);
    }

    #[tokio::test]
    async fn new_directories_are_watched_and_what_is_in_them_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let mut files = Files::new(root, &Watch::All, &Rights::of_number(0)).unwrap();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/c.js"), "x").unwrap();
        assert_eq!(next(&mut files).await, ["a/b/c.js"]);
        while files.directories() < 3 {
            next(&mut files).await;
        }
        // Moved away, and what happens there is not ours any more.
        let elsewhere = tempfile::tempdir().unwrap();
        fs::rename(root.join("a"), elsewhere.path().join("a")).unwrap();
        while files.directories() > 1 {
            next(&mut files).await;
        }
    }

    #[tokio::test]
    async fn a_link_that_leads_elsewhere_is_a_change() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for release in ["1", "2"] {
            fs::create_dir_all(root.join(format!("releases/{release}"))).unwrap();
        }
        let current = root.join("current");
        std::os::unix::fs::symlink("releases/1", &current).unwrap();
        let mut files = Files::new(&current, &Watch::All, &Rights::of_number(0)).unwrap();
        std::os::unix::fs::symlink("releases/2", root.join("new")).unwrap();
        fs::rename(root.join("new"), &current).unwrap();
        assert_eq!(next(&mut files).await.len(), 1);
        fs::write(root.join("releases/2/a.js"), "x").unwrap();
        assert_eq!(next(&mut files).await, ["a.js"]);
    }

    #[tokio::test]
    async fn what_changed_before_is_known() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        assert!(
            !Files::new(root, &Watch::All, &Rights::of_number(0))
                .unwrap()
                .changed_since(UNIX_EPOCH)
        );
        fs::write(root.join("a.js"), "x").unwrap();
        fs::write(root.join("b.swp"), "x").unwrap();
        let files = Files::new(root, &Watch::All, &Rights::of_number(0)).unwrap();
        let changed = files.newest.unwrap();
        assert!(files.changed_since(changed - Duration::from_millis(1)));
        assert!(!files.changed_since(changed));
    }

    #[tokio::test]
    async fn other_rules_are_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::write(root.join(GITIGNORE), "").unwrap();
        let mut files = Files::new(root, &Watch::All, &Rights::of_number(0)).unwrap();
        fs::write(root.join(GITIGNORE), "*.log\n").unwrap();
        assert_eq!(next(&mut files).await, [GITIGNORE]);
        fs::write(root.join("a.log"), "x").unwrap();
        fs::write(root.join("a.js"), "x").unwrap();
        assert_eq!(next(&mut files).await, ["a.js"]);
    }

    #[tokio::test]
    async fn of_too_many_directories_the_nearest_are_watched_and_the_first_other_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for number in 0..20 {
            fs::create_dir_all(root.join(format!("{number}/deep/deeper"))).unwrap();
        }
        let limited = |watch: &Watch, most| {
            Files::with_limit(root, watch, &Rights::of_number(0), most).unwrap()
        };
        assert_eq!(limited(&Watch::All, 100).left_out(), None);
        let mut files = limited(&Watch::All, 30);
        assert_eq!(files.directories(), 30);
        let left_out = files.left_out().unwrap();
        assert!(left_out.path.ends_with("deep"), "{left_out}");
        let text = left_out.to_string();
        assert!(text.contains("more than 30 ") && text.contains(".gitignore"), "{text}");
        fs::write(root.join("19/a.js"), "x").unwrap();
        assert_eq!(next(&mut files).await, ["19/a.js"]);

        let files = limited(&Watch::Patterns(vec!["7".to_owned()]), 10);
        assert_eq!((files.directories(), files.left_out()), (4, None));
        let none = Files::new(&root.join("none"), &Watch::All, &Rights::of_number(0));
        let error = none.unwrap_err();
        assert!(error.to_string().contains("none"), "{error}");
    }

    #[tokio::test]
    async fn what_is_made_when_it_is_too_much_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let mut files = Files::with_limit(root, &Watch::All, &Rights::of_number(0), 2).unwrap();
        for name in ["a", "b"] {
            fs::create_dir(root.join(name)).unwrap();
        }
        fs::write(root.join("c.js"), "x").unwrap();
        assert_eq!(next(&mut files).await, ["c.js"]);
        assert_eq!(files.left_out().unwrap().path, fs::canonicalize(root).unwrap().join("b"));
    }

    #[tokio::test]
    async fn a_directory_that_is_gone_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("app");
        fs::create_dir(&root).unwrap();
        let mut files = Files::new(&root, &Watch::All, &Rights::of_number(0)).unwrap();
        fs::remove_dir(&root).unwrap();
        assert!(matches!(timeout(PATIENCE, files.changed()).await, Ok(Err(WatchError::Io { .. }))));
    }
}
