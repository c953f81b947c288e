//! The keys that apps and upstreams have in common: how servers share requests.

use super::{Section, key};

pub(in crate::config) const BALANCING: Section = Section {
    title: "",
    doc: "In the files of apps and upstreams: how their servers share the requests.",
    keys: &[
        key(
            "balance",
            "string",
            "\"round-robin\"",
            "The algorithm: \"round-robin\", \"weighted-round-robin\" (smooth), \"ip-hash\" (by the client's \
             network, as nginx does it), \"hash\" (see [hash]), \"least-connections\" or \"peak-ewma\" (the \
             better of two by latency and load).",
        ),
        key(
            "protocol",
            "\"http1\" or \"h2c\"",
            "\"http1\"",
            "What the servers speak: HTTP/1.1, or HTTP/2 in cleartext without an upgrade, as gRPC servers do.",
        ),
        key(
            "proxy-protocol",
            "\"v1\" or \"v2\"",
            "",
            "The header of the PROXY protocol that each connection to a server begins with, so that it \
             knows the client's address. A connection is then kept for one client's requests only. \
             Without it: none.",
        ),
        key(
            "queue",
            "0 to 1000000",
            "1000",
            "Requests that may wait while no server can take one.",
        ),
        key(
            "queue-timeout",
            "duration",
            "\"30s\"",
            "How long one may wait; then the answer is 503.",
        ),
        key(
            "max-connections",
            "integer from 1 or \"none\"",
            "\"none\"",
            "Requests in flight at one server.",
        ),
        key(
            "slow-start",
            "duration",
            "\"0s\"",
            "How long a server that came back takes to reach its full share.",
        ),
        key("hash", "table", "", "See [hash]."),
        key("sticky", "table", "", "See [sticky]."),
        key("passive", "table", "", "See [passive]."),
    ],
};

pub(in crate::config) const HASH: Section = Section {
    title: "[hash]",
    doc: "With balance = \"hash\".",
    keys: &[
        key(
            "on",
            "\"client-address\", \"header:NAME\", \"cookie:NAME\" or \"path\"",
            "\"client-address\"",
            "What is hashed.",
        ),
        key(
            "method",
            "\"maglev\", \"ketama\" or \"modulo\"",
            "\"maglev\"",
            "How a hash becomes a server. \"maglev\": even, and losing a server moves few but its own \
             clients. \"ketama\": as nginx's hash with consistent. \"modulo\": as nginx's hash without it.",
        ),
    ],
};

pub(in crate::config) const STICKY: Section = Section {
    title: "[sticky]",
    doc: "A cookie that pins a client to its server.",
    keys: &[
        key("cookie", "string, required", "", "The cookie's name."),
        key(
            "max-age",
            "duration",
            "",
            "How long browsers keep it. Without it: until they are closed.",
        ),
        key("secure", "boolean", "false", "Whether it is sent over TLS only."),
        key(
            "drain",
            "boolean",
            "false",
            "Whether a draining server still gets the clients that are pinned to it.",
        ),
        key(
            "secret",
            "string of at least 16 bytes",
            "",
            "What the cookie is signed with; equal on every front that shares clients. Without it: a secret \
             of this machine.",
        ),
    ],
};

pub(in crate::config) const PASSIVE: Section = Section {
    title: "[passive]",
    doc: "What is learnt about servers from the requests themselves.",
    keys: &[
        key(
            "max-fails",
            "0 to 1000",
            "3",
            "Failures within fail-window that eject a server; 0 for never.",
        ),
        key("fail-window", "duration", "\"10s\"", "How far back failures count."),
        key(
            "fail-timeout",
            "duration",
            "\"10s\"",
            "How long an ejected server is left alone before one request tries it.",
        ),
        key(
            "failures",
            "array",
            "[\"connect\", \"timeout\", \"invalid-response\"]",
            "What counts as a failure, besides statuses.",
        ),
        key(
            "statuses",
            "array of statuses and ranges",
            "[\"502-504\"]",
            "Responses that count as a failure.",
        ),
        key(
            "error-rate",
            "0 to 100",
            "50",
            "Percent of failures and 5xx responses within fail-window that eject a server when the others do \
             better; 0 for never.",
        ),
        key(
            "min-requests",
            "integer from 1",
            "50",
            "With fewer within fail-window, error-rate means nothing.",
        ),
        key(
            "max-ejected",
            "0 to 100",
            "50",
            "Percent of the servers that may be ejected by all this.",
        ),
        key(
            "panic-threshold",
            "0 to 100",
            "50",
            "When less than this percent of the servers look healthy, health is not believed and all are \
             used; 0 for never.",
        ),
    ],
};
