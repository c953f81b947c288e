//! `roundsman.toml`: input → settings.

use std::collections::BTreeMap;
use std::time::Duration;

use super::diagnostic::{Place, Problem, Problems};
use super::fragment::{Node, Table};
use super::input::{
    self, Input, Read, boolean, choice, duration, integer, list, or_word, size, size_within, string,
};
use super::settings::{
    Front, HandOff, Limits, PerClient, Retries, Session, SessionSync, Threads, Timeouts,
};
use super::{dns, listener, net, schema};

const HAND_OFF: &[(&str, HandOff)] =
    &[("round-robin", HandOff::RoundRobin), ("least-connections", HandOff::LeastConnections)];

const SYNC: &[(&str, SessionSync)] =
    &[("always", SessionSync::Always), ("every-second", SessionSync::EverySecond)];

/// Reads the file.
pub(super) fn read(table: &Table, place: &Place, problems: &mut Problems) -> Front {
    let top = Input::new(table, place, &[&schema::FRONT], problems);
    let mut front = Front {
        trusted_proxies: top
            .get("trusted-proxies", Vec::new(), problems, |n, p| list(n, p, input::network)),
        pass_ambiguous_paths: top.get("pass-ambiguous-paths", false, problems, boolean),
        serve_half_closed: top.get("serve-half-closed", false, problems, boolean),
        ..Front::default()
    };
    if let Some(node) = top.node("threads")
        && let Some(section) = Input::of_node(node, &[&schema::THREADS], problems)
    {
        threads(&mut front.threads, section, problems);
    }
    if let Some(listeners) = top.optional("listen", problems, Input::named) {
        for (name, key, node) in listeners {
            if name.is_empty()
                || name.len() > 255
                || !name.bytes().all(|b| b.is_ascii_graphic() && b != b':')
            {
                problems.error(
                    key,
                    format!("`{name}` cannot be a FileDescriptorName="),
                    "",
                    "use letters, digits and '-', as in [listen.http]",
                );
            }
            let Some(section) = Input::of_node(node, &[&schema::LISTENER], problems) else {
                continue;
            };
            let listener = listener::read(name, section, problems);
            if listener.proxy_protocol
                && front.trusted_proxies.is_empty()
                && let Some(node) = section.node("proxy-protocol")
            {
                let title = "no proxy is trusted: connections over TCP will all be closed";
                problems.push(Problem::warning(&node.place, title, "").help(
                    "write the proxies' addresses into `trusted-proxies`, above the first [table]",
                ));
            }
            front.listeners.insert(name.to_owned(), listener);
        }
    }
    if let Some(node) = top.node("timeouts")
        && let Some(section) = Input::of_node(node, &[&schema::TIMEOUTS], problems)
    {
        timeouts(&mut front.timeouts, section, problems);
    }
    if let Some(node) = top.node("limits")
        && let Some(section) = Input::of_node(node, &[&schema::LIMITS], problems)
    {
        limits(&mut front.limits, section, problems);
    }
    if let Some(node) = top.node("retries")
        && let Some(section) = Input::of_node(node, &[&schema::RETRIES], problems)
    {
        retries(&mut front.retries, section, problems);
    }
    if let Some(node) = top.node("dns")
        && let Some(section) = Input::of_node(node, &[&schema::DNS], problems)
    {
        front.dns = dns::read(section, problems);
    }
    if let Some(node) = top.node("session")
        && let Some(section) = Input::of_node(node, &[&schema::SESSION], problems)
    {
        session(&mut front.session, section, problems);
    }
    front.error_pages = top.get("error-pages", front.error_pages, problems, error_pages);
    front
}

fn threads(to: &mut Threads, from: Input<'_>, problems: &mut Problems) {
    to.count = from.get("count", to.count, problems, or_word("auto", integer(1..=1024_usize)));
    to.pin = from.get("pin", to.pin, problems, boolean);
    to.hand_off = from.get("hand-off", to.hand_off, problems, choice(HAND_OFF));
}

fn timeouts(to: &mut Timeouts, from: Input<'_>, problems: &mut Problems) {
    let mut set = |key: &str, value: &mut Duration| {
        *value = from.get(key, *value, problems, duration);
    };
    set("tls-handshake", &mut to.tls_handshake);
    set("client-header", &mut to.client_header);
    set("client-body", &mut to.client_body);
    set("client-write", &mut to.client_write);
    set("idle", &mut to.idle);
    set("connect", &mut to.connect);
    set("upstream-write", &mut to.upstream_write);
    set("response-header", &mut to.response_header);
    set("response-body", &mut to.response_body);
    set("upstream-idle", &mut to.upstream_idle);
    set("tunnel-idle", &mut to.tunnel_idle);
    set("shutdown", &mut to.shutdown);
    to.request = from.get("request", to.request, problems, or_word("none", duration));
    if to.upstream_idle >= Duration::from_secs(5)
        && let Some(node) = from.node("upstream-idle")
    {
        let title =
            "Node closes unused connections after 5 s: some requests will meet a closing one";
        problems.push(
            Problem::warning(&node.place, title, "")
                .help("write less than \"5s\", unless every server keeps connections longer"),
        );
    }
}

fn limits(to: &mut Limits, from: Input<'_>, problems: &mut Problems) {
    let header_bytes = size_within(1024..=1024 * 1024, "write a size from \"1KiB\" to \"1MiB\"");
    let connections = || integer(1..=10_000_000_usize);
    if let Some(bytes) = from.optional("header-bytes", problems, header_bytes) {
        to.header_bytes = usize::try_from(bytes).unwrap_or(to.header_bytes);
    }
    to.headers = from.get("headers", to.headers, problems, integer(1..=512_usize));
    to.body = from.get("body", to.body, problems, or_word("none", size));
    to.connections = from.get("connections", to.connections, problems, connections());
    let per_client = or_word("half", or_word("none", connections()));
    if let Some(given) = from.optional("connections-per-client", problems, per_client) {
        to.connections_per_client = match given {
            None => PerClient::Half,
            Some(None) => PerClient::Unlimited,
            Some(Some(most)) => PerClient::AtMost(most),
        };
    }
    to.requests_per_connection = from.get(
        "requests-per-connection",
        to.requests_per_connection,
        problems,
        integer(1..=i64::MAX.cast_unsigned()),
    );
    to.streams_per_connection = from.get(
        "streams-per-connection",
        to.streams_per_connection,
        problems,
        integer(1..=10_000_u32),
    );
    to.upstream_idle_connections = from.get(
        "upstream-idle-connections",
        to.upstream_idle_connections,
        problems,
        integer(0..=100_000_usize),
    );
    let rate = || integer(0..=i64::MAX.cast_unsigned());
    to.body_rate = from.get("body-rate", to.body_rate, problems, rate());
    to.response_rate = from.get("response-rate", to.response_rate, problems, rate());
}

fn retries(to: &mut Retries, from: Input<'_>, problems: &mut Problems) {
    to.attempts = from.get("attempts", to.attempts, problems, integer(0..=10_u32));
    to.budget_percent =
        from.get("budget-percent", to.budget_percent, problems, integer(0..=100_u32));
}

fn session(to: &mut Session, from: Input<'_>, problems: &mut Problems) {
    let max_size = size_within(1024 * 1024..=u64::MAX, "write \"1MiB\" or more");
    to.sync = from.get("sync", to.sync, problems, choice(SYNC));
    to.max_size = from.get("max-size", to.max_size, problems, max_size);
    let memory = size_within(8 * 1024 * 1024..=1 << 40, "write \"8MiB\" or more");
    let memory = from.get("memory", to.memory as u64, problems, memory);
    to.memory = usize::try_from(memory).unwrap_or(usize::MAX);
    to.connections =
        from.get("connections", to.connections, problems, integer(1..=1_000_000_usize));
    to.idle_stop = from.get("idle-stop", to.idle_stop, problems, or_word("none", duration));
    to.listen = from.optional("listen", problems, net::listener);
    to.password_file = from.optional("password-file", problems, input::absolute_path);
    if let Some(node) = from.node("listen")
        && from.node("password-file").is_none()
    {
        problems.error(
            &node.place,
            "sessions over TCP need a password",
            "",
            "add `password-file = \"/etc/roundsman/session-passwords\"`, with lines of NAMESPACE:PASSWORD",
        );
    }
}

/// Pages by status, written in place: a file of their own could be gone when the last good
/// configuration is needed.
fn error_pages(node: &Node, problems: &mut Problems) -> Read<BTreeMap<u16, String>> {
    let mut pages = BTreeMap::new();
    for (name, key, node) in Input::named(node, problems)? {
        let page = string(node, problems);
        match name.parse::<u16>() {
            Ok(status @ 400..=599) if name.len() == 3 => {
                pages.extend(page.map(|page| (status, page.to_owned())));
            }
            _ => {
                let title = format!("`{name}` is no status of an error");
                problems.error(
                    key,
                    title,
                    "",
                    "write a number from 400 to 599, as in 503 = \"<h1>…</h1>\"",
                );
            }
        }
    }
    Some(pages)
}
