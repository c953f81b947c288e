//! What others read in the bytes of connections: Node's server with llhttp, and Python's h11.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::common::http::Message;
use crate::common::python::python;

/// A request as a server understands it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Meant {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) chunked: bool,
    pub(super) body: String,
    pub(super) trailers: Vec<(String, String)>,
    /// Whom it is from: what the front says, which no client can.
    pub(super) origin: String,
}

/// What one of them read on one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reading {
    /// The requests that are whole.
    pub(super) requests: Vec<Meant>,
    /// Why it read no further, if it did not read all.
    pub(super) error: String,
}

impl Meant {
    /// As the tests' own strict parser has read it.
    pub(super) fn of(message: &Message) -> Self {
        Self {
            method: message.method().into(),
            target: message.target().into(),
            chunked: !message.all("transfer-encoding").is_empty(),
            body: latin1(&message.body),
            trailers: message.trailers.clone(),
            origin: message.all("x-forwarded-for").join(", "),
        }
    }

    /// The same without what a hop may change: who it is from, the trailers, and the form of a target
    /// that names its host.
    pub(super) fn end_to_end(&self) -> Self {
        let lower = self.target.to_ascii_lowercase();
        let scheme = ["http://", "https://"].into_iter().find(|scheme| lower.starts_with(scheme));
        let target = scheme.map(|scheme| {
            let rest = &self.target[scheme.len()..];
            match rest.find(['/', '?']).map(|at| &rest[at..]) {
                None if self.method == "OPTIONS" => "*".into(),
                None => "/".into(),
                Some(path) if path.starts_with('?') => format!("/{path}"),
                Some(path) => path.to_owned(),
            }
        });
        Self {
            target: target.unwrap_or_else(|| self.target.clone()),
            origin: String::new(),
            trailers: Vec::new(),
            ..self.clone()
        }
    }
}

/// What Node's server reads on each of these connections, which come in pieces.
pub(super) fn by_llhttp(connections: &[Vec<Vec<u8>>]) -> Vec<Reading> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/node/requests_by_llhttp.js");
    let mut node = Command::new("node")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Node is there");
    node.stdin.take().unwrap().write_all(&asked(connections)).unwrap();
    let output = node.wait_with_output().unwrap();
    assert!(output.status.success(), "{script} failed");
    readings(&String::from_utf8(output.stdout).unwrap())
}

/// What h11 reads on each of these connections.
pub(super) fn by_h11(connections: &[Vec<Vec<u8>>]) -> Vec<Reading> {
    readings(&python("requests_by_h11.py", &asked(connections)))
}

fn asked(connections: &[Vec<Vec<u8>>]) -> Vec<u8> {
    let pieces = |of: &Vec<Vec<u8>>| of.iter().map(|bytes| latin1(bytes)).collect::<Vec<_>>();
    let connections: Vec<_> = connections.iter().map(pieces).collect();
    serde_json::to_vec(&connections).unwrap()
}

fn readings(json: &str) -> Vec<Reading> {
    let all: Vec<Value> = serde_json::from_str(json).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let meant = |value: &Value| Meant {
        method: text(&value["method"]),
        target: text(&value["target"]),
        chunked: value["chunked"].as_bool().unwrap(),
        body: text(&value["body"]),
        trailers: serde_json::from_value(value["trailers"].clone()).unwrap(),
        origin: text(&value["origin"]),
    };
    all.iter()
        .map(|reading| Reading {
            requests: reading["requests"].as_array().unwrap().iter().map(meant).collect(),
            error: text(&reading["error"]),
        })
        .collect()
}

pub(super) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| *byte as char).collect()
}
