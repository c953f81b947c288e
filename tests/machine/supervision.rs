//! Crash loops, workers that grow too large or too old, files that change, and the environment: each
//! on a machine with real workers, most under load.

use std::collections::BTreeMap;

use crate::harness::{Clients, Machine, on_every_debian, on_every_debian_in_soak};
use crate::shop::{self, runs};

/// Starts tests/apps/supervised; waits until every worker is ready.
fn start(machine: &Machine, workers: u16, more: &str) {
    machine.run("useradd --system deploy");
    let file = format!(
        "command = [\"node\", \"server.js\"]\nworkers = {workers}\nuser = \"deploy\"\n{more}"
    );
    machine.add_app("shop", "tests/apps/supervised", &file);
    machine.start_app("shop");
}

fn service(worker: u16) -> String {
    format!("roundsman-worker@shop:{worker}.service")
}

fn state(machine: &Machine, worker: u16) -> String {
    machine.worker(&format!("shop:{worker}"), "ActiveState")
}

/// Kills the main process, as the kernel might.
fn kill(machine: &Machine, worker: u16) {
    machine.run(&format!("kill -9 {}", machine.property(&service(worker), "MainPID")));
}

/// Notes all the time how many of the workers are not up.
fn note_who_is_down(machine: &Machine, workers: u16) {
    let units: Vec<String> = (1..=workers).map(service).collect();
    machine.run(&format!(
        "(while :; do systemctl is-active {} | grep -vc '^active$'; sleep 0.1; done) \
         > /tmp/down 2>/dev/null < /dev/null &",
        units.join(" ")
    ));
}

#[track_caller]
fn assert_never_two_were_down(machine: &Machine) {
    let most = machine.run("sort -n /tmp/down | tail -n 1");
    assert!(matches!(most.trim(), "0" | "1"), "so many were down at once: {most}");
    assert!(!machine.run("cat /tmp/down").is_empty());
}

on_every_debian! {
    /// A worker that crashes again and again is started more and more seldom, whatever knocks at its
    /// socket, and given up in the end; the healthy one does not notice.
    fn a_crash_loop_is_slowed_down_and_ended(machine: &Machine) {
        let restart = "[restart]\ndelay = \"500ms\"\nmax-delay = \"2s\"\nlimit = 6\n";
        start(machine, 2, restart);
        let healthy = runs(machine, 2)[1].clone();
        let address = machine.property("roundsman-worker@shop:1.socket", "Listen");
        let address = address.split_whitespace().next().expect("it listens").to_owned();
        // Knocks all the time, past the front.
        machine.run(&format!(
            "(while :; do curl --silent --max-time 1 http://{address}/ ; sleep 0.02; done) \
             > /dev/null 2>&1 < /dev/null &"
        ));
        machine.write("/srv/shop/sick", "shop:1");
        let begin = machine.run("date +%s%N");
        kill(machine, 1);
        machine.eventually("the worker is given up", |machine| state(machine, 1) == "failed");
        let end = machine.run("date +%s%N");
        let nanos = |text: &str| text.trim().parse::<u64>().expect("a number");
        // 0 + 0.5 + 1 + 2 + 2 s at the least, between six crashes.
        assert!(nanos(&end) - nanos(&begin) >= 5_500_000_000, "it was not slowed down");
        let waits = machine.events("WORKER_BACKS_OFF");
        assert_eq!(waits.len(), 4, "{waits:?}");
        // The first crash was a kill, which nobody was there to report.
        assert_eq!(machine.events("WORKER_EXITED").len(), 5);
        let given_up = "given up after 6 crashes in a row, the last one: exit code 1";
        machine.eventually("its listener is closed", |machine| {
            machine.property("roundsman-worker@shop:1.socket", "ActiveState") == "inactive"
        });
        assert_eq!(state(machine, 1), "failed", "connections do not start it again");
        for command in ["status", "describe shop", "status --json", "describe shop --json"] {
            let text = machine.run(&format!("roundsman {command}"));
            assert!(text.contains(given_up), "{command}: {text}");
        }
        assert_eq!(runs(machine, 2)[1], healthy, "the other one was left alone");
        assert_eq!(machine.curl("/"), "shop:2 one");

        // Mended, it starts at once, and nothing is held against it.
        machine.run("rm /srv/shop/sick && roundsman start shop");
        assert_eq!(state(machine, 1), "active");
        assert!(!machine.exists("/run/roundsman/crashes/shop:1"));
        // A lone crash costs nothing.
        let before = runs(machine, 2)[0].clone();
        kill(machine, 1);
        machine.eventually("it is back", |machine| {
            state(machine, 1) == "active" && runs(machine, 2)[0] != before
        });
        assert_eq!(machine.events("WORKER_BACKS_OFF").len(), 4, "without a wait");
        // Somebody's restart is no crash, and clears the slate.
        machine.run("systemctl restart roundsman-worker@shop:1.service");
        assert!(!machine.exists("/run/roundsman/crashes/shop:1"));
    }
}

on_every_debian_in_soak! {
    /// An exit code that means "done" leaves the worker stopped, and no connection wakes it; another
    /// one does not.
    fn an_app_that_is_done_stays_down(machine: &Machine) {
        start(machine, 1, "stop-exit-codes = [0, 3]\n");
        let before = runs(machine, 1);
        machine.curl("/exit/4");
        machine.eventually("it is back", |machine| {
            state(machine, 1) == "active" && runs(machine, 1) != before
        });
        for code in [3, 0] {
            machine.eventually("it answers", |machine| machine.curl("/") == "shop:1 one");
            machine.curl(&format!("/exit/{code}"));
            machine.eventually("its listener is closed", |machine| {
                machine.property("roundsman-worker@shop:1.socket", "ActiveState") == "inactive"
            });
            machine.eventually("it has ended well", |machine| state(machine, 1) == "inactive");
            machine.try_run("curl --silent --max-time 2 http://localhost/");
            assert_eq!(state(machine, 1), "inactive");
            machine.run("roundsman start shop");
        }
    }
}

on_every_debian_in_soak! {
    /// An app that leaks under load: each worker is replaced in its turn, and no request is lost.
    fn workers_that_leak_are_replaced_one_at_a_time(machine: &Machine) {
        start(machine, 2, "max-memory = \"120MiB\"\nenvironment = { LEAK = \"256\" }\n");
        // For those that follow: one that leaks at once again is put off for longer and longer.
        machine.write("/srv/shop/version", "two");
        let before = runs(machine, 2);
        note_who_is_down(machine, 2);
        let load = machine.load(Clients::new(4, 2).unhurried());
        machine.eventually_within(4, "every worker was replaced", |machine| {
            runs(machine, 2).iter().zip(&before).all(|(now, before)| now != before)
        });
        load.goes_on_for(100);
        load.stop().assert_nothing_failed();
        assert_never_two_were_down(machine);
        let replaced = machine.events("WORKERS_REPLACED");
        let text = replaced[0]["MESSAGE"].as_str().expect("text");
        assert!(text.contains("MiB of memory, max-memory is 120 MiB"), "{text}");
        assert!(machine.run("roundsman describe shop").contains("replaces workers above 120 MiB"));
        assert!(machine.events("WORKER_EXITED").is_empty(), "none was killed for it");
    }
}

on_every_debian_in_soak! {
    /// Workers that have become too old go one after the other, and so do all at an appointed time.
    fn workers_are_replaced_by_age_and_by_the_clock(machine: &Machine) {
        start(machine, 2, "max-age = \"5s\"\n");
        let before = runs(machine, 2);
        note_who_is_down(machine, 2);
        let load = machine.load(Clients::new(4, 2).unhurried());
        let all_new = |machine: &Machine, before: &[String]| {
            runs(machine, 2).iter().zip(before).all(|(now, before)| now != before)
        };
        machine.eventually_within(2, "both are new", |machine| all_new(machine, &before));
        load.goes_on_for(50);

        // From age to clock: apply stops the one and starts the other.
        machine.run("sed -i 's/^max-age.*/restart-at = \"*:*:0\\/20\"/' /etc/roundsman/apps/shop.toml");
        machine.eventually("apply is not in the way of a replacement", |machine| {
            machine.try_run("roundsman apply").ok()
        });
        assert_eq!(machine.property("roundsman-watch@shop.service", "ActiveState"), "inactive");
        assert_eq!(machine.property("roundsman-restart@shop.timer", "ActiveState"), "active");
        machine.eventually("it says when", |machine| {
            machine.run("roundsman describe shop").contains("(restart-at)")
        });
        let before = runs(machine, 2);
        machine.eventually_within(2, "both are new again", |machine| all_new(machine, &before));
        load.goes_on_for(50);
        load.stop().assert_nothing_failed();
        assert_never_two_were_down(machine);

        // What stops the app stops the clock.
        machine.eventually("no deploy is under way", |machine| {
            machine.try_run("roundsman stop shop").ok()
        });
        machine.eventually("the timer has stopped", |machine| {
            machine.property("roundsman-restart@shop.timer", "ActiveState") == "inactive"
        });
    }
}

on_every_debian_in_soak! {
    /// Whatever its watch is doing, an app is stopped when that is asked, stays so, and can be deleted.
    fn an_app_ends_in_the_middle_of_its_own_deploys(machine: &Machine) {
        shop::install(machine, 2, "watch = true\n");
        let watch = |property: &str| machine.property("roundsman-watch@shop.service", property);
        let changes = |version: &str| {
            shop::release(machine, version, "late:2000");
            machine.eventually("its watch deploys", |machine| {
                watch("StatusText").contains("replacing workers now")
                    && machine.run("roundsman status --json").contains("\"state\": \"draining\"")
            });
        };
        let is_down = |machine: &Machine| {
            let all = [state(machine, 1), state(machine, 2), watch("ActiveState")];
            all.iter().all(|state| state == "inactive")
        };
        for (version, stop) in [
            ("two", "roundsman stop shop"),
            ("three", "systemctl stop roundsman-app@shop.target"),
            ("four", "roundsman delete --yes shop"),
        ] {
            // So that a worker drains when the stop comes.
            let slow = "curl --silent 'http://localhost/slow?ms=12000'";
            machine.run(&format!("for i in 1 2 3 4; do {slow} > /dev/null 2>&1 & done"));
            changes(version);
            let said = machine.try_run(stop);
            assert!(said.ok(), "{stop}: {said}");
            assert!(is_down(machine), "{stop}");
            assert_eq!(watch("Result"), "success", "{stop}: it was not waited for in vain");
            assert!(!machine.exists("/run/systemd/system/roundsman-worker@shop:3.service"), "{stop}");
            if !stop.contains("delete") {
                machine.run("roundsman start shop");
                machine.eventually("it serves the new release", |machine| machine.curl("/") == version);
                machine.eventually("it is watched again", |_| watch("ActiveState") == "active");
            }
        }
        assert!(!machine.exists("/etc/roundsman/apps/shop.toml"));
        assert!(is_down(machine), "nothing has brought it back");
    }
}

/// How often the workers were replaced, or that was tried.
fn rolls(machine: &Machine) -> usize {
    machine.events("WORKERS_REPLACED").len()
}

/// Waits until every worker answers with this version, and none is being replaced.
fn wait_for_version(machine: &Machine, version: &str, rolls_before: usize) {
    machine.eventually_within(2, &format!("every worker runs {version}"), |machine| {
        let mut seen = BTreeMap::new();
        for _ in 0..8 {
            let answer = machine.curl("/");
            if let Some((worker, version)) = answer.trim().split_once(' ') {
                seen.insert(worker.to_owned(), version.to_owned());
            }
        }
        rolls(machine) > rolls_before
            && seen.len() == 2
            && seen.values().all(|seen| seen == version)
            && !machine
                .property("roundsman-watch@shop.service", "StatusText")
                .contains("replacing workers now")
    });
}

on_every_debian_in_soak! {
    /// A changed file has the workers replaced one by one; a change meanwhile has it done once more;
    /// ignored files do nothing; broken code touches nobody, and the next change is tried.
    fn changed_files_reach_the_workers(machine: &Machine) {
        start(machine, 2, "watch = true\n");
        machine.write("/srv/shop/.gitignore", "dist\n*.log\n");
        // The rules themselves have changed.
        wait_for_version(machine, "one", 0);
        note_who_is_down(machine, 2);
        let load = machine.load(Clients::new(4, 2).unhurried());

        let before = rolls(machine);
        for ignored in ["dist/bundle.js", "node_modules/x/index.js", "app.log", "server.js~"] {
            machine.write(&format!("/srv/shop/{ignored}"), "x");
        }
        machine.write("/srv/shop/version", "two");
        wait_for_version(machine, "two", before);
        assert_eq!(rolls(machine), before + 1, "only for the file that counts");

        // In the middle of one.
        machine.write("/srv/shop/version", "three");
        machine.eventually("it has begun", |machine| {
            machine.property("roundsman-watch@shop.service", "StatusText").contains("replacing")
        });
        machine.write("/srv/shop/version", "four");
        wait_for_version(machine, "four", before + 2);
        assert_eq!(rolls(machine), before + 3);

        // Broken.
        let good = machine.run("cat /srv/shop/server.js");
        machine.write("/srv/shop/server.js", "throw new Error('half a thought');\n");
        machine.eventually("it has failed", |machine| !machine.events("REPLACE_FAILED").is_empty());
        let journal = machine.run("journalctl --no-pager -o cat -u roundsman-watch@shop");
        assert!(journal.contains("half a thought"), "the reason is there: {journal}");
        assert_eq!([state(machine, 1), state(machine, 2)], ["active", "active"]);
        machine.write("/srv/shop/version", "five");
        machine.write("/srv/shop/server.js", &good);
        wait_for_version(machine, "five", before + 4);

        load.goes_on_for(50);
        load.stop().assert_nothing_failed();
        assert_never_two_were_down(machine);
    }
}

on_every_debian! {
    /// What the app finds in its environment is its worker's, its files' and its credentials'; what
    /// has changed since it started is told, and arrives with the next deploy.
    fn environment_files_and_credentials_arrive_with_a_deploy(machine: &Machine) {
        machine.write("/etc/shop.env", "FROM_FILE=old\n");
        machine.write("/etc/shop.password", "secret\n");
        machine.run("chmod 600 /etc/shop.env /etc/shop.password");
        let keys = "environment-files = [\"/etc/shop.env\"]\ncredentials = { password = \"/etc/shop.password\" }\n";
        start(machine, 2, keys);
        let environments = |machine: &Machine| {
            let mut seen = BTreeMap::new();
            machine.eventually("both have answered", |machine| {
                let answer = machine.curl("/environment");
                let value: serde_json::Value = serde_json::from_str(&answer).expect("it is JSON");
                seen.insert(value["worker"].as_str().expect("a name").to_owned(), value);
                seen.len() == 2
            });
            seen
        };
        let check = |machine: &Machine, from_file: &str, password: &str| {
            for (worker, value) in environments(machine) {
                let number: u16 = worker.strip_prefix("shop:").expect("its name").parse().expect("a number");
                assert_eq!(value["NODE_APP_INSTANCE"], (number - 1).to_string());
                assert_eq!(value["FROM_FILE"], from_file);
                assert_eq!(value["password"], password);
            }
        };
        check(machine, "old", "secret");
        assert!(machine.try_run("roundsman diff").ok());
        for (file, text, from_file, password) in [
            ("/etc/shop.env", "FROM_FILE=new\n", "new", "secret"),
            ("/etc/shop.password", "changed\n", "new", "changed"),
        ] {
            machine.write(file, text);
            let said = machine.try_run("roundsman diff");
            assert_eq!(said.status.code(), Some(1), "{said}");
            assert!(said.stdout.contains(&format!("shop:2 was started before {file} changed")), "{said}");
            machine.run("roundsman reload shop");
            assert!(machine.try_run("roundsman diff").ok());
            check(machine, from_file, password);
        }
        let mode = machine.run("stat -c %a /run/roundsman-workers/shop:1");
        assert_eq!(mode.trim(), "750");
    }
}

on_every_debian_in_soak! {
    /// Watching a tree of thousands of files costs nothing while nobody touches it, and next to
    /// nothing when somebody does.
    fn watching_costs_nothing(machine: &Machine) {
        start(machine, 2, "watch = true\n");
        machine.run(
            "systemctl stop roundsman-watch@shop.service && cd /srv/shop && for d in $(seq 400); do mkdir -p src/$((d % 20))/$d && \
             for f in $(seq 10); do echo $f > src/$((d % 20))/$d/$f.js; done; done && \
             roundsman restart shop && systemctl start roundsman-watch@shop.service",
        );
        assert_eq!(machine.run("find /srv/shop/src -type f | wc -l").trim(), "4000");
        machine.eventually("it watches", |machine| {
            machine.property("roundsman-watch@shop.service", "StatusText").contains("watch")
        });
        let agent = machine.property("roundsman-watch@shop.service", "MainPID");
        // Nanoseconds on a core, of its threads.
        let spent = |machine: &Machine| -> u64 {
            let lines = machine.run(&format!("cat /proc/{agent}/task/*/schedstat"));
            let of = |line: &str| line.split(' ').next().and_then(|n| n.parse::<u64>().ok());
            lines.lines().filter_map(of).sum()
        };
        let before = spent(machine);
        machine.run("sleep 10"); // a share of this time is what is measured
        let idle = spent(machine) - before;
        println!("10 s of watching 4000 files: {:.2} ms of a core", idle as f64 / 1e6);
        assert!(idle < 10_000_000, "more than a thousandth of a core: {idle} ns");

        let old = runs(machine, 2);
        let before = spent(machine);
        machine.write("/srv/shop/src/7/7/3.js", "changed");
        machine.eventually("both are replaced", |machine| {
            runs(machine, 2).iter().zip(&old).all(|(now, before)| now != before)
                && state(machine, 1) == "active"
                && state(machine, 2) == "active"
        });
        let saved = spent(machine) - before;
        println!("a saved file: {:.2} ms of a core", saved as f64 / 1e6);
        assert!(saved < 200_000_000, "{saved} ns");
    }
}

on_every_debian_in_soak! {
    /// Who kills all of a worker's processes at once may hit the one that notes crashes, too; the
    /// crash counts all the same.
    fn a_kill_of_the_whole_unit_counts(machine: &Machine) {
        start(machine, 1, "[restart]\ndelay = \"100ms\"\nmax-delay = \"100ms\"\nlimit = \"none\"\n");
        for count in 1..=12 {
            machine.eventually("it runs", |machine| state(machine, 1) == "active");
            let before = runs(machine, 1);
            machine.run(&format!("systemctl kill --kill-whom=all --signal=KILL {}", service(1)));
            machine.eventually("it is back", |machine| {
                state(machine, 1) == "active" && runs(machine, 1) != before
            });
            let noted = machine.run("cat /run/roundsman/crashes/shop:1");
            let noted: serde_json::Value = serde_json::from_str(&noted).expect("JSON");
            assert_eq!(noted["ready-for"].as_array().map(Vec::len), Some(count), "{noted}");
        }
    }
}
