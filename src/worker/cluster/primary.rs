//! The cluster primary that an app's cluster worker talks to: pure, what to do comes out as a
//! decision.
//!
//! One server of the app gets the connections of the front: the one that `PORT` names, if `PORT` is
//! set, and otherwise the first one that listens and is no pipe of the program's own. It is answered in Node's round-robin style, so it
//! has no socket at all and its port can be what it likes. Every other server gets a real socket, which it has in
//! common with the app's other workers (see `worker::shared`).

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
    /// What all workers call it.
    name: String,
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
    /// Get what this needs, from a sibling or anew, then call [`Primary::settled`] or [`Primary::refused`].
    Claim(Request),
    /// A server listens now; whether it is the front's.
    Listening(Endpoint, bool),
    /// A server is closed now.
    Closed(Closed),
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

/// A server that has something in common with those of other workers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Request {
    /// Where.
    pub(super) endpoint: Endpoint,
    /// It is the front's, and needs no socket.
    pub(super) front: bool,
    /// What all workers call it.
    pub(super) name: String,
    /// What the app gives to it: ticket keys, for a server with TLS.
    pub(super) data: Value,
    key: String,
    ack: Option<u64>,
}

/// A server that was closed.
#[derive(Debug, PartialEq)]
pub(super) struct Closed {
    /// Where it listened.
    pub(super) endpoint: Endpoint,
    /// It was the front's.
    pub(super) front: bool,
    /// What all workers call it.
    pub(super) name: String,
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
                let path = message.address.unwrap_or_default();
                let asked = Endpoint::Path { path, for_all: message.for_all };
                return Decision::Refuse(self.error(message.seq, errno), asked, errno);
            }
        };
        let front = self.is_front(&endpoint);
        // Also of two that have sockets: the first may not have its own yet.
        let refused = if self.servers.iter().any(|server| server.endpoint.conflicts(&endpoint)) {
            Some(Errno::ADDRINUSE)
        } else if !front && matches!(endpoint, Endpoint::Descriptor(_)) {
            Some(Errno::INVAL) // as Node's primary, which has no such descriptor
        } else {
            None
        };
        if let Some(errno) = refused {
            return Decision::Refuse(self.error(message.seq, errno), endpoint, errno);
        }
        let endpoint = match &endpoint {
            Endpoint::Tcp { port: 0, .. } if front => endpoint.at_port(ANY_PORT),
            _ => endpoint,
        };
        let name = self.name(&message, front);
        let key = self.open(name.clone(), endpoint.clone(), front);
        let ClusterMessage { data, seq: ack, .. } = message;
        let request = Request { endpoint, front, name, data, key, ack };
        if front && request.data.is_null() {
            Decision::Reply(self.settled(&request, None, &Value::Null))
        } else {
            Decision::Claim(request)
        }
    }

    fn is_front(&self, endpoint: &Endpoint) -> bool {
        !matches!(endpoint, Endpoint::Udp { .. })
            && !self.servers.iter().any(|server| server.front)
            && match self.port_variable.as_deref() {
                Some(port) => endpoint.is_named(port),
                None => !endpoint.is_private(),
            }
    }

    /// What all workers call a server: by what the app asks for. Where that is any port, by how often it has
    /// asked for one, and else by how many it has open there.
    fn name(&self, message: &ClusterMessage, front: bool) -> String {
        let ClusterMessage { address, port, address_type, fd, index, .. } = message;
        let name =
            |count: Option<i64>| json!([front, address, port, address_type, fd, count]).to_string();
        if *port == Some(0) {
            return name(*index);
        }
        let is_free = |name: &String| self.servers.iter().all(|server| server.name != *name);
        let counts = (0..=self.servers.len()).map(|count| i64::try_from(count).ok());
        counts.map(name).find(is_free).unwrap_or_default() // one more than there are servers
    }

    fn open(&mut self, name: String, endpoint: Endpoint, front: bool) -> String {
        let key = format!("roundsman-{}", self.next_key);
        self.next_key += 1;
        self.servers.push(Server { key: key.clone(), name, endpoint, front, listening: false });
        key
    }

    /// The answer to a server that has what it needs: its port, if it has one, and what the first of all
    /// workers has given to it.
    pub(super) fn settled(&mut self, request: &Request, port: Option<u16>, data: &Value) -> Value {
        if let Some(port) = port
            && let Some(server) = self.servers.iter_mut().find(|server| server.key == request.key)
        {
            server.endpoint = server.endpoint.clone().at_port(port);
        }
        // Node has no error in one case and the error 0 in the other.
        let errno = (!request.front).then_some(0);
        let mut reply =
            json!({ "errno": errno, "key": request.key, "ack": request.ack, "data": data });
        if request.front
            && let Some(sockname) = request.endpoint.sockname(ANY_PORT)
        {
            reply["sockname"] = sockname;
        }
        self.message(reply)
    }

    /// The answer to a server that cannot have what it needs.
    pub(super) fn refused(&mut self, request: &Request, errno: Errno) -> Value {
        self.servers.retain(|server| server.key != request.key);
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
                let Server { endpoint, front, name, .. } = self.servers.remove(index);
                Decision::Closed(Closed { endpoint, front, name })
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
        self.message(
            json!({ "errno": -errno.raw_os_error(), "key": "none", "ack": ack, "data": null }),
        )
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
