//! The cluster primary that an app's cluster worker talks to: pure, what to do comes out as a
//! decision.
//!
//! One server of the app gets the connections of the front: the one that `PORT` names, if `PORT` is
//! set, and otherwise the first one that listens and is no pipe of the program's own. It is answered in Node's round-robin style, so it
//! has no socket at all and its port can be what it likes. Every other server gets a real socket.

use rustix::io::Errno;
use serde_json::{Value, json};

use super::endpoint::Endpoint;
use crate::worker::channel::ClusterMessage;

/// What the front's server is told its port is when it asked for any: always the same.
pub(super) use crate::config::settings::WORKER_PORT as ANY_PORT;

/// The state of the conversation.
#[derive(Debug)]
pub(super) struct Primary {
    servers: Vec<Server>,
    port_variable: Option<String>,
    next_sequence: u64,
    next_key: u64,
    stopping: bool,
}

#[derive(Debug)]
struct Server {
    key: String,
    endpoint: Endpoint,
    front: bool,
    listening: bool,
}

/// What is to be done about a message.
#[derive(Debug, PartialEq)]
pub(super) enum Decision {
    /// Nothing.
    Nothing,
    /// Answer with this.
    Reply(Value),
    /// The app gets this error from its `listen()`.
    Refuse(Value, Endpoint, Errno),
    /// Bind this endpoint, then call [`Primary::bound`].
    Bind(Request),
    /// A server listens now; whether it is the front's.
    Listening(Endpoint, bool),
    /// A server is closed now; whether it was the front's.
    Closed(Endpoint, bool),
    /// The app's first sign of life, before any of its own code runs.
    Online,
    /// The app leaves of its own accord; it must be answered with this first.
    Leaving(Value),
    /// The app's answer to message `sequence`: whether it took the connection.
    Answered {
        /// The number of the message that offered it.
        sequence: u64,
        /// Taken, or not.
        accepted: bool,
    },
}

/// A server that needs a socket of its own.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Request {
    /// Where.
    pub(super) endpoint: Endpoint,
    ack: Option<u64>,
    data: Value,
}

impl Primary {
    /// `port_variable` is the app's `PORT`, if it has one.
    pub(super) fn new(port_variable: Option<String>) -> Self {
        Self { servers: Vec::new(), port_variable, next_sequence: 0, next_key: 1, stopping: false }
    }

    /// The key of the server that gets the front's connections, once it listens.
    pub(super) fn front(&self) -> Option<&str> {
        let server = self.servers.iter().find(|server| server.front && server.listening);
        server.map(|server| server.key.as_str())
    }

    /// Decides about one message.
    pub(super) fn receive(&mut self, message: ClusterMessage) -> Decision {
        if let (Some(sequence), Some(accepted)) = (message.ack, message.accepted) {
            return Decision::Answered { sequence, accepted };
        }
        match message.act.as_deref() {
            Some("online") => Decision::Online,
            Some("queryServer") => self.query(message),
            Some("listening") => self.listening(&message),
            Some("close") => self.close(message.key.as_deref()),
            Some("exitedAfterDisconnect") => {
                self.stopping = true;
                Decision::Leaving(self.message(json!({ "ack": message.seq })))
            }
            _ => Decision::Nothing,
        }
    }

    fn query(&mut self, message: ClusterMessage) -> Decision {
        if self.stopping {
            return Decision::Nothing; // as Node's primary: a worker that leaves gets no servers
        }
        let endpoint = match Endpoint::of(&message) {
            Ok(endpoint) => endpoint,
            Err(errno) => {
                let asked = Endpoint::Path(message.address.unwrap_or_default());
                return Decision::Refuse(self.error(message.seq, errno), asked, errno);
            }
        };
        let front = self.is_front(&endpoint);
        let refused = if self.servers.iter().any(|server| server.endpoint.conflicts(&endpoint)) {
            Some(Errno::ADDRINUSE)
        } else if !front && matches!(endpoint, Endpoint::Descriptor(_)) {
            Some(Errno::BADF)
        } else {
            None
        };
        if let Some(errno) = refused {
            return Decision::Refuse(self.error(message.seq, errno), endpoint, errno);
        }
        if !front {
            return Decision::Bind(Request { endpoint, ack: message.seq, data: message.data });
        }
        let sockname = endpoint.sockname(ANY_PORT);
        let endpoint = match &endpoint {
            Endpoint::Tcp { port: 0, .. } => endpoint.at_port(ANY_PORT),
            _ => endpoint,
        };
        let key = self.open(endpoint, true);
        let mut reply = json!({ "key": key, "ack": message.seq, "data": message.data });
        if let Some(sockname) = sockname {
            reply["sockname"] = sockname;
        }
        Decision::Reply(self.message(reply))
    }

    fn is_front(&self, endpoint: &Endpoint) -> bool {
        !matches!(endpoint, Endpoint::Udp { .. })
            && !self.servers.iter().any(|server| server.front)
            && match self.port_variable.as_deref() {
                Some(port) => endpoint.is_named(port),
                None => !endpoint.is_private(),
            }
    }

    fn open(&mut self, endpoint: Endpoint, front: bool) -> String {
        let key = format!("roundsman-{}", self.next_key);
        self.next_key += 1;
        self.servers.push(Server { key: key.clone(), endpoint, front, listening: false });
        key
    }

    /// The answer to a server whose socket could be bound, at `assigned` if that is TCP.
    pub(super) fn bound(&mut self, request: Request, assigned: Option<u16>) -> Value {
        let endpoint = match assigned {
            Some(port) => request.endpoint.at_port(port),
            None => request.endpoint,
        };
        let key = self.open(endpoint, false);
        self.message(json!({ "key": key, "ack": request.ack, "data": request.data }))
    }

    /// The answer to a server whose socket could not be bound.
    pub(super) fn not_bound(&mut self, request: &Request, errno: Errno) -> Value {
        self.error(request.ack, errno)
    }

    fn listening(&mut self, message: &ClusterMessage) -> Decision {
        let Ok(endpoint) = Endpoint::of(message) else {
            return Decision::Nothing;
        };
        // The message names no key. Its port is the one that `server.address()` gave.
        let found =
            self.servers.iter_mut().find(|server| !server.listening && server.endpoint == endpoint);
        match found {
            Some(server) => {
                server.listening = true;
                Decision::Listening(server.endpoint.clone(), server.front)
            }
            None => Decision::Nothing,
        }
    }

    fn close(&mut self, key: Option<&str>) -> Decision {
        let found = self.servers.iter().position(|server| Some(server.key.as_str()) == key);
        match found {
            Some(index) => {
                let server = self.servers.remove(index);
                Decision::Closed(server.endpoint, server.front)
            }
            None => Decision::Nothing,
        }
    }

    /// The message that offers a connection to server `key`, which is one of our own names, as JSON;
    /// and its number.
    pub(super) fn connection(&mut self, key: &str) -> (u64, String) {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let text =
            format!(r#"{{"cmd":"NODE_CLUSTER","act":"newconn","key":"{key}","seq":{sequence}}}"#);
        (sequence, text)
    }

    /// The message that asks the app to close its servers and leave.
    pub(super) fn disconnect(&mut self) -> Value {
        self.stopping = true;
        self.message(json!({ "act": "disconnect" }))
    }

    fn error(&mut self, ack: Option<u64>, errno: Errno) -> Value {
        self.message(json!({ "errno": -errno.raw_os_error(), "key": "none", "ack": ack }))
    }

    fn message(&mut self, mut content: Value) -> Value {
        content["cmd"] = "NODE_CLUSTER".into();
        content["seq"] = self.next_sequence.into();
        self.next_sequence += 1;
        content
    }
}

#[cfg(test)]
#[path = "primary_tests.rs"]
mod tests;
