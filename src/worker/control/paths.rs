//! Where the control sockets are.

use std::path::{Path, PathBuf};

/// Below it each worker has its directory: the units' `RuntimeDirectory=`.
pub const BASE: &str = "/run/roundsman-workers";

/// The control socket of worker `number` of `app`.
pub fn socket(base: &Path, app: &str, number: u16) -> PathBuf {
    directory(base, app, number).join("control.sock")
}

/// The directory of worker `number` of `app`.
pub(super) fn directory(base: &Path, app: &str, number: u16) -> PathBuf {
    base.join(format!("{app}:{number}"))
}

/// The workers of `app` that have a directory: those that run or start.
pub fn workers_in(base: &Path, app: &str) -> Vec<u16> {
    let Ok(entries) = std::fs::read_dir(base) else { return Vec::new() };
    let number = |name: &str| name.strip_prefix(app)?.strip_prefix(':')?.parse().ok();
    let mut numbers: Vec<u16> =
        entries.filter_map(|entry| number(entry.ok()?.file_name().to_str()?)).collect();
    numbers.sort_unstable();
    numbers
}

/// All apps that have workers there.
pub fn apps_in(base: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(base) else { return Vec::new() };
    let app = |name: &str| Some(name.rsplit_once(':')?.0.to_owned());
    let mut apps: Vec<String> =
        entries.filter_map(|entry| app(entry.ok()?.file_name().to_str()?)).collect();
    apps.sort_unstable();
    apps.dedup();
    apps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_told_by_their_apps_whole_name() {
        let base = tempfile::tempdir().unwrap();
        for name in ["shop:2", "shop:1", "shop-2:1", "shop:x", "shop", "other:7"] {
            std::fs::create_dir(base.path().join(name)).unwrap();
        }
        assert_eq!(workers_in(base.path(), "shop"), [1, 2]);
        assert_eq!(apps_in(base.path()), ["other", "shop", "shop-2"]);
        assert!(workers_in(Path::new("/no/such"), "shop").is_empty());
    }
}
