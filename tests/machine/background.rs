//! Apps that serve no HTTP: a queue consumer, a bot, a worker in Python.

use serde_json::Value;

use crate::harness::{Machine, on_every_debian_in_soak};

/// What has become of jobs: which were done, and with which version.
fn done(machine: &Machine) -> Vec<(String, String)> {
    let text = machine.run("cat /srv/queue/done/* 2>/dev/null || true");
    let line = |line: &str| {
        let (job, version) = line.split_once(' ').expect("a job and a version");
        (job.to_owned(), version.to_owned())
    };
    text.lines().map(line).collect()
}

fn state(machine: &Machine, worker: &str) -> String {
    machine.worker(worker, "ActiveState")
}

on_every_debian_in_soak! {
    /// Scaled, deployed, crashed and stopped while jobs come in all the time: none is lost, none done twice.
    /// The front has no part in it, and need not even run.
    fn a_queue_consumer_loses_no_job_and_needs_no_front(machine: &Machine) {
        machine.copy_in(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/apps/background"), "/srv/queue");
        machine.run("useradd --system deploy && cd /srv/queue && echo one > version && mkdir jobs taken done \
                     && chown -R deploy: /srv/queue");
        machine.run("systemctl stop roundsman-http.socket roundsman-admin.socket roundsman.service");
        let said = machine.run("cd /srv/queue && roundsman start consumer.js -n 2 --listen none 2>&1");
        assert!(said.contains("queue is up: 2 workers with listen = \"none\": it serves no HTTP"), "{said}");
        assert_eq!(machine.property("roundsman.service", "ActiveState"), "inactive");
        assert_eq!(machine.property("roundsman-worker@queue:1.socket", "ActiveState"), "inactive");
        machine.run("systemd-run --quiet --unit=feed bash -c 'n=0; while [ ! -e /tmp/enough ]; do \
                     : $((n++)); touch /srv/queue/jobs/$(printf %06d $n); sleep 0.02; done; echo $n > /tmp/fed'");
        machine.eventually("jobs are done", |machine| done(machine).len() > 20);

        machine.run("echo 'ready = \"message\"' >> /etc/roundsman/apps/queue.toml; roundsman scale queue 3");
        assert_eq!(state(machine, "queue:3"), "active");
        machine.run("echo two > /srv/queue/version && roundsman reload queue --settle 0");
        assert!(machine.run("systemctl show -p NRestarts --value 'roundsman-worker@queue:1'").starts_with('0'));
        machine.eventually("the new code works", |machine| {
            done(machine).last().is_some_and(|(_, version)| version == "two")
        });
        // A release that cannot start stops the deploy, and the other workers go on with theirs.
        machine.run("echo broken > /srv/queue/version");
        let said = machine.try_run("roundsman reload queue --settle 0");
        assert_eq!(said.status.code(), Some(1), "{said}");
        assert!(said.stderr.contains("release broken cannot start"), "{said}");
        assert!(said.stderr.contains("No other worker was touched: the old code runs."), "{said}");
        assert_eq!(state(machine, "queue:2"), "active");
        machine.run("echo three > /srv/queue/version && roundsman reload queue --settle 0");

        // With a front it is in every list, and in no upstream.
        machine.run("systemctl start roundsman-http.socket roundsman-admin.socket roundsman.service");
        let status = machine.run("roundsman status");
        assert!(status.contains("queue:1  up     -          -         -       none"), "{status}");
        let status: Value = serde_json::from_str(&machine.run("roundsman status --json")).expect("JSON");
        assert_eq!(status["upstreams"].as_array().map(Vec::len), Some(0), "{status}");
        assert_eq!(status["background"][2]["worker"], "queue:3", "{status}");
        assert_eq!(machine.run("roundsman diff").trim(), "the machine is as the files say");
        assert!(machine.run("roundsman check").contains("1 app, 3 workers, 0 upstreams, 0 routes"));
        assert!(machine.run("roundsman describe queue").contains("http       none"));
        assert!(machine.run("roundsman logs queue:2").contains("process"), "as the shim says it");
        let said = machine.try_run("roundsman drain queue");
        assert!(!said.ok() && said.stderr.contains("it gets no requests"), "{said}");
        let answer = machine.run("curl --silent --output /dev/null --write-out '%{http_code}' http://localhost/");
        assert_eq!(answer, "503", "no route leads to it: there is no app yet that answers");
        machine.run("roundsman send queue:2 '{\"cmd\": \"flush\"}'");

        // One that a shell has started, which ends at once: the job under way is finished all the same.
        machine.run("sed -i '/^ready/d; s/^command = .*/command = [\"sh\", \"-c\", \"node consumer.js; true\"]/' \
                     /etc/roundsman/apps/queue.toml && roundsman apply");

        // A crash is a crash; and each is stopped in its own way, by its own signal.
        let before = machine.worker("queue:2", "MainPID");
        machine.run("touch /tmp/enough");
        machine.eventually("all jobs were taken", |machine| {
            machine.exists("/tmp/fed") && machine.run("ls /srv/queue/jobs | wc -l").trim() == "0"
        });
        machine.run("rm /srv/queue/ended; systemctl stop roundsman-app@queue.target");
        let ended = machine.run("cat /srv/queue/ended || true");
        assert_eq!(ended.lines().count(), 3, "each had the time to end: {ended}");
        let fed: usize = machine.run("cat /tmp/fed").trim().parse().expect("a number");
        let mut jobs: Vec<String> = done(machine).into_iter().map(|(job, _)| job).collect();
        jobs.sort();
        let total = jobs.len();
        jobs.dedup();
        assert_eq!((jobs.len(), total), (fed, fed), "each once");
        machine.run("systemctl start roundsman-app@queue.target");
        machine.eventually("all are back", |machine| state(machine, "queue:3") == "active");
        assert_ne!(machine.worker("queue:2", "MainPID"), before);
        machine.run("kill -9 $(systemctl show -p MainPID --value 'roundsman-worker@queue:2')");
        machine.eventually("it is back", |machine| {
            state(machine, "queue:2") == "active" && machine.worker("queue:2", "NRestarts") == "1"
        });
        machine.run("roundsman delete queue --yes");
        assert!(!machine.exists("/etc/roundsman/apps/queue.toml"));
    }
}

on_every_debian_in_soak! {
    /// A bot is never there twice, and a worker in Python says itself when it is ready; what listens nowhere
    /// is told how it is run.
    fn a_bot_is_never_there_twice_and_a_python_worker_says_when_it_is_ready(machine: &Machine) {
        machine.copy_in(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/apps/background"), "/srv/bot");
        machine.run("systemd-run --quiet --unit=chat node /srv/bot/service.js");
        let said = machine.try_run("cd /srv/bot && timeout --signal=INT 8 roundsman start bot.js");
        assert!(!said.ok() && said.stderr.contains("has listen = \"none\" (an option of start, too)"), "{said}");
        assert!(!machine.exists("/etc/roundsman/apps/bot.toml"), "{said}");
        machine.run("rm -f /tmp/conflicts; cd /srv/bot && roundsman start bot.js --listen none");
        machine.run("roundsman reload bot && roundsman reload bot && roundsman restart bot");
        let polls = |machine: &Machine| machine.run("cat /tmp/polls").trim().parse::<u32>().unwrap_or(0);
        machine.eventually("it polls", |machine| polls(machine) > 3);
        assert!(!machine.exists("/tmp/conflicts"), "two of one bot polled at once");

        machine.run("useradd --system deploy; cp -r /srv/bot /srv/python && chown -R deploy: /srv/python");
        machine.write(
            "/etc/roundsman/apps/python.toml",
            "command = [\"python3\", \"worker.py\"]\ndirectory = \"/srv/python\"\nuser = \"deploy\"\n\
             listen = \"none\"\nready = \"notify\"\nshutdown = \"SIGINT\"\nstart-timeout = \"2s\"\n",
        );
        let said = machine.try_run("roundsman start python");
        assert!(!said.ok() && said.stderr.contains("READY=1 from the app: sd_notify(3)"), "{said}");
        machine.run("touch /srv/python/go && roundsman apply");
        assert_eq!(state(machine, "python:1"), "active");
        machine.run("roundsman stop python");
        assert!(machine.exists("/srv/python/python-ended"), "it got SIGINT, and the time to end");
    }
}
