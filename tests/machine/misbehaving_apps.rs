//! Apps that do what apps should not, and what becomes of them.

use tokio::time::Instant;

use crate::harness::{Machine, on_every_debian, on_every_debian_in_soak};

const UNIT: &str = "roundsman-worker@bad:1.service";

/// Starts tests/apps/misbehaving with this behaviour; does not wait for it to be ready.
fn start(machine: &Machine, behaviour: &str, more: &str) {
    let configuration = format!("command = [\"node\", \"server.js\", \"{behaviour}\"]\n{more}");
    machine.add_app("bad", "tests/apps/misbehaving", &configuration);
    machine.run("systemctl enable --now --no-block roundsman-app@bad.target");
}

fn wait_until_it_answers(machine: &Machine) -> String {
    machine.eventually("it answers", |machine| machine.curl("/").starts_with("pid "));
    machine.curl("/")
}

/// Waits for an entry of the worker's journal that says this.
#[track_caller]
fn wait_for_the_journal_to_say(machine: &Machine, text: &str) {
    machine.eventually(&format!("the worker's journal says {text:?}"), |machine| {
        machine.run(&format!("journalctl --no-pager -o cat -u {UNIT}")).contains(text)
    });
}

on_every_debian! {
    /// An app whose event loop is blocked for good is killed and restarted by the watchdog.
    fn blocked_event_loop_is_found_and_replaced(machine: &Machine) {
        start(machine, "blocks", "watchdog = \"3s\"\n[health]\npath = \"/\"\ninterval = \"500ms\"\ntimeout = \"500ms\"\n");
        let before = wait_until_it_answers(machine);

        machine.try_run("curl --silent --max-time 1 http://localhost/block");

        wait_for_the_journal_to_say(machine, "Watchdog timeout");
        assert!(!machine.events("WORKER_STUCK").is_empty());
        let after = wait_until_it_answers(machine);
        assert_ne!(before, after, "it is another process");
    }
}

on_every_debian_in_soak! {
    /// One that keeps its worker busy keeps no other one from its answer. One that kills its worker costs
    /// one more at most, and none where that leaves nobody; asked again, only the one that takes it.
    fn a_request_does_little_harm(machine: &Machine) {
        start(machine, "blocks", "workers = 4\n[restart]\nlimit = 50\ndelay = \"100ms\"\nmax-delay = \"100ms\"\n");
        let deaths = |machine: &Machine| machine.events("WORKER_EXITED").len();
        let all_serve = |machine: &Machine, workers: usize| {
            machine.eventually("all serve", |machine| {
                machine.run("roundsman status --json").matches("\"state\": \"up\"").count() == workers
            });
        };
        // One that does not answer for a while has no share meanwhile, and then has it again.
        let is_up = |machine: &Machine| {
            machine.run("roundsman status --json").matches("\"state\": \"up\"").count() == 4
        };
        machine.eventually("all serve", is_up);
        let before = machine.runs("bad", 4);
        machine.run("curl --silent http://localhost/busy > /dev/null 2>&1 &");
        let begin = Instant::now();
        machine.eventually("it is out", |machine| !is_up(machine));
        println!("a worker that does not answer is out after {:.1} s", begin.elapsed().as_secs_f64());
        for _ in 0..8 {
            machine.run("curl --silent --fail --max-time 1 http://localhost/");
        }
        machine.eventually("it is back", is_up);
        println!("and back after {:.1} s", begin.elapsed().as_secs_f64());
        assert_eq!(machine.runs("bad", 4), before, "none was restarted for it");

        let mut dead = 0;
        for (path, workers, dies) in
            [("/die", 4, 2), ("/die", 4, 1), ("/die?2", 4, 2), ("/die?3", 2, 1), ("/die?4", 1, 1)]
        {
            machine.run(&format!("roundsman scale bad {workers}"));
            all_serve(machine, workers);
            let said = machine.try_run(&format!("curl --silent --fail http://localhost{path}"));
            assert!(!said.ok(), "nobody can answer it: {said}");
            dead += dies;
            machine.eventually("they are noted", |machine| deaths(machine) >= dead);
            wait_until_it_answers(machine);
            all_serve(machine, workers);
            println!("{path} has killed {dies} of {workers} workers");
            assert_eq!(deaths(machine), dead, "{path} of {workers}");
        }
    }
}

on_every_debian! {
    /// A child process that an app leaves behind goes with the worker.
    fn leaked_child_goes_with_the_worker(machine: &Machine) {
        start(machine, "leaks", "");
        wait_until_it_answers(machine);
        assert!(machine.try_run("pgrep -f 'sleep 987654'").ok(), "the child is there");

        machine.run("systemctl restart roundsman-worker@bad:1.service");
        wait_until_it_answers(machine);
        assert_eq!(machine.run("pgrep -c -f '^sleep 987654'").trim(), "1", "only the new one's");
        machine.stop_app("bad");
        assert!(!machine.try_run("pgrep -f '^sleep 987654'").ok(), "none is left");
    }
}

on_every_debian! {
    /// An app that never listens fails by its start-timeout, and the journal says what it did not do.
    fn app_that_never_listens_fails_to_start(machine: &Machine) {
        start(machine, "never-listens", "start-timeout = \"2s\"\n");
        machine.eventually("the start has failed", |machine| {
            machine.property(UNIT, "NRestarts") != "0"
        });
        let entries = machine.events("WORKER_NOT_READY");
        let message = entries[0]["MESSAGE"].as_str().expect("text");
        assert!(message.contains("listen"), "{message}");
        assert_eq!(entries[0]["ROUNDSMAN_WORKER"], "bad:1");
    }
}

on_every_debian! {
    /// An app that exits at once is started again, until it is given up; the journal has
    /// what it printed and how it ended.
    fn app_that_exits_at_once_ends_as_a_failed_unit(machine: &Machine) {
        // The default is meant for minutes.
        start(machine, "exits", "[restart]\nlimit = 3\n");
        machine.eventually("it was given up", |machine| {
            machine.property(UNIT, "ActiveState") == "failed"
        });
        let journal = machine.run(&format!("journalctl --no-pager -o cat -u {UNIT}"));
        assert!(journal.contains("cannot go on"), "what it printed: {journal}");
        let entries = machine.events("WORKER_EXITED");
        let message = entries[0]["MESSAGE"].as_str().expect("text");
        assert!(message.contains("exit code 3"), "how it ended: {message}");
        // The front is none the worse for it.
        assert_eq!(machine.property("roundsman.service", "ActiveState"), "active");
        assert_eq!(machine.property("roundsman-http.socket", "ActiveState"), "active");
    }
}

on_every_debian! {
    /// An app that ignores SIGTERM is killed after its stop-timeout.
    fn app_that_ignores_sigterm_is_killed(machine: &Machine) {
        start(machine, "ignores-sigterm", "stop-timeout = \"2s\"\n");
        let pid = wait_until_it_answers(machine);
        let pid = pid.trim().strip_prefix("pid ").expect("it says so");

        machine.stop_app("bad");

        wait_for_the_journal_to_say(machine, "SIGTERM ignored");
        assert!(!machine.exists(&format!("/proc/{pid}")), "it is gone");
        wait_for_the_journal_to_say(machine, "did not end within");
    }
}
