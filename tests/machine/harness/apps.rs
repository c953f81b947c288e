//! Putting apps on a machine, the way an administrator does.

use std::path::Path;

use super::machine::Machine;

impl Machine {
    /// Starts examples/hello with this many workers; waits until each of them serves.
    #[track_caller]
    pub(crate) fn start_hello(&self, workers: usize) {
        let configuration = format!("command = [\"node\", \"server.js\"]\nworkers = {workers}\n");
        self.add_app("hello", "examples/hello", &configuration);
        self.start_app("hello");
    }

    /// Starts an app, and waits until all of its workers serve.
    #[track_caller]
    pub(crate) fn start_app(&self, name: &str) {
        self.run(&format!("roundsman start {name}"));
    }

    /// Stops an app, after which its worker 1 has ended and its listener is closed.
    #[track_caller]
    pub(crate) fn stop_app(&self, name: &str) {
        self.run(&format!("systemctl stop roundsman-app@{name}.target"));
        for kind in ["service", "socket"] {
            let state = self.property(&format!("roundsman-worker@{name}:1.{kind}"), "ActiveState");
            assert!(matches!(state.as_str(), "inactive" | "failed"), "the {kind} is {state}");
        }
    }

    /// A property of the service of a worker, such as `shop:1`.
    #[track_caller]
    pub(crate) fn worker(&self, worker: &str, property: &str) -> String {
        self.property(&format!("roundsman-worker@{worker}.service"), property)
    }

    /// What tells one run of each of an app's workers from the next.
    #[track_caller]
    pub(crate) fn runs(&self, app: &str, workers: u16) -> Vec<String> {
        (1..=workers)
            .map(|number| self.worker(&format!("{app}:{number}"), "InvocationID"))
            .collect()
    }

    /// Copies a directory of this repository to `/srv/NAME`, configures an app there, and tells
    /// systemd and the front of it.
    #[track_caller]
    pub(crate) fn add_app(&self, name: &str, source: &str, configuration: &str) {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
        self.copy_in(source, &format!("/srv/{name}"));
        let file = format!("directory = \"/srv/{name}\"\n{configuration}");
        self.write(&format!("/etc/roundsman/apps/{name}.toml"), &file);
        self.run("systemctl daemon-reload && systemctl reload roundsman");
    }
}
