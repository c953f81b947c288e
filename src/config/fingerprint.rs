//! Whether a worker was started with the settings that its app has now.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::settings::{App, Ready, SessionStore, Shutdown};
use crate::base::paths;

/// The variable that the generator gives whoever looks after an app's workers, so that it can be seen
/// what it was started with. Workers have it in a credential (`config/copy.rs`).
pub(crate) const VARIABLE: &str = "ROUNDSMAN_SETTINGS";

/// A number for everything in an app's file that reaches its workers when they start, and nothing
/// else: the number of workers, routes and balancing change without a restart.
pub(crate) fn of_worker(app: &App) -> String {
    let supervision = &app.supervision;
    let mut started_with = format!(
        "{:?}",
        (
            (&app.command, &app.directory, &app.user, &app.group),
            (
                &app.environment,
                &app.environment_files,
                app.session.as_ref().map(SessionStore::word)
            ),
            (app.listen, app.port, app.transport, app.ready, &app.health),
            (
                app.start_timeout,
                app.stop_timeout,
                app.drain_timeout,
                app.watchdog,
                app.max_memory,
                app.slot
            ),
            (&supervision.restart, &supervision.stop_exit_codes, &supervision.credentials),
            app.sandbox,
        )
    );
    // What came later counts where it is used: an upgrade must not make every worker look old.
    if app.shutdown != Shutdown::Auto {
        let _ = write!(started_with, "{:?}", app.shutdown);
    }
    if app.ready == Ready::Running {
        let _ = write!(started_with, "{:?}", app.ready_after);
    }
    hash(&started_with)
}

/// The same for whoever looks after the workers.
pub(crate) fn of_watch(app: &App) -> String {
    let supervision = &app.supervision;
    let mut watches = format!(
        "{:?}",
        ((app.workers, &app.directory, app.max_memory), (&supervision.watch, supervision.max_age))
    );
    if let Some(surge) = app.surge {
        let _ = write!(watches, "{surge}");
    }
    hash(&watches)
}

/// The same for all files of the configuration together, but for what a deploy adds for a while.
pub(crate) fn of_files(files: &[(PathBuf, Vec<u8>)]) -> String {
    let mut all = Vec::new();
    for (path, text) in files.iter().filter(|(path, _)| !path.ends_with(paths::DEPLOY_DROP_IN)) {
        for part in [path.as_os_str().as_encoded_bytes(), text] {
            all.extend_from_slice(&(part.len() as u64).to_le_bytes());
            all.extend_from_slice(part);
        }
    }
    hash_bytes(&all)
}

fn hash(text: &str) -> String {
    hash_bytes(text.as_bytes())
}

fn hash_bytes(bytes: &[u8]) -> String {
    // FNV-1a: the same in every build, which the standard library's hash is not.
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_of_any_file_counts_but_for_what_a_deploy_adds() {
        let of = |files: &[(&str, &str)]| {
            let file =
                |(path, text): &(&str, &str)| (PathBuf::from(path), text.as_bytes().to_vec());
            of_files(&files.iter().map(file).collect::<Vec<_>>())
        };
        let files = [("apps/a.toml", "x"), ("upstreams/b.toml", "")];
        assert_eq!(of(&files), of(&files));
        for others in [
            &[][..],
            &files[..1],
            &[files[0], ("upstreams/b.toml", "y")],
            &[files[0], ("upstreams/c.toml", "")],
            &[("apps/a.toml", ""), ("upstreams/b.toml", "x")],
        ] {
            assert_ne!(of(others), of(&files), "{others:?}");
        }
        let extra = ("apps/a.toml.d/zz-roundsman-deploy.toml", "workers = 3");
        assert_eq!(of(&[files[0], extra, files[1]]), of(&files));
    }
    use crate::config::sample;

    fn shop(text: &str) -> App {
        sample::shop(text).apps["shop"].clone()
    }

    #[test]
    fn the_fingerprint_tells_what_a_restart_would_change() {
        let of = |text: &str| of_worker(&shop(text));
        let base = of("command = [\"/bin/x\"]\n");
        for same in [
            "command = ['/bin/x'] # comment\nworkers = 4\n",
            "command = [\"/bin/x\"]\nbalance = \"ip-hash\"\nroute = [{ host = \"a\" }]\n",
        ] {
            assert_eq!(of(same), base, "{same}");
        }
        for other in [
            "command = [\"/bin/y\"]\n",
            "command = [\"/bin/x\"]\nuser = \"a\"\n",
            "command = [\"/bin/x\"]\nstop-timeout = \"1s\"\n",
            "command = [\"/bin/x\"]\nshutdown = \"SIGINT\"\n",
            "command = [\"/bin/x\"]\nenvironment = { A = \"1\" }\n",
            "command = [\"/bin/x\"]\ncredentials = { key = \"/etc/key\" }\n",
            "command = [\"/bin/x\"]\nstop-exit-codes = [0]\n",
        ] {
            assert_ne!(of(other), base, "{other}");
        }
        let background = "command = [\"/bin/x\"]\nlisten = \"none\"\n";
        let more = ["shutdown = \"SIGINT\"", "shutdown = \"SIGQUIT\"", "ready-after = \"1s\""];
        let prints = ["", "ready-after = \"3s\""].iter().chain(&more);
        let prints = prints.map(|line| of(&format!("{background}{line}\n")));
        assert_eq!(prints.collect::<std::collections::BTreeSet<_>>().len(), 5);
    }

    #[test]
    fn whoever_looks_after_the_workers_starts_anew_for_what_it_looks_at() {
        let of = |text: &str| of_watch(&shop(&format!("command = [\"/bin/x\"]\n{text}")));
        let base = of("");
        assert_eq!(of("user = \"a\"\n"), base);
        for other in ["workers = 2\n", "max-memory = \"1GiB\"\n", "max-age = \"1d\"\n"] {
            assert_ne!(of(other), base, "{other}");
        }
    }
}
