//! What is measured. A new scenario is one more row.

use crate::load::Work;

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) kind: Kind,
    /// What a request is called in the table.
    pub(crate) unit: &'static str,
    /// Whether nginx with its default buffers takes part.
    pub(crate) untuned: bool,
    /// Whether the forwarder is a floor here: it keeps no idle connections to the server, and needs
    /// one for each client.
    pub(crate) floor: bool,
    /// What Roundsman aims at: a peer, and the greatest ratio to it.
    pub(crate) targets: &'static [(&'static str, f64)],
}

/// How it is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// CPU time and throughput, as fast as it goes.
    Load { connections: usize, work: Work },
    /// Latency at half of nginx's throughput.
    Latency { connections: usize, work: Work },
    /// The same beside this many idle connections and without them.
    Crowd { connections: usize, idle: usize, work: Work },
    /// Memory of this many idle connections.
    Memory { connections: usize },
}

const SMALL: Work = Work::Http { reply: 100, upload: 0, close: false, tls: false };

const fn get(reply: usize) -> Work {
    Work::Http { reply, upload: 0, close: false, tls: false }
}

/// Every scenario, in the order of the table.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "keepalive-64",
        title: "keep-alive, small GET, 64 connections",
        kind: Kind::Load { connections: 64, work: SMALL },
        unit: "request",
        untuned: false,
        floor: true,
        targets: &[("nginx", 0.65), ("haproxy", 0.65), ("forwarder", 1.25)],
    },
    Scenario {
        name: "keepalive-256",
        title: "keep-alive, small GET, 256 connections",
        kind: Kind::Load { connections: 256, work: SMALL },
        unit: "request",
        untuned: false,
        floor: true,
        targets: &[("nginx", 0.65), ("haproxy", 0.65), ("forwarder", 1.25)],
    },
    Scenario {
        name: "one-request",
        title: "one request per connection, small GET, 64 at a time",
        kind: Kind::Load {
            connections: 64,
            work: Work::Http { reply: 100, upload: 0, close: true, tls: false },
        },
        unit: "request",
        untuned: false,
        floor: false,
        targets: &[("nginx", 0.72), ("haproxy", 0.70)],
    },
    Scenario {
        name: "get-64k",
        title: "keep-alive, 64 KB GET, 32 connections",
        kind: Kind::Load { connections: 32, work: get(64 << 10) },
        unit: "request",
        untuned: true,
        floor: true,
        targets: &[("nginx", 0.80), ("haproxy", 0.70)],
    },
    Scenario {
        name: "get-1m",
        title: "keep-alive, 1 MB GET, 16 connections",
        kind: Kind::Load { connections: 16, work: get(1 << 20) },
        unit: "request",
        untuned: true,
        floor: true,
        targets: &[("nginx", 0.60), ("haproxy", 0.65)],
    },
    Scenario {
        name: "post-1m",
        title: "keep-alive, 1 MB POST, 16 connections",
        kind: Kind::Load {
            connections: 16,
            work: Work::Http { reply: 100, upload: 1 << 20, close: false, tls: false },
        },
        unit: "request",
        untuned: true,
        floor: true,
        targets: &[("nginx", 0.75), ("haproxy", 0.70)],
    },
    Scenario {
        name: "http2",
        title: "HTTP/2, small GET, 16 connections with 16 streams each",
        kind: Kind::Load { connections: 16, work: Work::Http2 { streams: 16, reply: 100 } },
        unit: "request",
        untuned: false,
        floor: false,
        targets: &[("nginx", 0.9), ("haproxy", 0.9)],
    },
    Scenario {
        name: "tls",
        title: "TLS 1.3, keep-alive, small GET, 64 connections",
        kind: Kind::Load {
            connections: 64,
            work: Work::Http { reply: 100, upload: 0, close: false, tls: true },
        },
        unit: "request",
        untuned: false,
        floor: false,
        targets: &[],
    },
    Scenario {
        name: "tls-handshake",
        title: "TLS 1.3, a full handshake and one small GET per connection, 64 at a time",
        kind: Kind::Load {
            connections: 64,
            work: Work::Http { reply: 100, upload: 0, close: true, tls: true },
        },
        unit: "request",
        untuned: false,
        floor: false,
        targets: &[],
    },
    Scenario {
        name: "websocket",
        title: "WebSocket, echo of 64 bytes, 64 connections",
        kind: Kind::Load { connections: 64, work: Work::WebSocket },
        unit: "message",
        untuned: false,
        floor: true,
        targets: &[],
    },
    Scenario {
        name: "latency",
        title: "latency, small GET, 64 connections, at half of nginx's throughput",
        kind: Kind::Latency { connections: 64, work: SMALL },
        unit: "request",
        untuned: false,
        floor: true,
        targets: &[("nginx", 1.0), ("haproxy", 1.0)],
    },
    Scenario {
        name: "crowd",
        title: "latency, small GET, 64 busy connections beside 10,000 idle ones",
        kind: Kind::Crowd { connections: 64, idle: 10_000, work: SMALL },
        unit: "request",
        untuned: false,
        floor: false,
        targets: &[],
    },
    Scenario {
        name: "memory",
        title: "memory, 10,000 idle keep-alive connections",
        kind: Kind::Memory { connections: 10_000 },
        unit: "connection",
        untuned: false,
        floor: false,
        targets: &[],
    },
];
