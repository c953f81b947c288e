//! The systemd generator: app files → worker units, at boot and at every `daemon-reload`.
//!
//! systemd.generator(7) sets the rules, and they are strict because the boot waits for it: no
//! bus, no network, nothing that may block, and never a failure. So: read the configuration,
//! compute a [`tree::Tree`] (a pure function), write it, say on the kernel log what is wrong, and
//! exit with 0 in any case.

mod kmsg;
mod text;
pub mod tree;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use std::{env, fs, io, panic, process, thread};

use kmsg::{Log, Priority};
use tree::{Item, Tree};

use crate::config::{Sources, load};

/// The name under which systemd starts it.
const NAME: &str = "roundsman-generator";

/// Reading a hundred app files takes milliseconds. systemd itself would wait for 90 s.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// More would push the kernel's own messages out of its log.
const MAX_MESSAGES: usize = 50;

/// Whether this process was started as the generator.
pub fn is_called() -> bool {
    env::args_os().next().is_some_and(|name| Path::new(&name).file_name() == Some(OsStr::new(NAME)))
}

/// What systemd calls it with: `NORMAL EARLY LATE`, of which only the first is written to. In
/// front of them, for tests and for looking at what it would do, may be `--root DIR`.
#[derive(Debug, PartialEq, Eq)]
struct Arguments {
    root: Option<PathBuf>,
    output: PathBuf,
}

/// Runs the generator.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse(env::args_os().skip(1));
    let log = match &arguments {
        Some(Arguments { root: None, .. }) => Log::kernel(),
        _ => Log::stderr(),
    };
    // Also under `panic = "abort"`: the hook runs first, and ends the process itself.
    panic::set_hook(Box::new(move |info| {
        log.write(Priority::Error, &format!("a bug: {info}"));
        process::exit(0);
    }));
    // Without this thread there is no limit, which is no reason not to go on.
    let _ = thread::Builder::new().spawn(move || {
        thread::sleep(TIME_LIMIT);
        log.write(Priority::Error, "gave up after 10 s: some workers may have no units");
        process::exit(0);
    });
    match arguments {
        Some(arguments) => generate(&arguments, log),
        None => log
            .write(Priority::Error, "usage: roundsman-generator [--root DIR] NORMAL [EARLY LATE]"),
    }
    ExitCode::SUCCESS
}

fn generate(arguments: &Arguments, log: Log) {
    let root = arguments.root.as_deref().unwrap_or(Path::new("/"));
    let loaded = load(&Sources::system_below(root));
    for problem in loaded.problems.iter().take(MAX_MESSAGES) {
        let priority = if problem.is_error() { Priority::Error } else { Priority::Warning };
        log.write(priority, &problem.to_string());
    }
    if loaded.problems.iter().nth(MAX_MESSAGES).is_some() {
        log.write(Priority::Error, "and more: see `roundsman check`");
    }
    let source = |app: &str| {
        let path = loaded.app_files.get(app)?;
        Some(Path::new("/").join(path.strip_prefix(root).ok()?))
    };
    if let Err((path, error)) = write(&tree::tree(&loaded.settings, source), &arguments.output) {
        log.write(Priority::Error, &format!("{}: {error}", path.display()));
    }
}

/// Writes as much as can be; gives the first error.
fn write(tree: &Tree, below: &Path) -> Result<(), (PathBuf, io::Error)> {
    let mut result = Ok(());
    for (path, item) in tree {
        let path = below.join(path);
        let parent = path.parent().map_or(Ok(()), fs::create_dir_all);
        let written = parent.and_then(|()| match item {
            Item::File(text) => fs::write(&path, text),
            Item::Link(target) => std::os::unix::fs::symlink(target, &path),
        });
        if let (Err(error), Ok(())) = (written, &result) {
            result = Err((path, error));
        }
    }
    result
}

// === impl Arguments ===

impl Arguments {
    fn parse(mut arguments: impl Iterator<Item = OsString>) -> Option<Self> {
        let mut first = arguments.next()?;
        let mut root = None;
        if first == "--root" {
            root = Some(arguments.next()?.into());
            first = arguments.next()?;
        }
        Some(Self { root, output: first.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Option<Arguments> {
        Arguments::parse(arguments.iter().map(Into::into))
    }

    #[test]
    fn the_first_directory_counts() {
        let normal = Some(Arguments { root: None, output: "/run/n".into() });
        assert_eq!(parse(&["/run/n", "/run/e", "/run/l"]), normal);
        assert_eq!(parse(&["/run/n"]), normal);
        let below = Some(Arguments { root: Some("/r".into()), output: "/run/n".into() });
        assert_eq!(parse(&["--root", "/r", "/run/n", "/run/e", "/run/l"]), below);
        for bad in [&[] as &[&str], &["--root"], &["--root", "/r"]] {
            assert_eq!(parse(bad), None);
        }
    }
}
