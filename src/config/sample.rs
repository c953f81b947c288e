//! A configuration for tests.

use super::{Loaded, Settings, Sources, load};

/// The settings of a machine with one app, `shop`, whose file says this.
#[track_caller]
pub(crate) fn shop(text: &str) -> Settings {
    loaded(text).strict().expect("a right file")
}

/// All that is known of such a file.
#[track_caller]
pub(crate) fn loaded(text: &str) -> Loaded {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(directory.path().join("apps")).expect("a directory");
    std::fs::write(directory.path().join("apps/shop.toml"), text).expect("a file");
    load(&Sources::directory(directory.path()))
}
