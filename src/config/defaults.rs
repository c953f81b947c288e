//! What the front does where its file says nothing, each with its reason.

use std::time::Duration;

use super::settings::{HandOff, Limits, Retries, Session, SessionSync, Threads, Timeouts};

impl Default for Threads {
    fn default() -> Self {
        Self { count: None, pin: true, hand_off: HandOff::RoundRobin }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            tls_handshake: seconds(10), // three round trips on the worst line
            client_header: seconds(15), // a phone on a bad line needs a few; slowloris wants many
            client_body: seconds(30),
            client_write: seconds(30),
            idle: seconds(75),   // browsers keep connections for a minute
            connect: seconds(2), // servers are near: a longer wait only hides a dead one
            upstream_write: seconds(30),
            response_header: seconds(60),
            response_body: seconds(60),
            upstream_idle: seconds(4), // Node closes after 5 s; see Keep-Alive: timeout
            request: None,             // downloads and event streams take as long as they take
            tunnel_idle: seconds(3600),
            shutdown: seconds(30),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: 32 * 1024, // twice what Node itself takes by default
            headers: 128,
            body: Some(1024 * 1024 * 1024),
            connections: 100_000,
            connections_per_client: None,
            requests_per_connection: 100_000,
            streams_per_connection: 128, // as nginx; browsers open about a hundred
            upstream_idle_connections: 256, // more than are busy at once, or they would be opened anew
            body_rate: 240, // the worst modem does more; a byte now and then is an attack
            response_rate: 240, // the same the other way; IIS and Kestrel ask for as much
        }
    }
}

impl Default for Session {
    fn default() -> Self {
        Self {
            sync: SessionSync::EverySecond,
            max_size: 1024 * 1024 * 1024, // half a million sessions of 2 KB
            memory: 192 * 1024 * 1024,    // a hundred thousand busy sessions of 1 KB
            connections: 10_000,
            idle_stop: None,
            listen: None,
            password_file: None,
        }
    }
}

impl Default for Retries {
    fn default() -> Self {
        Self { attempts: 2, budget_percent: 20 }
    }
}
