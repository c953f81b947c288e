//! The app in tests/apps/deploy, with releases, and clients of every kind that ask it all the time.

use crate::harness::{Clients, Load, Machine};

/// Makes a release of it, and points `current` at it.
pub(crate) fn release(machine: &Machine, version: &str, behaviour: &str) {
    let directory = format!("/srv/shop/releases/{version}");
    machine.copy_in(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/apps/deploy"), &directory);
    machine.write(&format!("{directory}/version"), version);
    machine.write(&format!("{directory}/behaviour"), behaviour);
    machine.run(&format!("ln -sfn releases/{version} /srv/shop/current"));
}

/// Settings after which a deploy need not watch each new worker for seconds (it does for two checks), where
/// that is not what a test is about.
pub(crate) const BELIEVED_SOON: &str = "[health]\npath = \"/\"\ninterval = \"250ms\"\n";

/// Brings it up with so many workers and these settings, running release `one`.
pub(crate) fn install(machine: &Machine, workers: u16, settings: &str) {
    install_as(machine, "well", workers, settings);
}

/// The same with a release `one` that behaves like this.
pub(crate) fn install_as(machine: &Machine, behaviour: &str, workers: u16, settings: &str) {
    machine.write("/etc/roundsman/roundsman.toml", "[listen.http]\nhttp2 = true\n");
    release(machine, "one", behaviour);
    configure(machine, workers, settings);
    machine.run("roundsman apply");
}

/// Writes the app's file.
pub(crate) fn configure(machine: &Machine, workers: u16, settings: &str) {
    let file = format!(
        "command = [\"node\", \"server.js\"]\ndirectory = \"/srv/shop/current\"\n\
         workers = {workers}\n{settings}"
    );
    machine.write("/etc/roundsman/apps/shop.toml", &file);
}

/// Kept and new connections, requests of 2 s, uploads, WebSockets and HTTP/2.
pub(crate) fn load(machine: &Machine) -> Load {
    let load = machine.load(Clients::new(12, 4).with(2, 2, 2).speaking_http2(2).unhurried());
    load.goes_on_for(200);
    load
}

/// Longer than the slow requests; WebSockets end when it is over.
const DRAIN: &str = "drain-timeout = \"4s\"\n";

/// Installs it and sets all of them to work.
pub(crate) fn start(machine: &Machine, workers: u16, settings: &str) -> Load {
    install(machine, workers, &format!("{DRAIN}{settings}"));
    load(machine)
}

/// The release that each worker runs, as `describe` says.
pub(crate) fn releases(machine: &Machine) -> Vec<String> {
    let text = machine.run("roundsman describe shop --json");
    let value: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    let workers = value["workers"].as_array().expect("a list");
    let name = |worker: &serde_json::Value| {
        let release = worker["release"].as_str().unwrap_or("none");
        release.rsplit('/').next().unwrap_or_default().to_owned()
    };
    workers.iter().map(name).collect()
}

/// A property of worker N's service.
pub(crate) fn worker(machine: &Machine, number: u16, property: &str) -> String {
    machine.worker(&format!("shop:{number}"), property)
}

/// What tells one run of each worker from the next.
pub(crate) fn runs(machine: &Machine, workers: u16) -> Vec<String> {
    machine.runs("shop", workers)
}
