//! Apps that serve no HTTP: `listen = "none"`.

use std::time::Duration;

use roundsman::config::settings::{Listen, Ready, Shutdown, StopSignal};

use crate::worker::harness::{Plan, poll};

fn script(text: &str) -> Plan {
    let command = ["node", "-e", text].map(str::to_owned);
    let mut plan = Plan::new(Listen::None, command.to_vec());
    plan.app.ready = Ready::Running;
    plan
}

/// Notes its end, and works until then.
const CONSUMER: &str =
    "process.on('SIGTERM', () => { console.error('finishing'); process.exit(0); });
    process.on('message', (message) => process.send({ got: message }));
    setInterval(() => {}, 1000);";

#[test]
fn it_is_ready_when_it_has_stayed_up_and_ends_at_sigterm() {
    let mut shim =
        script(CONSUMER).with(|app| app.ready_after = Duration::from_millis(300)).start();
    let said = shim.hear("READY=1");
    assert!(said.contains("STATUS=process ") && said.contains(" runs"), "{said}");
    assert_eq!(shim.status()["channel"], true, "as with any app of Node's");
    assert_eq!(shim.send("{\"cmd\": \"flush\"}"), "ok");
    shim.ask_to_stop();
    assert_eq!(shim.code(), 0);
    assert!(!shim.log().contains("killed"), "{}", shim.log());
}

#[test]
fn one_that_ends_before_was_never_ready() {
    let mut shim = script("setTimeout(() => process.exit(3), 50)")
        .with(|app| app.ready_after = Duration::from_secs(5))
        .start();
    assert_eq!(shim.code(), 3);
    assert!(!shim.was_ready());
}

#[test]
fn what_it_says_of_itself_counts_where_its_file_says_so() {
    let text = "setTimeout(() => process.send('ready'), 50); setInterval(() => {}, 1000)";
    script(text).with(|app| app.ready = Ready::Message).ready();
}

/// No package manager needs to be looked through: nothing is spoken with what it starts.
#[test]
fn it_may_be_any_command_and_gets_its_own_signal() {
    let command = ["sh", "-c", "trap 'exit 0' INT; while :; do sleep 0.05; done"];
    let mut plan = Plan::new(Listen::None, command.map(str::to_owned).to_vec());
    plan.app.ready = Ready::Running;
    plan.app.shutdown = Shutdown::Signal(StopSignal::Int);
    let mut shim = plan.ready();
    shim.ask_to_stop();
    poll("its end", || (!shim.runs()).then_some(()));
    assert_eq!(shim.code(), 0);
}
