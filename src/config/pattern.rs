//! Which files below a directory are watched: the app's patterns, `.gitignore`, and what nobody wants.
//!
//! The files that say what git ignores are the app's: no more of them is read than makes sense.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::base::file::{self, Links};

/// The most that is read of one file of patterns; GitHub's longest template has 10 KiB.
const MOST_OF_ONE: u64 = 64 * 1024;

/// And of all that one look at the app's files meets: they are kept in memory, compiled.
const MOST_OF_ALL: usize = 256 * 1024;

/// Never watched: what package managers and git write, and what editors leave for a moment.
const NEVER: &[&str] = &[".git", "node_modules", "*~", "*.swp", "*.swx", ".#*", "4913"];

/// The name of the files that say what git ignores.
pub(crate) const GITIGNORE: &str = ".gitignore";

/// The rules of a directory: those of its own `.gitignore` last.
pub(crate) type Rules = Vec<Arc<Gitignore>>;

/// Which files are watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watch {
    /// All below `directory`.
    All,
    /// Those that match one of these patterns, relative to `directory`.
    Patterns(Vec<String>),
}

/// Which files count.
#[derive(Debug)]
pub(crate) struct Selector {
    root: PathBuf,
    never: Gitignore,
    wanted: Option<Wanted>,
    /// Bytes of patterns that may still be read.
    room: Cell<usize>,
    /// The first file of patterns that was not read, and why.
    unread: RefCell<Option<(PathBuf, String)>>,
}

#[derive(Debug)]
struct Wanted {
    patterns: Gitignore,
    /// The part of each pattern without wildcards: where what matches must be.
    below: Vec<PathBuf>,
}

/// Whether this can be a pattern; the error says why not.
///
/// # Errors
/// When it cannot.
pub(crate) fn check(pattern: &str) -> Result<(), &'static str> {
    let mut builder = GitignoreBuilder::new("/");
    // What git puts up with is here more likely a mistake.
    builder.allow_unclosed_class(false);
    let added = builder.add_line(None, &anchored(pattern)).map(drop);
    added.map_err(|_| "it is no valid pattern")
}

/// As a line of a `.gitignore` at the root.
fn anchored(pattern: &str) -> String {
    match pattern.strip_prefix('!') {
        Some(pattern) => format!("!/{pattern}"),
        None => format!("/{pattern}"),
    }
}

// === impl Selector ===

impl Selector {
    /// For what is below `root`.
    pub(crate) fn new(root: &Path, watch: &Watch) -> Self {
        let wanted = match watch {
            Watch::All => None,
            Watch::Patterns(patterns) => Some(Wanted {
                patterns: rules(root, patterns.iter().map(|pattern| anchored(pattern))),
                below: patterns
                    .iter()
                    .filter(|pattern| !pattern.starts_with('!'))
                    .map(|pattern| {
                        let plain = |part: &&str| !part.contains(['*', '?', '[', '\\']);
                        root.join(pattern.split('/').take_while(plain).collect::<PathBuf>())
                    })
                    .collect(),
            }),
        };
        let never = rules(root, NEVER.iter().map(|&pattern| pattern.to_owned()));
        Self {
            root: root.to_owned(),
            never,
            wanted,
            room: Cell::new(MOST_OF_ALL),
            unread: RefCell::default(),
        }
    }

    /// The directory that it is for.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A file of patterns that says nothing since it was not read, and why; told once.
    pub(crate) fn take_unread(&self) -> Option<(PathBuf, String)> {
        self.unread.take()
    }

    /// The rules for `root` itself: those of git above it, if it is in a repository.
    pub(crate) fn rules_of_root(&self) -> Rules {
        let mut rules = Rules::new();
        let repository = self.root.ancestors().find(|above| above.join(".git").exists());
        if let Some(repository) = repository {
            // Its patterns are relative to the repository, not to where the file is.
            rules.extend(self.rules_from(repository, &repository.join(".git/info/exclude")));
            let mut above: Vec<&Path> =
                self.root.ancestors().take_while(|a| a.starts_with(repository)).skip(1).collect();
            above.reverse();
            rules.extend(above.into_iter().filter_map(|above| self.own_rules(above)));
        }
        rules
    }

    /// The rules for what is in `directory`, from those of the one above it.
    pub(crate) fn rules_in(&self, above: &Rules, directory: &Path) -> Rules {
        let mut rules = above.clone();
        rules.extend(self.own_rules(directory));
        rules
    }

    fn own_rules(&self, directory: &Path) -> Option<Arc<Gitignore>> {
        self.rules_from(directory, &directory.join(GITIGNORE))
    }

    /// Git itself takes no link for a `.gitignore`.
    fn rules_from(&self, root: &Path, path: &Path) -> Option<Arc<Gitignore>> {
        let text = match file::read(path, Links::Refuse, MOST_OF_ONE) {
            Ok(text) if text.len() <= self.room.get() => text,
            Ok(_) => {
                let reason = format!("with those before, it is more than {MOST_OF_ALL} bytes");
                return self.leave_out(path, reason);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => return self.leave_out(path, error.to_string()),
        };
        self.room.set(self.room.get() - text.len());
        let text = String::from_utf8_lossy(&text);
        Some(Arc::new(rules(root, text.lines().map(str::to_owned))))
    }

    fn leave_out<T>(&self, path: &Path, reason: String) -> Option<T> {
        self.unread.borrow_mut().get_or_insert_with(|| (path.to_owned(), reason));
        None
    }

    /// Whether what happens below a directory may count.
    pub(crate) fn enters(&self, rules: &Rules, directory: &Path) -> bool {
        let wanted = self.wanted.as_ref().is_none_or(|wanted| {
            wanted
                .below
                .iter()
                .any(|path| path.starts_with(directory) || directory.starts_with(path))
        });
        wanted && !self.is_ignored(rules, directory, true)
    }

    /// Whether a change of this file counts.
    pub(crate) fn counts(&self, rules: &Rules, path: &Path, is_directory: bool) -> bool {
        let wanted = self.wanted.as_ref().is_none_or(|wanted| {
            path.starts_with(&self.root)
                && wanted.patterns.matched_path_or_any_parents(path, is_directory).is_ignore()
        });
        wanted && !self.is_ignored(rules, path, is_directory)
    }

    fn is_ignored(&self, rules: &Rules, path: &Path, is_directory: bool) -> bool {
        if self.never.matched(path, is_directory).is_ignore() {
            return true;
        }
        // The nearest file that says something has the last word.
        for rules in rules.iter().rev() {
            match rules.matched(path, is_directory) {
                Match::Ignore(_) => return true,
                Match::Whitelist(_) => return false,
                Match::None => {}
            }
        }
        false
    }
}

fn rules(root: &Path, lines: impl Iterator<Item = String>) -> Gitignore {
    let mut builder = GitignoreBuilder::new(root);
    for line in lines {
        // A line that is none says nothing; the app's own were checked when they were read.
        let _ = builder.add_line(None, &line);
    }
    builder.build().unwrap_or_else(|_| Gitignore::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(watch: &Watch, path: &str) -> bool {
        let selector = Selector::new(Path::new("/srv/shop"), watch);
        selector.counts(&Rules::new(), &Path::new("/srv/shop").join(path), false)
    }

    #[test]
    fn patterns_are_relative_to_the_directory() {
        let patterns = ["src", "config/*.json", "**/*.ejs", "!src/generated"];
        let watch = Watch::Patterns(patterns.map(str::to_owned).to_vec());
        for yes in ["src/a.js", "src/b/c.js", "config/x.json", "views/a/b.ejs"] {
            assert!(counts(&watch, yes), "{yes}");
        }
        for no in ["lib/src/a.js", "config/a/x.json", "src/generated/x.js", "server.js"] {
            assert!(!counts(&watch, no), "{no}");
        }
    }

    #[test]
    fn some_files_never_count() {
        for no in [".git/index", "node_modules/x", "a/.server.js.swp", "server.js~", "4913"] {
            let selector = Selector::new(Path::new("/srv/shop"), &Watch::All);
            let path = Path::new("/srv/shop").join(no);
            let entered = path.parent().is_none_or(|d| selector.enters(&Rules::new(), d));
            assert!(!(entered && selector.counts(&Rules::new(), &path, false)), "{no}");
        }
        assert!(counts(&Watch::All, "server.js"));
    }

    #[test]
    fn where_there_is_no_gitignore_nothing_is_left_unread() {
        let directory = tempfile::tempdir().unwrap();
        let selector = Selector::new(directory.path(), &Watch::All);
        assert!(selector.rules_in(&Rules::new(), directory.path()).is_empty());
        assert_eq!(selector.take_unread(), None);
    }

    #[test]
    fn only_where_something_can_match_is_looked() {
        let watch = Watch::Patterns(vec!["a/b/*.js".to_owned()]);
        let selector = Selector::new(Path::new("/srv"), &watch);
        for (directory, enters) in [
            ("/srv", true),
            ("/srv/a", true),
            ("/srv/a/b", true),
            ("/srv/a/b/c", true),
            ("/srv/x", false),
        ] {
            assert_eq!(selector.enters(&Rules::new(), Path::new(directory)), enters, "{directory}");
        }
    }

    #[test]
    fn the_nearest_gitignore_has_the_last_word() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        std::fs::create_dir_all(root.join(".git")).unwrap();
        std::fs::create_dir_all(root.join("app/logs")).unwrap();
        std::fs::write(root.join(".gitignore"), "*.log\n/app/dist\n").unwrap();
        std::fs::write(root.join("app/logs/.gitignore"), "!keep.log\n").unwrap();
        let app = root.join("app");
        let selector = Selector::new(&app, &Watch::All);
        let rules = selector.rules_in(&selector.rules_of_root(), &app);
        assert!(selector.counts(&rules, &app.join("a.js"), false));
        assert!(!selector.counts(&rules, &app.join("a.log"), false));
        assert!(!selector.enters(&rules, &app.join("dist")));
        let logs = selector.rules_in(&rules, &app.join("logs"));
        assert!(selector.counts(&logs, &app.join("logs/keep.log"), false));
        assert!(!selector.counts(&logs, &app.join("logs/other.log"), false));
    }

    /// A FIFO, a link, a huge file: what the app puts there neither blocks nor fills the memory.
    #[test]
    fn patterns_are_read_within_limits() {
        use std::fs;
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::write(root.join("rules"), "*.js\n").unwrap();
        let ignores_js = |put: &dyn Fn(&Path)| {
            let path = root.join(GITIGNORE);
            let _ = fs::remove_file(&path);
            put(&path);
            let selector = Selector::new(root, &Watch::All);
            let rules = selector.rules_in(&selector.rules_of_root(), root);
            (!selector.counts(&rules, &root.join("a.js"), false), selector.take_unread().is_some())
        };
        assert_eq!(ignores_js(&|path| fs::write(path, "*.js\n").unwrap()), (true, false));
        assert_eq!(ignores_js(&|path| fs::write(path, b"\xff\xfe\n*.js").unwrap()), (true, false));
        let link = |path: &Path| std::os::unix::fs::symlink(root.join("rules"), path).unwrap();
        assert_eq!(ignores_js(&link), (false, true));
        let fifo = |path: &Path| {
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            rustix::fs::mkfifoat(rustix::fs::CWD, path, mode).unwrap();
        };
        assert_eq!(ignores_js(&fifo), (false, true));
        let huge = |path: &Path| fs::File::create(path).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(ignores_js(&huge), (false, true));
        // Many of them are one large file.
        fs::write(root.join(GITIGNORE), "#".repeat(60 * 1024)).unwrap();
        let selector = Selector::new(root, &Watch::All);
        let read = (0..100).filter(|_| !selector.rules_in(&Rules::new(), root).is_empty()).count();
        assert_eq!(read, 4);
        assert!(selector.take_unread().is_some_and(|(_, why)| why.contains("262144 bytes")));
    }

    #[test]
    fn what_is_no_pattern_is_told() {
        assert_eq!(check("src/**/*.js"), Ok(()));
        assert!(check("src/[a-").is_err());
        assert!(check("src/{a").is_err());
    }
}
