//! The request path at the wire: real threads, real sockets.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod audited;
mod bodies;
mod cases;
mod clients;
mod conversations;
mod differential;
mod fairness;
mod forward;
mod gone;
mod http2;
mod https;
mod identity;
mod idle;
mod known_attacks;
mod lifecycle;
mod limits;
mod owners;
mod proxy_protocol;
mod retries;
mod slow_clients;
mod slow_readers;
mod support;
mod tls;
mod upgrade;
mod websocket;
