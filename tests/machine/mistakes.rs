//! What people type wrong in their first hour: each is answered soon, by what is wrong, where, and what to do,
//! and leaves everything as it was. `docs/troubleshooting.md` lists the same.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::harness::{Machine, on_every_debian_in_soak};

/// How long an answer takes at most, in time of the machine.
const SOON: Duration = Duration::from_secs(3);

/// Something that is typed wrong.
struct Mistake {
    /// As the table in the documentation calls it.
    name: &'static str,
    /// What has happened before, or is so.
    before: &'static str,
    /// What is typed, by root in /srv/shop.
    typed: &'static str,
    status: i32,
    /// What the answer has, in this order.
    says: &'static [&'static str],
    /// Who has read this gives up: the app might be ready yet. Empty where the answer is the end.
    until: &'static str,
    /// How long it takes until it is to be seen at all, in seconds: an app is to start, and may listen yet.
    evident: u64,
    /// What ends it.
    after: &'static str,
    /// Whether workers are started anew meanwhile, by no mistake.
    deploys: bool,
}

const MISTAKE: Mistake = Mistake {
    name: "",
    before: "",
    typed: "",
    status: 1,
    says: &[],
    until: "",
    evident: 0,
    after: "",
    deploys: false,
};

/// All of them, one after the other on one machine, on which the app `shop` runs with one worker.
const MISTAKES: &[Mistake] = &[
    // What is started.
    Mistake {
        name: "a file that is not there",
        typed: "roundsman start servr.js",
        says: &[
            "there is no file or directory /srv/shop/servr.js",
            "did you mean /srv/shop/server.js?",
        ],
        ..MISTAKE
    },
    Mistake {
        name: "the wrong folder",
        typed: "cd / && roundsman start server.js",
        says: &["there is no file or directory /server.js", "whole path"],
        ..MISTAKE
    },
    Mistake {
        name: "an empty folder",
        before: "mkdir /srv/empty",
        typed: "cd /srv/empty && roundsman start .",
        says: &["it is not clear what to start in /srv/empty", "Name the file", "-- COMMAND"],
        ..MISTAKE
    },
    Mistake {
        name: "nothing to start",
        typed: "roundsman start",
        status: 2,
        says: &["what is to be started?", "roundsman start . for this one"],
        ..MISTAKE
    },
    Mistake {
        name: "a misspelt command",
        typed: "roundsman strat server.js",
        status: 2,
        says: &["'strat'", "'start'"],
        ..MISTAKE
    },
    Mistake {
        name: "a command of PM2's",
        typed: "roundsman save",
        status: 2,
        says: &["there is no \"save\" here", "starts at boot once it was started"],
        ..MISTAKE
    },
    Mistake {
        name: "a list of PM2's apps without any",
        before: "echo 'module.exports = { apps: [] }' > /srv/shop/ecosystem.config.js",
        typed: "roundsman start ecosystem.config.js",
        status: 78,
        says: &["ecosystem.config.js: the file: there is no list `apps` in it"],
        after: "rm /srv/shop/ecosystem.config.js",
        ..MISTAKE
    },
    // Files.
    Mistake {
        name: "a misspelt key",
        before: "printf 'comand = [\"node\", \"server.js\"]\\ndirectory = \"/srv/shop\"\\n' > /etc/roundsman/apps/blog.toml",
        typed: "roundsman apply",
        status: 78,
        says: &[
            "unknown key `comand`",
            "/etc/roundsman/apps/blog.toml:1:1",
            "did you mean `command`?",
        ],
        after: "rm /etc/roundsman/apps/blog.toml",
        ..MISTAKE
    },
    Mistake {
        name: "PM2's words as keys",
        before: "printf 'script = \"server.js\"\\ncwd = \"/srv/shop\"\\ninstances = 2\\nenv = { A = \"1\" }\\n' > /etc/roundsman/apps/blog.toml",
        typed: "roundsman start blog",
        status: 78,
        says: &[
            "did you mean `command`?",
            "did you mean `directory`?",
            "did you mean `workers`?",
            "did you mean `environment`?",
        ],
        after: "rm /etc/roundsman/apps/blog.toml",
        ..MISTAKE
    },
    Mistake {
        name: "a syntax error in a file",
        before: "printf 'command = [\"node\", \"server.js\"\\ndirectory = \"/srv/shop\"\\n' > /etc/roundsman/apps/blog.toml",
        typed: "roundsman start blog",
        status: 78,
        says: &["not valid TOML", "/etc/roundsman/apps/blog.toml:"],
        after: "rm /etc/roundsman/apps/blog.toml",
        ..MISTAKE
    },
    // Programs that do not start.
    Mistake {
        name: "a module that is not installed",
        before: "echo 'require(\"no-such-module\")' > /srv/try/server.js",
        typed: "cd /srv/try && roundsman start server.js",
        says: &[
            "Error: Cannot find module 'no-such-module'",
            "`npm install` in /srv/try",
            "`npm install no-such-module`",
        ],
        evident: 2,
        ..MISTAKE
    },
    Mistake {
        name: "a Python module that is not installed",
        before: "echo 'import no_such_module' > /srv/try/main.py",
        typed: "cd /srv/try && roundsman start main.py",
        says: &[
            "No module named 'no_such_module'",
            "/srv/try/.venv/bin/pip install no_such_module",
        ],
        evident: 2,
        ..MISTAKE
    },
    Mistake {
        name: "a program that ends at once",
        before: "echo 'process.exit()' > /srv/try/server.js",
        typed: "cd /srv/try && roundsman start server.js",
        says: &["the app ended by itself", "exit code 0"],
        evident: 2,
        ..MISTAKE
    },
    Mistake {
        name: "a script that ends",
        // That nothing can wake it any more is seen some ten seconds later.
        before: "echo 'console.log(1)' > /srv/try/server.js",
        typed: "cd /srv/try && exec roundsman start server.js",
        until: "still starting",
        status: 130,
        says: &["try:1: still starting; awaited is the app to listen", "listen = \"none\""],
        evident: 4,
        ..MISTAKE
    },
    Mistake {
        name: "an app that never listens",
        before: "printf 'import time\\ntime.sleep(100)\\n' > /srv/try/main.py",
        typed: "cd /srv/try && exec roundsman start main.py",
        until: "still starting",
        status: 130,
        says: &["try:1: still starting; awaited is the app to listen", "listen = \"none\""],
        evident: 4,
        ..MISTAKE
    },
    Mistake {
        name: "an app at a port of its own, twice",
        typed: "cd /srv/try && roundsman start -n 2 --listen port --name try -- python3 listens.py 8000",
        says: &["several workers cannot have a port", "PORT", "-n 1", "Address already in use"],
        evident: 2,
        ..MISTAKE
    },
    Mistake {
        name: "a port that is in use",
        before: "systemd-run --quiet --unit=squatter python3 -m http.server 8000",
        typed: "cd /srv/try && roundsman start --name try --port 8000 -- python3 listens.py 8000",
        says: &[
            "squatter.service) of the user root listens on 0.0.0.0:8000",
            "give the app another port",
        ],
        after: "systemctl stop squatter",
        evident: 2,
        ..MISTAKE
    },
    Mistake {
        name: "a port below 1024",
        typed: "cd /srv/try && roundsman start --name try -- python3 listens.py 443",
        says: &["Permission denied", "ports below 1024 are root's"],
        evident: 2,
        ..MISTAKE
    },
    Mistake {
        name: "a program that is not installed",
        typed: "cd /srv/try && roundsman start --name try -- nod server.js",
        says: &["there is no program \"nod\"", "did you mean node?"],
        ..MISTAKE
    },
    Mistake {
        name: "an interpreter that is not installed",
        before: "printf '#!/usr/bin/env ruby\\n' > /srv/try/app.rb && chmod +x /srv/try/app.rb",
        typed: "cd /srv/try && roundsman start app.rb",
        says: &["/srv/try/app.rb is run by \"ruby\"", "there is no program \"ruby\"", "install it"],
        ..MISTAKE
    },
    // Users and rights.
    Mistake {
        name: "a user that does not exist",
        typed: "cd /srv/try && roundsman start main.py --user gone",
        says: &["there is no user gone", "adduser --system --group gone"],
        ..MISTAKE
    },
    Mistake {
        name: "a folder that the app's user may not enter",
        before: "mkdir -p /root/app && cp /srv/shop/server.js /root/app",
        typed: "roundsman start /root/app/server.js --user daemon",
        says: &["daemon may not enter /root", "/srv/app", "--user"],
        ..MISTAKE
    },
    Mistake {
        name: "a file of variables that is not there",
        typed: "cd /srv/try && roundsman start main.py --env-file .env",
        says: &["--env-file /srv/try/.env", "No such file"],
        ..MISTAKE
    },
    Mistake {
        name: "secrets that everybody may read",
        before: "echo DB_PASSWORD=x > /srv/shop/.env",
        typed: "roundsman start server.js --name try --env-file .env",
        status: 0,
        says: &[
            "everybody may read /srv/shop/.env, and a secret in it: DB_PASSWORD",
            "chmod 600 /srv/shop/.env",
            "try is up",
        ],
        after: "roundsman delete try --yes && rm /srv/shop/.env",
        evident: 2,
        ..MISTAKE
    },
    Mistake {
        name: "no right",
        typed: "runuser -u stranger -- roundsman start server.js --name try",
        status: 77,
        says: &["for root alone", "sudo"],
        ..MISTAKE
    },
    Mistake {
        name: "no right to deploy",
        typed: "runuser -u stranger -- roundsman reload shop",
        status: 77,
        says: &["members of the group \"roundsman\"", "adduser USER roundsman"],
        ..MISTAKE
    },
    // Names, hosts and numbers.
    Mistake {
        name: "an app that does not exist",
        typed: "roundsman restart shpo",
        says: &["there is no app \"shpo\"", "did you mean shop?"],
        ..MISTAKE
    },
    Mistake {
        name: "a name that another folder has",
        typed: "cd /srv/try && roundsman start main.py --name shop",
        says: &[
            "there is another app \"shop\" already",
            "/srv/shop",
            "/srv/try",
            "--name",
            "--replace",
        ],
        ..MISTAKE
    },
    Mistake {
        name: "a host that another app has",
        typed: "roundsman start server.js --name try --host shop.example",
        status: 78,
        says: &["\"shop\" answers shop.example/ already", "--host try.example.com"],
        ..MISTAKE
    },
    Mistake {
        name: "a second app for every host",
        before: "roundsman start server.js --name blog",
        typed: "roundsman start server.js --name try",
        status: 78,
        says: &["\"blog\" answers every host already", "--host try.example.com"],
        after: "roundsman delete blog --yes",
        ..MISTAKE
    },
    Mistake {
        name: "no workers",
        typed: "roundsman scale shop 0",
        says: &["that would be 0 workers", "1 to 250", "roundsman stop shop"],
        ..MISTAKE
    },
    Mistake {
        name: "fewer than none",
        typed: "roundsman scale shop -1",
        says: &["that would be 0 workers", "roundsman stop shop"],
        ..MISTAKE
    },
    Mistake {
        name: "too many workers",
        typed: "roundsman scale shop 100000",
        status: 2,
        says: &["that would be 100000 workers", "1 to 250"],
        ..MISTAKE
    },
    // The machine.
    Mistake {
        name: "a masked unit",
        before: "systemctl mask --quiet roundsman-worker@try:1.service",
        typed: "roundsman start server.js --name try",
        says: &["roundsman-worker@try:1.service is masked", "systemctl unmask"],
        after: "systemctl unmask --quiet roundsman-worker@try:1.service",
        ..MISTAKE
    },
    Mistake {
        name: "a restart of what is masked",
        before: "systemctl mask --quiet --runtime roundsman-worker@shop:1.service",
        typed: "roundsman restart shop",
        says: &["roundsman-worker@shop:1.service is masked", "systemctl unmask"],
        after: "systemctl unmask --quiet --runtime roundsman-worker@shop:1.service",
        ..MISTAKE
    },
    Mistake {
        name: "deleting while a deploy runs",
        before: ": > /run/roundsman/deploy/shop.lock; \
                 systemd-run --quiet --unit=deploy roundsman reload shop --settle 5; \
                 until grep -q . /run/roundsman/deploy/shop.lock; do sleep 0.1; done",
        typed: "roundsman delete shop --yes",
        status: 75,
        says: &[
            "roundsman reload shop",
            "is changing shop right now",
            "Try again when it has ended",
            "nothing was changed",
        ],
        after: "while systemctl is-active --quiet deploy; do sleep 0.2; done",
        deploys: true,
        ..MISTAKE
    },
    Mistake {
        name: "a front that was stopped",
        before: "systemctl stop roundsman-http.socket roundsman.service roundsman-admin.socket",
        typed: "roundsman start server.js --name try",
        status: 69,
        says: &["the front does not run: roundsman-http.socket is stopped", "systemctl"],
        after: "systemctl start roundsman-admin.socket roundsman-http.socket roundsman.service",
        ..MISTAKE
    },
    Mistake {
        name: "port 80 is another program's",
        before: "systemctl stop roundsman-http.socket roundsman.service && \
                 systemd-run --quiet --unit=nginx python3 -m http.server 80 && \
                 until curl --silent --output /dev/null localhost; do sleep 0.1; done; \
                 systemctl start roundsman-http.socket || true",
        typed: "roundsman start server.js --name try",
        status: 69,
        says: &["port 80 is taken by python3", "nginx.service", "roundsman listen 8080"],
        after: "systemctl stop nginx && until systemctl is-active --quiet roundsman-http.socket; do sleep 0.2; done",
        ..MISTAKE
    },
];

// === impl Mistake ===

impl Mistake {
    /// What is typed, with Ctrl-C in the end where that is needed.
    fn command(&self) -> String {
        let Self { typed, until, .. } = self;
        if until.is_empty() {
            return format!("cd /srv/shop; {typed}");
        }
        format!(
            "cd /srv/shop; ({typed}) > /tmp/said 2>&1 & typed=$!; \
             until grep -q '{until}' /tmp/said; do sleep 0.05; done; \
             kill -INT $typed; wait $typed; status=$?; cat /tmp/said; exit $status"
        )
    }
}

/// What is there of apps: files, what starts at boot, units and their runs.
fn all_there_is(machine: &Machine) -> String {
    machine.run(
        "find /etc/roundsman /etc/systemd/system/roundsman-apps.target.wants /run/roundsman.d ! -type d 2> /dev/null; \
         cat /etc/roundsman/apps/*; \
         systemctl show --state=active,activating,deactivating,failed,reloading -p Id,ActiveState,InvocationID \
         'roundsman-worker@*' 'roundsman-app@*' 'roundsman-watch@*'; \
         curl --silent --max-time 5 --header 'Host: shop.example' http://localhost/",
    )
}

/// The same whatever run of its unit a worker is in.
fn without_runs(all: &str) -> Vec<&str> {
    all.lines().filter(|line| !line.starts_with("InvocationID=")).collect()
}

on_every_debian_in_soak! {
    /// Twenty and more, each answered as above.
    fn mistakes_are_answered(machine: &Machine) {
        let app = "require('http').createServer((_, r) => r.end('shop')).listen(3000)\n";
        machine.write("/srv/shop/server.js", app);
        machine.run("cd /srv/shop && roundsman start server.js --host shop.example && useradd stranger && mkdir /srv/try");
        // A program that takes no port from its environment.
        let listens = "import http.server, sys\nport = int(sys.argv[1])\n\
                       http.server.test(http.server.SimpleHTTPRequestHandler, port=port, bind='127.0.0.1')\n";
        machine.write("/srv/try/listens.py", listens);
        let mut before = all_there_is(machine);

        assert!(before.ends_with("shop") && before.contains("ActiveState=active"), "{before}");

        let mut wrong = Vec::new();
        for mistake in MISTAKES {
            let Mistake { name, typed, status, says, evident, .. } = mistake;
            let said = machine.try_run(&format!("cd /srv/shop; {}", mistake.before));
            assert!(said.ok(), "{said}");
            let (said, took) = machine.timed(&mistake.command());
            println!("=== {name} ({:.1} s)\n# {typed}\n{}{}", took.as_secs_f64(), said.stdout, said.stderr);
            let mut rest = &*format!("{}{}", said.stderr, said.stdout);
            for part in *says {
                match rest.find(part) {
                    Some(at) => rest = &rest[at..],
                    None => wrong.push(format!("{name}: no {part:?} in\n{said}")),
                }
            }
            if said.status.code() != Some(*status) {
                wrong.push(format!("{name}: {:?}, not {status}", said.status));
            }
            if took > SOON + Duration::from_secs(*evident) {
                wrong.push(format!("{name}: answered after {took:?}"));
            }
            machine.run(&format!("cd /srv/shop; {}", mistake.after));
            if mistake.deploys {
                let now = all_there_is(machine);
                assert_eq!(without_runs(&now), without_runs(&before), "{name}");
                before = now;
            }
            machine.eventually(&format!("all is as before: {name}"), |machine| all_there_is(machine) == before);
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

/// The documentation has each of them.
#[test]
fn the_documentation_lists_the_same_mistakes() {
    let page = include_str!("../../docs/troubleshooting.md");
    let section = page.split("## What people type first\n").nth(1).expect("it has the section");
    let rows = section.split("\n## ").next().unwrap_or_default().lines();
    let rows: BTreeSet<&str> = rows
        .filter_map(|line| line.strip_prefix("| ")?.split(" | ").next())
        .filter(|name| !matches!(*name, "mistake" | "---"))
        .collect();
    let tried: BTreeSet<&str> = MISTAKES.iter().map(|mistake| mistake.name).collect();
    assert_eq!(rows, tried);
}
