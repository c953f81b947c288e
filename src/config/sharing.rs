//! How servers share requests (`balance`, `sticky`, `passive`, …): input → settings.

use std::ops::RangeInclusive;

use super::diagnostic::{Problem, Problems};
use super::fragment::{Node, Value};
use super::input::{
    Input, Read, boolean, choice, duration, duration_or_zero, integer, list, or_word, string,
};
use super::settings::{
    ActiveCheck, Algorithm, Balancing, Failures, Hash, HashKey, HashMethod, HttpProbe, Passive,
    Probe, ProxyVersion, ServerProtocol, SplitKey, StartState, Statuses, Sticky,
};
use super::{net, schema};

/// `balance =`, before `[hash]` is known.
#[derive(Clone, Copy, PartialEq)]
enum Name {
    RoundRobin,
    WeightedRoundRobin,
    IpHash,
    Hash,
    LeastConnections,
    PeakEwma,
}

const ALGORITHMS: &[(&str, Name)] = &[
    ("round-robin", Name::RoundRobin),
    ("weighted-round-robin", Name::WeightedRoundRobin),
    ("ip-hash", Name::IpHash),
    ("hash", Name::Hash),
    ("least-connections", Name::LeastConnections),
    ("peak-ewma", Name::PeakEwma),
];

const METHODS: &[(&str, HashMethod)] = &[
    ("maglev", HashMethod::Maglev),
    ("ketama", HashMethod::Ketama),
    ("modulo", HashMethod::Modulo),
];

const STARTS: &[(&str, StartState)] = &[("up", StartState::Up), ("down", StartState::Down)];

const PROTOCOLS: &[(&str, ServerProtocol)] =
    &[("http1", ServerProtocol::Http1), ("h2c", ServerProtocol::H2c)];

#[derive(Clone, Copy)]
enum CountedFailure {
    Connect,
    Timeout,
    InvalidResponse,
}

const FAILURES: &[(&str, CountedFailure)] = &[
    ("connect", CountedFailure::Connect),
    ("timeout", CountedFailure::Timeout),
    ("invalid-response", CountedFailure::InvalidResponse),
];

const VERSIONS: &[(&str, ProxyVersion)] = &[("v1", ProxyVersion::V1), ("v2", ProxyVersion::V2)];

/// Reads what apps and upstreams have in common.
pub(super) fn read(top: Input<'_>, problems: &mut Problems) -> Balancing {
    let default = Balancing::default();
    let hash = top
        .node("hash")
        .and_then(|node| Input::of_node(node, &[&schema::HASH], problems))
        .map(|section| hash(section, problems));
    let name = top.get("balance", Name::RoundRobin, problems, choice(ALGORITHMS));
    if name != Name::Hash
        && hash.is_some()
        && let Some(node) = top.node("hash")
    {
        problems.error(
            &node.place,
            "`hash` means something only with balance = \"hash\"",
            "",
            "add `balance = \"hash\"`, or leave `hash` out",
        );
    }
    let protocol = top.get("protocol", default.protocol, problems, choice(PROTOCOLS));
    let proxy_protocol = top.optional("proxy-protocol", problems, choice(VERSIONS));
    if protocol == ServerProtocol::H2c
        && let Some(node) = top.node("proxy-protocol")
    {
        problems.error(
            &node.place,
            "`proxy-protocol` and \"h2c\" exclude each other",
            "",
            "leave one of them out: clients share an HTTP/2 connection, and the header is for one",
        );
    }
    Balancing {
        algorithm: match name {
            Name::RoundRobin => Algorithm::RoundRobin,
            Name::WeightedRoundRobin => Algorithm::WeightedRoundRobin,
            Name::IpHash => Algorithm::IpHash,
            Name::Hash => Algorithm::Hash(hash.unwrap_or_default()),
            Name::LeastConnections => Algorithm::LeastConnections,
            Name::PeakEwma => Algorithm::PeakEwma,
        },
        protocol,
        proxy_protocol,
        queue: top.get("queue", default.queue, problems, integer(0..=1_000_000_usize)),
        queue_timeout: top.get("queue-timeout", default.queue_timeout, problems, duration),
        max_connections: top.get(
            "max-connections",
            default.max_connections,
            problems,
            or_word("none", integer(1..=u32::MAX)),
        ),
        slow_start: top.get("slow-start", default.slow_start, problems, duration_or_zero),
        sticky: top
            .node("sticky")
            .and_then(|node| Input::of_node(node, &[&schema::STICKY], problems))
            .and_then(|section| sticky(section, problems)),
        passive: top
            .node("passive")
            .and_then(|node| Input::of_node(node, &[&schema::PASSIVE], problems))
            .map_or_else(Passive::default, |section| passive(section, problems)),
        active: None, // upstreams only: systemd knows the workers of an app better
    }
}

fn hash(section: Input<'_>, problems: &mut Problems) -> Hash {
    Hash {
        on: section.get("on", HashKey::default(), problems, hash_key),
        method: section.get("method", HashMethod::default(), problems, choice(METHODS)),
    }
}

fn hash_key(node: &Node, problems: &mut Problems) -> Read<HashKey> {
    match string(node, problems)? {
        "client-address" => Some(HashKey::ClientAddress),
        "path" => Some(HashKey::Path),
        text => match text.split_once(':') {
            Some(("header", name)) => header_name(name, node, problems).map(HashKey::Header),
            Some(("cookie", name)) => cookie_name(name, node, problems).map(HashKey::Cookie),
            _ => {
                let help = "write \"client-address\", \"header:NAME\", \"cookie:NAME\" or \"path\"";
                problems.error(&node.place, format!("`{text}` is not known"), "", help);
                None
            }
        },
    }
}

/// `by =` of a split.
pub(super) fn split_key(node: &Node, problems: &mut Problems) -> Read<SplitKey> {
    match string(node, problems)? {
        "ip" => Some(SplitKey::Ip),
        "random" => Some(SplitKey::Random),
        text => match text.split_once(':') {
            Some(("header", name)) => header_name(name, node, problems).map(SplitKey::Header),
            Some(("cookie", name)) => cookie_name(name, node, problems).map(SplitKey::Cookie),
            _ => {
                let help = "write \"ip\", \"cookie:NAME\", \"header:NAME\" or \"random\"";
                problems.error(&node.place, format!("`{text}` is not known"), "", help);
                None
            }
        },
    }
}

fn header_name(name: &str, node: &Node, problems: &mut Problems) -> Read<String> {
    token(name, "header", node, problems).map(|name| name.to_ascii_lowercase())
}

fn cookie_name(name: &str, node: &Node, problems: &mut Problems) -> Read<String> {
    token(name, "cookie", node, problems)
}

/// A token as HTTP has it: header fields and cookies are named by one.
fn token(name: &str, what: &str, node: &Node, problems: &mut Problems) -> Read<String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || name.len() > 256 || !name.bytes().all(allowed) {
        let title = format!("`{name}` cannot be the name of a {what}");
        problems.error(&node.place, title, "", "write letters, digits, '-' and '_'");
        return None;
    }
    Some(name.to_owned())
}

fn sticky(section: Input<'_>, problems: &mut Problems) -> Option<Sticky> {
    let max_age = section.optional("max-age", problems, duration);
    let secure = section.get("secure", false, problems, boolean);
    let drain = section.get("drain", false, problems, boolean);
    let secret = section.optional("secret", problems, |node, problems| {
        let secret = string(node, problems)?;
        if secret.len() < 16 {
            let help = "write at least 16 bytes, as `openssl rand -base64 24` prints them";
            problems.error(&node.place, "this secret is too short", "", help);
            return None;
        }
        Some(secret.to_owned())
    });
    let cookie = section.required("cookie", "\"server\"", problems, |node, problems| {
        cookie_name(string(node, problems)?, node, problems)
    })?;
    Some(Sticky { cookie, max_age, secure, drain, secret })
}

fn passive(section: Input<'_>, problems: &mut Problems) -> Passive {
    let d = Passive::default();
    let percent = || integer(0..=100_u32);
    Passive {
        max_fails: section.get("max-fails", d.max_fails, problems, integer(0..=1000_u32)),
        fail_window: section.get("fail-window", d.fail_window, problems, duration),
        fail_timeout: section.get("fail-timeout", d.fail_timeout, problems, duration),
        failures: section.get("failures", d.failures, problems, failures),
        statuses: section.get("statuses", d.statuses, problems, statuses),
        error_rate: section.get("error-rate", d.error_rate, problems, percent()),
        min_requests: section.get("min-requests", d.min_requests, problems, integer(1..=u32::MAX)),
        max_ejected: section.get("max-ejected", d.max_ejected, problems, percent()),
        panic_threshold: section.get("panic-threshold", d.panic_threshold, problems, percent()),
    }
}

fn failures(node: &Node, problems: &mut Problems) -> Read<Failures> {
    let mut set = Failures { connect: false, timeout: false, invalid_response: false };
    for failure in list(node, problems, choice(FAILURES))? {
        match failure {
            CountedFailure::Connect => set.connect = true,
            CountedFailure::Timeout => set.timeout = true,
            CountedFailure::InvalidResponse => set.invalid_response = true,
        }
    }
    Some(set)
}

/// `[404, "500-503"]`.
fn statuses(node: &Node, problems: &mut Problems) -> Read<Statuses> {
    list(node, problems, status_range).map(Statuses)
}

fn status_range(node: &Node, problems: &mut Problems) -> Read<RangeInclusive<u16>> {
    let range = match &node.value {
        Value::Integer(status) => u16::try_from(*status).ok().map(|s| s..=s),
        Value::String(text) => {
            let (low, high) = text.split_once('-').unwrap_or((text, text));
            low.trim().parse().ok().zip(high.trim().parse().ok()).map(|(low, high)| low..=high)
        }
        _ => None,
    };
    match range {
        Some(range) if *range.start() >= 100 && *range.end() <= 599 && !range.is_empty() => {
            Some(range)
        }
        _ => {
            let help = "write a number from 100 to 599, or a range as in \"500-503\"";
            problems.error(&node.place, "this is no HTTP status", "", help);
            None
        }
    }
}

/// `[health]` of an upstream.
pub(super) fn active(section: Input<'_>, problems: &mut Problems) -> Option<ActiveCheck> {
    let d = ActiveCheck::default();
    let count = || integer(1..=1000_u32);
    let tcp = section.get("tcp", false, problems, boolean);
    let path = section.optional("path", problems, net::path);
    let http = HttpProbe::default();
    let host = section.optional("host", problems, net::host_header);
    let statuses = section.get("status", http.statuses, problems, statuses);
    let body = section.optional("body", problems, string).map(str::to_owned);
    let check = ActiveCheck {
        probe: d.probe,
        interval: section.get("interval", d.interval, problems, duration),
        jitter: section.get("jitter", d.jitter, problems, integer(0..=100_u32)),
        timeout: section.get("timeout", d.timeout, problems, duration),
        fails: section.get("fails", d.fails, problems, count()),
        passes: section.get("passes", d.passes, problems, count()),
        start: section.get("start", d.start, problems, choice(STARTS)),
    };
    let probe = match (section.node("path"), tcp) {
        (Some(_), false) => Probe::Http(HttpProbe { path: path?.to_owned(), host, statuses, body }),
        (Some(node), true) => {
            problems.error(
                &node.place,
                "`tcp` asks for nothing, so there is no path",
                "",
                "leave one of them out",
            );
            return None;
        }
        (None, true) => {
            for key in ["host", "status", "body"] {
                if let Some(node) = section.node(key) {
                    let title = format!("`{key}` means something only with `path`");
                    problems.push(
                        Problem::error(&node.place, title, "")
                            .help("leave it out, or write `path` instead of `tcp`"),
                    );
                }
            }
            Probe::Tcp
        }
        (None, false) => {
            let help = "write `path = \"/healthz\"`, or `tcp = true` to connect only";
            problems.error(section.place(), "it is not said what to ask", "", help);
            return None;
        }
    };
    Some(ActiveCheck { probe, ..check })
}
