//! What an app asks of the shim in messages of its own, as it would of a primary.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// How the messages of `@socket.io/cluster-adapter` are marked. Its half in the primary sends each on to the
/// other workers.
const SOCKET_IO: &str = "_sio_adapter";

/// What is asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request<'a> {
    /// That the other workers get this, with who it is from.
    Broadcast(&'a str),
    /// The same, of nothing.
    BroadcastNothing,
    /// That the other workers get the message as it is.
    Relay,
    /// Something that we do not know.
    Unknown(Cow<'a, str>),
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    roundsman: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    /// Somebody's broadcast that the app sends on as it came has this; to broadcast it once more
    /// would be without end.
    from: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct FromAdapter<'a> {
    #[serde(borrow)]
    source: Cow<'a, str>,
}

/// Reads it. Most messages ask nothing, and cost next to nothing.
pub(super) fn read(text: &[u8]) -> Option<Request<'_>> {
    let has = |part: &str| memchr::memmem::find(text, part.as_bytes()).is_some();
    if !text.starts_with(b"{") {
        return None;
    }
    if has(SOCKET_IO)
        && serde_json::from_slice::<FromAdapter<'_>>(text)
            .is_ok_and(|message| message.source == SOCKET_IO)
    {
        return Some(Request::Relay);
    }
    if !has("\"roundsman\"") {
        return None;
    }
    let message = serde_json::from_slice::<Message<'_>>(text).ok()?;
    if message.from.is_some() {
        return None;
    }
    Some(match (message.roundsman?, message.data) {
        (word, Some(data)) if word == "broadcast" => Request::Broadcast(data.get()),
        (word, None) if word == "broadcast" => Request::BroadcastNothing,
        (word, _) => Request::Unknown(word),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broadcast_is_asked_for_once() {
        let text = br#"{"roundsman":"broadcast","data":{"a": 1}}"#;
        assert_eq!(read(text), Some(Request::Broadcast(r#"{"a": 1}"#)));
        let again = br#"{"roundsman":"broadcast","from":"shop:1","data":{"a": 1}}"#;
        assert_eq!(read(again), None);
        assert_eq!(read(br#"{"roundsman":"broadcast"}"#), Some(Request::BroadcastNothing));
        let unknown = Some(Request::Unknown("fly".into()));
        assert_eq!(read(br#"{"roundsman":"fly"}"#), unknown);
    }

    #[test]
    fn socket_ios_messages_are_known_by_their_source() {
        assert_eq!(read(br#"{"uid":"x","source":"_sio_adapter","type":3}"#), Some(Request::Relay));
        for other in [
            r#"{"text":"_sio_adapter"}"#,
            r#"{"source":"other","text":"_sio_adapter"}"#,
            r#"{"data":{"source":"_sio_adapter"}}"#,
            r#""_sio_adapter""#,
            r#"[{"source":"_sio_adapter"}]"#,
            r#"{"roundsman":5}"#,
            "null",
            "",
        ] {
            assert_eq!(read(other.as_bytes()), None, "{other}");
        }
    }
}
