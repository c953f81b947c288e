//! Which files below a directory are watched: the app's patterns, `.gitignore`, and what nobody wants.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// Never watched: what package managers and git write, and what editors leave for a moment.
const NEVER: &[&str] = &[".git", "node_modules", "*~", "*.swp", "*.swx", ".#*", "4913"];

/// The name of the files that say what git ignores.
pub const GITIGNORE: &str = ".gitignore";

/// The rules of a directory: those of its own `.gitignore` last.
pub type Rules = Vec<Arc<Gitignore>>;

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
pub struct Selector {
    root: PathBuf,
    never: Gitignore,
    wanted: Option<Wanted>,
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
pub fn check(pattern: &str) -> Result<(), &'static str> {
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
    pub fn new(root: &Path, watch: &Watch) -> Self {
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
        Self { root: root.to_owned(), never, wanted }
    }

    /// The directory that it is for.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The rules for `root` itself: those of git above it, if it is in a repository.
    pub fn rules_of_root(&self) -> Rules {
        let mut rules = Rules::new();
        let repository = self.root.ancestors().find(|above| above.join(".git").exists());
        if let Some(repository) = repository {
            let (exclude, _) = Gitignore::new(repository.join(".git/info/exclude"));
            // Its patterns are relative to the repository, not to where the file is.
            if !exclude.is_empty() {
                let text = std::fs::read_to_string(repository.join(".git/info/exclude"));
                let text = text.unwrap_or_default();
                rules.push(Arc::new(self::rules(repository, text.lines().map(str::to_owned))));
            }
            let mut above: Vec<&Path> =
                self.root.ancestors().take_while(|a| a.starts_with(repository)).skip(1).collect();
            above.reverse();
            rules.extend(above.into_iter().filter_map(own_rules));
        }
        rules
    }

    /// The rules for what is in `directory`, from those of the one above it.
    pub fn rules_in(above: &Rules, directory: &Path) -> Rules {
        let mut rules = above.clone();
        rules.extend(own_rules(directory));
        rules
    }

    /// Whether what happens below a directory may count.
    pub fn enters(&self, rules: &Rules, directory: &Path) -> bool {
        let wanted = self.wanted.as_ref().is_none_or(|wanted| {
            wanted
                .below
                .iter()
                .any(|path| path.starts_with(directory) || directory.starts_with(path))
        });
        wanted && !self.is_ignored(rules, directory, true)
    }

    /// Whether a change of this file counts.
    pub fn counts(&self, rules: &Rules, path: &Path, is_directory: bool) -> bool {
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

fn own_rules(directory: &Path) -> Option<Arc<Gitignore>> {
    let file = directory.join(GITIGNORE);
    file.is_file().then(|| Arc::new(Gitignore::new(file).0))
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
        let rules = Selector::rules_in(&selector.rules_of_root(), &app);
        assert!(selector.counts(&rules, &app.join("a.js"), false));
        assert!(!selector.counts(&rules, &app.join("a.log"), false));
        assert!(!selector.enters(&rules, &app.join("dist")));
        let logs = Selector::rules_in(&rules, &app.join("logs"));
        assert!(selector.counts(&logs, &app.join("logs/keep.log"), false));
        assert!(!selector.counts(&logs, &app.join("logs/other.log"), false));
    }

    #[test]
    fn what_is_no_pattern_is_told() {
        assert_eq!(check("src/**/*.js"), Ok(()));
        assert!(check("src/[a-").is_err());
        assert!(check("src/{a").is_err());
    }
}
