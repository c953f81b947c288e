//! The keys of `upstreams/NAME.toml` that are an upstream's alone.

use super::{Section, key};

pub(in crate::config) const UPSTREAM: Section = Section {
    title: "",
    doc: "",
    keys: &[
        key("servers", "array of tables, required", "", "The servers; see [[servers]]."),
        key(
            "route",
            "array of tables",
            "",
            "Which requests they answer; see [[route]]. Without it, and unless a file in routes/ sends \
             requests to the upstream: every host and path.",
        ),
        key("health", "table", "", "See [health]."),
    ],
};

pub(in crate::config) const SERVER: Section = Section {
    title: "[[servers]]",
    doc: "One server of an upstream.",
    keys: &[
        key(
            "address",
            "string, required",
            "",
            "An IP address and port (\"10.0.0.1:8080\", \"[::1]:8080\"), a UNIX socket \
             (\"unix:/run/api.sock\"), or a name that is looked up again and again and stands for as many \
             servers as it has addresses: \"dns:api.internal:8080\", or \
             \"dns-srv:_http._tcp.api.internal\" for SRV records, which also say port, weight and, by \
             their priority, who is a backup. See [dns] in roundsman.toml.",
        ),
        key("weight", "0 to 65535", "1", "Its share in proportion to the others'; 0 for none."),
        key(
            "max-connections",
            "integer from 1",
            "",
            "Requests in flight at this server. Without it: as the upstream says.",
        ),
        key("backup", "boolean", "false", "Gets requests only when no other server can take them."),
        key("down", "boolean", "false", "Gets no requests, but keeps its place in the hashes."),
        key(
            "slow-start",
            "duration",
            "",
            "How long it takes to reach its full share after it came back. Without it: as the upstream says.",
        ),
    ],
};

pub(in crate::config) const UPSTREAM_HEALTH: Section = Section {
    title: "[health] of an upstream",
    doc: "Each server is asked whether it is well.",
    keys: &[
        key("path", "path", "", "What is asked for, with GET. Either this or tcp is required."),
        key("tcp", "boolean", "false", "Only connect, without asking anything."),
        key("host", "host", "", "The Host field to ask with. Without it: the server's address."),
        key("status", "array of statuses and ranges", "[\"200-399\"]", "Responses that pass."),
        key("body", "string", "", "What the body must contain, in its first 64 KiB."),
        key("interval", "duration", "\"2s\"", "Between the starts of two checks."),
        key(
            "jitter",
            "0 to 100",
            "10",
            "Percent of the interval by which each check is early or late.",
        ),
        key("timeout", "duration", "\"2s\"", "For one whole answer."),
        key("fails", "1 to 1000", "3", "Failed checks in a row that remove a server."),
        key("passes", "1 to 1000", "2", "Passed checks in a row that bring it back."),
        key("start", "\"up\" or \"down\"", "\"up\"", "What a server is before its first check."),
    ],
};
