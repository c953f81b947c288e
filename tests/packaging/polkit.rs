//! What the rules for polkit say to whom: they are a program, and are run here as polkit runs them.

use std::collections::BTreeSet;
use std::process::Command;

use crate::common::skip::may_skip;

/// Loads the rules, asks them about every unit with every verb, and prints what they allow.
const ASK: &str = r#"
let rule;
const polkit = { Result: { YES: "yes", NO: "never", NOT_HANDLED: "no" }, addRule: (f) => { rule = f; },
  spawn: (words) => words[0].endsWith("cat") ? "0::/user.slice\nNoNewPrivs:\t0\n" : "member\n" };
new Function("polkit", require("node:fs").readFileSync(process.argv[1], "utf8"))(polkit);
const member = { isInGroup: (name) => name === "roundsman", user: "member", pid: 1, system_unit: "session-1.scope" };
const [units, verbs] = [process.argv[2].split(" "), process.argv[3].split(" ")];
if (units[0] === "WHO") {
  const [worker, cgroup] = ["roundsman-worker@shop:1.service", "0::/system.slice/"];
  const { system_unit: _, ...old } = member;
  const says = (groups, owner) => (words) => words[0].endsWith("cat") ? cgroup + groups : owner;
  const whoever = {
    "a session": [member], "a worker": [{ ...member, system_unit: worker }],
    "its Valkey": [{ ...member, system_unit: "roundsman-valkey@shop.service" }],
    "without a way to gain rights": [member, says("user@1000.service\nNoNewPrivs:\t1\n", "member\n")],
    "ended": [{ ...member, system_unit: "" }], "ended too": [{ ...member, system_unit: null }],
    "old: a session": [old, says("session-1.scope", "member\n")],
    "old: a worker": [old, says(worker, "member\n")],
    "old: without a way to gain rights": [old, says("user@1000.service\nNoNewPrivs:\t1\n", "member\n")],
    "old: ended": [old, () => { throw new Error(); }],
    "old: another's number": [old, says("cron.service", "root\n")],
  };
  for (const [who, [subject, spawn]] of Object.entries(whoever)) {
    polkit.spawn = spawn ?? says("session-1.scope\nNoNewPrivs:\t0\n", "member\n");
    const ask = (id, unit, verb) => rule({ id, lookup: (key) => ({ unit, verb })[key] }, subject);
    const manages = ask("org.freedesktop.systemd1.manage-units", worker, "stop");
    console.log(`${who}: ${manages}, lingers: ${ask("org.freedesktop.login1.set-self-linger")}`);
  }
} else for (const unit of units) for (const verb of verbs) {
  const action = { id: "org.freedesktop.systemd1.manage-units", lookup: (key) => ({ unit, verb })[key] };
  if (rule(action, member) === "yes") console.log(verb + " " + unit);
}
"#;

const KINDS: [&str; 8] =
    ["service", "socket", "timer", "scope", "slice", "path", "mount", "automount"];

#[test]
fn a_member_starts_targets_alone_since_any_other_unit_may_be_made_up() {
    if Command::new("node").arg("--version").output().is_err() {
        return may_skip("there is no node to run the rules with");
    }
    let names = [
        "roundsman",
        "roundsman-app@shop",
        "roundsman-worker@shop:1",
        "roundsman-worker@zz:250",
        "roundsman-restart@shop",
        "roundsman-watch@shop",
        "roundsman-helper@1",
        "roundsman-http",
        "anything",
    ];
    let mut units: Vec<String> =
        names.iter().flat_map(|name| KINDS.map(|kind| format!("{name}.{kind}"))).collect();
    units.extend(names.map(|name| format!("{name}.target")));
    let verbs = "start stop restart try-restart reload reload-or-restart reset-failed kill freeze \
                 clean set-property enable ref";
    let allowed = ask(&units.join(" "), verbs);
    let allowed: BTreeSet<&str> = allowed.lines().collect();
    let expected: BTreeSet<&str> = [
        "reload roundsman.service",
        "start roundsman-app@shop.target",
        "stop roundsman-app@shop.target",
        "restart roundsman-app@shop.target",
        "stop roundsman-worker@shop:1.service",
        "restart roundsman-worker@shop:1.service",
        "try-restart roundsman-worker@shop:1.service",
        "reset-failed roundsman-worker@shop:1.service",
        "stop roundsman-worker@zz:250.service",
        "restart roundsman-worker@zz:250.service",
        "try-restart roundsman-worker@zz:250.service",
        "reset-failed roundsman-worker@zz:250.service",
    ]
    .into();
    assert_eq!(allowed, expected);
}

#[test]
fn nobody_who_may_have_been_a_worker_manages_units_or_lingers() {
    if Command::new("node").arg("--version").output().is_err() {
        return may_skip("there is no node to run the rules with");
    }
    let expected = "a session: yes, lingers: no\n\
        a worker: no, lingers: never\n\
        its Valkey: no, lingers: never\n\
        without a way to gain rights: no, lingers: never\n\
        ended: no, lingers: never\n\
        ended too: no, lingers: never\n\
        old: a session: yes, lingers: no\n\
        old: a worker: no, lingers: never\n\
        old: without a way to gain rights: no, lingers: never\n\
        old: ended: no, lingers: never\n\
        old: another's number: no, lingers: never\n";
    assert_eq!(ask("WHO", ""), expected);
}

fn ask(units: &str, verbs: &str) -> String {
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/polkit/50-roundsman.rules");
    let said = Command::new("node")
        .args(["-e", ASK, rules, units, verbs])
        .output()
        .expect("node is there");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8(said.stdout).expect("it is text")
}
