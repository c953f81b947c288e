//! The machine that everything happens to: apps of every kind behind one front, and what it looks like when all is
//! well.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::harness::{Machine, Package, Said};
use crate::shop;

use super::request::Kind;

/// One app of the site.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct App {
    pub(super) name: &'static str,
    pub(super) workers: u16,
    /// Which host leads to it, at which port.
    pub(super) host: &'static str,
    pub(super) port: u16,
}

/// Node's cluster mode, with releases.
pub(super) const SHOP: App = App { name: "shop", workers: 3, host: "test", port: 80 };
/// It binds a port.
pub(super) const PORT: App = App { name: "port", workers: 2, host: "port.test", port: 80 };
/// It is handed connections, those to a listener of its own.
pub(super) const HAND: App = App { name: "hand", workers: 2, host: "hand.test", port: 8081 };
/// It inherits its listener.
pub(super) const PYTHON: App = App { name: "python", workers: 2, host: "python.test", port: 80 };
/// It keeps sessions.
pub(super) const LOGIN: App = App { name: "login", workers: 2, host: "login.test", port: 80 };
/// It serves no HTTP.
pub(super) const QUEUE: App = App { name: "queue", workers: 2, host: "", port: 0 };

pub(super) const APPS: [&App; 6] = [&SHOP, &PORT, &HAND, &PYTHON, &LOGIN, &QUEUE];

/// Who asks whom for what.
pub(super) const CLIENTS: &[(Kind, &App)] = &[
    (Kind::Kept, &SHOP),
    (Kind::Kept, &SHOP),
    (Kind::Kept, &SHOP),
    (Kind::Kept, &SHOP),
    (Kind::Connecting, &SHOP),
    (Kind::Connecting, &SHOP),
    (Kind::Slow, &SHOP),
    (Kind::Slow, &SHOP),
    (Kind::Upload, &SHOP),
    (Kind::Download, &SHOP),
    (Kind::Events, &SHOP),
    (Kind::WebSocket, &SHOP),
    (Kind::WebSocket, &SHOP),
    (Kind::Http2, &SHOP),
    (Kind::Kept, &PORT),
    (Kind::Connecting, &PORT),
    (Kind::Slow, &PORT),
    (Kind::Upload, &PORT),
    (Kind::WebSocket, &PORT),
    (Kind::Kept, &PYTHON),
    (Kind::Connecting, &PYTHON),
    (Kind::Connecting, &HAND),
    (Kind::Connecting, &HAND),
    (Kind::Slow, &HAND),
    (Kind::Session, &LOGIN),
    (Kind::Session, &LOGIN),
    (Kind::Job, &QUEUE),
];

/// Short, so that a step is: slow requests may take 3 s, and have more than that.
const DRAIN: &str = "drain-timeout = \"1s\"\n";
const TIMES: &str = "stop-timeout = \"8s\"\nstart-timeout = \"20s\"\nwatchdog = \"6s\"\n";

/// What is kept below a size, so that it can be filled.
const SMALL: &str = "mount -o remount,size=64M /tmp; mount -o remount,size=96M /run; \
    systemctl stop roundsman-session.socket roundsman-session-store.service; \
    mkdir -p /var/lib/roundsman-session; \
    mount -t tmpfs -o size=32M,mode=700,uid=$(id -u roundsman-session),gid=$(id -g roundsman-session) \
        tmpfs /var/lib/roundsman-session; \
    systemctl start roundsman-session.socket roundsman-session-store.service";

/// A listener of the hand-off app's own.
const LISTENER: &str = "mkdir -p /etc/systemd/system/roundsman.service.d && cd /etc/systemd/system && \
    printf '[Socket]\\nListenStream=8081\\nFileDescriptorName=own\\nService=roundsman.service\\n\
    [Install]\\nWantedBy=sockets.target\\n' > roundsman-own.socket && \
    printf '[Service]\\nSockets=roundsman-own.socket\\n' > roundsman.service.d/own.conf && \
    systemctl daemon-reload && systemctl enable -q roundsman-own.socket && \
    systemctl stop roundsman.service && systemctl start roundsman-own.socket roundsman.service";

/// The front's file, which faults change and put back.
pub(super) const FRONT: &str =
    "[listen.http]\nhttp2 = true\n[timeouts]\nshutdown = \"4s\"\n[limits]\nheaders = 100\n";

/// A machine with all apps up.
#[derive(Debug)]
pub(super) struct Site<'a> {
    pub(super) machine: &'a Machine,
    /// Of SHOP: the release that is to run, and how many there were.
    releases: Mutex<(String, u32)>,
}

impl App {
    /// Whether its workers are given connections, not requests.
    pub(super) fn is_handed(&self) -> bool {
        *self == HAND
    }

    /// The names of its workers.
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        (1..=self.workers).map(|number| format!("{}:{number}", self.name))
    }
}

// === impl Site ===

impl<'a> Site<'a> {
    /// Brings everything up.
    pub(super) fn start(machine: &'a Machine) -> Self {
        machine.write("/etc/roundsman/roundsman.toml", FRONT);
        machine.run(SMALL);
        machine.run(LISTENER);
        for (package, name) in [(Package::built(), "this"), (Package::next_version(), "next")] {
            let path = machine.bring(&package);
            machine.run(&format!("mv {path} /root/{name}.deb"));
        }
        shop::release(machine, "r0", "well");
        let node = "command = [\"node\", \"server.js\"]\n";
        let file = |app: &App, keys: &str, more: &str| {
            let App { name, workers, host, .. } = app;
            let route = if *app == SHOP || app.is_handed() || *app == QUEUE {
                String::new()
            } else {
                format!("route = [{{ host = \"{host}\" }}]\n")
            };
            let drain = if *app == QUEUE { "" } else { DRAIN };
            let text = format!("workers = {workers}\n{keys}{route}{drain}{TIMES}{more}");
            machine.write(&format!("/etc/roundsman/apps/{name}.toml"), &text);
        };
        let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/apps");
        for (name, source) in [
            ("port", "deploy"),
            ("hand", "deploy"),
            ("python", "python-asgi"),
            ("login", "sessions/node"),
            ("queue", "background"),
        ] {
            machine.copy_in(format!("{tests}/{source}"), &format!("/srv/{name}"));
            machine.write(&format!("/srv/{name}/version"), "r0");
            machine.write(&format!("/srv/{name}/behaviour"), "well");
        }
        machine.run(
            "useradd --system deploy; cd /srv/queue && mkdir jobs taken done && chown -R deploy: /srv/queue",
        );
        file(&SHOP, &format!("{node}directory = \"/srv/shop/current\"\n"), "");
        file(&PORT, &format!("{node}directory = \"/srv/port\"\nlisten = \"port\"\n"), "");
        file(
            &HAND,
            &format!("{node}directory = \"/srv/hand\"\nmode = \"handoff\"\nlistener = \"own\"\n"),
            "",
        );
        let uvicorn =
            "command = [\"uvicorn\", \"--fd\", \"3\", \"app:app\"]\ndirectory = \"/srv/python\"\n";
        file(&PYTHON, uvicorn, "");
        let login = format!("{node}directory = \"/srv/login\"\nsession = true\n");
        file(&LOGIN, &login, "environment = { CLIENT = \"node-redis\" }\n");
        let queue = "command = [\"node\", \"consumer.js\"]\ndirectory = \"/srv/queue\"\nuser = \"deploy\"\n\
                     listen = \"none\"\nready = \"message\"\n";
        file(&QUEUE, queue, "");
        machine.run("roundsman apply");
        let names: Vec<String> =
            APPS.iter().map(|app| format!("roundsman-app@{}.target", app.name)).collect();
        machine.run(&format!("systemctl enable -q {}", names.join(" ")));
        Self { machine, releases: Mutex::new(("r0".to_owned(), 0)) }
    }

    /// Makes a release that behaves like this, and points the link at it. Its name.
    pub(super) fn release(&self, behaviour: &str) -> String {
        let mut releases = self.releases.lock().expect("nobody panics with it");
        releases.1 += 1;
        let name = format!("r{}", releases.1);
        shop::release(self.machine, &name, behaviour);
        name
    }

    /// From now on this release is to run.
    pub(super) fn runs(&self, release: &str) {
        release.clone_into(&mut self.releases.lock().expect("nobody panics with it").0);
    }

    /// The release that is to run.
    pub(super) fn running(&self) -> String {
        self.releases.lock().expect("nobody panics with it").0.clone()
    }

    /// Whether everything is as it was at the beginning, but for the release.
    pub(super) fn is_well(&self) -> Result<(), String> {
        let failed = self.machine.try_run("systemctl --failed --no-legend --plain").stdout;
        if failed.contains("roundsman") {
            return Err(format!("units have failed: {failed}"));
        }
        let services: Vec<String> = APPS
            .iter()
            .flat_map(|app| app.names())
            .map(|name| format!("roundsman-worker@{name}.service"))
            .collect();
        let others = "roundsman.service roundsman-http.socket roundsman-own.socket roundsman-admin.socket \
                      roundsman-session.socket roundsman-helper.socket";
        let said =
            self.machine.try_run(&format!("systemctl is-active {} {others}", services.join(" ")));
        if said.stdout.lines().any(|state| state != "active") {
            let all = self
                .machine
                .try_run("systemctl list-units --no-legend --plain --all 'roundsman*'")
                .stdout;
            let not: Vec<&str> = all.lines().filter(|line| !line.contains(" active ")).collect();
            return Err(format!("not active: {not:#?}"));
        }
        self.front_has_all()?;
        self.releases_are_right()
    }

    fn front_has_all(&self) -> Result<(), String> {
        let said = self.machine.try_run("timeout 10 roundsman status --json");
        let states = states(&said).ok_or_else(|| format!("no status: {said}"))?;
        let expected = APPS.iter().filter(|app| ***app != QUEUE).flat_map(|app| app.names());
        let expected: BTreeMap<String, String> =
            expected.map(|name| (name, "up".to_owned())).collect();
        if states == expected { Ok(()) } else { Err(format!("the front has {states:?}")) }
    }

    fn releases_are_right(&self) -> Result<(), String> {
        let said = self.machine.try_run("roundsman describe shop --json");
        let value: Value = serde_json::from_str(&said.stdout).map_err(|_| format!("{said}"))?;
        let release = |worker: &Value| {
            let path = worker["release"].as_str().unwrap_or("none");
            path.rsplit('/').next().unwrap_or_default().to_owned()
        };
        let running: Vec<String> =
            value["workers"].as_array().into_iter().flatten().map(release).collect();
        let expected = vec![self.running(); usize::from(SHOP.workers)];
        if running == expected {
            return Ok(());
        }
        Err(format!("shop runs {running:?}, not {expected:?}"))
    }

    /// The front and the session store: their resident memory in MiB and their open files.
    pub(super) fn sizes(&self) -> [(u64, u64); 2] {
        let pid = "$(systemctl show -p MainPID --value";
        let front = format!("p={pid} roundsman.service); p=$(cat /proc/$p/task/$p/children)");
        let store = format!("p={pid} roundsman-session-store.service)");
        [front, store].map(|process| {
            let script = "awk '/^VmRSS/ { print $2 }' /proc/$p/status; ls /proc/$p/fd | wc -l";
            let said = self.machine.try_run(&format!("{process}; p=${{p%% *}}; {script}")).stdout;
            let mut numbers = said.split_whitespace().map(|word| word.parse().unwrap_or(0));
            (numbers.next().unwrap_or(0) / 1024, numbers.next().unwrap_or(0))
        })
    }
}

/// Waits until this holds, but no longer than that: how long it took, or what was wrong at the end.
pub(super) fn within(
    bound: Duration,
    mut holds: impl FnMut() -> Result<(), String>,
) -> Result<Duration, String> {
    let since = SystemTime::now();
    loop {
        let waited = since.elapsed().unwrap_or_default();
        match holds() {
            Ok(()) => return Ok(waited),
            Err(why) if waited > bound => return Err(why),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// What the front says of each server: "up", also with a share that still grows.
fn states(said: &Said) -> Option<BTreeMap<String, String>> {
    let status: Value = serde_json::from_str(&said.stdout).ok()?;
    let servers = status["upstreams"].as_array()?.iter();
    let servers = servers.filter_map(|upstream| upstream["servers"].as_array()).flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().replace("slow-start", "up");
    Some(servers.map(|server| (text(&server["name"]), text(&server["state"]))).collect())
}
