//! A configuration for tests.

use super::{Settings, Sources, load};

/// The settings of a machine with one app, `shop`, whose file says this.
#[track_caller]
pub(crate) fn shop(text: &str) -> Settings {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(directory.path().join("apps")).expect("a directory");
    std::fs::write(directory.path().join("apps/shop.toml"), text).expect("a file");
    load(&Sources::directory(directory.path())).strict().expect("a right file")
}
