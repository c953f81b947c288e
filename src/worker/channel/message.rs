//! What is said on Node's channel: one JSON value a line.
//!
//! Values whose `cmd` starts with `NODE_` are Node's own and never reach the app's `message`
//! listeners; everything else belongs to the user.

use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// A line from the app.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// Node's cluster module speaks.
    Cluster(Box<ClusterMessage>),
    /// A message with a handle: it must be acknowledged, or the app's channel stalls for good. What it says
    /// beside it, if that is a user's.
    Handle(Option<Vec<u8>>),
    /// The handle that we sent has arrived.
    HandleAck,
    /// The handle that we sent has not arrived with its message.
    HandleNack,
    /// The handle of our message with this number did not arrive, however often it was sent: the
    /// app has no descriptor left.
    HandleLost(u64),
    /// The app's answer to our message `sequence`: whether it took the connection.
    Answered {
        /// The number of the message that offered it.
        sequence: u64,
        /// Taken, or not.
        accepted: bool,
    },
    /// A message of Node's own that we have no use for.
    Internal,
    /// A user's message, as the JSON text that it came as; it need not be valid.
    User(Vec<u8>),
    /// A message that was too long to be kept, and its length.
    TooLong(usize),
}

/// The fields that Node's cluster workers send, all of them optional, and absent when they are not
/// of the kind that is expected: what arrives is as hostile as any other input.
#[derive(Debug, Default)]
pub(crate) struct ClusterMessage {
    /// What is wanted: `online`, `queryServer`, `listening`, `close`, `exitedAfterDisconnect`.
    pub(crate) act: Option<String>,
    /// The sender's number for this message.
    pub(crate) seq: Option<u64>,
    /// The number of our message that this one answers.
    pub(crate) ack: Option<u64>,
    /// Whether a connection was taken.
    pub(crate) accepted: Option<bool>,
    /// Which server, by the name that we gave it.
    pub(crate) key: Option<String>,
    /// To be returned as it came: TLS ticket keys, for instance.
    pub(crate) data: Value,
    /// The host, or the path of a UNIX socket.
    pub(crate) address: Option<String>,
    /// The port; -1 for a UNIX socket.
    pub(crate) port: Option<i64>,
    /// 4, 6, -1, `"udp4"`, `"udp6"`, or null for a descriptor.
    pub(crate) address_type: Value,
    /// The descriptor of `listen({fd})`.
    pub(crate) fd: Option<i64>,
    /// libuv's flags: 1 is IPv6 only, 4 is to reuse an address.
    pub(crate) flags: Option<i64>,
    /// Which of the servers that the app has at the same place, from 0.
    pub(crate) index: Option<i64>,
    /// `readableAll` and `writableAll` of a UNIX socket.
    pub(crate) for_all: ForAll,
}

/// What everybody may do with the file of a UNIX socket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ForAll {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

impl From<Value> for ClusterMessage {
    fn from(mut value: Value) -> Self {
        let text = |name: &str| value[name].as_str().map(str::to_owned);
        let number = |name: &str| value[name].as_i64();
        Self {
            act: text("act"),
            seq: value["seq"].as_u64(),
            ack: value["ack"].as_u64(),
            accepted: value["accepted"].as_bool(),
            key: text("key"),
            address: text("address"),
            port: number("port"),
            fd: number("fd"),
            flags: number("flags"),
            index: number("index"),
            for_all: ForAll {
                read: value["readableAll"] == Value::Bool(true),
                write: value["writableAll"] == Value::Bool(true),
            },
            address_type: value["addressType"].take(),
            data: value["data"].take(),
        }
    }
}

/// The `cmd` of an object, if that is a text; of several the last, as in JavaScript.
struct Head(Option<String>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Cmd {
    Text(String),
    Other(IgnoredAny),
}

impl<'de> Deserialize<'de> for Head {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Head;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Head, A::Error> {
                let mut head = Head(None);
                while let Some(key) = map.next_key::<String>()? {
                    if key != "cmd" {
                        map.next_value::<IgnoredAny>()?;
                    } else if let Cmd::Text(text) = map.next_value()? {
                        head.0 = Some(text);
                    } else {
                        head.0 = None;
                    }
                }
                Ok(head)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

impl Incoming {
    /// Reads one line.
    pub(crate) fn parse(line: &[u8]) -> Self {
        if let Some(message) = Self::usual(line) {
            return message;
        }
        let Some(command) = internal_command(line) else {
            return Self::User(line.to_vec());
        };
        match command.as_str() {
            "NODE_CLUSTER" => serde_json::from_slice::<Value>(line)
                .map_or(Self::Internal, |message| {
                    Self::Cluster(Box::new(ClusterMessage::from(message)))
                }),
            "NODE_HANDLE" => Self::Handle(beside_handle(line)),
            "NODE_HANDLE_ACK" => Self::HandleAck,
            "NODE_HANDLE_NACK" => Self::HandleNack,
            _ => Self::Internal,
        }
    }

    /// What comes with each connection, as Node writes it: cheaper than to parse it as any JSON.
    fn usual(line: &[u8]) -> Option<Self> {
        if line == br#"{"cmd":"NODE_HANDLE_ACK"}"# {
            return Some(Self::HandleAck);
        }
        let rest = line.strip_prefix(br#"{"cmd":"NODE_CLUSTER","ack":"#)?;
        let (sequence, rest) = number(rest)?;
        let rest = rest.strip_prefix(br#","accepted":"#)?;
        let (accepted, rest) = match rest.strip_prefix(b"true") {
            Some(rest) => (true, rest),
            None => (false, rest.strip_prefix(b"false")?),
        };
        let (_, rest) = number(rest.strip_prefix(br#","seq":"#)?)?;
        (rest == b"}").then_some(Self::Answered { sequence, accepted })
    }

    /// Reads what is known of a line that was too long to be kept.
    pub(super) fn parse_truncated(beginning: &[u8], length: usize) -> Self {
        // Node writes `cmd` first. The message is lost, but its handle must not block the channel.
        if beginning.starts_with(br#"{"cmd":"NODE_HANDLE","#) {
            Self::Handle(None)
        } else {
            Self::TooLong(length)
        }
    }
}

/// The number that it begins with, and the rest.
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit())?;
    let (digits, rest) = text.split_at(end);
    Some((std::str::from_utf8(digits).ok()?.parse().ok()?, rest))
}

/// The `cmd` of a message of Node's own: longer than `NODE_`, which Node itself takes for a user's.
fn internal_command(line: &[u8]) -> Option<String> {
    if !is_suspicious(line) {
        return None; // the common case: no need to parse what only the user understands
    }
    let Head(command) = serde_json::from_slice(line).ok()?;
    command.filter(|text| text.starts_with("NODE_") && text.len() > "NODE_".len())
}

/// The user's message that came with a handle.
fn beside_handle(line: &[u8]) -> Option<Vec<u8>> {
    #[derive(Deserialize)]
    struct Beside<'a> {
        #[serde(borrow)]
        msg: &'a RawValue,
    }
    let Beside { msg } = serde_json::from_slice(line).ok()?;
    let text = msg.get().as_bytes();
    internal_command(text).is_none().then(|| text.to_vec())
}

/// Whether a line may be an object with `NODE_` at the beginning of a text: as it is, or with a letter
/// as an escape. There is no other way to write one.
fn is_suspicious(line: &[u8]) -> bool {
    let has = |part: &[u8]| memchr::memmem::find(line, part).is_some();
    line.trim_ascii_start().starts_with(b"{") && (has(b"\"NODE_") || has(b"\\u"))
}

/// Whether Node may take a line for a message of its own. Where it cannot be told it may: Node reads
/// texts that are none (half a surrogate pair, bytes that are no UTF-8).
pub(crate) fn may_be_nodes(line: &[u8]) -> bool {
    is_suspicious(line)
        && (internal_command(line).is_some() || serde_json::from_slice::<Head>(line).is_err())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_user(text: &str) -> bool {
        matches!(Incoming::parse(text.as_bytes()), Incoming::User(bytes) if bytes == text.as_bytes())
    }

    #[test]
    fn every_kind_of_value_is_a_users_message() {
        for text in [
            "\"ready\"",
            "null",
            "1",
            "true",
            "[]",
            "{}",
            "",
            "not json \"NODE_\"",
            r#"{"__proto__":{"cmd":"NODE_CLUSTER"}}"#,
            r#"{"cmd":"NODE_"}"#,
            r#"{"cmd":5,"x":"NODE_HANDLE"}"#,
            r#"{"cmd":null,"x":"NODE_HANDLE"}"#,
            r#"{"cmd":["NODE_HANDLE"]}"#,
            r#"{"a":{"cmd":"NODE_HANDLE"}}"#,
            r#"{"cmd":"NODE_HANDLE""#,
        ] {
            assert!(is_user(text), "{text}");
        }
    }

    #[test]
    fn nodes_own_messages_are_recognized_wherever_cmd_stands() {
        let kind = |text: &str| format!("{:?}", Incoming::parse(text.as_bytes()));
        let handle = |text: &str| match Incoming::parse(text.as_bytes()) {
            Incoming::Handle(beside) => beside.map(|text| String::from_utf8(text).unwrap()),
            other => panic!("a handle, not {other:?}"),
        };
        let beside = handle(r#"{"cmd":"NODE_HANDLE","type":"net.Socket","msg":{"a": 1}}"#);
        assert_eq!(beside.as_deref(), Some(r#"{"a": 1}"#));
        assert_eq!(handle(r#"{"cmd":"NODE_HANDLE","msg":{"cmd":"NODE_OWN"}}"#), None);
        assert_eq!(handle(r#"{"cmd":"NODE_HANDLE"}"#), None);
        assert_eq!(kind(r#"{"cmd":"NODE_HANDLE_ACK"}"#), "HandleAck");
        assert_eq!(kind(r#"{"cmd":"NODE_HANDLE_NACK"}"#), "HandleNack");
        assert_eq!(kind(r#"{"a":1,"cmd":"NODE_DEBUG"}"#), "Internal");
        // As Node sends it; `backlog` is false when a host is given but no backlog.
        let query = r#"{"cmd":"NODE_CLUSTER","act":"queryServer","index":0,"data":null,"address":null,"port":3000,"addressType":4,"backlog":false,"seq":1}"#;
        let Incoming::Cluster(message) = Incoming::parse(query.as_bytes()) else {
            panic!("a cluster message");
        };
        assert_eq!(
            (message.act.as_deref(), message.port, message.seq),
            (Some("queryServer"), Some(3000), Some(1))
        );
    }

    #[test]
    fn no_way_of_writing_hides_a_message_of_nodes_own() {
        for text in [
            r#"{"cmd":"NODE_CLUSTER"}"#,
            r#" {"cmd":"NODE_CLUSTER"}"#,
            r#"{"cmd":"\u004eODE_CLUSTER"}"#,
            r#"{"\u0063md":"NODE_CLUSTER"}"#,
            r#"{"cmd":"x","cmd":"NODE_CLUSTER"}"#,
            r#"{"\ud800":1,"cmd":"NODE_CLUSTER"}"#,
        ] {
            assert!(may_be_nodes(text.as_bytes()), "{text}");
        }
        assert!(may_be_nodes(b"{\"\xff\":1,\"cmd\":\"NODE_CLUSTER\"}"));
        for text in [
            r#"{"cmd":"NODE_"}"#,
            r#"{"cmd":"NODE_CLUSTER","cmd":"x"}"#,
            r#"{"a":"\u004eODE_CLUSTER"}"#,
            r#"["\u004eODE_CLUSTER"]"#,
            r#"{"cmd":"\u00e9"}"#,
        ] {
            assert!(!may_be_nodes(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn the_usual_answer_is_read_as_any_other_would_be() {
        for accepted in [true, false] {
            let text =
                format!(r#"{{"cmd":"NODE_CLUSTER","ack":12,"accepted":{accepted},"seq":3}}"#);
            let read = Incoming::parse(text.as_bytes());
            let Incoming::Answered { sequence: 12, accepted: said } = read else {
                panic!("an answer, not {read:?}");
            };
            assert_eq!(said, accepted);
        }
        for other in [
            r#"{"cmd":"NODE_CLUSTER","ack":12,"accepted":true,"seq":3} "#,
            r#"{"cmd":"NODE_CLUSTER","ack":12,"accepted":true,"seq":3,"key":"a"}"#,
            r#"{"cmd":"NODE_CLUSTER","accepted":true,"ack":12}"#,
            r#"{"cmd":"NODE_CLUSTER","ack":-1,"accepted":true,"seq":3}"#,
            r#"{"cmd":"NODE_CLUSTER","ack":99999999999999999999,"accepted":true,"seq":3}"#,
        ] {
            let read = Incoming::parse(other.as_bytes());
            assert!(matches!(read, Incoming::Cluster(_)), "{other}: {read:?}");
        }
        for broken in [
            r#"{"cmd":"NODE_CLUSTER","ack":12"#,
            r#"{"cmd":"NODE_CLUSTER","ack":,"accepted":true,"seq":3}"#,
            r#"{"cmd":"NODE_CLUSTER","ack":12,"accepted":true,"seq":}"#,
        ] {
            assert!(is_user(broken), "{broken}");
        }
    }

    #[test]
    fn one_field_of_a_strange_kind_does_not_spoil_the_rest() {
        let text = br#"{"cmd":"NODE_CLUSTER","act":"close","key":5,"seq":-1,"port":"x","ack":7}"#;
        let Incoming::Cluster(message) = Incoming::parse(text) else {
            panic!("a cluster message");
        };
        assert_eq!((message.act.as_deref(), message.key, message.seq), (Some("close"), None, None));
        assert_eq!((message.port, message.ack), (None, Some(7)));
    }

    #[test]
    fn a_handle_in_a_message_too_long_to_keep_is_still_acknowledged() {
        let beginning = br#"{"cmd":"NODE_HANDLE","type":"net.Native","msg":"aaaa"#;
        assert!(matches!(Incoming::parse_truncated(beginning, 1 << 30), Incoming::Handle(None)));
        assert!(matches!(Incoming::parse_truncated(b"\"aaaa", 77), Incoming::TooLong(77)));
    }

    proptest! {
        #[test]
        fn nothing_panics_it(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Incoming::parse(&bytes);
        }

        #[test]
        fn hostile_cluster_messages_do_not_panic_it(text in r#"\{"cmd":"NODE_CLUSTER",("act"|"seq"|"key"|"port"|"fd"|"data"):(-?[0-9]{1,30}|null|"[a-z]{0,5}"|\[\]|\{\})\}"#) {
            let _ = Incoming::parse(text.as_bytes());
        }
    }
}
