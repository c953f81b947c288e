//! Programs by their names, as systemd finds those of services.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// systemd's own search path for services.
pub(crate) const SERVICE_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin";

/// The program of this name in the first of these directories, joined by colons, that has it.
pub(crate) fn find(name: &str, path: impl AsRef<OsStr>) -> Option<PathBuf> {
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| is_program(file))
}

/// A program's name without the way to it.
pub(crate) fn base_name(program: &str) -> &str {
    Path::new(program).file_name().and_then(|name| name.to_str()).unwrap_or(program)
}

/// Whether a program of this name is Node: `node`, `nodejs`, `node22`, `node-20`.
pub(crate) fn is_node(name: &str) -> bool {
    let is_version = |text: &str| {
        let text = text.strip_prefix('-').unwrap_or(text);
        text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
    };
    name == "nodejs" || name.strip_prefix("node").is_some_and(is_version)
}

/// Whether this is a file that may be executed.
fn is_program(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_has_several_names() {
        for name in ["node", "nodejs", "node22", "node-20", "node20.1"] {
            assert!(is_node(name), "{name}");
        }
        for name in ["nodemon", "node-gyp", "deno", "", "node_x"] {
            assert!(!is_node(name), "{name}");
        }
    }

    #[test]
    fn a_program_is_an_executable_file_in_one_of_the_directories() {
        let directory = tempfile::tempdir().unwrap();
        let path = format!("/no/such:{}", directory.path().display());
        let file = directory.path().join("tool");
        assert_eq!(find("tool", &path), None);
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(find("tool", &path), None, "it cannot be executed");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find("tool", &path), Some(file));
        assert!(find("sh", SERVICE_PATH).is_some());
    }
}
