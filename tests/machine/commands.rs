//! The command line as people and programs use it: JSON from every command, exit statuses, and names
//! that the shell completes.

use std::collections::BTreeSet;

use serde_json::{Deserializer, Value};

use crate::harness::{Machine, on_every_debian_in_soak};

/// Services, which print nothing.
const SERVICES: [&str; 3] = ["serve", "watch", "worker"];

/// Every other command, in an order in which each has something to say. What comes before `;` is
/// done first.
const CALLS: &[&str] = &[
    "import pm2 /root/ecosystem.config.json --json",
    "import nginx /tmp/nginx.conf --json",
    "start /srv/shop/current/server.js -n 2 --json",
    "status --json",
    "check --json",
    "explain --host shop.example.com --json",
    "describe shop --json",
    "diff --json",
    "logs shop --json",
    "send shop '\"hello\"' --json",
    "scale shop 3 --json",
    "scale shop 2 --json",
    "drain shop:1 --json",
    "undrain shop:1 --json",
    "restart shop:1 --json",
    "reload --json",
    "ln -sfn releases/2 /srv/shop/current; reload shop --json",
    "rollback shop --json",
    "apply --json",
    "stop shop --json",
    "start shop --json",
    "listen 80 --json",
    "session import /tmp/sessions.jsonl --json",
    "session stats --json",
    "session export",
    "session migrate --to redis://:secret@127.0.0.1:7777 --json",
    "systemctl stop roundsman-session.socket roundsman-session-store.service; session check --json",
    "session salvage /var/lib/roundsman-session --to /tmp/salvaged --json",
    "delete shop --yes --json",
];

fn install(machine: &Machine) {
    for release in ["1", "2"] {
        let directory = format!("/srv/shop/releases/{release}");
        machine.copy_in(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/apps/deploy"), &directory);
        machine.write(&format!("{directory}/version"), release);
        machine.write(&format!("{directory}/behaviour"), "well");
    }
    machine.run("ln -sfn releases/1 /srv/shop/current");
}

/// The commands below this one, as its help lists them.
fn listed(machine: &Machine, command: &str) -> Vec<String> {
    let help = machine.run(&format!("roundsman {command} --help"));
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    lines
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .map(|name| format!("{command} {name}").trim().to_owned())
        .collect()
}

/// The JSON values that a text is made of, and nothing else.
fn json(call: &str, text: &str) -> Vec<Value> {
    let values: Result<Vec<Value>, _> = Deserializer::from_str(text).into_iter().collect();
    values.unwrap_or_else(|error| panic!("{call}: {error} in\n{text}"))
}

on_every_debian_in_soak! {
    /// Every command that the help names prints JSON and nothing else when it is asked to. A new one
    /// must be added here.
    fn every_command_speaks_json(machine: &Machine) {
        install(machine);
        machine.write("/root/ecosystem.config.json", "{\"apps\": [{\"name\": \"a\", \"script\": \"a.js\"}]}");
        machine.write(
            "/tmp/nginx.conf",
            "http { server { listen 80; server_name a; location / { proxy_pass http://127.0.0.1:1; } } }\n",
        );
        machine.write(
            "/tmp/sessions.jsonl",
            "{\"app\": \"shop\", \"key\": \"sess:1\", \"string\": \"x\"}\n",
        );
        // Somebody's Redis, to migrate to.
        machine.run(
            "(umask 077; echo default:secret > /tmp/passwords) && systemctl start roundsman-session.socket && \
             systemd-run --quiet --unit=elsewhere roundsman session --data /tmp/elsewhere \
             --listen 127.0.0.1:7777 --password-file /tmp/passwords",
        );
        machine.eventually("the other store listens", |machine| {
            machine.try_run("bash -c '</dev/tcp/127.0.0.1/7777'").ok()
        });

        let mut called: BTreeSet<String> = SERVICES.map(str::to_owned).into();
        // Until the reader has had enough, which is no failure of its own.
        called.insert("events".to_owned());
        machine.run(
            "systemd-run --quiet --unit=follow -p StandardOutput=file:/tmp/events \
             -p StandardError=journal roundsman events --json",
        );
        for call in CALLS {
            let (before, arguments) = call.split_once("; ").unwrap_or(("true", call));
            let said = machine.try_run(&format!("{before} && roundsman {arguments}"));
            assert!(said.ok(), "{said}");
            assert!(!json(call, &said.stdout).is_empty(), "{said}");
            let words: Vec<&str> = arguments.split(' ').collect();
            let depth = if matches!(words[0], "session" | "import") { 2 } else { 1 };
            called.insert(words[..depth].join(" "));
        }
        machine.eventually("an event", |machine| {
            machine.run("cat /tmp/events").contains("\"event\":\"exit\"")
        });
        machine.run("systemctl stop follow.service");
        json("events", &machine.run("cat /tmp/events"));

        let mut there = BTreeSet::new();
        for command in listed(machine, "") {
            let below = listed(machine, &command);
            there.extend(if below.is_empty() { vec![command] } else { below });
        }
        assert_eq!(there, called, "what the help lists, and what is called here");
    }
}

on_every_debian_in_soak! {
    /// Each exit status that docs/commands.md lists, by a way to get it. (130 is what
    /// `interrupts.rs` is about.)
    fn exit_statuses_are_as_documented(machine: &Machine) {
        install(machine);
        machine.run("roundsman start /srv/shop/current/server.js -n 2 && useradd bob");
        let ways = [
            (0, "roundsman status"),
            (0, "roundsman diff"),
            (1, "roundsman scale shop -2"),
            (1, "roundsman describe nobody"),
            (2, "roundsman status --nonsense"),
            (2, "roundsman send shop:1 'no JSON'"),
            (3, "printf 'server { gzip on; location / { proxy_pass http://127.0.0.1:3000; } }' > /tmp/n && \
                 roundsman import nginx /tmp/n --to /tmp/r"),
            (4, "printf 'server { root /srv; }' > /tmp/n && roundsman import nginx /tmp/n --to /tmp/r"),
            (69, "roundsman status --admin /nonexistent"),
            (69, "roundsman send shop:9 1"),
            (71, "roundsman session import /nonexistent"),
            (75, "flock /run/roundsman/deploy/shop.lock roundsman reload shop"),
            (77, "runuser -u bob -- roundsman reload shop"),
            (78, "cd /srv/shop/current && roundsman start server.js --path nonsense"),
            (1, "sed -i 's/^workers = 2/workers = 3/' /etc/roundsman/apps/shop.toml && roundsman diff"),
            (78, "echo nonsense = 1 >> /etc/roundsman/apps/shop.toml && roundsman check"),
            (78, "roundsman apply"),
        ];
        for (status, command) in ways {
            let said = machine.try_run(command);
            assert_eq!(said.status.code(), Some(status), "{said}");
            assert!(status < 69 || status == 78 || said.stderr.contains("error"), "it says why: {said}");
        }
        let documented: BTreeSet<i32> = include_str!("../../docs/commands.md")
            .lines()
            .skip_while(|line| *line != "## Exit statuses")
            .skip(1)
            .take_while(|line| !line.starts_with("##"))
            .filter_map(|line| line.strip_prefix("| ")?.split(' ').next()?.parse().ok())
            .collect();
        let tried = ways.iter().map(|(status, _)| *status).chain([130]).collect();
        assert_eq!(documented, tried);
    }
}

on_every_debian_in_soak! {
    /// What the package has installed for bash, typed into a real one on a terminal.
    fn the_shell_completes_commands_and_apps(machine: &Machine) {
        install(machine);
        machine.run("roundsman start /srv/shop/current/server.js -n 1");
        let file = "command = [\"node\", \"server.js\"]\nroute = [{ host = \"zebra\" }]\n";
        machine.add_app("zebra", "tests/apps/deploy", file);
        // bash-completion finds the file by the command's name, when it is first typed.
        let typed = |line: &str| {
            let said = machine.try_run(&format!(
                "(echo 'PS1=; source /usr/share/bash-completion/completions/roundsman'; printf '{line}'; \
                 echo; echo exit) | script --quiet --return --command 'bash --norc -i' /dev/null"
            ));
            said.stdout.replace('\u{7}', "")
        };
        let said = typed("roundsman descr\\tsh\\t --json | grep -c app");
        assert!(said.contains("roundsman describe shop"), "{said}");
        let said = typed("echo roundsman; roundsman stop ze\\t; systemctl is-active roundsman-app@zebra.target");
        assert!(said.contains("roundsman stop zebra"), "{said}");
        // Both are offered where both fit; and what is no app's name is not.
        let said = typed("roundsman logs \\t\\t");
        assert!(said.contains("shop") && said.contains("zebra"), "{said}");
        // A file's name is its owner's word, and no part of the command line but quoted.
        machine.run("mkdir '/srv/shop/releases/4;id>pwned;'");
        let said = typed("cd /root; roundsman rollback shop --to /srv/shop/releases/4\\t");
        assert!(said.contains("releases/4\\;id\\>pwned\\;"), "{said}");
        assert!(!machine.exists("/root/pwned"), "root has run the name of a file");
        for (shell, file) in [("zsh", "vendor-completions/_roundsman"), ("fish", "vendor_completions.d/roundsman.fish")] {
            assert!(machine.exists(&format!("/usr/share/{shell}/{file}")), "{shell}");
        }
    }
}
