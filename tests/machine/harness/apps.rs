//! Putting apps on a machine, the way an administrator does.

use std::collections::BTreeSet;
use std::path::Path;

use super::machine::Machine;
use super::package::Package;

impl Machine {
    /// Installs the package and starts examples/hello with this many workers; waits until each of
    /// them has answered.
    #[track_caller]
    pub(crate) fn start_hello(&self, workers: usize) {
        self.install(&Package::built());
        let configuration = format!("command = [\"node\", \"server.js\"]\nworkers = {workers}\n");
        self.add_app("hello", "examples/hello", &configuration);
        self.run("systemctl enable --now roundsman-app@hello.target");
        let mut seen = BTreeSet::new();
        self.eventually("every worker of hello has answered", |machine| {
            let reply = machine.curl("/");
            if reply.starts_with("Hello from worker") {
                seen.insert(reply);
            }
            seen.len() == workers
        });
    }

    /// Stops an app and waits until its worker 1 has ended: a target is down as soon as the stop of
    /// what belongs to it has begun.
    #[track_caller]
    pub(crate) fn stop_app(&self, name: &str) {
        self.run(&format!("systemctl stop roundsman-app@{name}.target"));
        self.eventually("the app has ended", |machine| {
            let state =
                machine.property(&format!("roundsman-worker@{name}:1.service"), "ActiveState");
            matches!(state.as_str(), "inactive" | "failed")
        });
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
