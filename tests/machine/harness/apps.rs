//! Putting apps on a machine, the way an administrator does.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

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

    /// What the front says of each worker, by names such as `shop:1`: `up`, also while it gets its
    /// share step by step, or `down`.
    #[track_caller]
    pub(crate) fn states(&self) -> BTreeMap<String, String> {
        let status: Value =
            serde_json::from_str(&self.run("roundsman status --json")).expect("it is JSON");
        let upstreams = status["upstreams"].as_array().cloned().unwrap_or_default();
        let servers = upstreams.iter().filter_map(|one| one["servers"].as_array()).flatten();
        let text = |value: &Value| value.as_str().expect("text").replace("slow-start", "up");
        servers.map(|server| (text(&server["name"]), text(&server["state"]))).collect()
    }

    /// Waits until a worker gets requests.
    #[track_caller]
    pub(crate) fn is_up_again(&self, worker: &str) {
        self.eventually(&format!("{worker} gets requests"), |machine| {
            machine.states().get(worker).is_some_and(|state| state == "up")
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
