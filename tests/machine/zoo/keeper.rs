//! One program: started, put under load, deployed, killed, deleted.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tokio::time::Instant;

use super::programs::{Expected, Program};
use crate::harness::{Clients, Machine, Tally};

/// What `systemctl kill` itself takes at most, between the kill and our noticing it.
const SLACK: Duration = Duration::from_secs(2);

/// What has become of a program.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It ran: how it is reached, how many requests were answered, and how many were lost that were in flight at
    /// the kill.
    Ran { reached: String, answered: u64, in_flight: usize, start: Duration },
    /// It was refused, with this sentence.
    Refused { sentence: String, start: Duration },
    /// It is not as its row says.
    Wrong(String),
}

impl Outcome {
    /// Why it is not as its row says, if it is not.
    pub(super) fn wrong(&self) -> Option<&str> {
        match self {
            Self::Wrong(why) => Some(why),
            _ => None,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ran { reached, answered, in_flight, start } => write!(
                f,
                "runs ({reached}, up after {start:.1?}), {answered} answered, {in_flight} lost at the kill"
            ),
            Self::Refused { sentence, start } => write!(f, "refused after {start:.1?}: {sentence}"),
            Self::Wrong(why) => write!(f, "NOT AS EXPECTED: {why}"),
        }
    }
}

/// Tries one program.
pub(super) fn try_out(machine: &Machine, program: &Program) -> Outcome {
    let tried = catch_unwind(AssertUnwindSafe(|| visit(machine, program)));
    let outcome = tried.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Outcome::Wrong(text.unwrap_or_else(|| "it panicked".to_owned()))
    });
    let Program { app, .. } = program;
    if let Outcome::Wrong(why) = outcome {
        let lines = machine
            .try_run(&format!("journalctl --no-pager -n 30 -o cat -u 'roundsman-worker@{app}:*'"));
        let _ = machine.try_run(&format!("roundsman delete {app} --yes"));
        return Outcome::Wrong(format!("{why}\n--- journal\n{}", lines.stdout));
    }
    outcome
}

fn visit(machine: &Machine, program: &Program) -> Outcome {
    let Program { app, folder, typed, expected, .. } = program;
    let beside = match expected {
        Expected::Works(beside, _) => {
            machine.run(&format!(
                "systemd-run --quiet --unit=beside-{app} --working-directory=/opt/{folder} {}",
                beside.replace(".venv", &format!("/opt/{folder}/.venv"))
            ));
            String::new()
        }
        _ => format!("--host {app}.zoo "),
    };
    let options = format!("roundsman start --name {app} {beside}");
    let typed = typed.replacen("roundsman start ", &options, 1);
    let began = Instant::now();
    let said = machine.try_run(&format!("cd /opt/{folder} && {typed} 2>&1"));
    let start = began.elapsed();
    if let Expected::Refused(part) = expected {
        let file = format!("/etc/roundsman/apps/{app}.toml");
        let is_refused = !said.ok() && said.stdout.contains(part) && !machine.exists(&file);
        return match sentence(&said.stdout, part) {
            Some(sentence) if is_refused => Outcome::Refused { sentence, start },
            _ => Outcome::Wrong(format!("it should have been refused: {said}")),
        };
    }
    if !said.ok() {
        return Outcome::Wrong(format!("after {start:.1?}: {said}"));
    }
    let reached = reached(&machine.run(&format!("cat /etc/roundsman/apps/{app}.toml")));
    let outcome = match expected {
        Expected::Works(_, done) => Ok((works(machine, program, done), 0)),
        _ => serves(machine, program, *expected),
    };
    machine.run(&format!("roundsman delete {app} --yes"));
    match outcome {
        Ok((answered, in_flight)) => Outcome::Ran { reached, answered, in_flight, start },
        Err(why) => Outcome::Wrong(why),
    }
}

/// How the app with this file is reached.
fn reached(file: &str) -> String {
    let value = |key: &str| {
        file.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = ")).map(str::to_owned)
    };
    match (value("listen"), value("port")) {
        (None, _) => "`listen = \"auto\"`".to_owned(),
        (Some(_), Some(port)) => {
            format!("one worker, at the port that it insists on: `port = {port}`")
        }
        (Some(listen), None) => format!("`listen = {listen}`"),
    }
}

/// How many were answered, and how many lost at the kill.
fn serves(
    machine: &Machine,
    program: &Program,
    expected: Expected,
) -> Result<(u64, usize), String> {
    let app = program.app;
    let host = format!("{app}.zoo");
    let clients = match expected {
        Expected::Serves(path, part) => {
            let url = format!("http://{host}{path}");
            let command = format!(
                "curl --silent --show-error --max-time 40 -H 'Apollo-Require-Preflight: yes' \
                 --resolve {host}:80:127.0.0.1 '{url}'"
            );
            let answer = machine.try_run(&command);
            if !answer.stdout.contains(part) {
                return Err(format!("its answer is not {part:?}: {answer}"));
            }
            Clients::new(3, 3).asking(&host, path, "Apollo-Require-Preflight: yes\r\n")
        }
        _ => Clients::new(0, 0).with(0, 0, 4).asking(&host, "/", ""),
    };
    let load = machine.load(clients.unhurried());
    load.goes_on_for(100);
    machine.run(&format!("roundsman reload {app}"));
    load.goes_on_for(100);
    let before = load.elapsed();
    let run = kill(machine, app);
    let killed = load.elapsed();
    runs_again(machine, app, &run);
    machine.is_up_again(&format!("{app}:1"));
    load.goes_on_for(100);
    let tally = load.stop();
    judge(&tally, before, killed)
}

/// Kills the processes that worker 1 has started; which run of it that was.
fn kill(machine: &Machine, app: &str) -> String {
    let worker = format!("{app}:1");
    let run = machine.worker(&worker, "InvocationID");
    let main = machine.worker(&worker, "MainPID");
    machine.run(&format!("kill -9 $(cat /proc/{main}/task/*/children)"));
    run
}

/// Waits until worker 1 runs again.
fn runs_again(machine: &Machine, app: &str, run: &str) {
    let worker = format!("{app}:1");
    machine.eventually(&format!("{worker} runs again"), |machine| {
        machine.worker(&worker, "InvocationID") != run
            && machine.worker(&worker, "ActiveState") == "active"
    });
}

/// What was lost, which may only be what was in flight at the kill.
fn judge(tally: &Tally, before: Duration, killed: Duration) -> Result<(u64, usize), String> {
    if tally.ok == 0 {
        return Err(format!("nothing was answered: {tally}"));
    }
    for failed in &tally.failed {
        if failed.asked > killed || failed.seen + SLACK < before {
            return Err(format!(
                "{failed:?} was not in flight at the kill ({killed:.3?}): {tally}"
            ));
        }
    }
    Ok((tally.ok, tally.failed.len()))
}

/// The same for one that serves nobody: it goes on doing what it does.
fn works(machine: &Machine, program: &Program, done: &str) -> u64 {
    let app = program.app;
    let count = |machine: &Machine| -> u64 {
        machine.try_run(&format!("cat {done}")).stdout.trim().parse().unwrap_or_default()
    };
    let goes_on = |step: &str| {
        let enough = count(machine) + 20;
        machine
            .eventually(&format!("{app} goes on after {step}"), |machine| count(machine) > enough);
    };
    goes_on("its start");
    machine.run(&format!("roundsman reload {app}"));
    goes_on("the deploy");
    let run = kill(machine, app);
    runs_again(machine, app, &run);
    goes_on("the kill");
    count(machine)
}

/// The sentence with this part, of a text of several lines, without the word `error` before it.
fn sentence(text: &str, part: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().collect();
    let at = lines.iter().position(|line| line.contains(part))?;
    let from = lines[..=at].iter().rposition(|line| line.starts_with("error: ")).unwrap_or(at);
    Some(lines[from..=at].join(" ").trim_start_matches("error: ").to_owned())
}
