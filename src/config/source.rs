//! Which files there are: the directories, how a later one overrides an earlier one, and reading.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::diagnostic::{File, Problem, Problems, Severity};
use super::networks::{self, Networks};
use crate::base::file::{self, Links};
use crate::base::paths;

/// The largest file that is read. The largest sensible one has a few KiB; the bound keeps a file
/// put there by mistake from filling the memory.
const MAX_FILE: u64 = 1024 * 1024;

/// Where the configuration is read from, and the facts about the machine that complete it.
#[derive(Debug, Clone)]
pub struct Sources {
    /// In rising priority.
    roots: Vec<PathBuf>,
    /// The file system that the machine's own facts are read from.
    machine: PathBuf,
    cores: Option<usize>,
    networks: Option<Networks>,
    /// Files that are to be seen as having this text, or as not being there, whatever is on disk.
    instead: BTreeMap<PathBuf, Option<String>>,
}

/// A file's place below the roots: its directory there, and its name.
type Relative = PathBuf;

/// One file that counts, after overriding.
pub(super) struct Found {
    /// Below its root: `apps/shop.toml`.
    pub(super) relative: Relative,
    pub(super) file: Arc<File>,
}

/// The files that count, sorted by relative path.
#[derive(Default)]
pub(super) struct Files {
    pub(super) found: Vec<Found>,
    /// Files that are there but cannot be read: their names still count.
    pub(super) broken: Vec<Relative>,
    /// Files that hide others and say nothing themselves.
    pub(super) masked: Vec<Relative>,
}

// === impl Sources ===

impl Sources {
    /// `/usr/lib/roundsman`, `/run/roundsman.d` and `/etc/roundsman`, the last one strongest.
    pub fn system() -> Self {
        Self::system_below(Path::new("/"))
    }

    /// As [`Sources::system`], in a file system that is mounted at `root`.
    pub fn system_below(root: &Path) -> Self {
        let roots = paths::CONFIGURATION_ROOTS.map(|d| root.join(d));
        Self {
            roots: roots.to_vec(),
            machine: root.to_owned(),
            cores: None,
            networks: None,
            instead: BTreeMap::new(),
        }
    }

    /// This directory and no other.
    pub fn directory(path: impl Into<PathBuf>) -> Self {
        Self {
            roots: vec![path.into()],
            machine: "/".into(),
            cores: None,
            networks: None,
            instead: BTreeMap::new(),
        }
    }

    /// These texts and nothing else, by their path below the configuration directory.
    pub(super) fn texts(files: &BTreeMap<PathBuf, String>) -> Self {
        Self {
            roots: Vec::new(),
            machine: "/".into(),
            cores: None,
            networks: Some(Networks::new()),
            instead: files.iter().map(|(path, text)| (path.clone(), Some(text.clone()))).collect(),
        }
    }

    /// What `workers = "auto"` means, instead of what the machine has.
    #[must_use]
    pub fn with_cores(self, cores: usize) -> Self {
        Self { cores: Some(cores), ..self }
    }

    /// The apps' networks, instead of those that the machine has written down.
    #[must_use]
    pub(crate) fn with_networks(self, networks: Networks) -> Self {
        Self { networks: Some(networks), ..self }
    }

    /// With a file as it would be: its text, or `None` when it would not be there. For judging a
    /// change before it is made.
    #[must_use]
    pub fn with_file(mut self, path: impl Into<PathBuf>, text: Option<String>) -> Self {
        self.instead.insert(path.into(), text);
        self
    }

    /// What `workers = "auto"` means.
    pub(super) fn cores(&self) -> usize {
        self.cores.unwrap_or_else(|| super::cores::usable(&self.machine))
    }

    /// The networks that apps have had so far.
    pub(super) fn networks(&self) -> Networks {
        self.networks.clone().unwrap_or_else(|| networks::remembered(&self.machine))
    }

    /// The directories, the strongest last.
    pub fn roots(&self) -> &[PathBuf] {
        &self.roots
    }

    /// Reads every file that counts.
    pub(super) fn read(&self, problems: &mut Problems) -> Files {
        let mut files = Files::default();
        for (relative, path) in self.list(problems) {
            match self.content(&path, problems) {
                Content::Text(text) => {
                    files.found.push(Found { relative, file: Arc::new(File::new(path, text)) });
                }
                Content::Masked => files.masked.push(relative),
                Content::Broken => files.broken.push(relative),
            }
        }
        files
    }

    /// Relative path → the file of the strongest root that has it.
    fn list(&self, problems: &mut Problems) -> BTreeMap<Relative, PathBuf> {
        let mut files = BTreeMap::new();
        for root in &self.roots {
            if self.roots.len() == 1 && !root.is_dir() {
                let title = "the configuration directory is not there, or is no directory";
                problems.push(
                    Problem::file(Severity::Error, root, title)
                        .help("create it; an empty directory is a valid configuration"),
                );
            }
            for directory in ["", "roundsman.toml.d", "apps", "upstreams", "routes"] {
                for name in list_directory(&root.join(directory), problems) {
                    let relative = Path::new(directory).join(&name);
                    if directory.is_empty() && name != "roundsman.toml" {
                        continue; // certificates, notes, …: not ours to judge
                    }
                    if is_fragment(&name) {
                        files.insert(relative.clone(), root.join(&relative));
                    } else if has_drop_ins(directory) && name.ends_with(".toml.d") {
                        for drop_in in list_directory(&root.join(&relative), problems) {
                            if is_fragment(&drop_in) {
                                let relative = relative.join(drop_in);
                                files.insert(relative.clone(), root.join(&relative));
                            }
                        }
                    }
                }
            }
        }
        for (path, text) in &self.instead {
            let below = |root: &PathBuf| path.strip_prefix(root).ok().map(Path::to_owned);
            let relative = match self.roots.as_slice() {
                [] => Some(path.clone()), // texts
                roots => roots.iter().rev().find_map(below),
            };
            let Some(relative) = relative else { continue };
            if text.is_some() {
                files.insert(relative, path.clone());
            } else if files.get(&relative) == Some(path) {
                files.remove(&relative);
            }
        }
        files
    }

    fn content(&self, path: &Path, problems: &mut Problems) -> Content {
        match self.instead.get(path) {
            Some(Some(text)) => Content::Text(text.clone()),
            _ => read(path, problems),
        }
    }
}

/// What a file holds.
enum Content {
    Text(String),
    /// Nothing: it is empty, or a link to /dev/null, and hides the files that it overrides.
    Masked,
    /// It cannot be used, as was reported.
    Broken,
}

/// Backups of editors and package managers (`shop.toml~`, `.shop.toml.swp`, `shop.toml.dpkg-old`)
/// are not configuration.
fn is_fragment(name: &str) -> bool {
    !name.starts_with('.') && name.strip_suffix(".toml").is_some()
}

fn has_drop_ins(directory: &str) -> bool {
    matches!(directory, "apps" | "upstreams" | "routes")
}

fn list_directory(path: &Path, problems: &mut Problems) -> Vec<String> {
    let mut names = Vec::new();
    let mut fail = |error: &io::Error| problems.push(Problem::unread(path, "directory", error));
    match fs::read_dir(path) {
        Ok(entries) => {
            for entry in entries {
                match entry {
                    // A name that is not UTF-8 cannot end in `.toml` and be an app's name.
                    Ok(entry) => names.extend(entry.file_name().into_string()),
                    Err(error) => fail(&error),
                }
            }
        }
        Err(error) if is_absent(&error) => {}
        Err(error) => fail(&error),
    }
    names.sort();
    names
}

/// Not there at all, or a file where a directory could be (then what it would hold is not there).
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn read(path: &Path, problems: &mut Problems) -> Content {
    match read_bytes(path, problems) {
        Ok(bytes) if bytes.is_empty() => Content::Masked,
        Ok(bytes) if bytes.len() as u64 > MAX_FILE => {
            problems.push(Problem::file(Severity::Error, path, "the file is larger than 1 MiB"));
            Content::Broken
        }
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Content::Text(text),
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                let line = String::from_utf8_lossy(&error.as_bytes()[..at]).lines().count().max(1);
                let title = format!("line {line} is not UTF-8 (byte {at} of the file)");
                problems.push(
                    Problem::file(Severity::Error, path, title).help("save the file as UTF-8"),
                );
                Content::Broken
            }
        },
        Err(error) => {
            let problem = Problem::unread(path, "file", &error);
            problems.push(match error.kind() {
                io::ErrorKind::PermissionDenied => problem.help(format!(
                    "run this as root, or as a member of the group roundsman where the file is that group's \
                     (`chgrp roundsman {0} && chmod 640 {0}`)",
                    path.display()
                )),
                _ => problem,
            });
            Content::Broken
        }
    }
}

/// At most one byte more than a file may have; none for the null device.
fn read_bytes(path: &Path, problems: &mut Problems) -> io::Result<Vec<u8>> {
    if is_null_device(&std::fs::metadata(path)?) {
        return Ok(Vec::new());
    }
    // Not blocking: a FIFO under this name must not hold up the boot.
    let file = file::open(path, Links::Follow)?;
    let metadata = file.metadata()?;
    if metadata.mode() & 0o002 != 0 {
        let title = "everybody may write to this file, and so decide what is run";
        let problem = Problem::file(Severity::Warning, path, title);
        problems.push(problem.help(format!("run `chmod o-w {}`", path.display())));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn is_null_device(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    metadata.file_type().is_char_device() && metadata.rdev() == rustix::fs::makedev(1, 3)
}
