//! `apps/NAME.toml`: input → settings.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::account::AccountKind;
use super::diagnostic::{Place, Problem, Problems};
use super::fragment::{Node, Table, Value};
use super::input::{
    self, Input, Read, absolute_path, choice, duration, duration_or_zero, integer, list, or_word,
    quoted, size_within, string,
};
use super::route::{self, OwnRoutes};
use super::settings::{
    App, Health, Listen, Ready, Sandbox, SessionStore, Shutdown, StopSignal, Transport, WORKER_PORT,
};
use super::{account, background, handoff, net, schema, sharing, supervision};
use crate::base::{program, unit};

const LISTEN: &[(&str, Option<Listen>)] = &[
    ("auto", None),
    ("cluster", Some(Listen::Cluster)),
    ("fd", Some(Listen::Fd)),
    ("port", Some(Listen::Port)),
    ("unix", Some(Listen::Unix)),
    ("none", Some(Listen::None)),
];

const TRANSPORT: &[(&str, Option<Transport>)] =
    &[("auto", None), ("tcp", Some(Transport::Tcp)), ("unix", Some(Transport::Unix))];

const READY: &[(&str, Ready)] = &[
    ("listening", Ready::Listening),
    ("message", Ready::Message),
    ("notify", Ready::Notify),
    ("running", Ready::Running),
];

const SANDBOX: &[(&str, Option<Sandbox>)] = &[
    ("default", Some(Sandbox::Default)),
    ("strict", Some(Sandbox::Strict)),
    ("off", Some(Sandbox::Off)),
];

const SHUTDOWN: &[(&str, Shutdown)] = &[
    ("auto", Shutdown::Auto),
    ("disconnect", Shutdown::Disconnect),
    ("message", Shutdown::Message),
    ("SIGTERM", Shutdown::Signal(StopSignal::Term)),
    ("SIGINT", Shutdown::Signal(StopSignal::Int)),
    ("SIGQUIT", Shutdown::Signal(StopSignal::Quit)),
    ("SIGHUP", Shutdown::Signal(StopSignal::Hup)),
    ("SIGUSR1", Shutdown::Signal(StopSignal::Usr1)),
    ("SIGUSR2", Shutdown::Signal(StopSignal::Usr2)),
    ("SIGWINCH", Shutdown::Signal(StopSignal::Winch)),
];

/// Variables that systemd or the worker's main process set; a value of the user's would break the
/// app in ways that are hard to find.
const RESERVED: &[&str] = &[
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "NODE_CHANNEL_FD",
    "NODE_CHANNEL_SERIALIZATION_MODE",
    "NODE_UNIQUE_ID",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// What libraries for sessions take in a URL.
const SESSION_SCHEMES: &[&str] =
    &["unix", "redis", "rediss", "redis+cluster", "rediss+cluster", "mongodb", "mongodb+srv"];

/// A worker below this cannot even start Node, and would be restarted for ever.
const MIN_MEMORY: u64 = 16 * 1024 * 1024;

/// So that what is computed from it cannot overflow.
const MAX_MEMORY: u64 = 1 << 50;

/// Reads the file; what is missing or wrong has a placeholder, and a problem.
pub(super) fn read(
    name: &str,
    table: &Table,
    place: &Place,
    cores: usize,
    problems: &mut Problems,
) -> (App, OwnRoutes) {
    let top = Input::new(table, place, &[&schema::APP, &schema::BALANCING], problems);
    let command =
        top.required("command", "[\"node\", \"server.js\"]", problems, command).unwrap_or_default();
    let directory = top.optional("directory", problems, absolute_path);
    if let (Some(program), None, Some(node)) = (command.first(), &directory, top.node("command"))
        && program.contains('/')
        && !Path::new(program).is_absolute()
    {
        problems.error(
            &node.place,
            format!("`{program}` is relative, but there is no directory that it is relative to"),
            "",
            "write the whole path of the program, or add `directory = \"/…\"`",
        );
    }
    let auto = u16::try_from(cores).unwrap_or(u16::MAX).clamp(1, 250);
    let workers = top
        .get("workers", Some(1), problems, or_word("auto", integer(1..=250_u16)))
        .unwrap_or(auto);
    let listen = top
        .get("listen", None, problems, choice(LISTEN))
        .unwrap_or_else(|| if is_node(&command) { Listen::Cluster } else { Listen::Fd });
    let handoff = handoff::read(listen, top, problems);
    let transport = transport(listen, top, problems);
    let health = top
        .node("health")
        .and_then(|node| Input::of_node(node, &[&schema::APP_HEALTH], problems))
        .and_then(|section| health(section, problems));
    let seconds = Duration::from_secs;
    let start_timeout = top.get("start-timeout", seconds(60), problems, duration); // big apps compile first
    let ready = ready(listen, &command, top, problems);
    let sandbox = top.get("sandbox", None, problems, choice(SANDBOX));
    let mut app = App {
        name: name.to_owned(),
        directory,
        user: top.optional("user", problems, |n, p| account(AccountKind::User, n, p)),
        group: top.optional("group", problems, |n, p| account(AccountKind::Group, n, p)),
        workers,
        environment: top
            .get("environment", BTreeMap::new(), problems, |n, p| environment(n, listen, p)),
        environment_files: top
            .get("environment-files", Vec::new(), problems, |n, p| list(n, p, absolute_path)),
        listen,
        port: port(listen, workers, top, problems),
        transport,
        handoff,
        ready,
        ready_after: background::ready_after((listen, ready, start_timeout), top, problems),
        health,
        balancing: sharing::read(top, problems),
        start_timeout,
        shutdown: shutdown(listen, &command, top, problems),
        stop_timeout: top.get("stop-timeout", seconds(30), problems, duration),
        drain_timeout: top.get(
            "drain-timeout",
            if listen == Listen::None { Duration::ZERO } else { seconds(30) },
            problems,
            duration_or_zero,
        ),
        watchdog: top.get("watchdog", seconds(30), problems, duration_or_zero),
        rollback: top.get("rollback", false, problems, input::boolean),
        surge: top.optional("surge", problems, integer(0..=250_u16)),
        sandbox: sandbox.unwrap_or_default(),
        max_memory: top.optional(
            "max-memory",
            problems,
            size_within(MIN_MEMORY..=MAX_MEMORY, "write \"16MiB\" to \"1024TiB\""),
        ),
        supervision: supervision::read(top, problems),
        session: top.get("session", None, problems, session),
        slot: 0, // assigned when all names are known
        command,
    };
    if app.has_valkey()
        && account::is_root(&app)
        && let Some(node) = top.node("session")
    {
        problems.error(
            &node.place,
            "the app runs as root, and its Valkey server would, too",
            "",
            "leave `user` out or write another one; or write `session = true`",
        );
    }
    // Who begins as root needs what root has: mostly to become somebody else.
    if sandbox.is_none() && account::is_root(&app) {
        app.sandbox = Sandbox::Off;
    }
    (app, route::own(top, problems))
}

fn is_name(text: &str) -> bool {
    unit::name_fault(text).is_none()
}

/// Whether the app shares sessions, and where they are.
fn session(node: &Node, problems: &mut Problems) -> Read<Option<SessionStore>> {
    match &node.value {
        Value::Boolean(shared) => Some(shared.then_some(SessionStore::Embedded)),
        Value::String(word) if word == "valkey" => Some(Some(SessionStore::Valkey)),
        Value::String(word) if word.strip_prefix("valkey:").is_some_and(is_name) => {
            Some(word.strip_prefix("valkey:").map(|app| SessionStore::ValkeyOf(app.to_owned())))
        }
        Value::String(url) if SESSION_SCHEMES.iter().any(|scheme| is_url(url, scheme)) => {
            Some(Some(SessionStore::Url(url.clone())))
        }
        _ => input::mismatch(
            node,
            "true, false, \"valkey\" or the URL of a store",
            "write true, \"valkey\", or a URL as in \"redis://127.0.0.1:6379\"",
            problems,
        ),
    }
}

fn is_url(url: &str, scheme: &str) -> bool {
    url.strip_prefix(scheme).and_then(|rest| rest.strip_prefix("://")).is_some_and(|rest| {
        !rest.is_empty() && !rest.contains(|c: char| c.is_whitespace() || c.is_control())
    })
}

/// Program and arguments.
fn command(node: &Node, problems: &mut Problems) -> Read<Vec<String>> {
    if let Value::String(text) = &node.value {
        // The likeliest mistake of all: show the array, as a shell would split it without quotes.
        let words: Vec<String> = text.split_whitespace().map(quoted).collect();
        let help = format!("write command = [{}]", words.join(", "));
        return input::mismatch(node, "an array: the program, then each argument", &help, problems);
    }
    let words = list(node, problems, |node, problems| {
        let word = string(node, problems)?;
        if word.contains('\0') {
            problems.push(Problem::error(
                &node.place,
                "an argument cannot contain a zero byte",
                "",
            ));
            return None;
        }
        Some(word.to_owned())
    })?;
    if words.first().is_none_or(|program| program.trim().is_empty()) {
        problems.error(
            &node.place,
            "the program is missing",
            "",
            "write command = [\"node\", \"server.js\"]",
        );
        return None;
    }
    Some(words)
}

/// Whether the command starts Node, directly or by its package managers.
fn is_node(command: &[String]) -> bool {
    let Some(name) = command.first().and_then(|p| Path::new(p).file_name()?.to_str()) else {
        return false;
    };
    let script = Path::new(name).extension().is_some_and(|e| e == "js" || e == "mjs" || e == "cjs");
    script || program::is_node(name) || matches!(name, "npm" | "npx" | "yarn" | "pnpm")
}

fn transport(listen: Listen, top: Input<'_>, problems: &mut Problems) -> Transport {
    let natural = match listen {
        Listen::Cluster | Listen::Port => Transport::Tcp,
        Listen::Fd | Listen::Unix | Listen::None => Transport::Unix,
    };
    let asked = top.get("transport", None, problems, choice(TRANSPORT)).unwrap_or(natural);
    let fixed = matches!(listen, Listen::Port | Listen::Unix);
    if fixed
        && asked != natural
        && let Some(node) = top.node("transport")
    {
        let kind = if listen == Listen::Port { "port" } else { "unix" };
        problems.error(
            &node.place,
            format!("with listen = \"{kind}\" the app itself decides the transport"),
            "cannot be so",
            "leave `transport` out",
        );
    }
    asked
}

fn port(listen: Listen, workers: u16, top: Input<'_>, problems: &mut Problems) -> Option<u16> {
    let port = top.optional("port", problems, integer(1..=u16::MAX))?;
    let place = &top.node("port")?.place;
    if listen == Listen::None {
        return None; // said with all else that means nothing
    }
    if listen != Listen::Port {
        let help = "add `listen = \"port\"`, or leave `port` out";
        problems.error(place, "`port` means something only with listen = \"port\"", "", help);
        return None;
    }
    let Some(last) = port.checked_add(workers - 1) else {
        let title = format!("{workers} workers from port {port} on need ports above 65535");
        problems.error(place, title, "", format!("write at most {}", u16::MAX - (workers - 1)));
        return None;
    };
    if (port..=last).contains(&WORKER_PORT) {
        let title =
            format!("port {WORKER_PORT} is the one that other apps' workers are reached by");
        problems.error(place, title, format!("{port} to {last}"), "choose other ports");
        return None;
    }
    if port < 1024 {
        let problem =
            Problem::warning(place, "workers may not bind ports below 1024 without privileges", "");
        problems.push(
            problem.help("choose a higher one: clients reach the app by the front's port anyway"),
        );
    }
    Some(port)
}

fn ready(listen: Listen, command: &[String], top: Input<'_>, problems: &mut Problems) -> Ready {
    let natural = if listen == Listen::None { Ready::Running } else { Ready::Listening };
    let ready = top.get("ready", natural, problems, choice(READY));
    if let Some(node) = top.node("ready") {
        let (title, help) = match (ready, listen) {
            (Ready::Listening, Listen::None) => {
                ("with listen = \"none\" nothing listens", "leave `ready` out: \"running\"")
            }
            (Ready::Running, Listen::None) => ("", ""),
            (Ready::Running, _) => (
                "ready = \"running\" means something only with listen = \"none\"",
                "leave `ready` out: what listens is ready when it does",
            ),
            _ => ("", ""),
        };
        if !title.is_empty() {
            problems.error(&node.place, title, "cannot be so", help);
        }
    }
    if ready == Ready::Message
        && listen != Listen::Cluster
        && !is_node(command)
        && let Some(node) = top.node("ready")
    {
        problems.error(
            &node.place,
            "only Node apps can send a message",
            "needs Node's channel",
            "write \"listening\", or \"notify\" if the app calls sd_notify",
        );
    }
    ready
}

fn shutdown(
    listen: Listen,
    command: &[String],
    top: Input<'_>,
    problems: &mut Problems,
) -> Shutdown {
    let shutdown = top.get("shutdown", Shutdown::Auto, problems, choice(SHUTDOWN));
    if shutdown == Shutdown::Disconnect
        && listen != Listen::Cluster
        && let Some(node) = top.node("shutdown")
    {
        problems.error(
            &node.place,
            "only workers of Node's cluster can be asked to disconnect",
            "needs listen = \"cluster\"",
            "leave it out, or name the signal that the app takes, such as \"SIGINT\"",
        );
    }
    if shutdown == Shutdown::Message
        && listen != Listen::Cluster
        && !is_node(command)
        && let Some(node) = top.node("shutdown")
    {
        problems.error(
            &node.place,
            "only Node apps can get a message",
            "needs Node's channel",
            "leave it out, or name the signal that the app takes, such as \"SIGINT\"",
        );
    }
    shutdown
}

fn health(section: Input<'_>, problems: &mut Problems) -> Option<Health> {
    let two = Duration::from_secs(2); // soon enough to be noticed, seldom enough to cost nothing
    let interval = section.get("interval", two, problems, duration);
    let timeout = section.get("timeout", two, problems, duration);
    let host = section.optional("host", problems, net::host_header);
    let path = section.required("path", "\"/healthz\"", problems, net::path)?.to_owned();
    Some(Health { path, host, interval, timeout })
}

/// As whom it runs, and in which group: anybody but those whose rights no app is to have.
fn account(kind: AccountKind, node: &Node, problems: &mut Problems) -> Read<String> {
    let name = account_name(node, problems)?;
    if let Some((title, help)) = account::fault(kind, &name) {
        problems.error(&node.place, title, "cannot be so", help);
        return None;
    }
    Some(name)
}

/// A user or group: a name that systemd takes, or a number.
fn account_name(node: &Node, problems: &mut Problems) -> Read<String> {
    if let Value::Integer(id @ 0..=4_294_967_294) = node.value {
        return Some(id.to_string());
    }
    let text = string(node, problems)?;
    let number = text.bytes().all(|b| b.is_ascii_digit())
        && text.parse::<u32>().is_ok_and(|id| id != u32::MAX);
    let first = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    let name = text.len() <= 31
        && text.bytes().next().is_some_and(first)
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    if !number && !name {
        let help = "write a name of letters, digits, '_' and '-', at most 31 of them";
        problems.error(
            &node.place,
            format!("`{text}` cannot be the name of a user or group"),
            "",
            help,
        );
        return None;
    }
    Some(text.to_owned())
}

fn environment(
    node: &Node,
    listen: Listen,
    problems: &mut Problems,
) -> Read<BTreeMap<String, String>> {
    let mut variables = BTreeMap::new();
    for (name, key, value) in Input::named(node, problems)? {
        if schema::is_of_a_top(name) {
            let title = format!("`{name}` is a variable of the app's environment here");
            problems.push(Problem::warning(key, title, "").help(format!(
                "a key is part of the [table] before it: write it above [environment] if you mean the key `{name}`"
            )));
        }
        if let Some(value) = variable(name, key, value, listen, problems) {
            variables.insert(name.to_owned(), value);
        }
    }
    Some(variables)
}

fn variable(
    name: &str,
    key: &Place,
    value: &Node,
    listen: Listen,
    problems: &mut Problems,
) -> Read<String> {
    let first = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    let valid = name.bytes().next().is_some_and(first)
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !valid {
        let help = "write letters, digits and '_', not starting with a digit";
        problems.error(key, format!("`{name}` cannot be the name of a variable"), "", help);
    }
    let reserved = RESERVED.contains(&name)
        || match listen {
            Listen::Port => matches!(name, "HOST" | "PORT"),
            Listen::Unix => name == "SOCKET",
            Listen::Cluster | Listen::Fd | Listen::None => false,
        };
    if reserved {
        let title = format!("`{name}` is set for each worker by Roundsman or systemd");
        let help = match name {
            "PORT" => "leave it out; the first worker's port is `port`",
            _ => "leave it out",
        };
        problems.error(key, title, "", help);
    }
    let text = string(value, problems)?;
    // systemd refuses the whole line otherwise, and the app would start without its variables.
    if text.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\t')) {
        let help = "leave control characters out; line ends and tabs are fine";
        problems.error(&value.place, "systemd passes no control characters to a service", "", help);
        return None;
    }
    if text.len() > 128 * 1024 - 256 {
        problems.push(Problem::error(
            &value.place,
            "the kernel takes at most 128 KiB for one variable",
            "",
        ));
        return None;
    }
    (valid && !reserved).then(|| text.to_owned())
}
