//! Every place on the machine that the program names.

use std::path::{Path, PathBuf};

use super::unit::Instance;

/// Where the administrator's configuration is.
pub const CONFIGURATION: &str = "/etc/roundsman";

/// The directories of the configuration below the root of a file system, the strongest last.
pub const CONFIGURATION_ROOTS: [&str; 3] =
    ["usr/lib/roundsman", "run/roundsman.d", "etc/roundsman"];

/// The administrator's app files.
pub const APPS: &str = "/etc/roundsman/apps";

/// Where the package has its units.
pub const UNITS: &str = "/usr/lib/systemd/system";

/// Where the admin socket of the installed service is.
pub const ADMIN_SOCKET: &str = "/run/roundsman/admin.sock";

/// Where the helper listens that does as root what members of the group may have done.
pub const HELPER_SOCKET: &str = "/run/roundsman/helper.sock";

/// Where the session store of this machine listens.
pub const SESSION_SOCKET: &str = "/run/roundsman/session.sock";

/// Below it each app with a Valkey server of its own has a directory of its user's, with the server's socket,
/// while that runs.
pub const VALKEY: &str = "/run/roundsman/valkey";

/// Where the session store keeps its entries.
pub const SESSION_DATA: &str = "/var/lib/roundsman-session";

/// What is kept of a deploy while it runs. Only root writes there; whoever may see the apps may see how
/// far a deploy is.
pub const DEPLOYS: &str = "/run/roundsman/deploy";

/// The drop-in of an app that a deploy makes for its extra workers; last by name, so that it is the
/// last word.
pub const DEPLOY_DROP_IN: &str = "zz-roundsman-deploy.toml";

/// Where the crashes of workers are noted, in a file for each worker; only root writes there.
pub const CRASHES: &str = "/run/roundsman/crashes";

/// Where it is noted at which address each worker that runs was started to listen; only root writes there.
pub const ADDRESSES: &str = "/run/roundsman/addresses";

/// Below it each app without `user` has a directory with the records of the user that it has got; only root
/// writes there.
pub const USERS: &str = "/run/roundsman/users";

/// Below it each worker has its directory: the units' `RuntimeDirectory=`, which is gone when its
/// run is over.
pub const WORKERS: &str = "/run/roundsman-workers";

/// Where each app's releases are noted.
pub const RELEASES: &str = "/var/lib/roundsman/releases";

/// The credentials that systemd hands to the front.
pub const CREDENTIALS: &str = "/run/credentials/roundsman.service";

/// The file that a running front holds locked, beside its admin socket. Only the front and root
/// may open it: whoever can read a file can lock it.
pub fn front_lock(directory: &Path) -> PathBuf {
    directory.join("serving.lock")
}

/// Where the Valkey server of an app listens.
pub fn valkey_socket(app: &str) -> PathBuf {
    Path::new(VALKEY).join(app).join("valkey.sock")
}

/// The file of an app, there or not.
pub fn app_file(app: &str) -> PathBuf {
    Path::new(APPS).join(format!("{app}.toml"))
}

/// The directory of a worker below `base`, which is [`WORKERS`] on an installed machine.
pub fn worker(base: &Path, app: &str, number: u16) -> PathBuf {
    base.join(format!("{app}:{number}"))
}

/// The control socket of worker `number` of `app`.
pub fn control_socket(base: &Path, app: &str, number: u16) -> PathBuf {
    worker(base, app, number).join("control.sock")
}

/// Where an app listens that binds a UNIX socket of its own.
pub fn app_socket(app: &str, number: u16) -> PathBuf {
    worker(Path::new(WORKERS), app, number).join("http.sock")
}

/// Where systemd listens for a worker with a UNIX socket.
pub fn inherited_socket(app: &str, number: u16) -> PathBuf {
    PathBuf::from(format!("/run/roundsman/workers/{app}:{number}.sock"))
}

/// The workers of `app` that have a directory below `base`: those that run or start.
pub fn workers_in(base: &Path, app: &str) -> Vec<u16> {
    let of_app = |instance: Instance| (instance.app == app).then_some(instance.number);
    let mut numbers: Vec<u16> = instances_in(base).filter_map(of_app).collect();
    numbers.sort_unstable();
    numbers
}

/// All apps that have workers there.
pub fn apps_in(base: &Path) -> Vec<String> {
    let mut apps: Vec<String> = instances_in(base).map(|instance| instance.app).collect();
    apps.sort_unstable();
    apps.dedup();
    apps
}

fn instances_in(base: &Path) -> impl Iterator<Item = Instance> {
    let entries = std::fs::read_dir(base).into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
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
